"""What was told of a message before: the base on which a change of its flags and annotations was made.

A record of another replica says all flags, not what was changed. What was changed shows by comparing it with
what that replica had before: the master's word on which it builds, or what it said itself since. Both are in
the log; of words that were trimmed it is known what the last of them was (`EarlierWord`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

from cyrus_sync.common.model import MailboxState, Record
from cyrus_sync.common.names import Owner
from cyrus_sync.common.numbers import decimal
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.oplog.apply_command import ApplyCommand, parse
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.masters import Base
from cyrus_sync.multisite.oplog.operations import LogEntry
from cyrus_sync.multisite.oplog.trimmed import EarlierWord
from cyrus_sync.multisite.replay.three_way import flags


class _Told(NamedTuple):
    entry: LogEntry
    record: Record


class Told:
    """What the log tells of the messages of one mailbox."""

    def __init__(self, log: Log, owner: Owner, uniqueid: str) -> None:
        self._log = log
        self._owner = owner
        self._uniqueid = uniqueid

    def word(self, master: str, uid: int, modseq: int) -> Record | None:
        """The last word of `master` (id) on a message that belongs to its state `modseq`."""
        found = self._word(master, uid, modseq)
        return found.record if found else self._trimmed(uid, modseq)

    def header(self, master: str, modseq: int) -> MailboxState | None:
        """The mailbox as the master told it in its state `modseq`."""
        for _, said in self._said(master):
            state: MailboxState = said.update.state
            if state.highestmodseq <= modseq:
                return state
        earlier = self._earlier
        return earlier.state if earlier is not None and earlier.modseq <= modseq else None

    def before(self, entry: LogEntry, record: Record, base: Base, master: str) -> Record | None:
        """What the origin of an operation had of a message before it said `record`; None where nobody
        knows."""
        own = next(
            (
                _Told(earlier, found)
                for earlier, said in self._said(entry.origin, record.uid)
                if earlier.seq < entry.seq and (found := _record(said, record.uid))
            ),
            None,
        )
        known = record.uid <= base.last_uid
        word = self._word(master, record.uid, base.modseq) if known else None
        if own is None and word is None:
            return self._trimmed(record.uid, base.modseq) if known else None
        if own is None or word is None:
            return own.record if own else word.record if word else None
        earlier_base = _base_of(own.entry)
        if earlier_base.modseq >= base.modseq:
            return own.record
        if _settles(word.entry, own.entry):
            return word.record
        # It had heard the master meanwhile, and had kept its own change on top.
        before = self.word(master, record.uid, earlier_base.modseq)
        kept = flags(before.flags if before else None, word.record.flags, own.record.flags)
        return own.record._replace(flags=kept)

    def _word(self, master: str, uid: int, modseq: int) -> _Told | None:
        """The same as far as it is in the log, with its operation."""
        for entry, said in self._said(master, uid):
            if said.update.state.highestmodseq <= modseq and (found := _record(said, uid)):
                return _Told(entry, found)
        return None

    def _trimmed(self, uid: int, modseq: int) -> Record | None:
        """What trimmed operations had told last of a message, if that belongs to the state `modseq`."""
        earlier = self._earlier
        return earlier.base_of(uid) if earlier is not None and earlier.modseq <= modseq else None

    @cached_property
    def _earlier(self) -> EarlierWord | None:
        """What trimmed operations of this reign had told."""
        master = self._log.masters.of(self._owner)
        found = self._log.trimmed.earlier(self._uniqueid)
        return found if found is not None and master is not None and found.reign == master.reign else None

    def _said(self, origin: str, uid: int = 0) -> Iterator[tuple[LogEntry, ApplyCommand]]:
        """The operations of an origin on the mailbox, the last one first; with `uid`, on that message."""
        sought = b"(UID %d " % uid
        for entry in self._log.operations.on_mailbox(self._owner, origin, self._uniqueid):
            if entry.verb == "MAILBOX" and (not uid or sought in entry.line):
                try:
                    yield entry, parse(entry.line)
                except MultisiteError:
                    continue  # one that is set aside


def _record(said: ApplyCommand, uid: int) -> Record | None:
    return next((record for record in said.records if record.uid == uid), None)


def _base_of(entry: LogEntry) -> Base:
    modseq, last_uid = map(decimal, entry.attributes.get("base", "").partition(":")[::2])
    return Base() if modseq is None or last_uid is None else Base(modseq, last_uid)


def _settles(word: LogEntry, own: LogEntry) -> bool:
    """Whether the master had taken an operation in when it said this."""
    pairs = (pair.partition(":") for pair in word.attributes.get("settled", "").split(","))
    return any(origin == own.origin and (decimal(text) or 0) >= own.id for origin, _, text in pairs)
