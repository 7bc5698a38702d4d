"""The packs of one who moves, copied as far as they can be had.

What is lost where he was, is lost where he goes, and nothing else is: octets that cannot be had become zeros,
so that all behind them keep their places. `Losses` remembers them, for they have to be named: their messages
are damaged, as before, and are healed from a replica.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.files import private
from cyrus_sync.common.stores.native.farpack import BLOCK
from cyrus_sync.common.stores.native.layout import pack_name
from cyrus_sync.common.stores.native.packs import PackOctets
from cyrus_sync.fleet.errors import Torn
from cyrus_sync.objects.store import PIECE

_NAMED = 5


class Losses:
    """Octets that were lost, by pack."""

    def __init__(self) -> None:
        self._found: dict[int, list[tuple[int, int]]] = {}

    def add(self, pack: int, start: int, end: int) -> None:
        """Octets `start` to `end`, in order."""
        ranges = self._found.setdefault(pack, [])
        if ranges and ranges[-1][1] == start:
            start, _ = ranges.pop()
        ranges.append((start, end))

    def check(self, lengths: Mapping[int, int], arrived: Mapping[int, int], where: str) -> None:
        """The owner has moved. Raises `Torn`, which names what was lost, if anything was. `lengths`:
        of each pack that counts, as the index says; `arrived`: as it came."""
        for pack, length in lengths.items():
            if arrived.get(pack, 0) < length:
                self.add(pack, arrived.get(pack, 0), length)
        lost = [
            f"{pack_name(pack)} octets {start} to {end}"
            for pack in sorted(lengths)
            for start, end in self._found.get(pack, ())
        ]
        if lost:
            names = ", ".join(lost[:_NAMED]) + (", …" if len(lost) > _NAMED else "")
            raise Torn(
                f"is {where} now, and what was lost before is lost there: {names}; mailstore verify names the"
                " messages, and a replica heals them"
            )


def copy(
    packs: PackOctets, pack: int, path: Path, between: tuple[int, int], losses: Losses | None = None
) -> None:
    """Octets of a pack, from one to another, behind what a file has. FileNotFoundError where there is no such
    pack; `StoreCorrupt` where a part of it is lost, and nobody asks for `losses`, or nothing can be said of
    the pack at all."""
    start, end = between
    for begin in range(start, end, PIECE):
        length = min(PIECE, end - begin)
        try:
            pieces = iter([packs.read(pack, begin, length)])
        except StoreCorrupt:
            if losses is None:
                raise
            packs.size(pack)  # whoever cannot tell where it is has not lost it
            pieces = _with_zeros(packs, pack, begin, begin + length, losses)
        copied = 0
        with open(path, "ab", opener=private) as file:
            for data in pieces:
                copied += file.write(data)
        if copied < length:
            return


def _with_zeros(packs: PackOctets, pack: int, start: int, end: int, losses: Losses) -> Iterator[bytes]:
    """Block by block."""
    while start < end:
        following = min(start - start % BLOCK + BLOCK, end)
        data = _read(packs, pack, start, following)
        yield data if data is not None else _torn_block(packs, pack, start, following, losses)
        start = following


def _torn_block(packs: PackOctets, pack: int, start: int, end: int, losses: Losses) -> bytes:
    """What is in front of the loss, and what is behind it: one object may end here, and another begin."""
    lost = _first(start, end, lambda at: _read(packs, pack, start, at + 1) is None)
    there = _first(lost, end, lambda at: _read(packs, pack, at, end) is not None)
    losses.add(pack, lost, there)
    before = _read(packs, pack, start, lost) or bytes(lost - start)
    behind = _read(packs, pack, there, end) or bytes(end - there)
    return b"".join([before, bytes(there - lost), behind])


def _first(start: int, end: int, is_so: Callable[[int], bool]) -> int:
    """The first number from `start` on of which something is true that is true of all behind it; `end` for
    none. The first and the last are asked first: mostly all is lost."""
    if is_so(start):
        return start
    if not is_so(end - 1):
        return end
    while start + 1 < end:
        middle = (start + end) // 2
        start, end = (start, middle) if is_so(middle) else (middle, end)
    return end


def _read(packs: PackOctets, pack: int, start: int, end: int) -> bytes | None:
    """None where some of it is lost."""
    try:
        return packs.read(pack, start, end - start) if start < end else b""
    except StoreCorrupt:
        return None
