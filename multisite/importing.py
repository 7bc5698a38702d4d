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

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.multisite.admission import Gap, OldSender, check, check_heads, check_own, gap, judged
from cyrus_sync.multisite.applying import Applying, ranges_of
from cyrus_sync.multisite.candidates import follows, head_of, in_order
from cyrus_sync.multisite.errors import Forked, NotApplied, UnknownSender, WentBack
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.oplog.operations import LogEntry, OperationState
from cyrus_sync.multisite.oplog.stuck import Stuck, stuck
from cyrus_sync.multisite.packet import CREATION, PacketError, PacketReader
from cyrus_sync.multisite.parts import Parts, Waiting
from cyrus_sync.multisite.scrubbing import scrub_if_due
from cyrus_sync.multisite.trust import learn
from cyrus_sync.multisite.working import Work, bring_up_to_date


@dataclass(slots=True)
class Result:
    """What an import did."""

    applied: list[Path] = field(default_factory=list)
    refused: dict[Path, CyrusSyncError] = field(default_factory=dict)
    creation: list[Path] = field(default_factory=list)
    """Creation packets that were met and left alone."""
    operations: int = 0
    left: list[Stuck] = field(default_factory=list)
    """What of the operations in the applied packets could not be carried out in the end."""


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
        """What of the packet of which `applied` was told last waits, and for whom."""
        self._work = Work(member, notice)
        self._applying = Applying(member, self._work)
        self._parts = Parts(self._work, self._confirm)
        self._ranges: dict[str, tuple[int, int]] = {}
        """Origin -> the first and the last operation of all packets that were applied."""

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
        self._work.afterwards()
        result.left = stuck(self._member.log, ranges=self._ranges)
        scrub_if_due(self._member)
        self._member.log.db.shrink()
        return result

    def _apply_all(self, waiting: dict[Path, None], result: Result) -> None:
        heads = {path: head_of(path) for path in waiting}
        progress = True
        while waiting and progress:
            progress = False
            order = sorted(waiting, key=lambda path: in_order(path, heads[path]))
            for path, following in zip(order, [*order[1:], None], strict=True):
                goes_on = follows(heads[path], heads[following] if following else None)
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
                self._applying.take_wanted(packet)
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
            for origin, (first, last) in ranges_of(header).items():
                known = self._ranges.get(origin, (first, last))
                self._ranges[origin] = min(first, known[0]), max(last, known[1])
        self._parts.done(path, self._applying.waiting, goes_on=goes_on)
        if not goes_on:
            result.applied += self._parts.end()

    def _confirm(self, path: Path, waiting: list[Waiting]) -> None:
        self.waiting = waiting
        self._applied(path)

    def apply(self, packet: PacketReader, *, goes_on: bool = False) -> int:
        """Apply a packet that has been verified and fits. Returns how many operations were new. Raises
        `PacketError` and what the store raises; what was committed by then stays, and is found done."""
        self._parts.begin()
        return self._applying.apply(packet, goes_on=goes_on)


def drop_set_aside(member: Member, entry: LogEntry, notice: Callable[[str], None]) -> None:
    """Never carry out an operation that is set aside. What waits behind it goes on."""
    with member.log.db.transaction():
        member.log.operations.set_state(entry.seq, OperationState.DONE)
    Import(member, lambda _path: None, notice).run([])


def _as_error(error: Exception, path: Path) -> CyrusSyncError:
    return error if isinstance(error, CyrusSyncError) else NotApplied(reason(error, path))
