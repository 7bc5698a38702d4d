"""An owner out of a backup, into a store that does not have him."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import zstandard

from cyrus_sync.common.errors import ObjectDamaged, ObjectMissing, StoreError
from cyrus_sync.common.stores.care import PackPieces, StoreCare
from cyrus_sync.mailstore.backup.kept import Kept
from cyrus_sync.mailstore.backup.manifest import Manifest, PackCopy, Piece

_AT_ONCE = 256 * 1024

_SALVAGED = 64 * 1024
"""Octets that are lost together where one of them is: as much as is encrypted together."""

CONF = "imapd.conf"
"""In a directory into which owners are brought back."""


def bring_back(
    kept: Kept,
    manifest: Manifest,
    care: StoreCare,
    partition: str,
    *,
    moment: int | None = None,
    dry_run: bool = False,
) -> list[str]:
    """Make the owner in a store that does not have him, or has lost him, as `manifest` says; with `moment`
    (Unix seconds) as he was at the end of that second, by the history in the index. Returns what is wrong
    with objects of his packs, in sentences: messages in them may be damaged, all others are there. `dry_run`:
    only the index is looked at. `ObjectDamaged`, `ObjectMissing` and `StoreCorrupt` for the index,
    `NotRemembered`, `ObjectsUnavailable`: then he is not made."""
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="backup.", dir=scratch_of(care)) as directory:
        index = Path(directory) / "index.sqlite"
        fetch_index(kept, manifest, index)
        if moment is not None:
            care.turn_back(index, moment)
        if not dry_run:
            if care.is_unusable(manifest.owner):
                care.give_up(manifest.owner)
            packs: Mapping[int, PackPieces] = {
                pack.pack: _whole(kept, pack, wrong) for pack in manifest.packs if pack.parts
            }
            care.put_back(manifest.owner, index, packs, partition)
    return wrong


def _whole(kept: Kept, pack: PackCopy, wrong: list[str]) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        for part in pack.parts:
            yield from _as_far_as_it_is(kept, part, wrong)

    return pieces


def _as_far_as_it_is(kept: Kept, part: Piece, wrong: list[str]) -> Iterator[bytes]:
    """As many octets as the part should have. Where there are none, zeros stand: every other message keeps
    its place."""
    given = 0
    try:
        for data in kept.pieces(part):
            data = data[: part.size - given]
            given += len(data)
            yield data
        return
    except (ObjectDamaged, ObjectMissing) as error:
        wrong.append(error.message)
        missing = isinstance(error, ObjectMissing)
    while given < part.size:
        count = min(_SALVAGED - given % _SALVAGED, part.size - given)
        data = b"" if missing else kept.range_of(part, given, count)
        yield data.ljust(count, b"\0")
        given += count


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


def scratch_of(care: StoreCare) -> Path:
    """Where an index may be for a moment: with the store, or, while that has no place yet, with other files
    that are temporary."""
    path = care.scratch()
    return path if path.is_dir() else Path(tempfile.gettempdir())


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
