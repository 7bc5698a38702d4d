"""One owner into the object store: what it lacks of him goes there, and the manifest last.

What the newest manifest names is not sent again, as long as the objects are there and the packs are still
the same. A pack is known again by the inode of its file and the octets at both ends of what was sent; where
one of these is another, all of that is read here and its SHA-256 compared. What is new in a pack becomes a
part of its own. Smaller parts before it are sent again with it: a pack that grows a little every day is a few
parts and not hundreds, and no octet is sent more than about log2(pack / day) times.

What a check has found damaged, or what is missing, is put anew under the same name as long as the packs here
have the same octets.

After each `CHECKPOINT` octets a partial manifest is put. The next run goes on from there if this one is
killed. Nothing that an older manifest needs is touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import zstandard

from cyrus_sync.common.errors import ObjectDamaged, ObjectMissing, StoreCorrupt, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import PackSource, Photograph, StoreCare
from cyrus_sync.mailstore.backup.kept import Kept, kept_of
from cyrus_sync.mailstore.backup.manifest import Manifest, PackCopy, Piece
from cyrus_sync.mailstore.backup.names import index_key, part_key
from cyrus_sync.objects.store import PIECE, ObjectStore, Put, check_back, digest, pieces_of

CHECKPOINT = 256 * 1024 * 1024
LONGEST = 6 * 3600
"""Seconds after which what was listed is no ground for a manifest any more; `pruning` counts on it."""

_EDGE = 4096
_TRIES = 3
_LEVEL = 3


class Sent(NamedTuple):
    """What became of an owner: octets that were sent, and what is lacking in sentences. `changed`: there is a
    new manifest."""

    changed: bool
    octets: int = 0
    lacks: tuple[str, ...] = ()


class Sender:
    """Backs up owners of one store. Safe for several threads."""

    def __init__(
        self,
        care: StoreCare,
        objects: ObjectStore,
        scratch: Path,
        servername: str,
        *,
        large_at_once: int = 2,
        told: Callable[[int], object] = lambda octets: None,
    ) -> None:
        """`scratch`: where copies of indexes are for a moment. `large_at_once`: objects of more than `PIECE`
        octets that are on their way. `told`: of each object that was sent."""
        self._care = care
        self._objects = objects
        self._scratch = scratch
        self._servername = servername
        self._large = threading.Semaphore(large_at_once)
        self._told = told

    def send(self, owner: Owner) -> Sent:
        """Back up one owner. `StoreError` (of the object store, too), `MailboxLocked`."""
        for attempt in range(1, _TRIES + 1):
            try:
                return _Run(self, owner).go()
            except FileNotFoundError as error:
                if attempt == _TRIES:
                    raise StoreError(f"{error.filename} has gone away") from error
        raise AssertionError

    def put(self, key: str, pieces: Iterator[bytes], size: int) -> Put:
        """Put a checked object of about `size` octets."""
        with self._large if size > PIECE else contextlib.nullcontext():
            put = self._objects.put(key, pieces)
        check_back(self._objects, key, put)  # while the next one is on its way
        self._told(put.size)
        return put

    @contextlib.contextmanager
    def photograph(self, owner: Owner) -> Iterator[tuple[Path, Photograph | None]]:
        with tempfile.TemporaryDirectory(prefix="backup.", dir=self._scratch) as directory:
            index = Path(directory) / "index.sqlite"
            with self._care.photograph(owner, index) as photograph:
                yield index, photograph

    def kept(self, owner: Owner) -> Kept:
        return kept_of(self._objects, owner)

    def stamp(self, owner: Owner) -> str:
        return self._care.stamp(owner)

    @property
    def servername(self) -> str:
        return self._servername


class _Run:
    """One try at one owner."""

    def __init__(self, sender: Sender, owner: Owner) -> None:
        self._sender = sender
        self._owner = owner
        self._octets = self._unmarked = 0
        self._mended: set[str] = set()
        self._began = time.clock_gettime(time.CLOCK_BOOTTIME)

    def go(self) -> Sent:
        kept = self._kept = self._sender.kept(self._owner)
        base = self._base = _base(kept)
        if (
            base is not None
            and base.complete
            and base.stamp
            and not base.lacks
            and all(map(kept.has, base.pieces()))
            and base.server == self._sender.servername
            and base.stamp == self._sender.stamp(self._owner)
        ):
            return Sent(changed=False)
        self._number = (kept.manifests[-1].number if kept.manifests else 0) + 1
        with self._sender.photograph(self._owner) as (index, photograph):
            if photograph is None:
                raise StoreError("there is nothing stored of this owner").at(user=str(self._owner))
            self._mend(photograph)
            sent = self._send(index, photograph)
        if kept.damaged:
            kept.note(kept.damaged - self._mended)
        return sent

    def _send(self, index: Path, photograph: Photograph) -> Sent:
        manifest = Manifest(
            self._owner,
            self._number,
            photograph.taken,
            False,
            self._sender.servername,
            photograph.partition,
            photograph.stamp,
        )
        for number, length in photograph.lengths.items():
            copy = self._pack(number, length, photograph.packs)
            manifest = replace(manifest, packs=(*manifest.packs, copy))
            if self._unmarked >= CHECKPOINT:
                manifest = self._checkpoint(manifest)
        manifest = replace(manifest, **self._index(index), complete=True)  # type: ignore[arg-type]
        base = self._base
        if base is not None and base.complete and _same(base, manifest):
            return Sent(changed=bool(self._mended), octets=self._octets, lacks=tuple(manifest.lacks))
        self._put_manifest(manifest)
        return Sent(changed=True, octets=self._octets, lacks=tuple(manifest.lacks))

    # -- objects that were lost or damaged

    def _mend(self, photograph: Photograph) -> None:
        """Put anew, under the same name, what is missing of any backup and is in the packs here: the same
        octets, by their SHA-256."""
        kept, base = self._kept, self._base
        if not kept.damaged and (base is None or all(map(kept.has, base.pieces()))):
            return
        for name in kept.manifests:
            with contextlib.suppress(ObjectDamaged, ObjectMissing):
                for pack in kept.read(name).packs:
                    for part in pack.parts:
                        if not self._has(part) and part.end <= photograph.lengths.get(pack.pack, 0):
                            self._mend_part(pack.pack, part, photograph.packs)

    def _mend_part(self, number: int, part: Piece, packs: PackSource) -> None:
        with contextlib.suppress(OSError, EOFError, StoreCorrupt):
            if digest(_octets(packs, number, part.offset, part.end)) == (part.size, part.sha256):
                self._put(part.key, _octets(packs, number, part.offset, part.end), part.size)
                self._mended.add(part.key)

    def _has(self, piece: Piece) -> bool:
        return piece.key in self._mended or self._kept.has(piece)

    # -- packs

    def _pack(self, number: int, length: int, packs: PackSource) -> PackCopy:
        known = self._known(number)
        try:
            identity = packs.identity(number)
            parts = self._sound_parts(known, number, length, identity, packs) if known else []
            new = length - (parts[-1].end if parts else 0)
            if new:
                while parts and parts[-1].size <= new:
                    new += parts.pop().size
                parts.append(self._part(number, length - new, length, packs))
            return PackCopy(number, length, identity, _edges(packs, number, length), tuple(parts))
        except (OSError, EOFError, StoreCorrupt) as error:
            if isinstance(error, FileNotFoundError) and self._is_gone(number):
                raise  # Compacted since; the next photograph does without it.
            return self._lacking(known, number, length, str(error))

    def _known(self, number: int) -> PackCopy | None:
        """The pack in the newest manifest, as far as its objects are there."""
        base = self._base
        found = next((pack for pack in base.packs if pack.pack == number), None) if base is not None else None
        if found is None:
            return None
        parts, end = [], 0
        for part in found.parts:
            if part.offset != end or not self._has(part):
                break
            parts.append(part)
            end = part.end
        if len(parts) < len(found.parts):
            return replace(found, parts=tuple(parts), edges="")
        return found

    def _sound_parts(
        self, known: PackCopy, number: int, length: int, identity: str, packs: PackSource
    ) -> list[Piece]:
        """The parts that are still the beginning of the pack."""
        parts = [part for part in known.parts if part.end <= length]
        if not parts:
            return []
        as_it_was = len(parts) == len(known.parts) and known.identity == identity and known.edges
        if as_it_was and known.edges == _edges(packs, number, known.covered):
            return parts
        sound: list[Piece] = []
        for part in parts:
            if digest(_octets(packs, number, part.offset, part.end)).sha256 != part.sha256:
                break
            sound.append(part)
        return sound

    def _part(self, number: int, start: int, end: int, packs: PackSource) -> Piece:
        key = part_key(number, start, end)
        put = self._put(key, _octets(packs, number, start, end), end - start)
        return Piece(key, start, put.size, put.sha256)

    def _lacking(self, known: PackCopy | None, number: int, length: int, why: str) -> PackCopy:
        """A pack that cannot be read here: what was sent of it before is all the more worth keeping."""
        parts = tuple(part for part in known.parts if part.end <= length) if known else ()
        if known and parts and parts[-1].end == length:
            return replace(known, parts=parts, length=length, lacks="")
        identity = known.identity if known else ""
        return PackCopy(number, length, identity, "", parts, lacks=why)

    def _is_gone(self, number: int) -> bool:
        """Whether the owner has no such pack any more, rightly."""
        with self._sender.photograph(self._owner) as (_, photograph):
            return photograph is None or number not in photograph.lengths

    # -- the index

    def _index(self, path: Path) -> dict[str, object]:
        sha256 = digest(pieces_of(path)).sha256
        base = self._base
        old = base.index if base is not None and base.sqlite_sha256 == sha256 else None
        if old is not None and self._has(old):
            return {"index": old, "sqlite_sha256": sha256}
        key = index_key(self._number)
        put = self._put(key, _compressed(path), path.stat().st_size)
        return {"index": Piece(key, 0, put.size, put.sha256), "sqlite_sha256": sha256}

    # -- objects

    def _put(self, key: str, pieces: Iterator[bytes], size: int) -> Put:
        put = self._sender.put(f"{self._kept.folder}/{key}", pieces, size)
        self._octets += put.size
        self._unmarked += put.size
        return put

    def _checkpoint(self, manifest: Manifest) -> Manifest:
        """Put what there is so far. Its packs take the place of those of the manifest before; those that are
        still to come are kept in it, or they would not be known again."""
        here = {pack.pack for pack in manifest.packs}
        rest = [pack for pack in self._base.packs if pack.pack not in here] if self._base else []
        self._put_manifest(replace(manifest, packs=(*manifest.packs, *rest)))
        self._unmarked = 0
        self._number += 1
        return replace(manifest, number=self._number)

    def _put_manifest(self, manifest: Manifest) -> None:
        if time.clock_gettime(time.CLOCK_BOOTTIME) - self._began > LONGEST and manifest.complete:
            self._list_again(manifest)
        name, data = manifest.written()
        self._sender.put(f"{self._kept.folder}/{name.key}", iter([data]), len(data))

    def _list_again(self, manifest: Manifest) -> None:
        """This has taken so long that what it builds on may have been pruned."""
        kept = self._sender.kept(self._owner)
        if missing := [piece.key for piece in manifest.pieces() if not kept.has(piece)]:
            raise StoreError(f"{missing[0]} was pruned meanwhile; do it again").at(user=str(self._owner))


def _base(kept: Kept) -> Manifest | None:
    """The newest manifest that can be read. One that is damaged is named by `verify`, and passed over."""
    for name in reversed(kept.manifests):
        try:
            return kept.read(name)
        except (ObjectDamaged, ObjectMissing):
            continue
    return None


def _same(base: Manifest, manifest: Manifest) -> bool:
    """Whether two manifests are of the same index and the same packs."""
    return base.index == manifest.index and base.packs == manifest.packs


def _octets(packs: PackSource, number: int, start: int, end: int) -> Iterator[bytes]:
    """A range of a pack in pieces; EOFError where it has fewer octets."""
    while start < end:
        data = packs.read(number, start, min(PIECE, end - start))
        if not data:
            raise EOFError(f"{packs.name(number)} ends at {start}, should have {end} octets")
        yield data
        start += len(data)


def _edges(packs: PackSource, number: int, length: int) -> str:
    """A digest of the beginning and the end of the first `length` octets."""
    ends = packs.read(number, 0, min(_EDGE, length)) + packs.read(number, max(length - _EDGE, 0), _EDGE)
    return hashlib.sha256(ends).hexdigest()


def _compressed(path: Path) -> Iterator[bytes]:
    packer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj(size=path.stat().st_size)
    for data in pieces_of(path):
        if packed := packer.compress(data):
            yield packed
    yield packer.flush()
