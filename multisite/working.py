"""`Work`: what is done with the log and the mail of a replica together, in steps that can be repeated.

The log has an operation as begun before the mail shows it, and as done after. So what a process that crashed
has left is ended by the next one (`Work.resume`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from cyrus_sync.common.names import Owner
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.multisite.giving_up import expunge_lost
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.held import Held
from cyrus_sync.multisite.oplog.objects import Object
from cyrus_sync.multisite.oplog.operations import FAMILY
from cyrus_sync.multisite.pruning import prune_held
from cyrus_sync.multisite.replay.batch_writer import BatchWriter
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.family_operations import announce
from cyrus_sync.multisite.replay.foreseen import warn_of_foreseen
from cyrus_sync.multisite.replay.inboxes import give_inboxes, note_inboxless
from cyrus_sync.multisite.replay.merging import merge_all, merge_twins
from cyrus_sync.multisite.replay.names import give_back, warn_of_generated
from cyrus_sync.multisite.replay.packet_messages import PacketMessages
from cyrus_sync.multisite.replay.replay import Replay
from cyrus_sync.multisite.restoring import ANSWER


class Work:
    """Works for one member, which is locked. `notice` gets what one may want to know afterwards."""

    def __init__(self, member: Member, notice: Callable[[str], None]) -> None:
        self._member = member
        self._notice = notice
        self.messages: PacketMessages | None = None
        """Those that the packets at hand have brought (`multisite.parts`); None where there are none."""

    def resume(self) -> None:
        """End what a process that crashed has begun. What waits for a message goes on waiting."""
        with self._member.log.db.transaction(), self.replay() as (context, replay):
            replay.try_pending()
            self.commit(context, replay)

    def afterwards(self) -> None:
        """Try again what waited, give free names to the mailboxes that want them, make missing INBOXes."""
        log = self._member.log
        with log.db.transaction(), self.replay() as (context, replay):
            replay.try_pending()
            give_back(context)
            merge_twins(context)
            give_inboxes(context)
            self.commit(context, replay)
            prune_held(log, self._member.store)

    def after_restore(self, anew: Collection[Owner]) -> None:
        """Tell the owners `anew` that a restore has merged, and arbitrate what others have said while this
        replica was sealed (`multisite.restoring`)."""
        log = self._member.log
        with log.db.transaction(), self.replay() as (context, replay):
            for owner in sorted(anew):
                replay.tell_anew(owner)
            for owner in log.masters.of_replica(log.self_id):
                replay.arbitrate_left(owner, log.masters.settled(owner))
            self.commit(context, replay)

    def merge(self, things: Sequence[Object]) -> int:
        """Merge mailboxes in conflict into those that have their names (``multitool merge``); how many."""
        with self._member.log.db.transaction(), self.replay() as (context, replay):
            count = merge_all(context, things)
            self.commit(context, replay)
        self.afterwards()
        return count

    def give_up(self, guids: Iterable[bytes]) -> None:
        """Give up messages, here and, by the next packets, everywhere (``multitool giveup``)."""
        with self._member.log.db.transaction(), self.replay() as (context, replay):
            self.note_given_up(context, guids)
            self.commit(context, replay)
        self.afterwards()

    def note_given_up(self, context: ReplayContext, guids: Iterable[bytes]) -> None:
        """Go on without messages that nobody has any more."""
        log = self._member.log
        if new := log.given_up.add(guids, log.now()):
            context.given_up |= new
            log.unwant(new)
            for one in context.family.living():
                if one.id != log.self_id:
                    log.request(one.id, [ANSWER])  # all are to hear of it
            expunge_lost(context, self._member, sorted(new))

    # -- the steps

    @contextmanager
    def replay(self) -> Iterator[tuple[ReplayContext, Replay]]:
        """What operations are carried out with. Where this ends with an error, all that the store has not
        committed is undone."""
        member = self._member
        context = ReplayContext(
            log=member.log,
            batch=BatchWriter(member.store),
            messages=self.messages if self.messages is not None else self.no_messages(),
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
            if context.messages is not self.messages:
                context.messages.close()

    def carry_out(self, context: ReplayContext, replay: Replay) -> None:
        """Commit the operations to the log as begun; then their effects to the store; then those to the
        log."""
        self._member.log.db.commit()
        replay.carry_out_taken()
        self.commit(context, replay)

    def commit(self, context: ReplayContext, replay: Replay) -> None:
        """Commit the effects of operations to the store, then the operations to the log."""
        context.batch.commit()
        self._member.set_family(context.family)
        self._capture(context)
        context.messages.forget(replay.consumed)
        replay.consumed.clear()
        self._member.log.db.commit()
        warn_of_generated(context)
        warn_of_foreseen(context)

    def _capture(self, context: ReplayContext) -> None:
        """Record what came of the operations of others, so that they are told."""
        again, context.to_capture = context.to_capture, set()
        note_inboxless(context, again)
        self._capture_owners(sorted(again))

    def _capture_owners(self, owners: Iterable[Owner]) -> None:
        for owner, error in self._member.capture.owners(owners).items():
            self._notice(f"{owner}: {error}")

    def hold_messages(self) -> None:
        """Have the log hold what is left of the messages of the packets at hand."""
        if self.messages is not None:
            with self._member.log.db.transaction():
                self.messages.hold(self.messages.guids())

    def no_messages(self) -> PacketMessages:
        """An empty stage for the messages of packets."""
        return PacketMessages(self._member.staging, Held(self._member.log.db))


def bring_up_to_date(member: Member, notice: Callable[[str], None]) -> None:
    """End what was begun, then record what was changed here. To be done before anything is told or taken in.
    What could not be recorded is an omission of the member."""
    if member.family.telling and not member.sealed:
        announce(member, member.family)
    if member.log.operations.begun():
        Work(member, notice).resume()
    if not member.sealed and (anew := member.log.forks.told_anew() - {FAMILY}):
        # A snapshot was not whole, or a process crashed at the end of a restore.
        Work(member, notice).after_restore(anew)
        member.log.forks.end()
    for error in member.record():
        member.omit(f"not all changes could be recorded: {error}")
