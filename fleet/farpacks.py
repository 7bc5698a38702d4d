"""Octets of packs: what the node has is read there, all else by range from where it is, an object or the
journal.

Where that is, is asked once. A settler may move it at any time; then it is asked again.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import ObjectMissing, StoreCorrupt
from cyrus_sync.common.files import private
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.layout import pack_name
from cyrus_sync.common.stores.native.nearfar import NearAndFar
from cyrus_sync.common.stores.native.packs import PackFiles
from cyrus_sync.fleet.base import get_about, get_range
from cyrus_sync.fleet.cache import CachedOwner
from cyrus_sync.fleet.finding import Head
from cyrus_sync.fleet.journal import Journal, Piece
from cyrus_sync.fleet.tallies import Tallies
from cyrus_sync.objects.store import PIECE, ObjectStore

_LOOKS = 3


class Far(NamedTuple):
    """A piece, and the row of the journal that has it if no object does."""

    seq: int
    piece: Piece


class FarPacks:
    """The packs of one owner, as PostgreSQL and the object store have them."""

    def __init__(self, owner: Owner, journal: Journal, objects: ObjectStore, tallies: Tallies) -> None:
        self._tallies = tallies
        self._owner = owner
        self._journal = journal
        self._objects = objects
        self._head: Head | None = None
        self._pieces: dict[int, list[Far]] | None = None

    def look(self) -> dict[int, list[Far]]:
        """Where everything is now, by pack, in order. `Away`, `StoreCorrupt`."""
        for last in (False, False, True):
            head = self._journal.head(self._owner)
            found: dict[int, list[Far]] = {}
            if head is None:
                return found
            try:
                settled = get_about(self._objects, head.base).pieces if head.base else ()
            except ObjectMissing as error:
                if last:
                    raise StoreCorrupt(f"the object store has lost {head.base}") from error
                continue
            for piece in settled:
                found.setdefault(piece.pack, []).append(Far(0, piece))
            for seq, piece in self._journal.pieces(head):
                found.setdefault(piece.pack, []).append(Far(seq, piece))
            self._head, self._pieces = head, found
            break
        return found

    def read(self, pack: int, offset: int, length: int) -> bytes:
        """Fewer octets at the end. FileNotFoundError where there is no such pack."""
        for look in range(_LOOKS):
            known = self._pieces if self._pieces is not None and not look else self.look()
            found = known.get(pack)
            if found is None or (look == 0 and found[-1].piece.end < offset + length):
                if look:
                    break
                continue
            data = self._read(found, offset, length)
            if data is not None:
                return data
        else:
            self._tallies.count("failures lost")
            raise StoreCorrupt(f"{pack_name(pack)}: an object that holds a part of it is lost")
        raise FileNotFoundError(2, "no such pack", pack_name(pack))

    def _read(self, found: list[Far], offset: int, length: int) -> bytes | None:
        """None where a piece is not there any more."""
        data = []
        for seq, piece in found:
            first, last = max(offset, piece.start), min(offset + length, piece.end)
            if first >= last:
                continue
            begin, count = piece.offset + first - piece.start, last - first
            if piece.key:
                try:
                    data.append(get_range(self._objects, piece.key, begin, count))
                except ObjectMissing:
                    return None
                self._tallies.count("reads objects", count)
                continue
            assert self._head is not None
            octets = self._journal.octets(self._head, seq, begin, count)
            if octets is None:
                return None
            self._tallies.count("reads journal", count)
            data.append(octets)
        return b"".join(data)

    def size(self, pack: int) -> int:
        """FileNotFoundError where there is no such pack."""
        found = self.look().get(pack)
        if found is None:
            raise FileNotFoundError(2, "no such pack", pack_name(pack))
        return found[-1].piece.end

    def identity(self, pack: int) -> str:
        """The same as long as it is the same owner: numbers are never used again."""
        head = self._journal.head(self._owner)
        if head is None:
            raise FileNotFoundError(2, "no such pack", pack_name(pack))
        return f"fleet.{head.id}.{pack}"

    def again(self) -> FarPacks:
        return FarPacks(self._owner, self._journal, self._objects, self._tallies)

    def name(self, pack: int) -> str:
        return pack_name(pack)

    def fetch_all(self, directory: Path) -> None:
        """Every pack that there is, as a file of `directory`."""
        for pack, pieces in self.look().items():
            end = pieces[-1].piece.end
            with open(directory / pack_name(pack), "wb", opener=private) as file:
                for start in range(0, end, PIECE):
                    file.write(self.read(pack, start, min(PIECE, end - start)))


class CountedFiles:
    """The packs that a node has (`native.packs.PackOctets`), whose octets are counted as they are read."""

    def __init__(self, directory: Path, tallies: Tallies) -> None:
        self._about = directory, tallies
        self._files = PackFiles(directory)
        self._tallies = tallies
        self.size, self.identity = self._files.size, self._files.identity
        self.is_near, self.name, self.close = self._files.is_near, self._files.name, self._files.close

    def read(self, pack: int, offset: int, length: int) -> bytes:
        data = self._files.read(pack, offset, length)
        if len(data) == length:
            self._tallies.count("reads cache", length)
        return data

    def again(self) -> CountedFiles:
        return CountedFiles(*self._about)


def near_and_far(
    owner: Owner, cached: CachedOwner, journal: Journal, objects: ObjectStore, tallies: Tallies
) -> NearAndFar:
    """The packs of an owner, as a node reads them."""
    return NearAndFar(CountedFiles(cached.packs, tallies), FarPacks(owner, journal, objects, tallies))
