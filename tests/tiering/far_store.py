"""A store whose packs go to the object store as soon as nobody holds their owner."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cyrus_sync.common.errors import MailboxLocked, ObjectsUnavailable
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.native.homes import Hold, OwnerDirectory
from cyrus_sync.common.stores.native.layout import Layout
from cyrus_sync.common.stores.native.local_home import LocalHome
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.objects.directory import DirectoryObjects
from cyrus_sync.objects.store import Content, ObjectStore, Put
from cyrus_sync.tiering.cache import BlockCache
from cyrus_sync.tiering.ledger import Ledger
from cyrus_sync.tiering.opening import Tiering
from cyrus_sync.tiering.reading import BlockReader
from tests.common.stores.tools import Clock, layout_in

CACHE = 4 << 20


def objects_at(path: Path) -> DirectoryObjects:
    """A mounted disk."""
    (path / "objects").mkdir(parents=True, exist_ok=True)
    return DirectoryObjects(path / "objects")


def reader_of(path: Path, objects: ObjectStore, most: int = CACHE) -> BlockReader:
    return BlockReader(objects, BlockCache(path / "cache", most))


def store_at(path: Path, objects: ObjectStore, *, cache: int = CACHE, **more: Any) -> NativeStore:
    """A store that reads far packs from `objects`."""
    home = LocalHome(layout_in(path), far=reader_of(path, objects, cache))
    return NativeStore(home, clock=more.pop("clock", Clock()), **more)


def tiering_at(path: Path, objects: ObjectStore, *, clock: Callable[[], float] | None = None) -> Tiering:
    """As another process that looks after it; every pack is large enough. To be closed."""
    return tiering_of(layout_in(path), objects, clock=clock or time.time)


def tiering_of(layout: Layout, objects: ObjectStore, *, clock: Callable[[], float] = time.time) -> Tiering:
    far = reader_of(layout.home, objects)
    store = NativeStore(LocalHome(layout, far=far), clock=Clock())
    return Tiering(store, layout, objects, Ledger(layout.home), smallest=1, clock=clock)


class Unsure(DirectoryObjects):
    """An object store that may be away."""

    away = False

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        self._check()
        return super().get_range(key, offset, length)

    def size(self, key: str) -> int:
        self._check()
        return super().size(key)

    def put(self, key: str, content: Content, *, check: bool = False) -> Put:
        self._check()
        return super().put(key, content, check=check)

    def _check(self) -> None:
        if self.away:
            raise ObjectsUnavailable(f"{self.place}: no answer")


class _Tiering:
    """A hold after which all packs go."""

    def __init__(self, hold: Hold, go: Callable[[Owner], None]) -> None:
        self._hold = hold
        self._go = go

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hold, name)

    def close(self) -> None:
        self._hold.close()
        self._go(self._hold.directory.owner)


class FarHome(LocalHome):
    """Where nothing stays near."""

    def __init__(self, path: Path) -> None:
        objects = objects_at(path)
        super().__init__(layout_in(path), far=reader_of(path, objects))
        self._tiering = tiering_at(path, objects)

    def hold(self, owner: Owner, timeout: float, known: OwnerDirectory | None = None) -> Hold | None:
        found = super().hold(owner, timeout, known)
        return None if found is None else _Tiering(found, self._send)

    def make(self, owner: Owner, partition: str, *, large: bool = False) -> Hold:
        return _Tiering(super().make(owner, partition, large=large), self._send)

    def _send(self, owner: Owner) -> None:
        if owner != SERVER:
            with contextlib.suppress(MailboxLocked):
                self._tiering.carrier.send(owner, -(10**10))

    def close(self) -> None:
        super().close()
        self._tiering.close()
