"""`NativeCare`: the care of a native store, one line a question. The answers are in the modules beside.

Each is loaded when it is asked for: most questions are an administrator's, and every client and server has
a care.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import (
    PATIENCE,
    Expired,
    Moved,
    OwnerStats,
    PackPieces,
    Photograph,
    Problem,
    Reconstructed,
    Registered,
    Removed,
    Scrubbed,
    Surveyed,
)
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.trouble import reporting

if TYPE_CHECKING:
    from cyrus_sync.common.stores.native.care.past import PastStore


class NativeCare:
    """`cyrus_sync.common.stores.care.StoreCare` of a `NativeStore`."""

    def __init__(self, store: NativeStore) -> None:
        self._store = store

    # -- of the whole

    def check(self) -> None:
        self._store.home.check()

    def tighten(self) -> int:
        return self._store.home.tighten()

    def staging(self) -> Path:
        try:
            return self._store.home.staging()
        except OSError as error:
            raise StoreError(f"cannot make {error.filename}: {error.strerror}") from error

    def scratch(self) -> Path:
        return self._store.home.notes

    def generations(self) -> dict[str, str]:
        return dict(self._store.home.generations())

    def put_generation(self, text: str) -> None:
        self._store.home.put_generation(text)

    def add_figures(self, sheet: Sheet) -> None:
        self._store.home.add_figures(sheet)

    def everybody(self) -> list[Owner]:
        return self._store.home.everybody()

    def survey(self) -> Iterator[Surveyed]:
        from cyrus_sync.common.stores.native.care.stats import survey

        return survey(self._store)

    def expirable(self, retention: int, *, compact: bool = True) -> Iterator[Owner]:
        from cyrus_sync.common.stores.native.care.expire import expirable

        return expirable(self._store, retention, compact=compact)

    def problems(self) -> Iterator[Problem]:
        from cyrus_sync.common.stores.native.care.verify import verify_store

        return verify_store(self._store)

    def rebuild_registry(self) -> Registered:
        from cyrus_sync.common.stores.native.care.verify import rebuild_registry

        return rebuild_registry(self._store)

    def sweep(self, stop: threading.Event | None = None) -> list[Owner]:
        from cyrus_sync.common.stores.native.care.sweep import sweep

        return sweep(self._store, stop)

    def as_of(self, moment: int) -> PastStore:
        from cyrus_sync.common.stores.native.care.past import PastStore

        return PastStore(self._store, moment)

    # -- of one owner

    def is_stored(self, owner: Owner) -> bool:
        return self._store.directory_of(owner) is not None

    def partition_of(self, owner: Owner) -> str | None:
        with reporting(owner):
            directory = self._store.find(owner)
            return None if directory is None else self._store.home.partition_of(directory)

    def stats(self, owner: Owner) -> OwnerStats | None:
        from cyrus_sync.common.stores.native.care.stats import stats

        return stats(self._store, owner)

    def verify(self, owner: Owner, *, messages: bool = True, far: bool = True) -> Iterator[Problem]:
        from cyrus_sync.common.stores.native.care.verify import verify

        return verify(self._store, owner, messages=messages, far=far)

    def verify_messages(self, owner: Owner, after: str, octets: int, *, far: bool = True) -> Scrubbed:
        from cyrus_sync.common.stores.native.care.verify import verify_messages

        return verify_messages(self._store, owner, after, octets, far=far)

    def recount(self, owner: Owner) -> int:
        from cyrus_sync.common.stores.native.care.verify import recount

        return recount(self._store, owner, PATIENCE)

    def expire(self, owner: Owner, retention: int, *, compact: bool = True) -> Expired:
        from cyrus_sync.common.stores.native.care.expire import expire

        return expire(self._store, owner, retention, compact=compact, timeout=PATIENCE)

    def removed(self, owner: Owner) -> list[Removed]:
        from cyrus_sync.common.stores.native.care.removed import removed_boxes

        with self._store.transaction(owner, create=False, timeout=PATIENCE) as transaction:
            return removed_boxes(transaction)

    def undelete(self, owner: Owner, number: int, name: str) -> MailboxState:
        from cyrus_sync.common.stores.native.care.removed import undelete

        with self._store.transaction(owner, create=False, timeout=PATIENCE) as transaction:
            return undelete(transaction, number, name)

    def rename_user(self, old: str, new: str) -> None:
        from cyrus_sync.common.stores.native.care.rename import rename_user

        rename_user(self._store, old, new, timeout=PATIENCE)

    def move(self, owner: Owner, partition: str, told: Callable[[int], object]) -> Moved | None:
        from cyrus_sync.common.stores.native.care.move import move

        return move(self._store, owner, partition, PATIENCE, told)

    def clear_moves(self) -> Iterator[Path]:
        try:
            yield from self._store.home.clear_moves()
        except OSError as error:
            raise StoreError(f"{error.filename}: {error.strerror}") from error

    # -- copies of an owner

    def stamp(self, owner: Owner) -> str:
        from cyrus_sync.common.stores.native.care.photograph import stamp

        return stamp(self._store, owner)

    def photograph(self, owner: Owner, index: Path) -> AbstractContextManager[Photograph | None]:
        from cyrus_sync.common.stores.native.care.photograph import photograph

        return photograph(self._store, owner, index)

    def turn_back(self, index: Path, moment: int) -> None:
        from cyrus_sync.common.stores.native.care.past import turn_back

        turn_back(index, moment)

    def put_back(self, owner: Owner, index: Path, packs: Mapping[int, PackPieces], partition: str) -> None:
        from cyrus_sync.common.stores.native.care.photograph import put_back

        put_back(self._store, owner, index, packs, partition)

    # -- of one who is damaged or lost

    def is_unusable(self, owner: Owner) -> bool:
        from cyrus_sync.common.stores.native.care.lost import is_unusable

        return is_unusable(self._store, owner)

    def give_up(self, owner: Owner) -> list[Path]:
        from cyrus_sync.common.stores.native.care.lost import give_up

        return give_up(self._store, owner, PATIENCE)

    def reconstruct(self, owner: Owner, *, dry_run: bool = False) -> Reconstructed:
        from cyrus_sync.common.stores.native.care.reconstruct import reconstruct

        return reconstruct(self._store, owner, dry_run=dry_run, timeout=PATIENCE)
