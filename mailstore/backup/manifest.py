"""The manifest of a backup: JSON that says what an owner was made of at one moment.

It is believed only if its SHA-256 is that in its name. Keys in it are those below the owner's folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from cyrus_sync.common.errors import ObjectDamaged
from cyrus_sync.common.names import Owner
from cyrus_sync.mailstore.backup.names import ManifestName, manifest_name

FORMAT = "cyrus-sync backup 1"


@dataclass(frozen=True, slots=True)
class Piece:
    """An object: octets and SHA-256 as they were put. `offset`: where in the pack it begins."""

    key: str
    offset: int
    size: int
    sha256: str

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class PackCopy:
    """A pack up to `length`: its parts, end to end. `identity` and `edges` are hints by which the next backup
    knows the pack again (`sending`). `lacks`: why there are fewer octets than `length`, "" if not."""

    pack: int
    length: int
    identity: str
    edges: str
    parts: tuple[Piece, ...]
    lacks: str = ""

    @property
    def covered(self) -> int:
        """So many octets are in parts."""
        return self.parts[-1].end if self.parts else 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """`taken` in Unix seconds. `sqlite_sha256` is that of the index before it was compressed. A partial one
    has no index, and those packs that were uploaded."""

    owner: Owner
    number: int
    taken: int
    complete: bool
    server: str
    partition: str
    stamp: str
    index: Piece | None = None
    sqlite_sha256: str = ""
    packs: tuple[PackCopy, ...] = field(default=())

    def pieces(self) -> Iterator[Piece]:
        """Every object that this needs."""
        if self.index is not None:
            yield self.index
        for pack in self.packs:
            yield from pack.parts

    @property
    def lacks(self) -> list[str]:
        """What of the owner could not be read when this was made."""
        return [f"pack {pack.pack}: {pack.lacks}" for pack in self.packs if pack.lacks]

    def written(self) -> tuple[ManifestName, bytes]:
        """Its name and its octets."""
        text = {"format": FORMAT, **asdict(self), "owner": self.owner._asdict()}
        data = json.dumps(text, indent=1).encode() + b"\n"
        digest = hashlib.sha256(data).hexdigest()
        return manifest_name(self.number, self.taken, digest, complete=self.complete), data


def read_manifest(name: ManifestName, data: bytes, where: str) -> Manifest:
    """`ObjectDamaged`, beginning with `where`, unless it is what its name says."""
    if hashlib.sha256(data).hexdigest() != name.sha256:
        raise ObjectDamaged(f"{where}: this manifest does not have the SHA-256 that is in its name")
    try:
        found = _parsed(json.loads(data))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ObjectDamaged(f"{where}: no manifest of this version of the format ({error})") from error
    if (found.number, found.taken, found.complete) != (name.number, name.taken, name.complete):
        raise ObjectDamaged(f"{where}: the manifest says something else than its name")
    return found


def _parsed(found: dict[str, Any]) -> Manifest:
    if found["format"] != FORMAT:
        raise ValueError(f"format {found['format']!r}")
    index = found["index"]
    return Manifest(
        Owner(str(found["owner"]["kind"]), str(found["owner"]["name"])),
        int(found["number"]),
        int(found["taken"]),
        bool(found["complete"]),
        str(found["server"]),
        str(found["partition"]),
        str(found["stamp"]),
        _piece(index) if index is not None else None,
        str(found["sqlite_sha256"]),
        tuple(
            PackCopy(
                int(pack["pack"]),
                int(pack["length"]),
                str(pack["identity"]),
                str(pack["edges"]),
                tuple(map(_piece, pack["parts"])),
                str(pack["lacks"]),
            )
            for pack in found["packs"]
        ),
    )


def _piece(found: dict[str, Any]) -> Piece:
    return Piece(str(found["key"]), int(found["offset"]), int(found["size"]), str(found["sha256"]))
