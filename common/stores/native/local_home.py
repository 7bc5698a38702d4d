"""`LocalHome`: owners in directories of this machine, which are all there is.

What SQLite and a pack have synced is safe, so there is nothing to publish, and nothing to abandon. A new
owner is built in ``.new-<name>`` beside his place, synced, entered in the registry, and renamed to it. If a
crash comes between the last two, whoever asks for him next does the rest; what one before them has left goes
when he is made again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import ConfigError, CyrusSyncError, MailboxLocked, StoreCorrupt, StoreError
from cyrus_sync.common.files import make_directories, sync_directory, sync_disk, sync_file, tighten_all
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.farpack import FarFiles, FarLater, FarReader
from cyrus_sync.common.stores.native.homes import Grown, Hold, OwnerDirectory, Stamp
from cyrus_sync.common.stores.native.layout import (
    INDEX,
    KINDS,
    LOCK,
    MAKING,
    TO_FLEET,
    Layout,
    decode_name,
    encode_name,
    far_name,
    is_place_of,
    pack_name,
    remains,
)
from cyrus_sync.common.stores.native.locks import FileLock, Gone
from cyrus_sync.common.stores.native.moves import Arrival, Moves, check_room, is_held
from cyrus_sync.common.stores.native.nearfar import NearAndFar
from cyrus_sync.common.stores.native.packs import PackFiles, PackWriter
from cyrus_sync.common.stores.native.partitions import PartitionAway, Partitions
from cyrus_sync.common.stores.native.registry import Registry
from cyrus_sync.common.stores.native.stamps import look_at, mark

log = logging.getLogger(__name__)

STAGING = "sync."
"""Uploads, on the default partition."""

_NOTHING: AbstractContextManager[object] = contextlib.nullcontext()


class LocalHold(NamedTuple):
    """An owner's directory, and the lock in it."""

    directory: OwnerDirectory
    lock: FileLock
    made: bool = False

    def close(self) -> None:
        self.lock.release()


class LocalHome:
    """The directories of a `Layout` (`homes.OwnerHome`)."""

    def __init__(self, layout: Layout, *, readonly: bool = False, far: FarReader | None = None) -> None:
        """`far` reads packs that are in an object store."""
        self.layout = layout
        self._far = far or FarLater(_nowhere)
        self.readonly = readonly
        self.notes = layout.home
        self.registry = Registry(layout.home / "registry.sqlite", self._scan, readonly=readonly)
        self.partitions = Partitions(
            layout, readonly=readonly, is_anybody_known=self.registry.is_anybody_known
        )
        self.check_partition = layout.check_partition
        self.whereabouts: Callable[[Owner], Path | None] = layout.find
        """Where an owner's files are, for who reads on in what he had open."""
        self.is_part = False
        """Whether somebody knows of those too who have gone from here into a fleet, and asks there."""
        self.partitions_are_places = True
        self.moves = Moves(layout, self._is_registered, readonly=readonly)
        self.moves_left = self.moves.left
        self.clear_moves, self.clear_moves_of = self.moves.clear, self.moves.clear_of

    # -- the whole

    def check(self) -> None:
        self.partitions.check()

    def away(self) -> Mapping[str, str]:
        return self.partitions.away()

    def tighten(self) -> int:
        partitions = self.layout.partitions.values()
        tops = [top / name for top in partitions for name in (*KINDS.values(), STAGING)]
        return sum(map(tighten_all, [*tops, self.notes]))

    def staging(self) -> Path:
        path = self.layout.partitions[self.layout.defaultpartition] / STAGING
        make_directories(path)
        return path

    def generations(self) -> Mapping[str, str]:
        return self.partitions.generations()

    def put_generation(self, text: str) -> None:
        self.partitions.put_generation(text)

    def add_figures(self, sheet: Sheet) -> None:
        """Nothing: its disks are told of by its daemons."""

    def everybody(self) -> list[Owner]:
        found: set[Owner] = set()
        try:
            found.update(self.registry.owners())
        except (CyrusSyncError, sqlite3.Error) as error:
            log.error("the registry of mailboxes cannot be read: %s", error)
        found.update(self._inhabitants(found))
        return [owner for kind in KINDS for owner in sorted(found) if owner.kind == kind]

    def _inhabitants(self, registered: Collection[Owner]) -> Iterator[Owner]:
        """Whoever has a directory in its place, sound or not."""
        hashed = {
            encode_name(owner.name): owner
            for owner in registered
            if decode_name(encode_name(owner.name)) is None
        }
        for kind in KINDS:
            for path in self.layout.directories(kind):
                owner = _owner_at(kind, path) or hashed.get(path.name)
                if owner is not None and is_place_of(path, owner) and _is_somebodys(path):
                    yield owner

    def userids(self) -> list[str]:
        places = (*self.layout.directories("user"), *self.moves.places("user"))
        found = {_owner_at("user", path) for path in places}
        return sorted(owner.name for owner in found if owner is not None)

    def stamps(self) -> Mapping[Owner, Stamp]:
        found: dict[Owner, Stamp] = {}
        for kind in KINDS:
            for path in self.layout.directories(kind):
                owner = _owner_at(kind, path)
                if owner is not None and is_place_of(path, owner) and (stamp := look_at(path)) is not None:
                    found[owner] = stamp
        return found

    def stamp(self, directory: OwnerDirectory) -> Stamp | None:
        return look_at(directory.path)

    def mark(self, directory: OwnerDirectory) -> Stamp | None:
        return mark(directory.path)

    def glance(self, directory: OwnerDirectory, *, unlocked: bool) -> sqlite3.Connection:
        return schema.glance(directory.path / INDEX, unlocked=unlocked)

    def close(self) -> None:
        self.registry.close()
        self._far.close()

    def _scan(self) -> Iterator[tuple[str, Owner]]:
        """Who holds which mailbox, as the indexes say that can be read."""
        for kind in KINDS:
            for path in self.layout.directories(kind):
                owner = _owner_at(kind, path)
                if owner is None or not (path / INDEX).exists():
                    continue
                with contextlib.suppress(CyrusSyncError, sqlite3.Error, OSError, UnicodeDecodeError):
                    yield from [(uniqueid, owner) for uniqueid in self._held(owner, path)]

    def _held(self, owner: Owner, path: Path) -> list[str]:
        with contextlib.closing(self.open_index(OwnerDirectory(owner, path, None))) as connection:
            rows = connection.execute("SELECT uniqueid FROM mailboxes WHERE deleted_at = 0").fetchall()
        return [uniqueid for (uniqueid,) in rows]

    # -- an owner's directory

    def find(self, owner: Owner, known: OwnerDirectory | None = None) -> OwnerDirectory | None:
        if known is not None and _is_there(known):
            return known
        if owner == SERVER:
            path = self.layout.directory(SERVER, "")
            found = path if (path / INDEX).exists() else None
        else:
            # Who goes to another partition may have been on neither when we came by: so two looks.
            found = self.layout.find(owner) or self.layout.find(owner)
        if found is None:
            return None
        try:
            return OwnerDirectory(owner, found, _version(found))
        except FileNotFoundError:
            return None

    def check_unknown(self, owner: Owner) -> bool:
        if owner == SERVER:
            self._check_gone(owner)
            return False
        if self._finish_making(owner) or self.moves.end(owner):
            return True
        for path in self.layout.places(owner):
            if (left := remains(path)) and self.layout.find(owner) is None:
                raise StoreCorrupt(f"index lost: {left}; mailstore reconstruct makes one from what is there")
        known = self.registry.held_by(owner)
        if known and any((_making(place) / INDEX).exists() for place in self.layout.places(owner)):
            return self._finish_making(owner)  # registered since we looked: he is about to be shown
        away = self.partitions.away()
        if self.layout.find(owner) is not None:
            return True
        if not away:
            self._check_gone(owner)
        if not known and not away:
            return False
        there = f"{len(known)} mailboxes are registered and no directory is there" if known else "not found"
        if away:
            raise PartitionAway(f"{there}: {'; '.join(away.values())}")
        raise StoreCorrupt(
            f"lost: {there}; put it back from a backup, or, if that is well, let sync_reset -f forget"
        )

    def _check_gone(self, owner: Owner) -> None:
        """Raises `MailboxLocked` where an owner who is not here may have gone into a fleet, and nobody asks
        there: this process was begun with ``store: local``. Of the server's annotations, which few have, what
        was set aside tells."""
        if self.is_part or not (self.layout.home / TO_FLEET).exists():
            return
        if owner == SERVER and not any(self.layout.home.glob(f".*-{self.layout.directory(SERVER, '').name}")):
            return
        raise MailboxLocked(
            "not on this machine, and may be in the fleet: imapd.conf has to say store: moving, or fleet, and"
            " this process to be started anew"
        ).at(user=str(owner))

    def open_index(self, directory: OwnerDirectory, *, held: bool = False) -> sqlite3.Connection:
        path = directory.path / INDEX
        try:
            return schema.connect(path, readonly=self.readonly)
        except schema.OldVersion:
            if self.readonly:
                raise
            with contextlib.nullcontext() if held else FileLock(directory.path / LOCK, timeout=60):
                schema.upgrade(path)
            return schema.connect(path, readonly=False)

    def reading(self, directory: OwnerDirectory) -> AbstractContextManager[object]:
        return _NOTHING

    def packs(self, directory: OwnerDirectory) -> NearAndFar:
        def find() -> Path | None:
            return self.whereabouts(directory.owner)

        return NearAndFar(PackFiles(directory.path, find), FarFiles(directory.path, self._far, find))

    def pack_writer(
        self, directory: OwnerDirectory, lengths: Mapping[int, int], *, new: bool = False
    ) -> PackWriter:
        return PackWriter(directory.path, lengths, apart=new)

    # -- changing an owner

    def hold(self, owner: Owner, timeout: float, known: OwnerDirectory | None = None) -> Hold | None:
        deadline = time.monotonic() + timeout
        directory = known or self.find(owner)
        if directory is None and self._await_making(owner, deadline):
            directory = self.find(owner)
        self.partitions.adopt()
        while directory is not None:
            try:
                lock = FileLock(directory.path / LOCK, max(deadline - time.monotonic(), 0))
            except (Gone, FileNotFoundError):
                directory = self.find(owner)
                continue
            try:
                now = self.find(owner, directory)  # another index may have come, or come while we waited
            except BaseException:
                lock.release()
                raise
            if now is not None and now.path == directory.path:
                return LocalHold(now, lock)
            lock.release()
            directory = now
        return None

    def make(self, owner: Owner, partition: str, *, large: bool = False) -> Hold:
        partition = self.check_partition(partition)
        make_directories(self.layout.home)
        with FileLock(self.layout.home / "create.lock", timeout=10):
            if (self.layout.home / TO_FLEET).exists():
                raise MailboxLocked(
                    "new users are made in the fleet: imapd.conf has to say store: moving, or fleet, and this"
                    " process to be started anew"
                ).at(user=str(owner))
            if self.find(owner) is not None or self.check_unknown(owner):
                raise MailboxLocked().at(user=str(owner))
            if owner != SERVER:
                if any(is_held(_making(place)) for place in self.layout.places(owner)):
                    raise MailboxLocked().at(user=str(owner))  # another makes him, on another partition
                self.partitions.check()
                self.partitions.mark(partition)
            path = _making(self.layout.directory(owner, partition))
            make_directories(path.parent, 0o700)
            path.mkdir(0o700, exist_ok=True)
            lock = FileLock(path / LOCK, timeout=0)
            try:
                for left in path.iterdir():
                    if left.name != LOCK:
                        left.unlink()
                schema.blank(path, large=large)
                return LocalHold(OwnerDirectory(owner, path, _version(path)), lock, made=True)
            except BaseException:
                lock.release()
                raise

    def blank(self, hold: Hold) -> sqlite3.Connection:
        return schema.building(hold.directory.path)

    def bring_in(self, made: Sequence[tuple[Hold, Grown]], note: Callable[[], None]) -> None:
        paths = [hold.directory.path for hold, _ in made]
        for path in paths:
            schema.seal(path)
        parents = list(dict.fromkeys(path.parent for path in paths))
        _sync_all(paths, with_files=True)
        _sync_all(parents, with_files=False)  # what the registry is told of is there after a crash
        note()
        for path in paths:
            _show(path)
        _sync_all(parents, with_files=False)

    def _await_making(self, owner: Owner, deadline: float) -> bool:
        """Wait while another process makes the owner; whether one did."""
        found = False
        for place in self.layout.places(owner) if owner != SERVER else [self.layout.directory(owner, "")]:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                path = _making(place)
                if path.is_dir():
                    found = True
                    with contextlib.suppress(Gone):
                        FileLock(path / LOCK, max(deadline - time.monotonic(), 0)).release()
        return found

    def _finish_making(self, owner: Owner) -> bool:
        """Show an owner that was complete and registered when a crash came. Whether there was one."""
        for place in self.layout.places(owner):
            path = _making(place)
            if self.readonly or not (path / INDEX).exists() or not self.registry.held_by(owner):
                continue
            with (
                contextlib.suppress(MailboxLocked, Gone, FileNotFoundError),
                FileLock(path / LOCK, timeout=0),
            ):
                if self.layout.find(owner) is None:
                    _show(path)
                    sync_directory(place.parent)
            return self.layout.find(owner) is not None
        return False

    def publish(self, hold: Hold, commit: Callable[[], Grown | None]) -> None:
        commit()

    def abandon(self, hold: Hold) -> None:
        if not hold.made:
            return
        making = hold.directory
        shown = making._replace(path=making.path.with_name(making.path.name.removeprefix(MAKING)))
        if _is_there(shown):
            self.remove(shown)
        elif _is_there(making):
            self.registry.forget(making.owner)
            shutil.rmtree(making.path)

    def remove(self, directory: OwnerDirectory) -> None:
        self.registry.forget(directory.owner)
        path = directory.path
        gone = path.with_name(f".removed-{os.getpid()}-{path.name}"[:255])
        path.rename(gone)
        sync_directory(gone.parent)
        shutil.rmtree(gone)

    def drop_packs(self, directory: OwnerDirectory, keep: Collection[int]) -> None:
        known = {name(number) for number in keep for name in (pack_name, far_name)}
        needless = [
            path
            for kind in ("pack-*.zst", "pack-*.far")
            for path in directory.path.glob(kind)
            if path.name not in known
        ]
        for path in needless:
            path.unlink(missing_ok=True)
        if needless:
            sync_directory(directory.path)

    # -- from one partition to another

    def begin_move(self, owner: Owner, partition: str, index: int, packs: int, *, to_new: bool) -> Arrival:
        self.partitions.check()
        if not to_new:
            self.partitions.check_marked(partition)
        self.partitions.mark(partition)
        top = self.layout.partitions[partition]
        old = self.layout.find(owner)
        one_disk = old is not None and old.stat().st_dev == top.stat().st_dev
        check_room(top, index if one_disk else index + packs)
        return self.moves.begin(owner, partition)

    def _is_registered(self, kind: str, encoded: str) -> bool:
        return any(one.kind == kind and encode_name(one.name) == encoded for one in self.registry.owners())

    # -- one whose index cannot be used

    def hold_remains(self, owner: Owner, timeout: float) -> Hold:
        places = [path for path in self.layout.places(owner) if path.is_dir()]
        found = [path for path in places if (path / INDEX).exists()] or [
            path for path in places if remains(path)
        ]
        if not found:
            raise StoreError("there is no directory of this owner, so there is nothing to reconstruct from")
        return LocalHold(OwnerDirectory(owner, found[0], None), FileLock(found[0] / LOCK, timeout))

    def partition_of(self, directory: OwnerDirectory) -> str:
        owner, path, _ = directory
        return next(name for name in self.layout.partitions if self.layout.directory(owner, name) == path)

    def set_aside(self, owner: Owner, timeout: float) -> list[Path]:
        aside = []
        for path in self.layout.places(owner):
            if not path.is_dir():
                if path.exists():
                    aside.append(_set_aside(path))
            elif remains(path):
                with FileLock(path / LOCK, timeout):
                    aside.append(_set_aside(path))
        self.registry.forget(owner)
        return aside


_TOGETHER = 8
"""So many directories are brought to disk with all else on it, instead of each singly."""


def _sync_all(directories: Sequence[Path], *, with_files: bool) -> None:
    """Bring directories to disk, and the files in them."""
    if len(directories) >= _TOGETHER:
        for path in {path.stat().st_dev: path for path in directories}.values():
            sync_disk(path)
        return
    for path in directories:
        for file in path.iterdir() if with_files else ():
            if file.name != LOCK:
                sync_file(file)
        sync_directory(path)


def _nowhere() -> FarReader:
    raise ConfigError("nothing says which")


def _making(place: Path) -> Path:
    """Where the owner of that place is built."""
    return place.with_name(MAKING + place.name)


def _show(path: Path) -> None:
    """Give a directory that is complete the name of its owner. What a crash of an older release has left
    there, which is nobody's, gives way."""
    place = path.with_name(path.name.removeprefix(MAKING))
    try:
        path.rename(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or remains(place):
            raise
        shutil.rmtree(place)
        path.rename(place)


def _version(path: Path) -> tuple[int, int]:
    """What tells the index in a directory from another that takes its place; raises FileNotFoundError."""
    found = os.stat(f"{path}/{INDEX}")  # noqa: PTH116 (at every use of an owner)
    return found.st_dev, found.st_ino


def directory_at(owner: Owner, path: Path) -> OwnerDirectory:
    """The owner's directory, where he is not in his place. FileNotFoundError."""
    return OwnerDirectory(owner, path, _version(path))


def _is_there(directory: OwnerDirectory) -> bool:
    """Whether the index there is still the one that was found."""
    try:
        return _version(directory.path) == directory.version
    except OSError:
        return False


def _owner_at(kind: str, path: Path) -> Owner | None:
    """Who lives in a directory; None where that cannot be known."""
    name = decode_name(path.name)
    if name is None:
        with (
            contextlib.suppress(CyrusSyncError, sqlite3.Error),
            contextlib.closing(schema.connect(path / INDEX, readonly=True)) as connection,
        ):
            row = connection.execute("SELECT name FROM owner").fetchone()
            name = row[0] if row else None
    return Owner(kind, name) if name else None


def _is_somebodys(path: Path) -> bool:
    """Whether a directory is an owner's, sound or not."""
    try:
        return (path / INDEX).exists() or bool(remains(path))
    except OSError:
        return True


def _set_aside(path: Path) -> Path:
    """Rename to what no owner's directory is called."""
    target = path.with_name(f".damaged-{time.strftime('%Y%m%dT%H%M%S')}-{path.name}"[:255])
    path.rename(target)
    sync_directory(path.parent)
    return target
