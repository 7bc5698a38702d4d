"""Where an owner's files are: ``<partition>/users/<2 hex>/<userid>/``, ``<partition>/shared/…`` likewise.

The rule guarded here: two owners never share a directory, and no name leads out of the partition. The
two hex digits are the first of the SHA-1 of the name, so that directories stay small; a name is written
as it is, but for octets outside ``A-Z a-z 0-9 _ - @ + = , .`` (and a dot in front), which become ``%XX``.

>>> encode_name("zoe b.é")
'zoe%20b.%C3%A9'
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote

from cyrus_sync.common.errors import PartitionUnknown
from cyrus_sync.common.names import SERVER, Owner

log = logging.getLogger(__name__)

KINDS = {"user": "users", "shared": "shared"}
INDEX = "index.sqlite"
LOCK = "lock"
MAKING = ".new-"
"""What an owner's directory is called, in front of its name, until all is in it."""
TO_FLEET = "moving"
"""A file of `Layout.home`: owners of this machine go into a fleet, and nobody new is made in a partition."""

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


def far_name(number: int) -> str:
    """``pack-000001.far``: stands for a pack that is in an object store (`farpack`)."""
    return f"pack-{number:06d}.far"


def group(name: str) -> str:
    """The two digits of the directory above an owner's."""
    return hashlib.sha1(name.encode("utf-8", "surrogatepass")).hexdigest()[:2]


def is_place_of(path: Path, owner: Owner) -> bool:
    """Whether a directory, whatever partition it is on, is where `owner` would be."""
    text = str(path)
    return text.endswith(f"/{KINDS[owner.kind]}/{group(owner.name)}/{encode_name(owner.name)}")


@lru_cache(1024)
def _place(partition: Path, owner: Owner) -> Path:
    """Remembered, since who makes an owner asks a dozen times."""
    return partition / KINDS[owner.kind] / group(owner.name) / encode_name(owner.name)


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
        return _place(self.partitions[partition], owner)

    def find(self, owner: Owner) -> Path | None:
        """The directory of `owner`, None if there is none. Raises OSError where that cannot be seen."""
        for path in self.places(owner):
            try:
                os.stat(f"{path}/{INDEX}")  # noqa: PTH116 (a dozen times while an owner is made)
            except (FileNotFoundError, NotADirectoryError):
                continue
            return path
        return None

    def places(self, owner: Owner) -> list[Path]:
        """Where `owner` may be: one directory for each partition."""
        return [self.directory(owner, partition) for partition in self.partitions]

    def directories(self, kind: str) -> Iterator[Path]:
        """Whatever stands where owners of that kind ("user" or "shared") have their directories, in no order:
        files and empty directories too, since they may be what is left of somebody. What cannot be listed
        is logged and passed over."""
        for partition in self.partitions:
            yield from self._directories(kind, partition)

    def _directories(self, kind: str, partition: str) -> Iterator[Path]:
        for group in _listed(self.partitions[partition] / KINDS[kind]):
            for path in _listed(group):
                if not path.name.startswith("."):  # no owner's: `encode_name` writes %2E
                    yield path

    def is_inhabited(self, partition: str) -> bool:
        """Whether any owner's index is on `partition`."""
        return any((path / INDEX).exists() for kind in KINDS for path in self._directories(kind, partition))


def remains(path: Path) -> str:
    """What is at the place of an owner who has no index, as one says it; "" for nothing: no directory, or
    one that somebody who crashed had just begun to fill. Raises OSError."""
    try:
        inside = sorted(one.name for one in path.iterdir())
    except FileNotFoundError:
        return ""
    except NotADirectoryError:
        return f"{path} is no directory" if path.exists() else ""
    left = [name for name in inside if name not in (LOCK, f"{INDEX}.new")]
    return f"{path} has no {INDEX}" if left else ""


def _listed(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        log.error("%s cannot be listed: %s", directory, error.strerror)
        return []
