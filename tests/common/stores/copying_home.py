"""`CopyingHome`: a home whose directories are copies. What counts is in a `Vault`, also of a new commit.
Several nodes, each with a cache of its own, work on one vault.

Made to show that a store knows nothing of where its owners are. It is as simple as it can be: every commit
carries the whole index.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cyrus_sync.common.errors import MailboxLocked, PartitionUnknown, StoreCorrupt, StoreError
from cyrus_sync.common.files import tighten_all
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.mailstore import StaleOwner
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.homes import Arrival, Grown, Hold, OwnerDirectory, Stamp
from cyrus_sync.common.stores.native.layout import INDEX, KINDS, decode_name, encode_name, pack_name
from cyrus_sync.common.stores.native.locks import FileLock
from cyrus_sync.common.stores.native.packs import PackFiles, PackWriter
from cyrus_sync.common.stores.native.registry import Registry

PARTITIONS = ("default", "other")


class Vault:
    """What counts of every owner: a head that changes with each commit, index, packs, partition."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ranges: list[tuple[int, int, int]] = []
        """What was read of packs: (pack, offset, length)."""

    def place(self, owner: Owner) -> Path:
        return self.directory / f"{owner.kind}-{encode_name(owner.name)}"

    def head(self, owner: Owner) -> str | None:
        try:
            return (self.place(owner) / "head").read_text()
        except FileNotFoundError:
            return None

    def partition(self, owner: Owner) -> str:
        return (self.place(owner) / "partition").read_text()

    def owners(self) -> list[Owner]:
        found = []
        for path in self.directory.glob("*/head"):
            kind, _, name = path.parent.name.partition("-")
            if kind in (*KINDS, SERVER.kind) and (decoded := decode_name(name)) is not None:
                found.append(Owner(kind, decoded))
        return found

    def swap(self, copy: Copy, index: Path, grown: Grown) -> str:
        """Compare and swap: the new head. `StaleOwner` if the head is not that of the copy any more."""
        owner, packs, _ = copy.directory
        old = copy.head
        with FileLock(self.directory / "lock", timeout=10):
            if self.head(owner) != old:
                raise StaleOwner()
            place, new = self.place(owner), secrets.token_hex(8)
            place.mkdir(exist_ok=True)
            for number, (start, end) in grown.items():
                data = (packs / pack_name(number)).read_bytes()[start:end]
                with (place / pack_name(number)).open("r+b" if start else "wb") as file:
                    file.seek(start)
                    file.write(data)
            shutil.copyfile(index, place / f"{new}.sqlite")
            (place / "partition").write_text(copy.partition)
            (place / "head.new").write_text(new)
            (place / "head.new").replace(place / "head")
            if old:
                (place / f"{old}.sqlite").unlink()
            return new

    def fetch(self, owner: Owner, directory: Path) -> str | None:
        """Copy the index into `directory`; its head."""
        with FileLock(self.directory / "lock", timeout=10):
            head = self.head(owner)
            if head is not None:
                directory.mkdir(parents=True)
                shutil.copyfile(self.place(owner) / f"{head}.sqlite", directory / INDEX)
        return head

    def remove(self, owner: Owner) -> None:
        shutil.rmtree(self.place(owner), ignore_errors=True)


class VaultPacks:
    """Octets of packs: what the copy has is read there, all else by range from the vault."""

    def __init__(self, vault: Vault, directory: OwnerDirectory) -> None:
        self._vault = vault
        self._directory = directory
        self._near = PackFiles(directory.path)
        self._far = PackFiles(vault.place(directory.owner))

    def read(self, pack: int, offset: int, length: int) -> bytes:
        with contextlib.suppress(FileNotFoundError):
            data = self._near.read(pack, offset, length)
            if len(data) == length:
                return data
        self._vault.ranges.append((pack, offset, length))
        return self._far.read(pack, offset, length)

    def size(self, pack: int) -> int:
        with contextlib.suppress(FileNotFoundError):
            return self._far.size(pack)
        return self._near.size(pack)

    def is_near(self, pack: int) -> bool:
        return True

    def again(self) -> VaultPacks:
        return VaultPacks(self._vault, self._directory)

    def name(self, pack: int) -> str:
        return self._far.name(pack)

    def close(self) -> None:
        self._near.close()
        self._far.close()


@dataclass
class Copy:
    """An owner's directory on this node, and the head that it was copied from; None: he is new."""

    directory: OwnerDirectory
    head: str | None
    partition: str


@dataclass
class CopyHold:
    copy: Copy
    lock: FileLock

    @property
    def directory(self) -> OwnerDirectory:
        return self.copy.directory

    @property
    def made(self) -> bool:
        return self.copy.head is None

    def close(self) -> None:
        self.lock.release()


class CopyingHome:
    """One node (`homes.OwnerHome`). Only one process may have its cache."""

    def __init__(self, vault: Vault, cache: Path, *, readonly: bool = False) -> None:
        self.vault = vault
        self.cache = cache
        self.readonly = readonly
        self.partitions_are_places = False
        self.notes = cache / "notes"
        self.registry = Registry(vault.directory / "registry.sqlite", lambda: (), readonly=readonly)
        self._copies: dict[Owner, Copy] = {}
        self._gates: defaultdict[Owner, threading.RLock] = defaultdict(threading.RLock)
        self._number = 0
        cache.mkdir(parents=True, exist_ok=True)

    # -- the whole

    def check(self) -> None:
        pass

    def away(self) -> Mapping[str, str]:
        return {}

    def check_partition(self, partition: str) -> str:
        if partition and partition not in PARTITIONS:
            raise PartitionUnknown(f"Unknown/invalid partition {partition[:80]!r}")
        return partition or PARTITIONS[0]

    def tighten(self) -> int:
        return tighten_all(self.cache)

    def staging(self) -> Path:
        path = self.cache / "staging"
        path.mkdir(exist_ok=True)
        return path

    def generations(self) -> dict[str, str]:
        path = self._vault.directory / "generation"
        return {"vault": path.read_text(encoding="utf-8") if path.exists() else ""}

    def put_generation(self, text: str) -> None:
        (self._vault.directory / "generation").write_text(text, encoding="utf-8")

    def add_figures(self, sheet: Sheet) -> None:
        pass

    def everybody(self) -> list[Owner]:
        found = {*self.vault.owners(), *self.registry.owners()}
        return [owner for kind in KINDS for owner in sorted(found) if owner.kind == kind]

    def userids(self) -> list[str]:
        return sorted(owner.name for owner in self.vault.owners() if owner.kind == "user")

    def close(self) -> None:
        self.registry.close()

    # -- an owner's directory

    def find(self, owner: Owner, known: OwnerDirectory | None = None) -> OwnerDirectory | None:
        copy = self._copy(owner)
        return copy.directory if copy else None

    def _copy(self, owner: Owner) -> Copy | None:
        with self._gates[owner]:
            head, copy = self.vault.head(owner), self._copies.get(owner)
            if copy is None or copy.head != head:
                self._copies.pop(owner, None)
                copy = self._fetch(owner) if head else None
            return copy

    def _fetch(self, owner: Owner) -> Copy | None:
        path = self._place(owner)
        head = self.vault.fetch(owner, path)
        if head is None:
            return None
        copy = Copy(OwnerDirectory(owner, path, path), head, self.vault.partition(owner))
        self._copies[owner] = copy
        return copy

    def _place(self, owner: Owner) -> Path:
        """A place for a new copy; an old one stays for whoever is still reading there."""
        self._number += 1
        return self.cache / f"{owner.kind}-{encode_name(owner.name)}" / str(self._number)

    def stamps(self) -> Mapping[Owner, Stamp]:
        return {}

    def stamp(self, directory: OwnerDirectory) -> Stamp | None:
        return None

    def mark(self, directory: OwnerDirectory) -> Stamp | None:
        return None

    def glance(self, directory: OwnerDirectory, *, unlocked: bool) -> sqlite3.Connection:
        return schema.glance(directory.path / INDEX, unlocked=unlocked)

    def check_unknown(self, owner: Owner) -> bool:
        if owner != SERVER and self.registry.held_by(owner) and self.vault.head(owner) is None:
            raise StoreCorrupt("lost: mailboxes are registered and nothing is in the vault")
        return False

    def open_index(self, directory: OwnerDirectory, *, held: bool = False) -> sqlite3.Connection:
        connection = schema.connect(directory.path / INDEX, readonly=self.readonly)
        connection.execute("PRAGMA synchronous = OFF")  # a copy need not outlive a power cut
        return connection

    def reading(self, directory: OwnerDirectory) -> AbstractContextManager[object]:
        return self._gates[directory.owner]

    def packs(self, directory: OwnerDirectory) -> VaultPacks:
        return VaultPacks(self.vault, directory)

    def pack_writer(
        self, directory: OwnerDirectory, lengths: Mapping[int, int], *, new: bool = False
    ) -> PackWriter:
        if lengths:
            self._bring_pack(directory, max(lengths))
        return PackWriter(directory.path, lengths, apart=new)

    def _bring_pack(self, directory: OwnerDirectory, number: int) -> None:
        """The pack that is appended to has to be here."""
        path = directory.path / pack_name(number)
        there = self.vault.place(directory.owner) / pack_name(number)
        if there.exists() and not path.exists():
            shutil.copyfile(there, path)

    # -- changing an owner

    def hold(self, owner: Owner, timeout: float, known: OwnerDirectory | None = None) -> Hold | None:
        if self.vault.head(owner) is None:
            return None
        lock = self._lock(owner, timeout)
        copy = self._copy(owner)
        if copy is None:
            lock.release()
            return None
        return CopyHold(copy, lock)

    def _lock(self, owner: Owner, timeout: float) -> FileLock:
        return FileLock(self.cache / f"{owner.kind}-{encode_name(owner.name)}.lock", timeout)

    def make(self, owner: Owner, partition: str, *, large: bool = False) -> Hold:
        partition = self.check_partition(partition)
        self.check_unknown(owner)
        lock = self._lock(owner, 0)
        if self.vault.head(owner) is not None:
            lock.release()
            raise MailboxLocked()
        path = self._place(owner)
        path.mkdir(parents=True)
        schema.blank(path, large=large)
        return CopyHold(Copy(OwnerDirectory(owner, path, path), None, partition), lock)

    def blank(self, hold: Hold) -> sqlite3.Connection:
        return schema.building(hold.directory.path)

    def bring_in(self, made: Sequence[tuple[Hold, Grown]], note: Callable[[], None]) -> None:
        note()
        for hold, grown in made:
            schema.seal(hold.directory.path)
            self.publish(hold, partial(dict, grown))

    def publish(self, hold: Hold, commit: Callable[[], Grown | None]) -> None:
        assert isinstance(hold, CopyHold)
        copy, owner = hold.copy, hold.directory.owner
        with self._gates[owner]:
            grown = commit()
            if grown is None:
                return
            snapshot = copy.directory.path / "snapshot"
            with (
                contextlib.closing(sqlite3.connect(copy.directory.path / INDEX)) as source,
                contextlib.closing(sqlite3.connect(snapshot)) as target,
            ):
                source.backup(target)
            copy.head = self.vault.swap(copy, snapshot, grown)
            snapshot.unlink()
            self._copies[owner] = copy

    def abandon(self, hold: Hold) -> None:
        owner = hold.directory.owner
        self._copies.pop(owner, None)
        if self.vault.head(owner) is None:
            self.registry.forget(owner)

    def remove(self, directory: OwnerDirectory) -> None:
        self.registry.forget(directory.owner)
        self._copies.pop(directory.owner, None)
        self.vault.remove(directory.owner)

    def drop_packs(self, directory: OwnerDirectory, keep: Collection[int]) -> None:
        known = {pack_name(number) for number in keep}
        for place in (directory.path, self.vault.place(directory.owner)):
            for path in place.glob("pack-*.zst"):
                if path.name not in known:
                    path.unlink()

    # -- from one partition to another: partitions are names

    def begin_move(self, owner: Owner, partition: str, index: int, packs: int, *, to_new: bool) -> Arrival:
        raise AssertionError("nobody is on a partition")

    def moves_left(self) -> list[Path]:
        return []

    def clear_moves(self) -> Iterator[Path]:
        return iter(())

    def clear_moves_of(self, owner: Owner) -> bool:
        return False

    # -- one whose index cannot be used

    def hold_remains(self, owner: Owner, timeout: float) -> Hold:
        hold = self.hold(owner, timeout)
        if hold is None:
            raise StoreError("nothing is in the vault")
        for path in self.vault.place(owner).glob("pack-*.zst"):
            shutil.copyfile(path, hold.directory.path / path.name)
        return hold

    def partition_of(self, directory: OwnerDirectory) -> str:
        return self.vault.partition(directory.owner)

    def set_aside(self, owner: Owner, timeout: float) -> Iterator[Path]:
        place = self.vault.place(owner)
        aside = place.with_name(f"aside-{place.name}")
        if place.exists():
            place.rename(aside)
            yield aside
        self.registry.forget(owner)
