"""Following the action log: whoever is named there is brought in step.

A line says only whose mail changed; the ledger and the modseqs say what. So lines are owners here, and an
owner that fails is tried again without his line: after a pause that grows, and when everybody is looked at,
which is done at the start and once a day. The run file is given up when all that it names were looked at.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import CyrusSyncError, StoreError
from cyrus_sync.common.names import SERVER, BadName, Owner, owner_of
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.synclog.lines import LogLine, parse_lines
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.mailstore.standby.aside import purge
from cyrus_sync.mailstore.standby.standing import MOST_NAMED, NotInStep, Standing
from cyrus_sync.mailstore.standby.tree import Tree, WrittenTo

_log = logging.getLogger(__name__)

LOOK_SECONDS = 0.1
"""How often one looks whether something was logged."""

SWEEP_SECONDS = 24 * 3600.0
FIRST_PAUSE, LONGEST_PAUSE = 10.0, 3600.0
_CHUNK = 64
"""So many of all users are looked at before the log is looked at again."""

_USERS = frozenset({"USER", "UNUSER", "META", "SIEVE", "SEEN", "SUB", "UNSUB"})


def owners_of(lines: Iterable[LogLine]) -> list[Owner]:
    """Whose mail these lines are about, each once."""
    found: dict[Owner, None] = {}
    for line in lines:
        try:
            named = [Owner("user", line.args[0])] if line.type in _USERS else map(owner_of, line.args)
            found.update(dict.fromkeys(named))
        except BadName as error:
            _log.error("log line passed over: %s: %s", " ".join((line.type, *line.args)), error)
    found.pop(SERVER, None)
    return list(found)


class Trouble(NamedTuple):
    """An owner who is not in step: why, how often in a row, when he is tried again, and since when."""

    reason: str
    tries: int
    due: float
    since: float


@dataclass
class Trees:
    """All trees of a store. `place` says where an owner's is, and `keep` for how many seconds what was
    deleted is kept. Safe for threads, an owner in one at a time."""

    store: MailStore
    place: Callable[[Owner], Path]
    keep: float
    tell: Callable[[Owner, str], None]
    clock: Callable[[], float] = time.time

    def bring(self, owner: Owner, *, anew: bool = False) -> None:
        """One owner in step; raises `CyrusSyncError`."""
        root = self.place(owner)
        try:
            with self.store.read(owner) as reader:
                Tree(root, lambda text: self.tell(owner, text), self.clock).bring(reader, anew=anew)
        except OSError as error:
            raise StoreError(f"{error.filename or root}: {error.strerror}") from error

    def purge(self, owner: Owner) -> None:
        """Remove what was deleted long enough ago."""
        try:
            purge(self.place(owner), self.clock(), self.keep)
        except OSError as error:
            raise StoreError(f"{error.filename}: {error.strerror}") from error


@dataclass
class Follower:
    """Follows `log` until it is told to `stop`. `everybody` is who is followed."""

    trees: Trees
    log: SyncLog
    everybody: Callable[[], Iterable[Owner]]
    follows: Callable[[Owner], bool]
    pool: ThreadPoolExecutor
    stop: threading.Event = field(default_factory=threading.Event)
    status: Callable[[str], None] = lambda _text: None
    directory: str = ""
    """Where the trees are, as it was typed."""
    troubles: dict[Owner, Trouble] = field(default_factory=dict)
    sweep_now: bool = True
    brought: int = 0
    """Owners who were brought in step, and times that this failed."""
    failures: int = 0
    _swept: float = 0.0
    _sweeping: bool = False
    _waiting: int = 0
    _looked: float | None = None
    """When the log was last found empty, or begun to be worked on: what is in it is younger."""
    _behind: float | None = None
    """Since when something may wait that the log names."""
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def standing(self) -> Standing:
        """How far it is. May be asked in any thread."""
        troubles = list(self.troubles.items())
        since = [trouble.since for _, trouble in troubles]
        if self._behind is not None:
            since.append(self._behind)
        return Standing(
            updated=self.trees.clock(), pid=os.getpid(), brought=self.brought, failures=self.failures,
            waiting=self._waiting, not_in_step=len(troubles), oldest=min(since, default=None),
            swept=self._swept, sweeping=self._sweeping, directory=self.directory,
            named=tuple(
                NotInStep(owner.kind, owner.name, one.reason, one.tries, one.since, one.due)
                for owner, one in troubles[:MOST_NAMED]
            ),
        )  # fmt: skip

    def run(self) -> None:
        """Go on until `stop` is set."""
        sweep: Iterator[Owner] = iter(())
        under_way = False
        while not self.stop.is_set():
            try:
                now = self.trees.clock()
                if not under_way and (self.sweep_now or now > self._swept + SWEEP_SECONDS):
                    sweep, under_way, self.sweep_now = iter(list(self.everybody())), True, False
                self._sweeping = under_way
                chunk = list(itertools.islice(sweep, _CHUNK)) if under_way else []
                if under_way and not chunk:
                    under_way, self._swept, self._sweeping = False, now, False
                    self.status(self._told())
                busy = self._once(chunk)
            except StoreError as error:
                _log.error("%s", error)
                self.status(str(error))
                # Some were not looked at: a sweep begins again, and says at its end how all are.
                under_way, self.sweep_now = False, True
                self.stop.wait(FIRST_PAUSE)
                continue
            if not (busy or under_way):
                self.stop.wait(LOOK_SECONDS)

    def _once(self, sweep: list[Owner]) -> bool:
        """The log, who is due, and a part of the sweep; False if there was nothing. Raises `StoreError` where
        the log cannot be read, or its run file not removed."""
        before = self._looked if self._looked is not None else self._left_over()
        self._looked = self.trees.clock()
        claimed = self.log.claim()
        if claimed:
            self._behind = before
        try:
            lines = parse_lines(claimed.read(), _bad_line) if claimed else []
            now = self.trees.clock()
            named = [owner for owner in owners_of(lines) if self.follows(owner)]
            due = [owner for owner, trouble in self.troubles.items() if trouble.due <= now]
            owners = list(dict.fromkeys((*named, *due, *sweep)))
            self._waiting = len(owners)
            list(self.pool.map(self._one, owners))
            if sweep:
                list(self.pool.map(self._purge, sweep))
            if claimed and not self.stop.is_set():
                claimed.finish()
                self._behind = None
        except OSError as error:
            raise StoreError(f"{error.filename or self.log.run_path}: {error.strerror}") from error
        finally:
            self._waiting = 0
            if claimed:
                claimed.release()
        if owners and not sweep:
            self.status(self._told())
        return bool(owners)

    def _left_over(self) -> float:
        """At the start: when the lines that are there were written, at the latest."""
        times = [self.trees.clock()]
        for path in (self.log.path, self.log.run_path):
            with contextlib.suppress(OSError):
                times.append(path.stat().st_mtime)
        return min(times)

    def _one(self, owner: Owner) -> None:
        if self.stop.is_set():
            return
        try:
            self.trees.bring(owner)
        except CyrusSyncError as error:
            self._failed(owner, error)
        except Exception as error:
            _log.exception("%s", owner)
            self._failed(owner, error)
        else:
            with self._counting:
                self.brought += 1
            if self.troubles.pop(owner, None):
                _log.info("%s is in step again", owner)

    def _purge(self, owner: Owner) -> None:
        try:
            self.trees.purge(owner)
        except CyrusSyncError as error:
            _log.error("%s: what was deleted could not be removed: %s", owner, error)

    def _failed(self, owner: Owner, error: Exception) -> None:
        before = self.troubles.get(owner)
        with self._counting:
            self.failures += 1
        now = self.trees.clock()
        tries = before.tries + 1 if before else 1
        pause = min(FIRST_PAUSE * 2 ** min(tries - 1, 16), LONGEST_PAUSE)
        reason = str(error)
        since = before.since if before else min(now, self._behind or now)
        self.troubles[owner] = Trouble(reason, tries, now + pause, since)
        if before is None or before.reason != reason:
            _log.error("%s is not in step: %s%s", owner, reason, hint(error))

    def _told(self) -> str:
        if not self.troubles:
            return "all in step"
        some = ", ".join(str(owner) for owner in list(self.troubles)[:5])
        return f"{len(self.troubles)} not in step: {some}"


def hint(error: Exception) -> str:
    """What to type."""
    if not isinstance(error, WrittenTo):
        return ""
    return (
        "; nothing of it was changed: bring its mail back first (docs/dovecot.md), then "
        "`mailstore export --update --anew` puts aside what the store has not"
    )


def _bad_line(line: bytes, reason: str) -> None:
    _log.error("log line passed over: %s: %s", reason, line.decode("utf-8", "backslashreplace"))
