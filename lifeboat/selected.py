"""The mailbox that a connection has open: which message has which number, and what has changed since."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from cyrus_sync.common.model import MailboxState, Record, Seen
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.lifeboat.account import Visible
from cyrus_sync.lifeboat.numbers import members

SYSTEM_FLAGS = "\\Answered \\Flagged \\Draft \\Deleted \\Seen"
_GAP = 500
"""Messages between two wanted ones that are read over rather than looked up anew."""


class Selected:
    """An open mailbox. `uids`: those of its messages, ascending, as the client knows them."""

    def __init__(self, mailbox: Visible, uids: list[int], seen: Seen | None) -> None:
        """`seen`: what only this user has seen (`Account.seen_of`)."""
        self.mailbox = mailbox
        self.uids = uids
        self.highestmodseq = mailbox.state.highestmodseq
        self.recentuid = mailbox.state.recentuid if seen is None else seen.lastuid
        self.modseqs = False
        """Whether the client wants to hear of modseqs (CONDSTORE)."""
        self._seen = None if seen is None else members(seen.seenuids)

    @classmethod
    def open(cls, reader: MailReader, mailbox: Visible, seen: Seen | None) -> Selected:
        """As the mailbox is now."""
        return cls(mailbox, reader.live_uids(mailbox.state.uniqueid), seen)

    # -- what is said of it

    def greeting(self) -> list[bytes]:
        """The untagged lines of SELECT."""
        state = self.mailbox.state
        flags = " ".join([SYSTEM_FLAGS, *state.userflags]).encode()
        return [
            b"* %d EXISTS" % len(self.uids),
            b"* %d RECENT" % self.recent(),
            b"* FLAGS (%b)" % flags,
            b"* OK [PERMANENTFLAGS ()] No permanent flags permitted",
            b"* OK [UIDVALIDITY %d] Ok" % state.uidvalidity,
            b"* OK [UIDNEXT %d] Ok" % (state.last_uid + 1),
            b"* OK [HIGHESTMODSEQ %d] Ok" % state.highestmodseq,
        ]

    def flags(self, record: Record) -> bytes:
        """A message's flags as this user sees them."""
        words = record.flags
        if self._seen is not None:
            own = [word for word in words.split() if word != "\\Seen"]
            if _within(self._seen, record.uid):
                own.append("\\Seen")
            words = " ".join(own)
        if record.uid > self.recentuid:
            words = f"\\Recent {words}" if words else "\\Recent"
        return words.encode()

    def recent(self) -> int:
        """How many messages nobody has been told of before."""
        return len(self.uids) - bisect_left(self.uids, self.recentuid + 1)

    def unseen(self) -> int:
        """How many messages this user has not seen, where that is his own affair."""
        return sum(not _within(self._seen or (), uid) for uid in self.uids)

    # -- records

    def records(self, reader: MailReader, runs: Sequence[range]) -> Iterator[tuple[int, Record]]:
        """(index, record) of the messages at these indexes that are still there, ascending."""
        inside = _Within(runs)
        for run in _joined(runs):
            wanted = self.uids[run.start : run.stop]
            index, last = run.start, wanted[-1]
            source = reader.records(
                self.mailbox.state.uniqueid, above_uid=wanted[0] - 1, batch=min(2000, len(run))
            )
            for record in (record for batch in source for record in batch):
                while index < run.stop and self.uids[index] < record.uid:
                    index += 1  # gone altogether since
                if record.uid > last or index >= run.stop:
                    break
                if self.uids[index] == record.uid and index in inside:
                    yield index, record

    # -- what has changed

    def refresh(self, reader: MailReader) -> list[bytes] | None:
        """Untagged lines for what has changed since the client was told last; None where the mailbox is gone,
        or is another one by now."""
        state = reader.mailbox_by_id(self.mailbox.state.uniqueid)
        if state is None or state.uidvalidity != self.mailbox.state.uidvalidity:
            return None
        if state.highestmodseq == self.highestmodseq:
            return []
        return self._changes(reader, state)

    def _changes(self, reader: MailReader, state: MailboxState) -> list[bytes]:
        gone: list[int] = []
        changed: list[Record] = []
        new: list[int] = []
        last = self.uids[-1] if self.uids else 0
        for batch in reader.records(state.uniqueid, since_modseq=self.highestmodseq):
            for record in batch:
                at = bisect_left(self.uids, record.uid)
                known = at < len(self.uids) and self.uids[at] == record.uid
                if record.expunged:
                    gone += [at] if known else []
                elif known:
                    changed.append(record)
                elif record.uid > last:
                    new.append(record.uid)
        lines = [b"* %d EXPUNGE" % (at + 1) for at in reversed(gone)]
        for at in reversed(gone):
            del self.uids[at]
        self.uids += new
        if new:
            lines.append(b"* %d EXISTS" % len(self.uids))
        for record in changed:
            modseq = b" MODSEQ (%d)" % record.modseq if self.modseqs else b""
            number = bisect_left(self.uids, record.uid) + 1
            words = (number, record.uid, self.flags(record), modseq)
            lines.append(b"* %d FETCH (UID %d FLAGS (%b)%b)" % words)
        self.highestmodseq = state.highestmodseq
        return lines


class _Within:
    """Whether indexes, asked for in ascending order, lie in runs."""

    def __init__(self, runs: Sequence[range]) -> None:
        self._runs = iter(runs)
        self._run = next(self._runs, range(0))

    def __contains__(self, index: object) -> bool:
        assert isinstance(index, int)
        while self._run and index >= self._run.stop:
            self._run = next(self._runs, range(0))
        return index in self._run


def _joined(runs: Sequence[range]) -> list[range]:
    """Runs with what lies between those that are near to one another."""
    found: list[range] = []
    for run in runs:
        if found and run.start - found[-1].stop <= _GAP:
            found[-1] = range(found[-1].start, run.stop)
        else:
            found.append(run)
    return found


def _within(ranges: Sequence[tuple[int, int]], uid: int) -> bool:
    at = bisect_left(ranges, (uid + 1, 0)) - 1
    return at >= 0 and ranges[at][0] <= uid <= ranges[at][1]
