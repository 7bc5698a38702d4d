"""One command of a client as its handler gets it, and what the handler may answer.

An answer is None (``OK success`` alone), lines, or `Blocking` lines that are made in a thread.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import NamedTuple

from cyrus_sync.common.protocol.events import DlistCommand
from cyrus_sync.common.stores.queries import FullMailbox
from cyrus_sync.sync_server.work import SentAhead, Work


class Blocking(NamedTuple):
    """Lines whose making waits for a disk. `close` when no more are wanted, in a thread too: a snapshot
    that is left to the garbage collector keeps its files open until that comes by."""

    lines: Generator[bytes, None, None]
    snapshot: FullMailbox | None = None

    def close(self) -> None:
        """Let go of what the lines are made from, wherever their making stands. May be repeated."""
        self.lines.close()
        if self.snapshot is not None:
            self.snapshot.close()


Answer = Iterable[bytes] | Blocking | None


class Request:
    """One command: its arguments, what it sent ahead, and the session's replica."""

    __slots__ = ("bulk", "local", "name", "replica", "value", "verb", "work")

    def __init__(self, command: DlistCommand, bulk: SentAhead, work: Work) -> None:
        self.verb = command.verb
        self.name = command.name
        self.local = command.local
        self.value = command.value
        self.bulk = bulk
        self.work = work
        self.replica = work.replica

    @property
    def weight(self) -> int:
        """How much memory it holds until it is answered: 1 for about a hundred items or 64 KB."""
        value = self.value
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else (value,)
        octets = sum(len(part) for part in parts if isinstance(part, bytes))
        items = sum(len(part) for part in parts if isinstance(part, list | dict)) + len(parts)
        return 1 + octets // 65536 + (items + self.bulk.records.in_memory) // 128

    @property
    def title(self) -> str:
        """``APPLY LOCAL_MAILBOX``"""
        return f"{self.verb} {'LOCAL_' if self.local else ''}{self.name}"

    @property
    def subject(self) -> dict[str, str]:
        """Whom and what it is about, for the log; nothing here is checked."""
        value = self.value
        if isinstance(value, dict):
            pairs = ((_SUBJECTS[key], value[key]) for key in _SUBJECTS if key in value)
        else:
            one = value[0] if isinstance(value, list) and value else value
            pairs = ((_LONE_SUBJECTS[self.name], one) for _ in range(self.name in _LONE_SUBJECTS))
        return {
            key: found.decode("utf-8", "replace")[:200]
            for key, found in pairs
            if isinstance(found, bytes) and found
        }


_SUBJECTS = {
    b"USERID": "user",
    b"MBOXNAME": "mailbox",
    b"OLDMBOXNAME": "mailbox",
    b"ROOT": "mailbox",
    b"UNIQUEID": "uniqueid",
}
_LONE_SUBJECTS = {
    "USER": "user",
    "META": "user",
    "UNUSER": "user",
    "MAILBOXES": "mailbox",
    "UNIQUEIDS": "uniqueid",
    "FULLMAILBOX": "mailbox",
    "ANNOTATION": "mailbox",
    "QUOTA": "mailbox",
    "UNQUOTA": "mailbox",
    "UNMAILBOX": "mailbox",
}
