"""An owner out of a backup, into a store that does not have him."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import zstandard

from cyrus_sync.common.errors import ObjectDamaged, StoreError
from cyrus_sync.common.stores.care import PackPieces, StoreCare
from cyrus_sync.mailstore.backup.kept import Kept
from cyrus_sync.mailstore.backup.manifest import Manifest, PackCopy

_AT_ONCE = 256 * 1024

CONF = "imapd.conf"
"""In a directory into which owners are brought back."""


def bring_back(kept: Kept, manifest: Manifest, care: StoreCare, scratch: Path, partition: str) -> None:
    """Make the owner in a store that does not have him, as `manifest` says. `ObjectDamaged`, `ObjectMissing`,
    `ObjectsUnavailable`: then he is not made."""
    with tempfile.TemporaryDirectory(prefix="backup.", dir=scratch) as directory:
        index = Path(directory) / "index.sqlite"
        fetch_index(kept, manifest, index)
        packs: Mapping[int, PackPieces] = {
            pack.pack: _whole(kept, pack) for pack in manifest.packs if not pack.lacks
        }
        care.put_back(manifest.owner, index, packs, partition)


def _whole(kept: Kept, pack: PackCopy) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        for part in pack.parts:
            yield from kept.pieces(part)

    return pieces


def fetch_index(kept: Kept, manifest: Manifest, target: Path) -> None:
    """Write the index to the new file `target`. `ObjectDamaged` unless it is what it was."""
    assert manifest.index is not None
    where = f"{kept.objects.place}: {kept.folder}/{manifest.index.key}"
    digest = hashlib.sha256()
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    target.touch(0o600)
    try:
        with target.open("wb") as file:
            for data in kept.pieces(manifest.index):
                for start in range(0, len(data), _AT_ONCE):  # An index may become much larger at once.
                    unpacked = unpacker.decompress(data[start : start + _AT_ONCE])
                    digest.update(unpacked)
                    file.write(unpacked)
    except zstandard.ZstdError as error:
        raise ObjectDamaged(f"{where}: {error}") from error
    except OSError as error:
        raise StoreError(f"{target}: {error.strerror}") from error
    if digest.hexdigest() != manifest.sqlite_sha256:
        raise ObjectDamaged(f"{where}: the index in it is not the one that was copied")


def make_mini_store(directory: Path, unixhierarchysep: bool) -> Path:
    """A configuration for a store in an empty or new `directory`; its file."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = directory / CONF
    if not path.exists():
        if any(directory.iterdir()):
            raise StoreError(f"{directory} is not empty, and was not made by restore")
        path.write_text(
            f"# Made by mailstore restore. Look at it: mailstore -C {path} ls\n"
            f"configdirectory: {directory}/conf\npartition-default: {directory}/mail\n"
            f"unixhierarchysep: {'yes' if unixhierarchysep else 'no'}\n"
        )
    return path
