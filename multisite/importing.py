"""Import: packets applied in order, each operation once, whatever arrives late, twice or damaged.

A packet is verified as a whole before anything of it is applied (`admission`). It carries a range of
operations of each origin:

==========  ==========================================================================================
gap         the range begins beyond what this replica has: the packet is kept, and applied when the
            rest is there
overlap     operations that are here already are skipped
duplicate   nothing of the packet is new: it counts as applied
==========  ==========================================================================================

The mail store is committed before the log. An import that was killed goes on where the log ends: it applies
the last operations again, and every step can be repeated.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.files import TEMPORARY
from cyrus_sync.common.names import Owner
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.multisite.admission import (
    Gap,
    OldSender,
    check,
    check_heads,
    check_own,
    fork_of,
    forked_up_to,
    gap,
    judged,
)
from cyrus_sync.multisite.contacts import Contact, note_contact
from cyrus_sync.multisite.errors import Forked, NotApplied, UnknownSender, WentBack
from cyrus_sync.multisite.giving_up import expunge_lost
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.held import Held
from cyrus_sync.multisite.oplog.objects import Object
from cyrus_sync.multisite.oplog.operations import FAMILY, LogEntry, OperationState
from cyrus_sync.multisite.packet import (
    CREATION,
    Header,
    Messages,
    Operation,
    PacketError,
    PacketReader,
    heard_in,
)
from cyrus_sync.multisite.parts import Parts, Waiting
from cyrus_sync.multisite.pruning import prune_held
from cyrus_sync.multisite.replay.batch_writer import BatchWriter
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.family_operations import announce
from cyrus_sync.multisite.replay.folding import Folding
from cyrus_sync.multisite.replay.foreseen import warn_of_foreseen
from cyrus_sync.multisite.replay.inboxes import give_inboxes, note_inboxless
from cyrus_sync.multisite.replay.merging import merge_all, merge_twins
from cyrus_sync.multisite.replay.names import give_back, warn_of_generated
from cyrus_sync.multisite.replay.packet_messages import PacketMessages
from cyrus_sync.multisite.replay.replay import Replay
from cyrus_sync.multisite.restoring import ANSWER, note_answer, note_restore, open_again, where_they_part
from cyrus_sync.multisite.scrubbing import scrub_if_due
from cyrus_sync.multisite.trust import learn

COMMIT_EVERY = 64 << 20
"""Bytes of messages after which store and log are committed."""
COMMIT_OPERATIONS = 2000

_BEGINNING = b"cyrus-sync packet "


@dataclass(slots=True)
class Result:
    """What an import did."""

    applied: list[Path] = field(default_factory=list)
    refused: dict[Path, CyrusSyncError] = field(default_factory=dict)
    creation: list[Path] = field(default_factory=list)
    """Creation packets that were met and left alone."""
    operations: int = 0


def packets_in(paths: Iterable[Path]) -> list[Path]:
    """The packets among files and directly in directories, each once."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [one for one in path.iterdir() if not one.name.startswith(TEMPORARY)]
            found += sorted(one for one in inside if looks_like_packet(one))
        else:
            found.append(path)
    return list(dict.fromkeys(found))


def looks_like_packet(path: Path) -> bool:
    """Whether a file begins as a packet does. Links and pipes are refused: whoever may write into a bay could
    have them lead anywhere."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(descriptor).st_mode) and os.pread(descriptor, 18, 0) == _BEGINNING
    except OSError:
        return False
    finally:
        os.close(descriptor)


class Import:
    """Applies packets for one member, which is locked. `applied` is called with the path of each packet that
    has been applied, `notice` with what one may want to know afterwards."""

    def __init__(
        self, member: Member, applied: Callable[[Path], object], notice: Callable[[str], None]
    ) -> None:
        self._member = member
        self._applied = applied
        self._notice = notice
        self.waiting: list[Waiting] = []
        """What of the packet that was applied last waits for masters."""
        self._parts = Parts(self._new_messages, self._hold, self._confirm)

    def run(self, paths: Iterable[Path]) -> Result:
        """Apply what can be applied, in the right order, whatever the order of `paths`.

        One packet's trouble does not stop the others (`Result.refused`). Raises `StoreError` where the store
        fails."""
        result = Result()
        bring_up_to_date(self._member, self._notice)
        try:
            self._apply_all(dict.fromkeys(paths), result)
        finally:
            self._parts.close()
        self._afterwards()
        scrub_if_due(self._member)
        self._member.log.db.shrink()
        return result

    def _apply_all(self, waiting: dict[Path, None], result: Result) -> None:
        heads = {path: _head(path) for path in waiting}
        progress = True
        while waiting and progress:
            progress = False
            order = sorted(waiting, key=lambda path: _order(path, heads[path]))
            for path, following in zip(order, [*order[1:], None], strict=True):
                goes_on = _goes_on(heads[path], heads[following] if following else None)
                try:
                    self._one(path, result, goes_on=goes_on)
                except (Gap, UnknownSender, Forked) as error:
                    result.applied += self._parts.end()
                    result.refused[path] = error
                    if isinstance(error, Forked) and error.ours:
                        self._went_back(error, path, result, waiting)
                        return
                except (PacketError, NotApplied, OSError) as error:
                    result.applied += self._parts.end()
                    result.refused[path] = _as_error(error, path)
                    del waiting[path]
                else:
                    progress = True
                    result.refused.pop(path, None)
                    del waiting[path]

    def _went_back(self, error: Forked, path: Path, result: Result, waiting: Iterable[Path]) -> None:
        """This replica went on after a restore: it takes and tells nothing more before the administrator has
        said so. An unsigned packet is not believed so far."""
        with PacketReader(path) as packet:
            signed = bool(judged(self._member, packet.header).keys)
        if signed and self._member.generation is not None:
            self._member.generation.is_behind(str(error).partition(":")[0])
        for one in waiting:
            result.refused.setdefault(one, WentBack("another packet shows it"))

    def needs(self, path: Path) -> Gap | None:
        """What is missing before the packet can be applied (``-diagnose``); None for nothing.

        Raises `NotApplied` and `PacketError` for a packet that `run` refuses for another reason, OSError."""
        with PacketReader(path) as packet:
            check(self._member, packet.header)
            return gap(self._member, packet.header)

    def _one(self, path: Path, result: Result, *, goes_on: bool) -> None:
        """Apply one packet. `goes_on`: the next part of the same logical packet follows at once, and has the
        operations for which messages of this one wait."""
        member = self._member
        with PacketReader(path, secrets=member.secrets()) as packet:
            header = packet.header
            if header.kind == CREATION:
                result.creation.append(path)
                raise NotApplied("it is a creation packet (multitool mkreplica -import)")
            try:
                check(member, header)
            except OldSender:
                packet.verify(judged(member, header).keys)
                self._take_wanted(packet)
                raise
            verdict = judged(member, header)
            packet.verify(verdict.keys)
            check_own(member, header)
            check_heads(member, header)
            lacking = gap(member, header)
            if lacking is not None:
                raise lacking
            member.set_family(learn(member.family, header.sender, verdict.history, member.warn))
            result.operations += self.apply(packet, goes_on=goes_on)
        self._parts.done(path, self.waiting, goes_on=goes_on)
        if not goes_on:
            result.applied += self._parts.end()

    def _new_messages(self) -> PacketMessages:
        return PacketMessages(self._member.staging, Held(self._member.log.db))

    def _hold(self, messages: PacketMessages) -> None:
        with self._member.log.db.transaction():
            messages.hold(messages.guids())

    def _confirm(self, path: Path, waiting: list[Waiting]) -> None:
        self.waiting = waiting
        self._applied(path)

    # -- applying

    def apply(self, packet: PacketReader, *, goes_on: bool = False) -> int:
        """Apply a packet that has been verified and fits. Returns how many operations were new. Raises
        `PacketError` and what the store raises; what was committed by then stays, and is found done."""
        self._parts.begin()
        member, log, header = self._member, self._member.log, packet.header
        count = size = since = 0
        total = sum(there.end - there.start + 1 for there in header.ranges.values())
        with (
            log.db.transaction(),
            self._replay() as (context, replay),
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
                    self._carry_out(context, replay)
            folding.settle()
            self._carry_out(context, replay)
            if header.number and not header.last and not goes_on:
                context.messages.hold(context.messages.guids())
            self._wanted(context, replay)
            if note_restore(member, context, header):
                log.epochs.put(header.sender, where_they_part(log, header))
            else:
                log.epochs.raise_to(header.sender, header.row)
                self._note_heard(header)
            for origin, there in header.ranges.items():
                # An origin has what it did itself, unless it was ever restored: then it has what it says.
                if not context.family.was_restored(origin):
                    log.epochs.raise_to(origin, {origin: there.end})
            if header.wanted:
                log.request(header.sender, header.wanted)
            log.given_up.answered(header.sender, header.wanted)
            self._give_up(context, header.given_up)
            self._commit(context, replay)
            answered = note_answer(member, header)
        note_contact(member.directory, header.sender, Contact(log.now(), header.created))
        if answered:
            open_again(member, self.after_restore)
        self.waiting = list(self._waiting(replay.left_to_masters))
        return count

    def _give_up(self, context: ReplayContext, guids: Iterable[bytes]) -> None:
        """Go on without messages that nobody has any more."""
        log = self._member.log
        if new := log.given_up.add(guids, log.now()):
            context.given_up |= new
            log.unwant(new)
            for one in context.family.living():
                if one.id != log.self_id:
                    log.request(one.id, [ANSWER])  # all are to hear of it
            expunge_lost(context, self._member, sorted(new))

    def give_up(self, guids: Iterable[bytes]) -> None:
        """Give up messages, here and, by the next packets, everywhere (``multitool giveup``)."""
        with self._member.log.db.transaction(), self._replay() as (context, replay):
            self._give_up(context, guids)
            self._commit(context, replay)
        self._afterwards()

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

    def _waiting(self, left: Mapping[tuple[Owner, str], Sequence[int]]) -> Iterator[Waiting]:
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
                yield Waiting(owner, changes, name)

    def _is_new(self, header: Header, operation: Operation, replay: Replay) -> bool:
        """Whether an operation of a packet is the next of its origin, and not one that is here already.

        Raises `NotApplied` where operations before it are lacking, although the header promises them; and
        `Forked`. A replica that is being restored takes what it has said before it went back."""
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
            replay.noted_fork(operation)
            if operation.id <= last:
                replay.take(operation, again=True)
        return operation.id > last

    def _take_wanted(self, packet: PacketReader) -> None:
        """Take those messages out of a refused packet for which operations wait. An earlier import may have
        taken the operations from this very packet and crashed; then the messages may be nowhere else."""
        wanted = set(self._member.log.wanted(1 << 30))
        if not wanted:
            return
        with self._member.log.db.transaction(), self._replay() as (context, replay):
            for item in packet.items(self._member.staging):
                if isinstance(item, Messages):
                    context.messages.add([body for body in item.bodies if body.guid in wanted])
            self._wanted(context, replay)
            self._commit(context, replay)

    def _wanted(self, context: ReplayContext, replay: Replay) -> None:
        """Try waiting operations again where messages came for which they wait."""
        log = self._member.log
        came = [guid for guid in log.wanted(1 << 30) if guid in context.messages]
        if came:
            context.messages.hold(came)
            replay.try_pending()
            log.unwant(came)

    def _carry_out(self, context: ReplayContext, replay: Replay) -> None:
        """Commit the operations to the log as begun; then their effects to the store; then those to the
        log."""
        self._member.log.db.commit()
        replay.carry_out_taken()
        self._commit(context, replay)

    def _commit(self, context: ReplayContext, replay: Replay) -> None:
        context.batch.commit()
        self._member.set_family(context.family)
        self._capture(context)
        context.messages.forget(replay.consumed)
        replay.consumed.clear()
        self._member.log.db.commit()
        warn_of_generated(context)
        warn_of_foreseen(context)

    def after_restore(self, anew: Collection[Owner]) -> None:
        """Tell the owners `anew` that a restore has merged, and arbitrate what others have said while this
        replica was sealed (`multisite.restoring`)."""
        log = self._member.log
        with log.db.transaction(), self._replay() as (context, replay):
            for owner in sorted(anew):
                replay.tell_anew(owner)
            for owner in log.masters.of_replica(log.self_id):
                replay.arbitrate_left(owner, log.masters.settled(owner))
            self._commit(context, replay)

    def _capture(self, context: ReplayContext) -> None:
        """Record what came of the operations of others, so that they are told."""
        again, context.to_capture = context.to_capture, set()
        note_inboxless(context, again)
        self._capture_owners(sorted(again))

    @contextmanager
    def _replay(self) -> Iterator[tuple[ReplayContext, Replay]]:
        member = self._member
        parts = self._parts.messages
        context = ReplayContext(
            log=member.log,
            batch=BatchWriter(member.store),
            messages=parts if parts is not None else self._new_messages(),
            family=member.family,
            partitions=tuple(member.config.partitions),
            defaultpartition=member.config.defaultpartition,
            warn=member.warn,
            notice=self._notice,
            external=Namespace.from_config(member.config).external,
            founding=member.is_being_made,
            to_capture=set(),
            forked=member.sealed and member.log.forks.first is not None,
            merging=member.log.forks.merged() if member.sealed else set(),
            given_up=member.log.given_up.guids(),
        )
        replay = Replay(context, self._capture_owners)
        try:
            yield context, replay
        except BaseException:
            context.batch.roll_back()
            raise
        finally:
            if context.messages is not self._parts.messages:
                context.messages.close()

    def _capture_owners(self, owners: Iterable[Owner]) -> None:
        for owner, error in self._member.capture.owners(owners).items():
            self._notice(f"{owner}: {error}")

    def merge(self, things: Sequence[Object]) -> int:
        """Merge mailboxes in conflict into those that have their names (``multitool merge``); how many."""
        with self._member.log.db.transaction(), self._replay() as (context, replay):
            count = merge_all(context, things)
            self._commit(context, replay)
        self._afterwards()
        return count

    def resume(self) -> None:
        """End what a process that crashed has begun. What waits for a message goes on waiting."""
        with self._member.log.db.transaction(), self._replay() as (context, replay):
            replay.try_pending()
            self._commit(context, replay)

    def _afterwards(self) -> None:
        """Try again what waited, give free names to the mailboxes that want them, make missing INBOXes."""
        log = self._member.log
        with log.db.transaction(), self._replay() as (context, replay):
            replay.try_pending()
            give_back(context)
            merge_twins(context)
            give_inboxes(context)
            self._commit(context, replay)
            prune_held(log, self._member.store)


def _head(path: Path) -> Header | None:
    try:
        with PacketReader(path) as packet:
            return packet.header
    except (PacketError, OSError):
        return None


def _order(path: Path, header: Header | None) -> tuple[int, int, str]:
    return (header.created, header.number, str(path)) if header else (0, 0, str(path))


def _goes_on(one: Header | None, following: Header | None) -> bool:
    """Whether a packet is followed by the next part of the same logical packet."""
    if one is None or following is None or one.kind == CREATION:
        return False
    return one.logical == following.logical and following.number == one.number + 1


def bring_up_to_date(member: Member, notice: Callable[[str], None]) -> None:
    """End what was begun, then record what was changed here. To be done before anything is told or taken in.
    What could not be recorded is an omission of the member."""
    if member.family.telling and not member.sealed:
        announce(member, member.family)
    if member.log.operations.begun():
        Import(member, lambda _path: None, notice).resume()
    if not member.sealed and (anew := member.log.forks.told_anew() - {FAMILY}):
        # A snapshot was not whole, or a process crashed at the end of a restore.
        Import(member, lambda _path: None, notice).after_restore(anew)
        member.log.forks.end()
    for error in member.record():
        member.omit(f"not all changes could be recorded: {error}")


def drop_set_aside(member: Member, entry: LogEntry, notice: Callable[[str], None]) -> None:
    """Never carry out an operation that is set aside. What waits behind it goes on."""
    with member.log.db.transaction():
        member.log.operations.set_state(entry.seq, OperationState.DONE)
    Import(member, lambda _path: None, notice).run([])


def new_member_packet(member: Member, packet: PacketReader, notice: Callable[[str], None]) -> int:
    """Apply a creation packet to a replica that has just been made. Returns how many operations were new."""
    return Import(member, lambda _path: None, notice).apply(packet)


def _as_error(error: Exception, path: Path) -> CyrusSyncError:
    return error if isinstance(error, CyrusSyncError) else NotApplied(reason(error, path))
