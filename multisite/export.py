"""Export: what a replica is believed to lack, written into packets.

First the log is brought up to date with the store. Then a logical packet is written of all operations that
the target's row of the epoch matrix does not cover. They go in the order in which this replica learned of
them, each behind the messages that the target cannot have yet. The logical packet is cut into physical ones
between operations. The target's row is raised when all of them are on disk: an export believes that they
arrive.
"""

from __future__ import annotations

import os
import time

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite import passing_on, relaying
from cyrus_sync.multisite.bodies import Bodies, Places
from cyrus_sync.multisite.contacts import show_every
from cyrus_sync.multisite.cutting import Exported, ExportOptions, LogicalPacket, Place
from cyrus_sync.multisite.errors import TooLate
from cyrus_sync.multisite.family import Replica
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.apply_command import without_messages
from cyrus_sync.multisite.oplog.epochs import Row
from cyrus_sync.multisite.oplog.operations import LogEntry
from cyrus_sync.multisite.packet import CREATION, State
from cyrus_sync.multisite.restoring import ANSWER
from cyrus_sync.multisite.scrubbing import remake, scrub_if_due
from cyrus_sync.multisite.signing import retell
from cyrus_sync.multisite.snapshot import write_snapshot
from cyrus_sync.multisite.working import bring_up_to_date

_SHOWN = "shown "


def packet_name(prefix: str, replica: str, when: float, number: int) -> str:
    """``sync_bangalore_30-Oct-00.14.35.49_2468_1``: sender, local time, process, physical number.

    >>> packet_name("sync", "hub", 0, 1).startswith("sync_hub_01-Jan-70.")
    True
    """
    return f"{packet_prefix(prefix, replica, when)}_{number}"


def packet_prefix(prefix: str, replica: str, when: float) -> str:
    """A packet's name without its number."""
    moment = time.strftime("%d-%b-%y.%H.%M.%S", time.localtime(when))
    return f"{prefix}_{replica}_{moment}_{os.getpid()}"


def export(member: Member, target: Replica, place: Place, options: ExportOptions) -> Exported:
    """Write what `target` lacks. If it lacks nothing, nothing is written and nothing believed; but once in a
    while a packet without operations shows what this replica has.

    A replica that is being restored writes a packet without operations; its header asks the target for the
    rest. Raises what the store and the disk raise; then the packets of this export are gone, and the target's
    row is as it was."""
    bring_up_to_date(member, member.warn)
    scrub_if_due(member)
    made = _Export(member, target, place, options)
    done = made.packet.exported
    try:
        made.write()
        if done.paths:
            log = member.log
            with log.db.transaction():
                log.epochs.exported(
                    target.id, done.row, time=log.now(), packet=str(done.paths[0]), comment=options.comment
                )
                log.fulfilled(target.id)
                relaying.note_passed_on(log, target.id, made.packet.asking)
                passing_on.note_passed_on(log, target.id, made.packet.restores)
                log.notes.put(_SHOWN + target.id, log.epochs.row(log.self_id))
    except BaseException:
        made.packet.abort()
        raise
    return done


class _Export:
    def __init__(self, member: Member, target: Replica, place: Place, options: ExportOptions) -> None:
        self._member = member
        self._log = member.log
        self._target = target
        self._options = options
        self._bodies = Bodies(member.store, member.log, member.by_place)
        self.packet = LogicalPacket(member, target, place, options)

    def write(self) -> None:
        if self._options.kind == CREATION:
            self._snapshot()
            return
        known = self._log.epochs.row(self._target.id)
        self._check_not_late(known)
        if self._member.sealed:
            # A request: its header tells the others what this replica has after its restore. Who is being
            # restored, too, is sent what this replica has of old: nobody else may have it.
            self.packet.begin()
            if ANSWER not in self._log.requested(self._target.id):
                self.packet.end()
                return
        if self._log.requested(self._target.id):
            self.packet.begin()
        self._requested()
        total = self._log.operations.count_lacking(known)
        with self._member.progress(f"exporting to {self._target.name}", total) as meter:
            for entry in self._log.operations.lacking(known):
                if self.packet.is_enough(entry):
                    self.packet.exported.complete = False
                    break
                self._entry(entry)
                meter.advance()
        asked = relaying.is_new(self._log, self._target.id, self.packet.asking)
        asked = asked or passing_on.is_new(self._log, self._target.id, self.packet.restores)
        if not self.packet.begun and (self._log.wanted() or asked or self._is_to_show()):
            self.packet.begin()
        self.packet.end()

    def _is_to_show(self) -> bool:
        """Whether it is time to show what has come here, although there is nothing to tell: others cannot
        trim their logs before they know."""
        shown, last = self._log.notes.get(_SHOWN + self._target.id), self._log.epochs.exports(self._target.id)
        if shown == self._log.epochs.row(self._log.self_id) or not last:
            return False
        every = show_every(self._member.config)
        return not last[-1].time <= self._log.now() < last[-1].time + every

    def _check_not_late(self, known: Row) -> None:
        """Raises `TooLate`. A replica that is being restored asks for what it can get."""
        gone = self._log.trimmed.beyond(known)
        if not gone or self._member.sealed:
            return
        family, name = self._member.family, self._target.name
        origin, number = min(gone.items())
        raise TooLate(
            f"{name} is believed to lack operations that are not in the log any more: of"
            f" {family.name_of(origin)} it has {known.get(origin, 0)}, and those up to {number} were"
            " trimmed. It is made anew from a snapshot. Let it tell what it has first (there: syncreplica"
            f" -export {family.myself.name}; here: syncreplica -import), then:"
            f" {remake(family, self._target.id)}. If it has them: multitool chepoch {name}"
        )

    def _snapshot(self) -> None:
        """State and recent operations, for a new replica."""
        self.packet.begin()
        write_snapshot(self._member, self, f"exporting to {self._target.name}")
        self.packet.end(self._log.epochs.row(self._log.self_id))

    # -- one operation

    def _entry(self, entry: LogEntry) -> None:
        # Any other message went with the operation that brought it into the log, now or earlier.
        wanted = self._log.operations.introduced_by(entry)
        if wanted:
            places = self._bodies.places(entry, wanted)
            missing = self._bodies.lacking(entry.owner, wanted, places)
            if missing:
                entry = self._spared(entry, missing)
                wanted = [guid for guid in wanted if guid not in missing]
            self.messages(entry, wanted, places)
            for guid in sorted(self._bodies.damaged.intersection(wanted)):
                self.left_out(entry, guid)
        self.operation(entry)

    def state(self, state: State) -> None:
        """A piece of a snapshot."""
        self.packet.state(state)

    def operation(self, entry: LogEntry) -> None:
        """An operation, behind its messages."""
        self.packet.operation(entry)

    def _spared(self, entry: LogEntry, missing: set[bytes]) -> LogEntry:
        """The operation as it can go without these messages. Records of messages that were cleaned up here
        are told as expunged. Any other message is damaged, and the target will ask for it."""
        damaged = self._bodies.live(entry, missing)
        if damaged and entry.origin != self._log.self_id and self._log.operations.is_pending(entry):
            self._not_here(entry, len(damaged))
        else:
            for guid in sorted(damaged):
                self.left_out(entry, guid)
        gone = missing - damaged
        if not gone:
            return entry
        told = without_messages(entry, gone)
        secret = self._member.secret() if self._member.signs else None
        return retell(self._member.family.id, told, self._log.self_id, secret) if secret else told

    def _not_here(self, entry: LogEntry, count: int) -> None:
        """Say that the operation waits here, too, for messages that no packet has brought. Nothing is left
        out that this replica ever had."""
        what, them = ("1 message", "it") if count == 1 else (f"{count} messages", "them")
        self._member.warn(
            f"{what} of {entry.owner} {'has' if count == 1 else 'have'} not come here yet:"
            f" {self._target.name} is told of {them}, and asks for {them}, too"
        )

    def left_out(self, entry: LogEntry, guid: bytes) -> None:
        """Say that a message cannot be read."""
        self._member.omit(f"message {guid.hex()} of {entry.owner} cannot be read and is left out")

    def messages(
        self, entry: LogEntry, guids: list[bytes], places: Places | None, bodies: Bodies | None = None
    ) -> None:
        """The messages of an operation, found by `bodies`."""
        for batch in (bodies or self._bodies).batches(entry.owner, guids, places):
            self.packet.messages(entry.owner, batch)
            self.packet.exported.messages += len(batch)
            self.packet.exported.octets += sum(body.size for body in batch)

    def _requested(self) -> None:
        """Write the messages for which the target has asked."""
        given_up = self._log.given_up.guids()
        for guid in self._log.requested(self._target.id):
            owners = self._log.operations.introducers(guid)
            if any(self._found(owner, guid) for owner in owners) or guid in given_up:
                continue
            if owners:  # it is not here, either
                self._log.want(owners[0], [guid])

    def _found(self, owner: Owner, guid: bytes) -> bool:
        """Write a message that one of an owner's operations has brought, if it is here."""
        found = False
        for batch in self._bodies.batches(owner, [guid]):
            self.packet.asked_for(batch)
            found = True
        return found
