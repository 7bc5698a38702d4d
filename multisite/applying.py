"""`Applying`: a packet that was verified and fits, brought into the log and carried out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.admission import Gap, Need, fork_of, forked_up_to
from cyrus_sync.multisite.contacts import Contact, note_contact
from cyrus_sync.multisite.errors import NotApplied
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.stuck import stuck
from cyrus_sync.multisite.packet import Header, Messages, Operation, PacketReader, heard_in
from cyrus_sync.multisite.parts import Waiting
from cyrus_sync.multisite.passing_on import believed, note_restores, said_by
from cyrus_sync.multisite.relaying import note_questions
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.folding import Folding
from cyrus_sync.multisite.replay.replay import Replay
from cyrus_sync.multisite.restoring import note_answer, note_restore, note_row, open_again
from cyrus_sync.multisite.working import Work

COMMIT_EVERY = 64 << 20
"""Bytes of messages after which store and log are committed."""
COMMIT_OPERATIONS = 2000


class Applying:
    """Applies packets for a member, which is locked."""

    def __init__(self, member: Member, work: Work) -> None:
        self._member = member
        self._work = work
        self.waiting: list[Waiting] = []
        """What of the packet that was applied last waits, and for whom."""

    def apply(self, packet: PacketReader, *, goes_on: bool = False) -> int:
        """Apply a packet that has been verified and fits. `goes_on`: the next part of the same logical packet
        follows at once, and has the operations for which messages of this one wait.

        Returns how many operations were new. Raises `PacketError` and what the store raises; what was
        committed by then stays, and is found done."""
        member, log, header = self._member, self._member.log, packet.header
        count = size = since = 0
        total = sum(there.end - there.start + 1 for there in header.ranges.values())
        with (
            log.db.transaction(),
            self._work.replay() as (context, replay),
            member.progress(f"applying a packet of {header.sender_name}", total) as meter,
            Folding(context.messages) as folding,
        ):
            for item in packet.items(member.staging):
                if isinstance(item, Messages):
                    folding.add(item.bodies)
                    size += sum(body.size for body in item.bodies)
                elif isinstance(item, Operation):
                    meter.advance()
                    if self._is_new(header, item, replay):
                        replay.take(item)
                        count += 1
                        since += 1
                if size > COMMIT_EVERY or since > COMMIT_OPERATIONS:
                    size = since = 0
                    folding.settle()
                    self._work.carry_out(context, replay)
            folding.settle()
            self._work.carry_out(context, replay)
            if header.number and not header.last and not goes_on:
                context.messages.hold(context.messages.guids())
            self._wanted(context, replay)
            if not note_restore(member, context, header.sender, said_by(header)):
                note_row(log, header)
                self._note_heard(header)
            told = believed(log, context.family, header)
            for replica, restore in told.items():
                note_restore(member, context, replica, restore)
            note_restores(log, context.family, header, told)
            for origin, there in header.ranges.items():
                # An origin has what it did itself, unless it was ever restored: then it has what it says.
                if not context.family.was_restored(origin):
                    log.epochs.raise_to(origin, {origin: there.end})
            note_questions(log, context.family, header)
            self._work.note_given_up(context, header.given_up)
            self._work.commit(context, replay)
            answered = note_answer(member, header)
        note_contact(member.directory, header.sender, Contact(log.now(), header.created))
        if answered:
            open_again(member, self._work.after_restore)
        self.waiting = [*self._unanswered(replay.left_to_masters), *self._stuck(header)]
        return count

    def take_wanted(self, packet: PacketReader) -> None:
        """Take those messages out of a refused packet for which operations wait. An earlier import may have
        taken the operations from this very packet and crashed; then the messages may be nowhere else."""
        wanted = set(self._member.log.wanted(1 << 30))
        if not wanted:
            return
        with self._member.log.db.transaction(), self._work.replay() as (context, replay):
            for item in packet.items(self._member.staging):
                if isinstance(item, Messages):
                    context.messages.add([body for body in item.bodies if body.guid in wanted])
            self._wanted(context, replay)
            self._work.commit(context, replay)

    def _wanted(self, context: ReplayContext, replay: Replay) -> None:
        """Try waiting operations again where messages came for which they wait."""
        log = self._member.log
        came = [guid for guid in log.wanted(1 << 30) if guid in context.messages]
        if came:
            context.messages.hold(came)
            replay.try_pending()
            log.unwant(came)

    def _is_new(self, header: Header, operation: Operation, replay: Replay) -> bool:
        """Whether an operation of a packet is the next of its origin, and not one that is here already.

        Raises `NotApplied` where operations before it are lacking, although the header promises them; `Gap`
        where those are of a life that this replica had before it went back; and `Forked`. A replica that is
        being restored takes what it has said before it went back."""
        log, origin = self._member.log, operation.origin
        last = log.operations.last(origin)
        if operation.id > last + 1:
            name = self._member.family.name_of(origin)
            raise NotApplied(
                f"it brings operation {operation.id} of {name} where operation {last + 1} should be:"
                " its sender has made it wrong"
            )
        after = forked_up_to(self._member, header, origin)
        if not log.forks.fits(origin, operation.id, operation.attributes, after=after):
            if origin != log.self_id or not self._member.sealed:
                raise fork_of(self._member, origin, operation.id)
            if not log.forks.goes_on(operation.id, operation.attributes):
                raise Gap((Need(origin, operation.id - 1, log.forks.taken_before(operation.id)),))
            replay.noted_fork(operation)
            if operation.id <= last:
                replay.take(operation, again=True)
        return operation.id > last

    def _note_heard(self, header: Header) -> None:
        """What the packet proves of its sender, and what the sender has heard of others. One that is being
        restored may still get what it had before."""
        log, family = self._member.log, self._member.family
        shown = heard_in(header)
        if not header.trail:
            shown[header.sender] = header.sender_incarnation, dict(header.row)
        for replica, (incarnation, row) in shown.items():
            known = family.replicas.get(replica)
            if replica == log.self_id or known is None or incarnation != known.incarnation:
                continue
            log.heard.note(replica, incarnation, row)
            log.epochs.raise_to(replica, row)

    def _unanswered(self, left: Mapping[tuple[Owner, str], Sequence[int]]) -> Iterator[Waiting]:
        """What of the operations that were left to masters is still not answered. An answer may have come
        with the same packet."""
        masters = self._member.log.masters
        found: dict[Owner, int] = {}
        for (owner, origin), numbers in left.items():
            settled = masters.settled(owner).get(origin, 0)
            if open_ones := sum(number > settled for number in numbers):
                found[owner] = found.get(owner, 0) + open_ones
        for owner, changes in found.items():
            if master := masters.of(owner):
                ours = master.replica == self._member.log.self_id
                name = "the end of the restore" if ours else self._member.family.name_of(master.replica)
                yield Waiting(owner, changes, f"for {name}")

    def _stuck(self, header: Header) -> Iterator[Waiting]:
        """What of a packet's operations waits for messages, or behind something that is stuck."""
        for one in stuck(self._member.log, ranges=ranges_of(header)):
            if one.waiting:
                yield Waiting(one.owner, one.waiting, one.why)


def ranges_of(header: Header) -> dict[str, tuple[int, int]]:
    """Origin -> the first and the last number of the operations in a packet."""
    return {origin: (there.start, there.end) for origin, there in header.ranges.items()}
