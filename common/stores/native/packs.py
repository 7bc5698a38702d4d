"""Packs: files ``pack-NNNNNN.zst`` in which messages stand end to end, one zstd frame each.

Packs are only appended to, under the owner's lock. The index says how much of a pack is valid (table
`packs`). What stands behind that was rolled back, or left by a process that crashed, and the next writer cuts
it off. A frame holds its content size and a checksum.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Protocol

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.files import named, sync_directory, sync_file
from cyrus_sync.common.stores.native.layout import far_name, pack_name

log = logging.getLogger(__name__)

PACK_TARGET = 128 * 1024 * 1024
"""A pack that has reached this many bytes is not appended to any more."""

_BUFFER = 1024 * 1024


class Place(NamedTuple):
    """Where a frame is: pack number, offset and length in bytes."""

    pack: int
    offset: int
    length: int


class PackMark(NamedTuple):
    """A state that `PackWriter.rewind` can go back to."""

    pack: int
    end: int


class PackWriter:
    """Appends frames to an owner's packs. Not durable before `sync`; `rewind` takes frames back."""

    def __init__(self, directory: Path, lengths: Mapping[int, int], *, apart: bool = False) -> None:
        """`lengths`: the valid length of each pack, from the index. `apart`: nobody knows of the directory
        yet, and whoever makes it known syncs all that is in it; so `sync` need not."""
        self._directory = directory
        self._apart = apart
        self._committed = dict(lengths)
        self.grown: dict[int, tuple[int, int]] = {}
        """What the last `sync` has made durable: from which octet to which, by the pack's number."""
        self._pack = max(lengths, default=0)
        self._end = lengths.get(self._pack, 0)
        self._written = self._end
        self._sealed = self._end == 0
        """True where the next frame has to begin a new pack: numbers are never used again, since a reader
        may still have the old file open."""
        self._checked = False
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._descriptor = -1
        self._unsynced: set[int] = set()
        self._new_names = False

    def append(self, frame: bytes) -> Place:
        """Add one frame; it is written at the latest at `sync`."""
        self._make_room()
        place = Place(self._pack, self._end, len(frame))
        self._buffer.append(frame)
        self._buffered += len(frame)
        self._end += len(frame)
        if self._buffered >= _BUFFER:
            self.flush()
        return place

    def _make_room(self) -> None:
        """See to it that the next frame may be appended to the present pack. One that is lost, or shorter
        than the index says, is left as it is: what is in it, or comes back to it, keeps its place."""
        if not self._checked:
            self._checked = True
            self._sealed = self._sealed or self._is_short()
        if self._sealed or self._end >= PACK_TARGET:
            self.next_pack()

    def _is_short(self) -> bool:
        path = self._directory / pack_name(self._pack)
        try:
            found = path.stat().st_size
        except FileNotFoundError:
            if (self._directory / far_name(self._pack)).exists():
                return True
            found = 0
        if found < self._written:
            log.error("%s has %d octets, the index says %d: a new pack is begun", path, found, self._written)
        return found < self._written

    def append_pieces(self, pieces: Iterable[bytes]) -> Place:
        """Add one large frame that comes in pieces."""
        start = self.begin_frame()
        for piece in pieces:
            self.continue_frame(piece)
        return start._replace(length=self._end - start.offset)

    def begin_frame(self) -> Place:
        """Where the frame will stand that `continue_frame` now gives piece by piece."""
        self._make_room()
        return Place(self._pack, self._end, 0)

    def continue_frame(self, piece: bytes) -> None:
        self._buffer.append(piece)
        self._buffered += len(piece)
        self._end += len(piece)
        if self._buffered >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        """Hand what is buffered to the operating system."""
        if not self._buffer:
            return
        data = b"".join(self._buffer)
        if self._descriptor < 0:
            self._open()
        view = memoryview(data)
        position = self._written
        with named(self._directory / pack_name(self._pack)):
            while view:
                count = os.pwrite(self._descriptor, view, position)
                position += count
                view = view[count:]
        self._written = position
        self._buffer.clear()
        self._buffered = 0
        self._unsynced.add(self._pack)

    def _open(self) -> None:
        path = self._directory / pack_name(self._pack)
        if not path.exists():
            self._new_names = True
            (self._directory / far_name(self._pack)).unlink(missing_ok=True)  # of a pack that nobody knows
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        found = os.fstat(self._descriptor).st_size
        if found < self._written:
            raise StoreCorrupt(f"{path} has {found} octets, the index says {self._written}")
        if found > self._written:
            os.ftruncate(self._descriptor, self._written)

    def mark(self) -> PackMark:
        """Where we are now, for `rewind`."""
        return PackMark(self._pack, self._end)

    def rewind(self, mark: PackMark) -> None:
        """Take back everything that was appended since `mark`."""
        if (self._pack, self._end) == mark:
            return
        if self._pack == mark.pack and self._written <= mark.end:
            self._cut_buffer(mark.end)
            self._sealed = mark.end == 0
            return
        self._buffer.clear()
        self._buffered = 0
        self._close()
        for number in range(mark.pack + 1, self._pack + 1):
            (self._directory / pack_name(number)).unlink(missing_ok=True)
            self._unsynced.discard(number)
        self._pack, self._end = mark
        self._written = mark.end
        self._sealed = mark.end == 0
        if mark.pack and (self._directory / pack_name(mark.pack)).exists():
            self._sealed = self._sealed or self._is_short()
            if not self._sealed:
                self._open()
        else:
            self._checked = False

    def _cut_buffer(self, end: int) -> None:
        kept = b"".join(self._buffer)[: end - self._written]
        self._buffer = [kept] if kept else []
        self._buffered = len(kept)
        self._end = end

    def sync(self) -> dict[int, int]:
        """Make everything durable; the lengths of the packs that changed, for the index."""
        self.flush()
        for number in () if self._apart else self._unsynced:
            path = self._directory / pack_name(number)
            with named(path):
                if number == self._pack and self._descriptor >= 0:
                    os.fdatasync(self._descriptor)
                else:
                    sync_file(path)
        if self._new_names and not self._apart:
            sync_directory(self._directory)
            self._new_names = False
        changed = {}
        for number in sorted(self._unsynced):
            last = number == self._pack
            changed[number] = self._end if last else (self._directory / pack_name(number)).stat().st_size
        self._unsynced.clear()
        self.grown = {number: (self._committed.get(number, 0), length) for number, length in changed.items()}
        self._committed.update(changed)
        return changed

    def next_pack(self) -> None:
        """Begin a new pack."""
        self.flush()
        self._close()
        self._pack += 1
        self._end = self._written = 0
        self._sealed = False

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close(self) -> None:
        """Forget what is buffered and close the file."""
        self._buffer.clear()
        self._buffered = 0
        self._close()


class PackOctets(Protocol):
    """The octets of one owner's packs, by range, wherever they are. For one thread at a time."""

    def read(self, pack: int, offset: int, length: int) -> bytes:
        """`length` octets, fewer at the end. FileNotFoundError where there is no such pack; OSError."""

    def size(self, pack: int) -> int:
        """How many octets the pack has. FileNotFoundError where there is no such pack; OSError."""

    def identity(self, pack: int) -> str:
        """What tells this pack from another one that has had its place; no proof. FileNotFoundError where
        there is no such pack; OSError."""

    def is_near(self, pack: int) -> bool:
        """Whether reading it costs no more than a disk of this machine does; also where it is lost."""

    def again(self) -> PackOctets:
        """The same packs, for another thread."""

    def name(self, pack: int) -> str:
        """What the pack is called in an error."""

    def close(self) -> None: ...


class PackFiles:
    """Packs that are files of a directory (`PackOctets`); a few stay open."""

    _KEEP = 2

    def __init__(self, directory: Path, find: Callable[[], Path | None] | None = None) -> None:
        """`find`: in which directory the owner is now, asked where a pack is missing."""
        self._directory = directory
        self._find = find
        self._open: dict[int, int] = {}

    def read(self, pack: int, offset: int, length: int) -> bytes:
        return os.pread(self._descriptor(pack), length, offset)

    def size(self, pack: int) -> int:
        return os.fstat(self._descriptor(pack)).st_size

    def identity(self, pack: int) -> str:
        about = os.fstat(self._descriptor(pack))
        return f"{about.st_dev}.{about.st_ino}"

    def is_near(self, pack: int) -> bool:
        return (self._directory / pack_name(pack)).exists() or not (self._directory / far_name(pack)).exists()

    def again(self) -> PackFiles:
        return PackFiles(self._directory, self._find)

    def name(self, pack: int) -> str:
        return str(self._directory / pack_name(pack))

    def _descriptor(self, pack: int) -> int:
        found = self._open.pop(pack, -1)
        if found < 0:
            found = self._opened(pack)
        self._open[pack] = found
        while len(self._open) > self._KEEP:
            os.close(self._open.pop(next(iter(self._open))))
        return found

    def _opened(self, pack: int) -> int:
        try:
            return os.open(self._directory / pack_name(pack), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            now = self._find() if self._find is not None else None
            if now is None or now == self._directory:
                raise
            self._directory = now  # moved to another partition, and the packs are what they were
            return os.open(now / pack_name(pack), os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])


class PackReader:
    """Reads frames of one owner's packs. For one thread at a time. FileNotFoundError where `expire` has
    removed a pack meanwhile."""

    def __init__(self, octets: PackOctets) -> None:
        self._octets = octets

    def size(self, pack: int) -> int:
        """How many octets the pack has."""
        return self._octets.size(pack)

    def is_near(self, pack: int) -> bool:
        """Whether reading it costs no more than a disk does."""
        return self._octets.is_near(pack)

    def again(self) -> PackReader:
        """A reader of the same packs for another thread."""
        return PackReader(self._octets.again())

    def read(self, place: Place) -> bytes:
        """The octets of one frame; raises `StoreCorrupt` where the pack is too short."""
        data = self._octets.read(*place)
        if len(data) != place.length:
            raise StoreCorrupt(f"{self._octets.name(place.pack)} ends before {sum(place[1:])}")
        return data

    def read_all(self, places: list[Place]) -> list[bytes]:
        """Many frames, in the order asked for; neighbours are read together."""
        frames: list[bytes] = []
        for run in _runs(places):
            first = run[0]
            if len(run) == 1:
                frames.append(self.read(first))
                continue
            data = self.read(Place(first.pack, first.offset, sum(place.length for place in run)))
            position = 0
            for place in run:
                frames.append(data[position : position + place.length])
                position += place.length
        return frames

    def pieces(self, place: Place, size: int = 256 * 1024) -> Iterator[bytes]:
        """One large frame in pieces."""
        position, end = place.offset, place.offset + place.length
        while position < end:
            piece = Place(place.pack, position, min(size, end - position))
            yield self.read(piece)
            position += piece.length

    def close(self) -> None:
        self._octets.close()


def _runs(places: list[Place]) -> Iterator[list[Place]]:
    """`places` cut into runs of frames that follow one another in a pack, of at most about a MiB."""
    run: list[Place] = []
    length = 0
    for place in places:
        if run and (
            place.pack != run[-1].pack
            or place.offset != run[-1].offset + run[-1].length
            or length + place.length > _BUFFER
        ):
            yield run
            run, length = [], 0
        run.append(place)
        length += place.length
    if run:
        yield run
