"""Where an owner's files are: ``<partition>/users/<2 hex>/<userid>/``, ``<partition>/shared/…`` likewise.

The rule guarded here: two owners never share a directory, and no name leads out of the partition. The
two hex digits are the first of the SHA-1 of the name, so that directories stay small; a name is written
as it is, but for octets outside ``A-Z a-z 0-9 _ - @ + = , .`` (and a dot in front), which become ``%XX``.

>>> encode_name("zoe b.é")
'zoe%20b.%C3%A9'
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from common.errors import PartitionUnknown
from common.names import SERVER, Owner

KINDS = {"user": "users", "shared": "shared"}
INDEX = "index.sqlite"
LOCK = "lock"
MAX_COMPONENT = 200
"""Octets of a directory name; longer ones are replaced by a hash (file systems end at 255)."""

_UNSAFE = re.compile(rb"[^A-Za-z0-9_@+=,.-]|^\.")


def encode_name(name: str) -> str:
    """A directory name for `name`; different names give different ones."""
    raw = name.encode("utf-8", "surrogatepass")
    text = _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], raw).decode("ascii")
    if len(text) <= MAX_COMPONENT:
        return text
    return f"{text[:100].rpartition('%')[0] or text[:100]}%h{hashlib.sha256(raw).hexdigest()}"


def decode_name(text: str) -> str | None:
    """The name that `encode_name` made `text` from; None if it was too long to be kept."""
    return None if "%h" in text else unquote(text, errors="surrogatepass")


def pack_name(number: int) -> str:
    """``pack-000001.zst``"""
    return f"pack-{number:06d}.zst"


class Layout:
    """The directories of a store: its partitions, and `home` (below configdirectory) for what is global."""

    def __init__(self, partitions: Mapping[str, Path], defaultpartition: str, home: Path) -> None:
        self.partitions = dict(partitions)
        self.defaultpartition = defaultpartition
        self.home = home

    def check_partition(self, partition: str) -> str:
        """`partition` if it is configured, the default for ""; raises `PartitionUnknown`."""
        if not partition:
            return self.defaultpartition
        if partition not in self.partitions:
            raise PartitionUnknown(f"Unknown/invalid partition {partition[:80]!r}")
        return partition

    def directory(self, owner: Owner, partition: str) -> Path:
        """Where `owner` is, or would be, on `partition`."""
        if owner == SERVER:
            return self.home / "server"
        digest = hashlib.sha1(owner.name.encode("utf-8", "surrogatepass")).hexdigest()
        return self.partitions[partition] / KINDS[owner.kind] / digest[:2] / encode_name(owner.name)

    def find(self, owner: Owner) -> Path | None:
        """The directory of `owner`, None if there is none."""
        for partition in self.partitions:
            path = self.directory(owner, partition)
            if (path / INDEX).exists():
                return path
        return None

    def directories(self, kind: str) -> Iterator[Path]:
        """Every owner's directory of that kind ("user" or "shared"), in no order."""
        for root in self.partitions.values():
            top = root / KINDS[kind]
            if not top.is_dir():
                continue
            for group in top.iterdir():
                for path in group.iterdir():
                    if (path / INDEX).exists():
                        yield path
