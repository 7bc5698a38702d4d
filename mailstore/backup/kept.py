"""`Kept`: what an object store has of one owner, and which owners there are in it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cached_property
from typing import NamedTuple

from cyrus_sync.common.errors import ObjectDamaged, ObjectMissing
from cyrus_sync.common.names import Owner
from cyrus_sync.mailstore.backup.manifest import Manifest, Piece, read_manifest
from cyrus_sync.mailstore.backup.names import KINDS, ManifestName, folder_of, parse_manifest_name
from cyrus_sync.objects.store import Counted, ObjectStore

NOTE = "damaged.json"
"""In an owner's folder, while there is anything to note."""


class There(NamedTuple):
    """An object: its size as it was put, and when that was, by the clock of its store."""

    size: int
    modified: datetime


class Kept:
    """The folder of an owner, as it was listed once."""

    def __init__(self, objects: ObjectStore, folder: str) -> None:
        """Lists the folder. `ObjectsUnavailable`."""
        self.objects = objects
        self.folder = folder
        self.there: dict[str, There] = {}
        names = []
        for one in objects.listed(folder):
            key = one.key[len(folder) + 1 :]
            self.there[key] = There(one.size, one.modified)
            if name := parse_manifest_name(key):
                names.append(name)
        self.manifests = sorted(names)
        """From the oldest to the newest, whole or damaged."""

    @cached_property
    def damaged(self) -> frozenset[str]:
        """Keys of objects that a check has found damaged or missing, and nobody has put anew since."""
        if NOTE not in self.there:
            return frozenset()
        try:
            return frozenset(map(str, json.loads(self.objects.get(f"{self.folder}/{NOTE}"))))
        except (ObjectDamaged, ObjectMissing, ValueError, TypeError):
            return frozenset()

    def note(self, keys: Iterable[str]) -> None:
        """Have the next backup know that these are damaged; none: that none is."""
        key, wanted = f"{self.folder}/{NOTE}", sorted(keys)
        if wanted:
            self.objects.put(key, json.dumps(wanted).encode())
        elif NOTE in self.there:
            self.objects.delete([key])

    def complete(self) -> list[ManifestName]:
        return [name for name in self.manifests if name.complete]

    def read(self, name: ManifestName) -> Manifest:
        """`ObjectDamaged`, `ObjectMissing`, `ObjectsUnavailable`."""
        key = f"{self.folder}/{name.key}"
        return read_manifest(name, self.objects.get(key), f"{self.objects.place}: {key}")

    def has(self, piece: Piece) -> bool:
        """Whether an object is there, with the size that it should have, and nobody has found it damaged."""
        found = self.there.get(piece.key)
        return found is not None and found.size == piece.size and piece.key not in self.damaged

    def pieces(self, piece: Piece) -> Iterator[bytes]:
        """The content of an object; `ObjectDamaged` at its end unless it was what the manifest says."""
        key = f"{self.folder}/{piece.key}"
        counted = Counted(self.objects.pieces(key))
        yield from counted
        if counted.total != (piece.size, piece.sha256):
            raise ObjectDamaged(
                f"{self.objects.place}: {key}: has {counted.total.size} octets with SHA-256"
                f" {counted.total.sha256}, should have {piece.size} with {piece.sha256}"
            )

    def range_of(self, piece: Piece, offset: int, length: int) -> bytes:
        """A part of an object as far as it can be read, and unproven."""
        try:
            return self.objects.get_range(f"{self.folder}/{piece.key}", offset, length)[:length]
        except (ObjectDamaged, ObjectMissing):
            return b""


def kept_of(objects: ObjectStore, owner: Owner) -> Kept:
    return Kept(objects, folder_of(owner))


def folders(objects: ObjectStore) -> Iterator[str]:
    """The folders of all owners, users first."""
    for kind, top in KINDS.items():
        if kind == "server":
            if objects.folders(top):
                yield top
            continue
        for half in objects.folders(top):
            yield from objects.folders(half)


def owner_in(kept: Kept) -> Owner | None:
    """Whose folder it is, as the newest manifest says that can be read; None if none can."""
    for name in reversed(kept.manifests):
        try:
            return kept.read(name).owner
        except (ObjectDamaged, ObjectMissing):
            continue
    return None


def as_of(names: list[ManifestName], moment: int | None) -> ManifestName | None:
    """The newest of these manifests that is not younger than `moment` (Unix seconds)."""
    return next((name for name in reversed(names) if moment is None or name.taken <= moment), None)
