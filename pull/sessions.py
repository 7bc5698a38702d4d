"""`Sessions`: connections to the IMAP server, kept for a moment after their use.

Whoever has changed something changes more soon. A login costs the server a process and us several round
trips, so a session stays logged in for `keep` seconds. No more than imap_connections are open: the one that
was idle for the longest gives way. (Handing a line on to the next user by UNAUTHENTICATE, RFC 8437, is for
administrators at a Cyrus, not for whom they act for; a Dovecot has it not at all.)"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.pull.session import Session
from cyrus_sync.pull.settings import ImapSettings

KEEP_SECONDS = 30.0


@dataclass(slots=True)
class Use:
    """What sessions were had for, since the beginning."""

    made: int = 0
    """Connections that were made."""
    again: int = 0
    """Pulls on a session that was logged in already."""
    received: int = 0
    """Octets on the line, after the end of a session's use."""
    sent: int = 0


class Sessions:
    """Of one server. Safe between threads."""

    def __init__(self, settings: ImapSettings, directory: Path, keep: float) -> None:
        """`keep` in seconds, 0: each is closed after its use. Large literals lie in `directory`."""
        self._settings = settings
        self._directory = directory
        self._keep = keep
        self._lock = threading.Lock()
        self._idle: list[tuple[float, Session]] = []
        self._busy = 0
        self.use = Use()

    @contextmanager
    def session(self, login: str, password: str) -> Iterator[Session]:
        """One of this user. Raises what `Session` does."""
        session = self._take(login, password)
        good = False
        try:
            yield session
            good = True
        finally:
            self._give_back(session, good)

    def sweep(self) -> None:
        """Close what has been idle for too long."""
        self._close(self._taken_out(lambda since: since < time.monotonic() - self._keep))

    def close(self) -> None:
        """Close all that nobody uses."""
        self._keep = 0
        self._close(self._taken_out(lambda _: True))

    # -- taking one

    def _take(self, login: str, password: str) -> Session:
        with self._lock:
            self._busy += 1
        try:
            found = self._kept(login, password)
            if found is not None:
                return found
            self._close(self._taken_out(lambda _: len(self._idle) + self._busy > self._settings.connections))
            made = Session(self._settings, login, password, self._directory)
            with self._lock:
                self.use.made += 1
            return made
        except BaseException:
            with self._lock:
                self._busy -= 1
            raise

    def _kept(self, login: str, password: str) -> Session | None:
        """His, from the last time."""
        with self._lock:
            for entry in reversed(self._idle):
                if entry[1].is_of(login, password):
                    self._idle.remove(entry)
                    self.use.again += 1
                    return entry[1]
        return None

    # -- giving it back

    def _give_back(self, session: Session, good: bool) -> None:
        good = good and self._keep > 0 and self._rests(session)
        received, sent = session.traffic()
        with self._lock:
            self._busy -= 1
            self.use.received += received
            self.use.sent += sent
            if good and self._keep > 0:
                self._idle.append((time.monotonic(), session))
                return
        session.close()

    @staticmethod
    def _rests(session: Session) -> bool:
        with suppress(CyrusSyncError):
            return session.rest()
        return False

    def _taken_out(self, wanted: Callable[[float], bool]) -> list[Session]:
        out = []
        with self._lock:
            while self._idle and wanted(self._idle[0][0]):
                out.append(self._idle.pop(0)[1])
        return out

    @staticmethod
    def _close(sessions: list[Session]) -> None:
        for session in sessions:
            session.leave()
