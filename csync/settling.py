"""`Settling`: a settlement carried out by the master's own csync server.

1. GET MAILBOXES: the mailbox as that server has it. What the settlement was made from must still hold
   (`Settlement.still_holds`; what has changed since is read from the master).
2. Messages that the mailbox is to get are staged: its own by RESERVE, those of the replica by MESSAGE.
3. APPLY MAILBOX with SINCE_*, once or twice (`csync.changes`). Where the server says that the mailbox has
   changed in this very moment, from the beginning, a few times; then the engine decides anew.

That server does not log what it applies, but for the channels that the configuration says. Other replicas of
the same master have to hear of it, so the lines are written here: before the change, or a crash between could
leave them out; and behind it, as a reader may have taken the first ones before there was anything to see.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from cyrus_sync.common.batches import in_batches
from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import (
    MailboxLocked,
    MailboxMoved,
    MailboxNonexistent,
    ReplyError,
    SettlementRefused,
    SnapshotLost,
    StoreError,
    SyncChanged,
    SyncChecksum,
)
from cyrus_sync.common.master import Fetched, Master, Settlement
from cyrus_sync.common.model import MailboxState, MessageBody, Record
from cyrus_sync.common.names import Owner
from cyrus_sync.common.synclog.writer import ActionLog
from cyrus_sync.csync.changes import Step, as_base, dropped_on_both, raises, steps, update_for
from cyrus_sync.csync.line import Line, LineDown, Session, Work

TRIES = 5
"""How often a step is made ready, at most, for a mailbox that changes all the time."""

_GUIDS = 1000

_CHANGED = (SyncChanged, SyncChecksum, MailboxMoved, SnapshotLost)
"""The mailbox is not what it was when the step was made ready."""


class Settling:
    """Changes the master that `Line` leads to. Safe between threads: one settlement at a time."""

    def __init__(self, line: Line, log: ActionLog, seconds: Callable[[], float] = time.time) -> None:
        self.line = line
        self.log = log
        self._seconds = seconds
        self._guard = threading.Lock()
        self._in_vain: set[tuple[str, str, int]] = set()
        """Counters (uniqueid, name, value) that the server did not raise: it is not told again."""

    def settle(self, master: Master, owner: Owner, settlement: Settlement) -> Sequence[int]:
        """As `Master.settle` says."""
        where = {"mailbox": settlement.name, "uniqueid": settlement.uniqueid}
        try:
            with self.line.alone() as session:
                return _Attempt(self, session, master, owner, settlement).carry_out()
        except LineDown as error:
            raise SettlementRefused(error.message).at(**error.address).at(**where) from None
        except _CHANGED as error:
            raise SyncChanged(error.message).at(**where) from None
        except (MailboxNonexistent, MailboxLocked) as error:
            raise error.at(**where) from None
        except ReplyError as error:
            what = f"cyrus_csync ({self.line.server}) refuses: {error.message}"
            raise SettlementRefused(what).at(**error.address).at(**where) from None

    def now(self) -> int:
        return int(self._seconds())

    def worth_raising(self, settlement: Settlement, now: MailboxState) -> dict[str, int]:
        """The counters that may rise there."""
        able = raises(settlement, now)
        with self._guard:
            return {
                name: value
                for name, value in able.items()
                if (settlement.uniqueid, name, value) not in self._in_vain
            }

    def learn(self, settlement: Settlement, after: MailboxState) -> None:
        """Remember what did not rise."""
        left = raises(settlement, after)
        with self._guard:
            self._in_vain.update((settlement.uniqueid, name, value) for name, value in left.items())

    def close(self) -> None:
        self.line.close()


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One settlement on one connection."""

    around: Settling
    session: Session
    master: Master
    owner: Owner
    settlement: Settlement

    def carry_out(self) -> Sequence[int]:
        settlement = self.settlement
        first, *more = steps(settlement)
        known = self._first_step(first)
        for step in more:
            self._later_step(step, known)
        return dropped_on_both(settlement)

    # -- steps

    def _first_step(self, step: Step) -> int:
        """The modseq up to which all changes of the mailbox are known afterwards."""
        settlement = self.settlement
        staged = False
        for last in _tries():
            now = self._now()
            if not settlement.still_holds(as_base(now, settlement.base), self._changed(now)):
                raise SyncChanged
            if not (step or settlement.annotations is not None or self.around.worth_raising(settlement, now)):
                return now.highestmodseq
            if not staged:
                self._stage(step, now.partition)
                staged = True
            try:
                return self._apply(step, now)
            except _CHANGED:
                if last:
                    raise
        raise SyncChanged

    def _later_step(self, step: Step, known: int) -> None:
        """The settlement holds: what has a copy by now has to go, whatever was done to it since. Another
        message that was changed in this moment is left to the next settlement."""
        moved = {one.record.uid for one in self.settlement.renumber if not one.adopted}
        for last in _tries():
            now = self._now()
            touched = set() if now.highestmodseq == known else self._touched(known)
            kept = tuple(r for r in step.rewritten if r.uid in moved or r.uid not in touched)
            try:
                self._apply(Step(rewritten=kept), now)
            except _CHANGED:
                if last:
                    raise
                continue
            if len(kept) < len(step.rewritten):
                raise SyncChanged
            return

    def _apply(self, step: Step, now: MailboxState) -> int:
        """Send it; the modseq that the mailbox has then."""
        settlement, around = self.settlement, self.around
        update = update_for(settlement, step, now, floor=self._floor(now), seconds=around.now())
        logged = (
            step
            or update.state.annotations != now.annotations
            or (
                update.state.uidvalidity,
                update.state.last_uid,
            )
            != (now.uidvalidity, now.last_uid)
        )
        if logged:
            self._log(now)
        self.session.call(lambda server: server.mailbox(update))
        if logged:
            self._log(now)
        else:
            around.learn(settlement, self._now())
        return update.state.highestmodseq

    def _log(self, state: MailboxState) -> None:
        self.around.log.write([("MAILBOX", state.name)])

    # -- what is there

    def _now(self) -> MailboxState:
        """The mailbox as the server has it. Raises `SyncChanged` where it has another name by now."""
        settlement = self.settlement
        states = self.session.call(lambda server: server.get_mailboxes([settlement.name]))
        for state in states:
            if state.uniqueid == settlement.uniqueid and not (state.intermediate or state.tombstone):
                return state
        with self.master.read(self.owner) as reader:
            if reader.mailbox_by_id(settlement.uniqueid) is None:
                raise MailboxNonexistent
        raise SyncChanged

    def _changed(self, now: MailboxState) -> list[Record]:
        base = self.settlement.base
        return [] if now.highestmodseq == base.highestmodseq else self._records_since(base.highestmodseq)

    def _touched(self, modseq: int) -> set[int]:
        return {record.uid for record in self._records_since(modseq)}

    def _records_since(self, modseq: int) -> list[Record]:
        with self.master.read(self.owner) as reader:
            source = reader.records(self.settlement.uniqueid, since_modseq=modseq)
            return [record for batch in source for record in batch]

    def _floor(self, now: MailboxState) -> int:
        """The highest modseq that was given out to anything of the owner's: where conversations are counted,
        all of his mailboxes share their numbers."""
        if not now.xconvmodseq or self.owner.kind != "user":
            return 0
        with self.master.read(self.owner) as reader:
            states = reader.mailboxes()
        return max(
            (max(s.highestmodseq, s.foldermodseq, s.raclmodseq, s.xconvmodseq) for s in states), default=0
        )

    # -- messages

    def _stage(self, step: Step, partition: str) -> None:
        """Have the server hold every message of `step`. It ends itself over a record without its message, so
        nothing is left to chance."""
        settlement = self.settlement
        own: dict[bytes, int] = {}
        theirs: dict[bytes, None] = {}
        adopted = {id(one.record) for one in settlement.renumber if one.adopted}
        for record in step.appended:
            theirs[record.guid] = None
        for record in step.renumbered:
            if id(record) in adopted:
                theirs[record.guid] = None
            else:
                own[record.guid] = record.uid
        given = [guid for guid in theirs if settlement.bodies.get(guid) is not None]
        if given:
            source = _Bodies(settlement.bodies, given, partition)
            self.session.call(lambda server: server.message(source))
        missing = self._reserve(partition, [guid for guid in (*own, *theirs) if guid not in set(given)])
        lacking = [guid for guid in missing if guid not in own]
        if lacking:
            raise StoreError(f"the message {lacking[0].hex()} is not here any more")
        if missing:
            wanted = [(own[guid], guid) for guid in missing]
            own_source = self.master.messages(self.owner, settlement.uniqueid, wanted, partition)
            self.session.call(lambda server: server.message(own_source))

    def _reserve(self, partition: str, guids: Sequence[bytes]) -> list[bytes]:
        missing: list[bytes] = []
        for begin in range(0, len(guids), _GUIDS):
            part = guids[begin : begin + _GUIDS]
            found: list[bytes] = self.session.call(self._question(partition, part))
            missing += found
        return missing

    def _question(self, partition: str, guids: Sequence[bytes]) -> Work[list[bytes]]:
        return lambda server: server.reserve(partition, [self.settlement.name], guids)


@dataclass(frozen=True, slots=True)
class _Bodies:
    """Messages that were fetched from the replica, for a partition of the master (a `MessageSource`)."""

    bodies: Fetched
    guids: Sequence[bytes]
    partition: str

    def __iter__(self) -> Iterator[list[MessageBody]]:
        return in_batches(self._each())

    def _each(self) -> Iterator[MessageBody]:
        for guid in self.guids:
            body = self.bodies.get(guid)
            if body is None:
                raise StoreError(f"the message {guid.hex()} was fetched and is gone")
            yield body._replace(partition=self.partition)


def _tries() -> Iterator[bool]:
    """True for the last one."""
    return (number == TRIES for number in range(1, TRIES + 1))
