"""Is a backup what it was? Every object is read, and every message of the newest one.

An object that several manifests need is read once. Of the newest manifest the index is opened, and the SHA-1
of each message compared with its GUID, a part of a pack at a time. What is wrong is noted beside the
manifests: the next backup puts anew what it still has.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import (
    CyrusSyncError,
    ObjectDamaged,
    ObjectMissing,
    ObjectsUnavailable,
    StoreCorrupt,
)
from cyrus_sync.common.stores.frames import content_pieces
from cyrus_sync.mailstore.backup.fetching import fetch_index
from cyrus_sync.mailstore.backup.kept import Kept
from cyrus_sync.mailstore.backup.manifest import Manifest, PackCopy, Piece

_READ = 1024 * 1024


class Checked(NamedTuple):
    """What was found in one owner's folder: what is wrong, in sentences; complete backups; what was read.
    `damaged`: objects that are not there, or not what they were."""

    problems: list[str]
    backups: int
    octets: int
    messages: int
    damaged: int


def check(kept: Kept, scratch: Path, *, quick: bool) -> Checked:
    """Look at all backups of an owner. `quick`: only whether everything is there, with its size. Raises
    `ObjectsUnavailable`."""
    return _Check(kept, scratch, quick=quick).go()


class _Check:
    def __init__(self, kept: Kept, scratch: Path, *, quick: bool) -> None:
        self._kept = kept
        self._scratch = scratch
        self._quick = quick
        self._problems: list[str] = []
        self._read: dict[str, Piece] = {}
        self._damaged: set[str] = set()
        self._octets = self._messages = 0

    def go(self) -> Checked:
        names = self._kept.complete()
        if not names:
            self._problems.append("there is no complete backup")
        for newest, name in ((name is names[-1], name) for name in reversed(names)):
            try:
                manifest = self._kept.read(name)
            except (ObjectDamaged, ObjectMissing) as error:
                self._problems.append(error.message)
                continue
            self._manifest(name.key, manifest, newest=newest)
        if self._damaged != self._kept.damaged and (self._damaged or not self._quick):
            self._note()
        return Checked(self._problems, len(names), self._octets, self._messages, len(self._damaged))

    def _note(self) -> None:
        """Have the next backup put anew what it can. Who may only read the object store has said it all."""
        with contextlib.suppress(ObjectsUnavailable):
            self._kept.note(self._damaged)

    def _manifest(self, key: str, manifest: Manifest, *, newest: bool) -> None:
        self._problems += [f"{key}: {text}" for text in manifest.lacks]
        for pack in manifest.packs:
            ends = [part.offset for part in pack.parts[1:]] + [pack.length]
            if [part.end for part in pack.parts] != ends[: len(pack.parts)] and not pack.lacks:
                self._problems.append(f"{key}: the parts of pack {pack.pack} are not all of it")
        if newest and not self._quick:
            self._contents(manifest)
        for piece in manifest.pieces():
            self._object(piece)

    def _object(self, piece: Piece) -> None:
        """Read an object, unless that was done."""
        known = self._read.setdefault(piece.key, piece)
        if known is not piece:
            if (known.size, known.sha256) != (piece.size, piece.sha256):
                self._problems.append(f"{piece.key}: two manifests say two things of it")
            return
        if self._quick:
            if piece.key not in self._kept.there:
                self._wrong_object(piece.key, f"{piece.key}: is missing")
            elif self._kept.there[piece.key].size != piece.size:
                self._wrong_object(piece.key, f"{piece.key}: has another size than it should have")
            elif piece.key in self._kept.damaged:
                self._wrong_object(piece.key, f"{piece.key}: was found damaged")
            return
        with self._named(piece):
            for data in self._kept.pieces(piece):
                self._octets += len(data)

    @contextlib.contextmanager
    def _named(self, piece: Piece) -> Iterator[None]:
        try:
            yield
        except (ObjectDamaged, ObjectMissing) as error:
            self._wrong_object(piece.key, error.message)

    def _wrong_object(self, key: str, text: str) -> None:
        self._damaged.add(key)
        self._problems.append(text)

    # -- the messages of one backup

    def _contents(self, manifest: Manifest) -> None:
        with tempfile.TemporaryDirectory(prefix="verify.", dir=self._scratch) as directory:
            index = Path(directory) / "index.sqlite"
            assert manifest.index is not None
            self._read[manifest.index.key] = manifest.index
            with self._named(manifest.index):
                fetch_index(self._kept, manifest, index)
                self._octets += manifest.index.size
                with contextlib.closing(sqlite3.connect(index)) as connection:
                    self._database(manifest, connection, Path(directory) / "part.zst")

    def _database(self, manifest: Manifest, connection: sqlite3.Connection, part: Path) -> None:
        try:
            found = [text for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
            self._problems += [f"index.sqlite: {text}" for text in found]
            if not found:
                for pack in manifest.packs:
                    self._pack(pack, connection, part)
                self._outside(manifest, connection)
        except sqlite3.Error as error:
            self._problems.append(f"index.sqlite: {error}")

    def _pack(self, pack: PackCopy, connection: sqlite3.Connection, path: Path) -> None:
        for part in pack.parts:
            self._read[part.key] = part
            with self._named(part):
                with path.open("wb") as file:
                    for data in self._kept.pieces(part):
                        file.write(data)
                        self._octets += len(data)
                self._part(pack.pack, part, connection, path)

    def _part(self, number: int, part: Piece, connection: sqlite3.Connection, path: Path) -> None:
        rows = connection.execute(
            "SELECT guid, offset, length FROM messages WHERE pack = ? AND offset >= ? AND offset < ?"
            " ORDER BY offset",
            (number, part.offset, part.end),
        )
        with path.open("rb") as file:
            for guid, offset, length in rows:
                file.seek(offset - part.offset)
                self._messages += 1
                if text := _wrong(_frame(file.read, length), guid):
                    self._problems.append(f"pack {number} at {offset}: message {guid.hex()} {text}")

    def _outside(self, manifest: Manifest, connection: sqlite3.Connection) -> None:
        """Messages of which the parts have nothing."""
        covered = {pack.pack: pack.covered for pack in manifest.packs}
        lost = 0
        for pack, end in connection.execute(
            "SELECT pack, max(offset + length) FROM messages GROUP BY pack"
        ).fetchall():
            if end > covered.get(pack, 0):
                lost += connection.execute(
                    "SELECT count(*) FROM messages WHERE pack = ? AND offset + length > ?",
                    (pack, covered.get(pack, 0)),
                ).fetchone()[0]
        if lost:
            self._problems.append(f"{lost} messages of the index are in no pack of the backup")


def _frame(read: Callable[[int], bytes], length: int) -> Iterator[bytes]:
    while length and (data := read(min(length, _READ))):
        length -= len(data)
        yield data


def _wrong(frame: Iterator[bytes], guid: bytes) -> str:
    digest = hashlib.sha1()
    try:
        for data in content_pieces(frame):
            digest.update(data)
    except StoreCorrupt as error:
        return f"cannot be read: {error.message}"
    except CyrusSyncError as error:
        return str(error)
    return "" if digest.digest() == guid else f"has the SHA-1 {digest.hexdigest()}"
