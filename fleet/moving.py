"""Bringing owners from the partitions of a machine into the fleet, and back.

An owner is held where it comes from until it is where it goes. It is complete there before it goes here: a
move that was cut off leaves it in both places, and is ended by the same command. The directory from which an
owner came is not deleted: it gets another name, and stands beside its place until somebody removes it.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.files import sync_directory
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.native.layout import INDEX
from cyrus_sync.common.stores.native.local_home import LocalHome
from cyrus_sync.common.stores.native.summary import summarise
from cyrus_sync.fleet.cache import immutable, pack_lengths
from cyrus_sync.fleet.delta import encode_whole
from cyrus_sync.fleet.farpacks import FarPacks
from cyrus_sync.fleet.home import FleetHome
from cyrus_sync.fleet.journal import Newcomer, new_head
from cyrus_sync.fleet.outgoing import Outgoing, new_place


def move_in(local: LocalHome, fleet: FleetHome, owner: Owner, timeout: float) -> Path:
    """Bring an owner of this machine into the fleet; where its directory is now. Raises `StoreError` where
    there is none, or the fleet has another one of that name; `MailboxLocked`, `Away`."""
    hold = local.hold(owner, timeout)
    if hold is None:
        raise StoreError("not stored on this machine").at(user=str(owner))
    with contextlib.closing(hold), tempfile.TemporaryDirectory(prefix="cyrus-sync-move.") as scratch:
        if any(hold.directory.path.glob("pack-*.far")):
            raise StoreError(
                "some packs are in an object store already: mailstore tier --back brings them here first"
            ).at(user=str(owner))
        index = Path(scratch) / INDEX
        with contextlib.closing(local.open_index(hold.directory, held=True)) as source:
            _copy(source, index)
        if fleet.journal.head(owner) is None:
            _bring(fleet, owner, hold.directory.path, index, _partition(local, owner, hold.directory.path))
        elif _digest(fleet, owner) != _digest_of(index, owner):
            raise StoreError("the fleet has another one of this name: rename or delete one of them first").at(
                user=str(owner)
            )
        local.registry.forget(owner)
        path = hold.directory.path
        aside = path.with_name(f".in-fleet-{time.strftime('%Y%m%dT%H%M%S')}-{path.name}"[:255])
        path.rename(aside)
        sync_directory(path.parent)
        return aside


def _bring(fleet: FleetHome, owner: Owner, packs: Path, index: Path, partition: str) -> None:
    place = new_place(owner)
    outgoing = Outgoing(packs, fleet.objects, place, 1)
    outgoing.take({pack: (0, length) for pack, length in pack_lengths(index).items() if length})
    data = outgoing.behind(encode_whole(index))
    with fleet.registry.tentative([owner]):
        fleet.registry.note([(uniqueid, owner) for uniqueid in _uniqueids(index)], owner)
        fleet.journal.found([Newcomer(owner, new_head(), partition, place, outgoing.pieces, data)])


def move_out(fleet: FleetHome, local: LocalHome, owner: Owner, timeout: float) -> Path:
    """Bring an owner of the fleet to this machine; where it is now. Raises `StoreError` where there is none,
    or this machine has one of that name; `MailboxLocked`, `Away`."""
    hold = fleet.hold(owner, timeout)
    if hold is None:
        raise StoreError("not stored in the fleet").at(user=str(owner))
    with contextlib.closing(hold):
        image = fleet.cached(owner).image.path
        found = local.find(owner)
        if found is None:
            found_now = _make(local, fleet, owner, image)
        elif _digest_here(local, owner) == _digest_of(image, owner):
            found_now = found.path  # a move that was cut off
        else:
            raise StoreError("this machine has another one of this name").at(user=str(owner))
        fleet.remove(hold.directory)
        return found_now


def _make(local: LocalHome, fleet: FleetHome, owner: Owner, image: Path) -> Path:
    head = fleet.journal.head(owner)
    partition = head.partition if head is not None else ""
    made = local.make(owner, partition if partition in local.layout.partitions else "")
    try:
        path = made.directory.path
        shutil.copyfile(image, path / INDEX)
        FarPacks(owner, fleet.journal, fleet.objects, fleet.tallies).fetch_all(path)
        lengths = pack_lengths(path / INDEX)
        uniqueids = _uniqueids(path / INDEX)
        grown = {pack: (0, length) for pack, length in lengths.items() if length}
        local.bring_in(
            [(made, grown)],
            lambda: local.registry.note([(uniqueid, owner) for uniqueid in uniqueids], owner),
        )
    except BaseException:
        made.close()
        with contextlib.suppress(OSError):
            local.abandon(made)
        raise
    made.close()
    found = local.find(owner)
    if found is None:
        raise MailboxLocked().at(user=str(owner))
    return found.path


def everybody_here(local: LocalHome) -> list[Owner]:
    """Whoever has a directory on this machine, the server's annotations too."""
    with_server = [SERVER] if local.find(SERVER) is not None else []
    return [owner for owner in [*with_server, *local.everybody()] if local.find(owner) is not None]


def _copy(source: sqlite3.Connection, target: Path) -> None:
    with contextlib.closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def _uniqueids(index: Path) -> Iterable[str]:
    with contextlib.closing(immutable(index)) as connection:
        rows = connection.execute("SELECT uniqueid FROM mailboxes WHERE deleted_at = 0").fetchall()
    return [uniqueid for (uniqueid,) in rows]


def _digest_of(index: Path, owner: Owner) -> object:
    with contextlib.closing(immutable(index)) as connection:
        return summarise(owner, connection)


def _digest(fleet: FleetHome, owner: Owner) -> object:
    found = fleet.find(owner)
    assert found is not None
    return _digest_of(fleet.cached(owner).image.path, owner)


def _digest_here(local: LocalHome, owner: Owner) -> object:
    found = local.find(owner)
    assert found is not None
    with contextlib.closing(local.open_index(found)) as connection:
        return summarise(owner, connection)


def _partition(local: LocalHome, owner: Owner, path: Path) -> str:
    if owner == SERVER:
        return local.layout.defaultpartition
    return next(name for name in local.layout.partitions if local.layout.directory(owner, name) == path)
