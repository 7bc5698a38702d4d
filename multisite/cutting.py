"""`LogicalPacket`: what one export tells a target, cut into physical packets between operations.

What is larger than a packet may be goes alone, in a packet of its own. No operation and no message is cut.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.family import Replica
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.apply_command import parse
from cyrus_sync.multisite.oplog.epochs import Row
from cyrus_sync.multisite.oplog.operations import LogEntry, owner_text
from cyrus_sync.multisite.packet import (
    CREATION,
    UPDATE,
    Header,
    Operation,
    PacketWriter,
    PublicKeys,
    Range,
    State,
    Target,
)
from cyrus_sync.multisite.packet.frames import folded_at_most
from cyrus_sync.multisite.packet.restores import Restore
from cyrus_sync.multisite.passing_on import restores
from cyrus_sync.multisite.relaying import questions
from cyrus_sync.multisite.signing import sign_restore

NO_LIMIT = 1 << 62
_HEADS = 4096
"""Octets of a packet's header, and of what stands at its end."""
_BESIDE = 256
"""Octets that stand beside a message or an operation in a packet, at most."""

Place = Callable[[int, int], Path]
"""``place(n, octets)``: the path of physical packet number n, which will have about `octets` bytes."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """How to export. `max_size`: octets in a physical packet, 0 = one packet for all. `limit`: how many
    physical packets at most, 0 = all."""

    max_size: int = 0
    limit: int = 0
    comment: str = ""
    kind: str = UPDATE
    invitation: str = ""
    """Of a creation packet (`multisite.packet.invitation`)."""
    adopt: Callable[[Path, int], object] | None = None
    """``adopt(path, descriptor)`` gives the open file of a packet its owner, group and mode."""


@dataclass(slots=True)
class Exported:
    """What an export wrote: physical packets, with so many operations and messages of so many `octets`. `row`
    is what the target has once it has imported all of it. `complete` is false where `limit` was reached."""

    target: Replica
    paths: list[Path] = field(default_factory=list)
    row: Row = field(default_factory=dict)
    operations: int = 0
    messages: int = 0
    octets: int = 0
    complete: bool = True


class LogicalPacket:
    """A logical packet that is being written for `target`. `exported` says what it holds so far."""

    def __init__(self, member: Member, target: Replica, place: Place, options: ExportOptions) -> None:
        self._member = member
        self._log = member.log
        self._target = target
        self._place = place
        self._options = options
        self._max = options.max_size or NO_LIMIT
        self._logical = str(uuid.uuid4())
        known = {} if options.kind == CREATION else self._log.epochs.row(target.id)
        self._mine = self._log.epochs.row(self._log.self_id)
        self._heads = self._log.forks.heads(self._mine)
        if member.sealed:
            # It may be wrong, and is not to be believed: the trail says what it has.
            self._heads.pop(self._log.self_id, None)
        self._trail = self._log.forks.trail(self._log.self_id) if member.sealed else {}
        self._taken = self._log.forks.taken() if member.sealed else {}
        creates = options.kind == CREATION
        self.asking = {} if creates else questions(self._log, member.family, target.id)
        """What others lack, passed on."""
        self.restores = {} if creates else restores(self._log, member.family, target.id)
        """Who else is being restored."""
        self._mine_too = {member.family.self_id: self._restore()} if member.sealed else {}
        self._writer: PacketWriter | None = None
        self._ranges: dict[str, Range] = {}
        self._in_packet = 0
        """Messages and pieces of state in the open packet."""
        self._alone = ""
        """What may be too large for the open packet, and so stands alone in it."""
        self._covered: Row = dict(known)
        self._begun: Row = dict(known)
        """What the target has when it has imported all packets before the one that is being written."""
        self.exported = Exported(target, row=dict(known))

    @property
    def begun(self) -> bool:
        """Whether anything was written, or a packet is open."""
        return self._writer is not None or bool(self.exported.paths)

    def begin(self) -> None:
        """Open a packet if none is open: it is written even if nothing is told in it."""
        if self._writer is None:
            self._open()

    def end(self, row: Row | None = None) -> None:
        """Close the last packet, if there is any. `row`: what the target has then, if that is more than the
        operations in it say."""
        if row is not None:
            self._covered = dict(row)
        if self._writer is not None:
            self._close(last=True)

    def abort(self) -> None:
        """Remove everything that was written."""
        if self._writer is not None:
            self._writer.abort()
        for path in self.exported.paths:
            path.unlink(missing_ok=True)

    def state(self, state: State) -> None:
        """A piece of a snapshot."""
        self._room_for(len(state.data) + 512, f"the {state.kind} of a snapshot")
        assert self._writer is not None
        self._writer.state(state)
        self._in_packet += 1

    def operation(self, entry: LogEntry) -> None:
        """An operation, behind its messages."""
        told = Operation(
            entry.origin, entry.id, entry.time, owner_text(entry.owner), entry.line, entry.attributes
        )
        self._room_for(len(entry.line) + 512, f"operation {entry.id} on {entry.owner}")
        assert self._writer is not None
        self._writer.operation(told)
        known = self._ranges.get(entry.origin)
        self._ranges[entry.origin] = Range(known.start if known else entry.id, entry.id)
        self._covered[entry.origin] = entry.id
        self.exported.operations += 1

    def messages(self, owner: Owner, batch: Sequence[MessageBody]) -> None:
        """Messages of operations that follow. As many as have room go into the open packet together."""
        size = sum(body.size for body in batch)
        if len(batch) == 1:
            self._room_for(size + 128, f"message {batch[0].guid.hex()} of {owner}")
        elif self._writer is None or not self._writer.surely_fits(self._max, size + 128 * len(batch)):
            middle = len(batch) // 2
            self.messages(owner, batch[:middle])
            self.messages(owner, batch[middle:])
            return
        assert self._writer is not None
        self._writer.messages(batch)
        self._in_packet += len(batch)

    def asked_for(self, batch: Sequence[MessageBody]) -> None:
        """Messages for which the target has asked."""
        self._room_for(sum(body.size for body in batch), "a message that was asked for")
        assert self._writer is not None
        self._writer.messages(batch)
        self._in_packet += len(batch)

    def is_enough(self, following: LogEntry) -> bool:
        """Whether the packets that may still be written have no room for one more operation with its
        messages. Messages count as if they could not be compressed. At least one operation always goes."""
        if not self._options.limit or not self.exported.operations:
            return False
        left = self._options.limit - len(self.exported.paths)
        return self._packets_for(following) > left

    def _packets_for(self, entry: LogEntry) -> int:
        """How many packets from the open one on an operation needs at most. Its messages go in their order,
        none is cut, and one that is larger than a packet has its own."""
        whole = entry.octets + len(entry.line) + _BESIDE * (len(entry.guids) + 2)
        packets, left = 0, 0
        if self._writer is not None:
            if self._writer.fits(self._max, whole):
                return 1
            packets, left = 1, self._max - self._writer.size
        sizes = parse(entry.line).messages.values() if entry.guids else ()
        for size in (*sizes, len(entry.line) + _BESIDE):
            folded = folded_at_most(size + _BESIDE)
            if folded > left:
                packets, left = packets + 1, self._max - _HEADS
            left -= folded
        return packets

    # -- physical packets

    def _room_for(self, octets: int, what: str) -> None:
        """Make sure that the open packet has room. What is larger than a packet gets a packet of its own."""
        if self._writer is not None and not self._empty() and not self._writer.fits(self._max, octets):
            self._close(last=False)
        if self._writer is None:
            self._open()
        assert self._writer is not None
        if self._empty() and not self._writer.fits(self._max, octets):
            self._alone = what

    def _empty(self) -> bool:
        return not self._ranges and not self._in_packet

    def _open(self) -> None:
        number = len(self.exported.paths) + 1
        path = self._place(number, min(self._max, 1 << 20))
        secret = self._member.secret()
        self._writer = PacketWriter(
            path,
            self._header(number, last=False, widest=True),
            signing=secret,
            seal_to=self._seal_to(),
            adopt=functools.partial(self._options.adopt, path) if self._options.adopt else None,
        )

    def _seal_to(self) -> Mapping[str, PublicKeys] | None:
        if not self._member.config.switch("multisite_seal") or self._options.kind == CREATION:
            return None
        history = self._target.key_history
        if history is None:
            raise CyrusSyncError(
                f"{self._target.name} has no public keys in the family file, and multisite_seal is set"
            )
        return {self._target.id: history.current}

    def _close(self, *, last: bool) -> None:
        assert self._writer is not None
        number = len(self.exported.paths) + 1
        path = self._writer.close(self._header(number, last=last))
        self._writer = None
        # Only now is it known: most messages are much smaller in a packet.
        if path.stat().st_size > self._max:
            self._member.warn(
                f"{self._alone} is larger than -maxsize and goes in a packet of its own"
                if self._alone
                else f"{path} is larger than -maxsize: its header alone is"
            )
        self._alone = ""
        self._ranges = {}
        self._begun = dict(self._covered)
        self._in_packet = 0
        self.exported.paths.append(path)
        self.exported.row = dict(self._covered)

    def _heard(self) -> dict[str, tuple[int, ...]]:
        """What others have shown, for the header."""
        living = {one.id for one in self._member.family.living()} - {self._log.self_id}
        return {
            replica: (heard.incarnation, *(heard.row.get(origin, 0) for origin in sorted(self._mine)))
            for replica, heard in self._log.heard.all().items()
            if replica in living
        }

    def _restore(self) -> Restore:
        """This replica's own restore, signed for those to whom it is passed on."""
        family, secret = self._member.family, self._member.secret()
        said = Restore(self._member.myself.incarnation, self._mine, self._trail, self._taken, {})
        return sign_restore(family.id, family.self_id, said, secret) if secret else said

    def _header(self, number: int, *, last: bool, widest: bool = False) -> Header:
        """`widest`: with all origins, for the room that it takes."""
        family, myself = self._member.family, self._member.myself
        begun = {origin: self._begun.get(origin, 0) for origin in self._mine}
        ranges = {
            origin: self._ranges.get(origin, Range(last_before + 1, last_before))
            for origin, last_before in begun.items()
            if widest or origin in self._ranges or last_before
        }
        if self._member.sealed and not self._ranges and not widest:
            ranges = {}  # a request builds on nothing
        return Header(
            kind=self._options.kind,
            family=family.id,
            family_name=family.name,
            sender=myself.id,
            sender_name=myself.name,
            sender_incarnation=myself.incarnation,
            targets=(Target(self._target.id, self._target.name, self._target.incarnation),),
            logical=self._logical,
            number=number,
            last=last,
            created=self._log.now(),
            ranges=ranges,
            row=self._mine,
            names={one: family.name_of(one) for one in {*self._mine, *ranges}},
            comment=self._options.comment,
            wanted=self._log.wanted(),
            keys=history.text() if (history := myself.key_history) else "",
            invitation=self._options.invitation if number == 1 else "",
            heads=self._heads,
            trail=self._trail,
            taken=self._taken,
            forked={one.id: one.forked for one in family.replicas.values() if one.forked},
            trimmed=self._log.trimmed.row(),
            heard=self._heard(),
            asking=self.asking,
            restores=self.restores | self._mine_too,
            given_up=tuple(sorted(self._log.given_up.guids())),
            snapshot=self._options.kind == CREATION,
        )
