"""`Replay`: operations in their order, each carried out by whose word counts for its owner.

===========================  =======================================================================
said by the owner's master   applied here (`apply_master`)
we are the owner's master    arbitrated here (`arbitrate`), and told to all as our word
neither                      kept in the log, with its messages, to be passed on
===========================  =======================================================================

An operation whose messages are missing waits, and so does every later one on the same owner. Operations on
other owners go on.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from cyrus_sync.common.errors import CyrusSyncError, SnapshotLost, StoreCorrupt, StoreError, SyncChanged
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.errors import (
    BadOperation,
    CannotBeSaid,
    MessagesMissing,
    MultisiteError,
    NotApplied,
)
from cyrus_sync.multisite.oplog.apply_command import (
    ApplyCommand,
    parse,
    without_messages,
    without_records,
)
from cyrus_sync.multisite.oplog.masters import Base, Master, prevails
from cyrus_sync.multisite.oplog.operations import LogEntry, OperationState, owner_from, owner_text
from cyrus_sync.multisite.oplog.shadows import RESYNC, TOLD_ITEMS
from cyrus_sync.multisite.packet import Operation
from cyrus_sync.multisite.replay.apply_master import apply_master, note_reached
from cyrus_sync.multisite.replay.arbitrate import arbitrate
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.deletions import tell_deletions
from cyrus_sync.multisite.replay.family_operations import note_replica
from cyrus_sync.multisite.replay.foreseen import foresee
from cyrus_sync.multisite.replay.proposing import mailboxes_here, propose, tell_what_is_here, what_is_here
from cyrus_sync.multisite.vetting import SPECIAL, Said, check_right, read

_log = logging.getLogger(__name__)

ATTEMPTS = 10
"""How often an operation is tried on a mailbox that changes in the same moment."""


def is_word_of(master: Master | None, entry: LogEntry) -> bool:
    """Whether the origin of an operation said it as the master that is known here. What it said in another
    reign does not count: that need not contain what has been said in this one."""
    if master is None or master.replica != entry.origin:
        return False
    return "settled" in entry.attributes and entry.attributes.get("reign") == master.reign


class Replay:
    """Carries out operations. The caller commits the batch and the log (`ReplayContext`).

    Nothing here raises for a bad operation: it is set aside with its reason. `StoreError` is raised where the
    store as a whole fails."""

    def __init__(self, context: ReplayContext, capture: Callable[[Iterable[Owner]], object]) -> None:
        """`capture` records what owners have changed here, before another's word is applied to them."""
        self._context = context
        self._capture = capture
        self._captured: set[Owner] = set()
        self._taken: list[tuple[LogEntry, Said]] = []
        self._in_batch: list[tuple[int, LogEntry]] = []
        """Operations that were carried out, each with `BatchWriter.commits` of that moment."""
        self.consumed: set[bytes] = set()
        """GUIDs of messages that are in the store now."""
        self.left_to_masters: dict[tuple[Owner, str], list[int]] = {}
        """Owner and origin -> the operations that were only kept, since the owner's master is to answer."""

    def noted_fork(self, operation: Operation) -> None:
        """Before this replica went back it has said this; the log has something else under the number, or
        before."""
        entry = _entry_of(operation)
        self._context.log.forks.note(entry)
        self._context.forked = True
        self._context.merging.add(entry.owner)

    def take(self, operation: Operation, *, again: bool = False) -> None:
        """Put a new operation of a packet into the log; `carry_out_taken` carries it out with others. An
        operation of our own comes only where a restore from backup has undone it. `again`: its number is
        taken in the log, so it is only carried out."""
        entry = _entry_of(operation)
        try:
            said = read(entry)
        except BadOperation as error:
            if not again:
                self._notice_set_aside(self._context.log.operations.add(replace(entry, reason=str(error))))
            return
        if operation.origin != self._context.log.self_id and not self._context.founding:
            self._capture_first(entry.owner, operation.attributes.get("uniqueid", ""))
        messages = said.command.messages if said.command else {}
        entry = replace(entry, guids=tuple(messages), octets=sum(messages.values()))
        self._taken.append((entry if again else self._context.log.operations.add(entry), said))

    def _capture_first(self, owner: Owner, uniqueid: str) -> None:
        """Record first what has been changed here and not been told: no word of others may cover it."""
        now_of = self._context.log.shadows.owner_of(uniqueid) if uniqueid else None
        for one in (owner, now_of):
            if one is not None and one not in self._captured:
                self._captured.add(one)
                self._capture([one])

    def carry_out_taken(self) -> None:
        """Carry out what was taken. The log already has it durably as *begun*. If this process crashes now,
        the next one sees that, and does not mistake the effects in the store for changes of this replica."""
        taken, self._taken = self._taken, []
        self._in_batch.clear()
        for entry, said in taken:
            self._carry_out(entry, said)

    def try_pending(self) -> None:
        """Try the operations again that had to wait, were set aside, or were begun by a process that
        crashed."""
        operations = self._context.log.operations
        stuck: set[Owner] = set()
        pending = list(operations.pending())
        self._context.reached = {}
        for entry in pending:
            if entry.verb == "MAILBOX" and is_word_of(self._context.log.masters.of(entry.owner), entry):
                said = _readable(entry)
                # Of an owner who is damaged here nothing is known, and nothing is carried out.
                with contextlib.suppress(StoreCorrupt):
                    if said is not None:
                        note_reached(self._context, entry, said.update.state)
        for entry in pending:
            if entry.owner not in stuck or entry.verb in SPECIAL:
                self._carry_out(entry, None)
            if operations.is_pending(entry):
                stuck.add(entry.owner)

    def _carry_out(
        self, entry: LogEntry, said: Said | None, *, vetted: bool = False, attempts: int = ATTEMPTS
    ) -> None:
        """`said` is what `read` made of the operation, None if that is to be done. `vetted`: its origin is
        known to be allowed to say it."""
        log = self._context.log
        if not entry.seq:
            self._carry_out_again(entry, said or read(entry))
            return
        try:
            said = said or read(entry)
            if not vetted:
                context = self._context
                before = log.masters.of(entry.owner)
                check_right(context.family, entry, said, before, founding=context.founding)
            if said.master is not None:
                self._master(entry, said.master)
            elif said.replica is not None:
                note_replica(self._context, entry, said.replica)
            elif log.operations.waits(entry):
                self._wait(entry)
                return
            else:
                assert said.command is not None
                self._by_master(entry, said.command)
            log.operations.set_state(entry.seq, OperationState.DONE)
            self._in_batch.append((self._context.batch.commits, entry))
        except MessagesMissing as error:
            self._lacks(entry, error)
        except (SyncChanged, SnapshotLost) as error:
            # Somebody was quicker, in mail that is not locked meanwhile: it is looked at anew.
            if attempts > 1:
                self._carry_out(entry, said, vetted=True, attempts=attempts - 1)
            else:
                self._set_aside(entry, str(error))
        except CannotBeSaid as error:
            way = f"multitool chmaster -force {self._context.family.myself.name} {entry.owner}"
            self._set_aside(entry, f"{error}; as the master this site can settle it: {way}")
        except BadOperation as error:
            self._set_aside(entry, str(error))
        except StoreCorrupt as error:
            self._set_owner_aside(entry, error)
        except StoreError:
            raise
        except CyrusSyncError as error:
            if damaged := self._damaged(entry):
                self._lacks(entry, MessagesMissing(damaged))
            else:
                self._set_aside(entry, str(error))
        except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RecursionError) as error:
            # `read` should have refused it, or the fault is ours: either way nobody else is stopped.
            _log.exception("operation %d of %s", entry.id, entry.origin)
            self._set_aside(entry, f"{type(error).__name__}: {error}")

    def _lacks(self, entry: LogEntry, error: MessagesMissing) -> None:
        """Have an operation wait for its messages, unless it can be carried out without them."""
        spared = self._without_expunged(entry, set(error.guids))
        if spared is not None:
            self._carry_out(spared, None, vetted=True)
            return
        self._wait(entry)
        self._context.log.want(entry.owner, error.guids)
        self._context.notice(f"{entry.verb} of {entry.owner} waits: {error}")

    def _damaged(self, entry: LogEntry) -> tuple[bytes, ...]:
        """The messages of an operation whose copies here were found damaged: another one is needed."""
        found = set[bytes]()
        for owner in self._context.log.places(entry.owner):
            with contextlib.suppress(StoreError), self._context.batch.reader(owner) as reader:
                found |= reader.damaged_guids()
        return tuple(guid for guid in entry.guids if guid in found)

    def _carry_out_again(self, entry: LogEntry, said: Said) -> None:
        """Carry out an operation that cannot be in the log. So it cannot wait there either: whatever is in
        its way is raised, and the packet is kept. Raises `NotApplied`."""
        context = self._context
        try:
            check_right(context.family, entry, said, context.log.masters.of(entry.owner))
            if said.master is not None:
                self._master(entry, said.master)
            elif said.replica is not None:
                note_replica(context, entry, said.replica)
            else:
                assert said.command is not None
                self._merge(entry, said.command)
        except MessagesMissing as error:
            context.log.want(entry.owner, error.guids)
            raise NotApplied(f"operation {entry.id} of this replica: {error}") from None
        except BadOperation as error:
            self._notice_set_aside(replace(entry, reason=str(error)))

    def _set_owner_aside(self, entry: LogEntry, error: StoreCorrupt) -> None:
        """The store here cannot read or change an owner. Operations on that owner wait until it is repaired,
        and everybody else goes on. What was done before in the open transaction stays if it can be committed;
        if not, those operations are set aside, too."""
        batch = self._context.batch
        begun = [one for commits, one in self._in_batch if commits == batch.commits]
        try:
            batch.commit()
        except StoreError:
            for one in begun:
                self._set_aside(one, str(error))
        self._in_batch.clear()
        self._set_aside(entry, str(error))

    def _set_aside(self, entry: LogEntry, reason: str) -> None:
        self._context.log.operations.set_state(entry.seq, OperationState.SET_ASIDE, reason)
        self._context.messages.hold(entry.guids)
        if reason != entry.reason:
            self._notice_set_aside(replace(entry, reason=reason))

    def _notice_set_aside(self, entry: LogEntry) -> None:
        name, owner = self._context.family.name_of(entry.origin), owner_text(entry.owner)[:100]
        self._context.warn(
            f"operation {entry.id} of {name} on {owner!r} is set aside: {entry.reason} (multitool setaside)"
        )

    def _without_expunged(self, entry: LogEntry, missing: set[bytes]) -> LogEntry | None:
        """The operation without such missing messages as a later operation of its origin expunges, or as were
        given up: nobody needs to wait for those. None if there are none."""
        uniqueid = entry.attributes.get("uniqueid")
        if entry.verb != "MAILBOX":
            return None
        gone: set[int] = set()
        for later in self._context.log.operations.of_owner(entry.owner):
            about = (later.origin, later.verb, later.attributes.get("uniqueid"))
            if later.seq > entry.seq and about == (entry.origin, "MAILBOX", uniqueid):
                told = _readable(later)
                for record in told.records if told else ():
                    if record.expunged:
                        gone.add(record.uid)
                    else:
                        gone.discard(record.uid)
        records = [record for record in parse(entry.line).records if not record.expunged]
        needed = {record.guid for record in records if record.uid not in gone}
        spared = (missing - needed) | (missing & self._context.given_up)
        if not spared:
            return None
        self._context.log.unwant(spared)
        return without_messages(entry, spared)

    def _wait(self, entry: LogEntry) -> None:
        self._context.log.operations.set_state(entry.seq, OperationState.WAITS)
        self._context.messages.hold(entry.guids)

    def _by_master(self, entry: LogEntry, said: ApplyCommand) -> None:
        log = self._context.log
        master = log.masters.of(entry.owner)
        if master is None:
            raise MultisiteError(f"{entry.owner} has no master")
        ours = master.replica == log.self_id
        context = self._context
        if entry.owner in context.merging or (context.forked and entry.origin == log.self_id):
            self._merge(entry, said)
        elif is_word_of(master, entry):
            if apply_master(self._context, entry, said):
                self.consumed.update(entry.guids)
            else:
                self._pass_on(entry)
        elif master.replica == entry.origin and not ours:
            # It said this before it knew that it is the master, and tells all of it anew when it knows.
            self._leave_to_master(entry, said)
        elif ours and (entry.origin == log.self_id or not self._context.family.restoring):
            if arbitrate(self._context, entry, said):
                self.consumed.update(entry.guids)
            else:
                self._pass_on(entry)
        else:
            self._leave_to_master(entry, said)

    def _merge(self, entry: LogEntry, said: ApplyCommand) -> None:
        """Take what an operation says into the store beside what is there: this store is older than the log
        was, or this replica has said something else in its place. The owner is told anew in the end; so
        records of messages that are nowhere here need not be waited for: whoever has them tells of them."""
        self._context.log.forks.merge(entry.owner)
        self._context.merging.add(entry.owner)
        try:
            self._context.require(entry)
        except MessagesMissing as error:
            said = without_records(said, error.guids)
            entry = replace(entry, guids=tuple(said.messages.keys() & set(entry.guids)))
        if arbitrate(self._context, entry, said, settles=False):
            self.consumed.update(entry.guids)
        else:
            self._pass_on(entry)

    def _leave_to_master(self, entry: LogEntry, said: ApplyCommand) -> None:
        self._pass_on(entry)
        if entry.origin == self._context.log.self_id:
            self._context.log.regained.add(entry.id)
        else:
            self.left_to_masters.setdefault((entry.owner, entry.origin), []).append(entry.id)
            foresee(self._context, entry, said)

    def _pass_on(self, entry: LogEntry) -> None:
        """Keep the messages that came with an operation: whoever is told of it needs them."""
        self._context.require(entry)
        self._context.messages.hold(entry.guids)

    # -- the family, and whose word counts

    def _master(self, entry: LogEntry, said: Master) -> None:
        log, owner = self._context.log, entry.owner
        before = log.masters.of(owner)
        if before is not None and not prevails(said, before):
            if said == before:
                propose(self._context, entry, said)
            return
        log.masters.put(owner, said)
        if before is None:
            return
        if said.replica == log.self_id:
            self.promoted(owner, handed_over=not _is_new_beginning(entry, said, before))
        elif _is_new_beginning(entry, said, before):
            # The last master did not hand over to it: nothing here is built on its state. One that begins
            # another reign was restored from a backup, and may have lost what it had said. What the last one
            # had taken in has to be settled again.
            log.masters.forget_settled(owner)
            self._forget_bases(owner, said_by_us=before.replica == log.self_id)

    def _forget_bases(self, owner: Owner, *, said_by_us: bool) -> None:
        """A claim prevails without a handing over, so the new master arbitrates what is here. If we were the
        master, the new one knows our state as soon as it has answered us. If another one was, or the new one
        itself before a restore, nobody can tell how much of it the new one knows."""
        log = self._context.log
        for state in log.shadows.at_home(owner):
            told_id = log.masters.base(state.uniqueid).told_id
            told_modseq = state.highestmodseq if said_by_us and told_id else 0
            log.masters.put_base(state.uniqueid, Base(0, 0, told_id, told_modseq))

    def promoted(self, owner: Owner, *, handed_over: bool = False) -> None:
        """Our word counts for an owner from now on. All of the owner is told anew; then what others have said
        and the last master had not taken in is arbitrated. `handed_over`: by the last master."""
        log = self._context.log
        self._context.batch.commit()
        places = list(log.places(owner))
        self._capture(places)
        tell_deletions(self._context, owner)
        settled = log.masters.settled(owner)
        log.masters.forget_bases(owner)
        here = what_is_here(self._context, owner)
        for state in log.shadows.at_home(owner):
            log.shadows.drop(state.uniqueid)
        log.shadows.drop_items(owner)
        if not handed_over:
            tell_what_is_here(log, owner, here)
        self._context.to_capture.update(places)
        self.arbitrate_left(owner, settled)

    def tell_anew(self, owner: Owner) -> None:
        """A restore has merged what is said of an owner. If its master is here, a new reign begins; else all
        of it is told to the master as unknown, and the master is asked to tell all that it has, and what is
        not here at all."""
        log = self._context.log
        master = log.masters.of(owner)
        if master is None:
            return
        if master.replica == log.self_id:
            log.proclaim(owner, Master(master.version + 1, log.self_id))
            self.promoted(owner)
            return
        tell_what_is_here(log, owner, mailboxes_here(self._context, owner))
        there = {state.uniqueid for state in log.shadows.at_home(owner)}
        for uniqueid in sorted(there.union(log.masters.forget_bases(owner))):
            log.shadows.put_item(owner, RESYNC, uniqueid, True)
            log.shadows.drop(uniqueid)
        for kind in TOLD_ITEMS:
            for key, _ in log.shadows.items(owner, kind):
                log.shadows.drop_item(owner, kind, key)
        self._context.to_capture.update(log.places(owner))
        self._context.to_capture.add(owner)

    def arbitrate_left(self, owner: Owner, settled: Mapping[str, int]) -> None:
        """Arbitrate what others have said of an owner whose master we are, and what we said before and have
        only got back. `settled` maps each origin to its last operation that is part of the master's state
        already."""
        log = self._context.log
        for entry in list(log.operations.of_owner(owner)):
            if entry.verb in SPECIAL or entry.id <= settled.get(entry.origin, 0):
                continue
            if entry.origin != log.self_id or log.regained.is_for_master(entry):
                self._carry_out(entry, None)


def _is_new_beginning(entry: LogEntry, said: Master, before: Master) -> bool:
    """Whether the state of a new master is not what the last one has handed over."""
    handed_over = entry.origin == before.replica and said.version == before.version + 1
    return said.replica == before.replica or not handed_over


def _entry_of(operation: Operation) -> LogEntry:
    """An operation of a packet as it goes into the log."""
    return LogEntry(
        operation.origin,
        operation.id,
        operation.time,
        owner_from(operation.owner),
        operation.line,
        operation.attributes,
    )


def _readable(entry: LogEntry) -> ApplyCommand | None:
    """What an operation of the log says; None for one that makes no sense."""
    try:
        return read(entry).command
    except BadOperation:
        return None
