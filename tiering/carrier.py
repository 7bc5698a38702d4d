"""Packs of one owner into the object store, and back.

Away, in this order: the key is entered in the ledger; the octets are put, and read back; the owner is held,
and the pack must still be what was put; ``pack-….far`` is written and synced; the file of the pack is
removed. Whoever is killed before the fourth step leaves an object that nobody names, which the ledger knows;
behind it, both files, and the next one removes the needless one.

Back: the octets come into a file beside, are proved, and synced; the owner is held; the file gets the name of
the pack; ``pack-….far`` is removed.

Nothing is read or sent while an owner is held. What is changed meanwhile is left to the next run.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import ObjectMissing, StoreCorrupt
from cyrus_sync.common.files import TEMPORARY, private, sync_directory, temporary_in
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.native.bodies import Stored
from cyrus_sync.common.stores.native.care.packscan import pack_number
from cyrus_sync.common.stores.native.farpack import FarPack, Summing, read_far, write_far
from cyrus_sync.common.stores.native.layout import far_name, pack_name
from cyrus_sync.common.stores.native.packs import Place
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.native.tables.messages import enter_messages
from cyrus_sync.common.stores.native.transaction import Transaction
from cyrus_sync.common.stores.trouble import reporting
from cyrus_sync.objects.store import PIECE, Counted, ObjectStore, pieces_of
from cyrus_sync.tiering.ledger import Ledger
from cyrus_sync.tiering.names import MARKER, new_key, nothing_there

SMALLEST = 64 * 1024
"""A pack with fewer octets stays: its file takes hardly more room than the word of where it is."""

PATIENCE = 30.0
"""Seconds to wait for an owner's lock."""

_COPY_AT_ONCE = 1024 * 1024
_UNFINISHED = re.compile(rf"{re.escape(TEMPORARY)}|\.pack-\d+\.far\..*\.new$")


@dataclass
class Tiered:
    """What was done, or would be done, for an owner: packs and octets that went away, or came back; and what
    there is of him now, octets that are `near` and `far`. `left`: packs that could not, with the reason."""

    packs: int = 0
    octets: int = 0
    near: int = 0
    far: int = 0
    left: tuple[str, ...] = ()

    def add(self, other: Tiered) -> None:
        self.packs += other.packs
        self.octets += other.octets
        self.near += other.near
        self.far += other.far


class _File(NamedTuple):
    """A pack that is near: which file it is, and when it was written to last."""

    identity: str
    octets: int
    modified: float

    @classmethod
    def of(cls, path: Path) -> _File:
        """Raises OSError."""
        about = path.stat()
        return cls(f"{about.st_dev}.{about.st_ino}", about.st_size, about.st_mtime)


class Carrier:
    """For the owners of one store. `smallest`: packs with fewer octets stay."""

    def __init__(
        self,
        store: NativeStore,
        objects: ObjectStore,
        ledger: Ledger,
        *,
        smallest: int = SMALLEST,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._objects = objects
        self._ledger = ledger
        self._smallest = smallest
        self._clock = clock
        self._marked = False

    # -- away

    def send(self, owner: Owner, older: float, *, dry_run: bool = False) -> Tiered:
        """Those packs to which nothing was added for `older` seconds. `StoreError` (also of the object
        store), `MailboxLocked`."""
        with reporting(owner):
            directory = self._directory(owner)
            done = Tiered()
            if directory is None:
                return done
            if not dry_run:
                self._tidy(owner, directory, back=False)
            before = self._clock() - older
            for number, file in self._near(directory):
                if file.modified < before and file.octets >= self._smallest:
                    self._send(owner, directory, number, done, dry_run=dry_run)
            self._count(directory, done)
            return done

    def _send(self, owner: Owner, directory: Path, number: int, done: Tiered, *, dry_run: bool) -> None:
        path = directory / pack_name(number)
        length = self._length(owner, number)
        file = _File.of(path)
        if not length:
            return  # Nobody knows of it: `expire` removes it.
        if file.octets < length:
            done.left += (_too_short(number, file.octets, length),)
            return
        if not dry_run:
            if self._keep_scripts(owner, number):
                file = _File.of(path)
            far = self._put(owner, path, number, length, file)
            with self._store.transaction(owner, create=False, timeout=PATIENCE) as transaction:
                as_it_was = (
                    self._directory(owner) == directory
                    and _length(transaction, number) == length
                    and path.exists()
                    and _File.of(path) == file
                )
                if as_it_was:
                    write_far(directory / far_name(number), far)
                    path.unlink()
                    sync_directory(directory)
            if not as_it_was:
                self._forget(far.key)
                return
        done.packs += 1
        done.octets += length

    def _put(self, owner: Owner, path: Path, number: int, length: int, file: _File) -> FarPack:
        self.check_place()
        key = new_key(owner, number)
        self._ledger.enter(key)
        pieces = Summing(pieces_of(path, 0, length))
        try:
            put = self._objects.put(key, pieces, check=True)
        except EOFError as error:
            raise StoreCorrupt(str(error)) from error
        modified = int(file.modified)
        return FarPack(key, put.size, put.sha256, file.identity, modified, pieces.sums)

    def check_place(self) -> None:
        """Let it be known that there is something of ours. `ObjectsUnavailable` where nothing is that should
        be: it is not the place that it was."""
        if self._marked:
            return
        try:
            self._objects.size(MARKER)
        except ObjectMissing:
            if self._ledger.needed():
                raise nothing_there(self._objects) from None
            self._objects.put(MARKER, b"Packs of a mail store: docs/tiering.md of cyrus-sync.\n", check=True)
        self._marked = True

    def _forget(self, key: str) -> None:
        """An object that nobody will ever name."""
        self._objects.delete([key])
        self._ledger.strike_out([key])

    def _keep_scripts(self, owner: Owner, number: int) -> bool:
        """Write the Sieve scripts that are in a pack into another one: whoever delivers must not wait for an
        object store. Whether there were any."""
        with self._store.transaction(owner, create=False, timeout=PATIENCE) as transaction:
            rows = transaction.db.execute(
                "SELECT DISTINCT messages.guid, pack, offset, length, messages.size FROM messages"
                " JOIN records USING (guid) JOIN mailboxes ON mailboxes.id = records.mailbox"
                " WHERE pack = ? AND expunged = 0 AND deleted_at = 0 AND mbtype LIKE '%f%'",
                (number,),
            ).fetchall()
            if not rows:
                return False
            scripts = [Stored(row[0], Place(*row[1:4]), row[4]) for row in rows]
            if transaction.packs.mark().pack == number:
                transaction.packs.next_pack()
            bodies = transaction.reader.bodies_reader
            assert bodies is not None
            entries = []
            for one in scripts:
                place = transaction.packs.append_pieces(bodies.packs.pieces(one.place, _COPY_AT_ONCE))
                entries.append((one.guid, *place, one.size))
            enter_messages(transaction, entries)
            return True

    # -- back

    def bring_back(self, owner: Owner, *, dry_run: bool = False) -> Tiered:
        """Every pack of the owner. `StoreError` (also of the object store), `MailboxLocked`."""
        with reporting(owner):
            directory = self._directory(owner)
            done = Tiered()
            if directory is None:
                return done
            if not dry_run:
                self._tidy(owner, directory, back=True)
            for number, far in self._far(directory, done):
                if (path := directory / pack_name(number)).exists():
                    near, length = _octets(path), self._length(owner, number)
                    if near < length != far.octets:
                        done.left += (f"{_too_short(number, near, length)}, and {far.key} {far.octets}",)
                    if near >= length or far.octets != length:
                        continue
                if not dry_run and not self._bring(owner, directory, number, far, done):
                    continue
                done.packs += 1
                done.octets += far.octets
            self._count(directory, done)
            return done

    def _bring(self, owner: Owner, directory: Path, number: int, far: FarPack, done: Tiered) -> bool:
        temporary = temporary_in(directory)
        try:
            try:
                self._fetch(far, temporary)
            except (ObjectMissing, StoreCorrupt) as error:
                done.left += (f"{pack_name(number)}: {error}",)
                return False
            os.utime(temporary, (far.modified, far.modified))
            with self._store.transaction(owner, create=False, timeout=PATIENCE) as transaction:
                path, near = directory / far_name(number), directory / pack_name(number)
                if self._directory(owner) != directory or not path.exists() or read_far(path) != far:
                    return False
                length = _length(transaction, number)
                if near.exists() and (_octets(near) >= length or far.octets != length):
                    return False
                temporary.replace(near)
                sync_directory(directory)
                path.unlink()
                sync_directory(directory)
            return True
        finally:
            temporary.unlink(missing_ok=True)

    def _fetch(self, far: FarPack, path: Path) -> None:
        """All octets, proved and on disk. `ObjectMissing`, `StoreCorrupt`, `ObjectsUnavailable`."""
        counted = Counted(self._pieces(far))
        with open(path, "wb", opener=private) as file:
            for piece in counted:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if (counted.total.size, counted.total.sha256) != (far.octets, far.sha256):
            raise StoreCorrupt(f"{self._objects.place}: {far.key} is not what was put")

    def _pieces(self, far: FarPack) -> Iterator[bytes]:
        for start in range(0, far.octets, PIECE):
            yield self._objects.get_range(far.key, start, min(PIECE, far.octets - start))

    # -- what one who was killed has left

    def _tidy(self, owner: Owner, directory: Path, *, back: bool) -> None:
        """Where a pack is in both places, leave one that is whole; and remove what came, or was written, in
        part. A file that is shorter than the index says, as an older copy that was put back, is no reason to
        forget the object."""
        both = [number for number, _ in self._near(directory) if (directory / far_name(number)).exists()]
        parts = [entry for entry in os.scandir(directory) if _UNFINISHED.match(entry.name)]
        if not both and not parts:
            return
        with self._store.transaction(owner, create=False, timeout=PATIENCE) as transaction:
            for part in parts:
                Path(part.path).unlink(missing_ok=True)
            for number in both:
                far, near = directory / far_name(number), directory / pack_name(number)
                length = _length(transaction, number)
                if not back and self._has_all(far, length):
                    near.unlink(missing_ok=True)
                elif _octets(near) >= length and near.exists():
                    far.unlink(missing_ok=True)
                sync_directory(directory)

    def _has_all(self, path: Path, length: int) -> bool:
        """Whether the object store has all of a pack that is near, too: nothing was added since."""
        try:
            far = read_far(path)
            return far.octets == length == self._objects.size(far.key)
        except (ObjectMissing, StoreCorrupt, FileNotFoundError):
            return False

    # -- what there is

    def _directory(self, owner: Owner) -> Path | None:
        found = self._store.find(owner)
        return found.path if found is not None and owner != SERVER else None

    def _near(self, directory: Path) -> Iterator[tuple[int, _File]]:
        for path in sorted(directory.glob("pack-*.zst")):
            if number := pack_number(path):
                with contextlib.suppress(FileNotFoundError):
                    yield number, _File.of(path)

    def _far(self, directory: Path, done: Tiered) -> Iterator[tuple[int, FarPack]]:
        for path in sorted(directory.glob("pack-*.far")):
            try:
                yield pack_number(path), read_far(path)
            except FileNotFoundError:
                continue
            except StoreCorrupt as error:
                done.left += (str(error),)

    def _count(self, directory: Path, done: Tiered) -> None:
        done.near = sum(file.octets for _, file in self._near(directory))
        far = self._far(directory, done)
        done.far = sum(one.octets for number, one in far if not (directory / pack_name(number)).exists())

    def _length(self, owner: Owner, number: int) -> int:
        with self._store.read(owner) as reader:
            row = reader.connection.execute("SELECT length FROM packs WHERE pack = ?", (number,)).fetchone()
        return int(row[0]) if row else 0


def _length(transaction: Transaction, number: int) -> int:
    row = transaction.db.execute("SELECT length FROM packs WHERE pack = ?", (number,)).fetchone()
    return int(row[0]) if row else 0


def _octets(path: Path) -> int:
    """0 for a file that is not there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _too_short(number: int, octets: int, length: int) -> str:
    return f"{pack_name(number)} has {octets} octets, the index says {length}"
