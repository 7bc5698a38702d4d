"""`FleetHome`: owners whose directories are copies (`native.homes.OwnerHome`). PostgreSQL says what counts.

A change: the owner's lock on this node, a look whether the copy is up to date, the verbs on the copy, then
`publishing`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cyrus_sync.common.errors import MailboxLocked, PartitionUnknown, StoreCorrupt, StoreError
from cyrus_sync.common.files import make_directories, tighten_all
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.mailstore import StaleOwner
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.homes import UNCOUNTED, Arrival, Grown, Hold, OwnerDirectory, Stamp
from cyrus_sync.common.stores.native.layout import INDEX, KINDS, pack_name
from cyrus_sync.common.stores.native.locks import FileLock
from cyrus_sync.common.stores.native.nearfar import NearAndFar
from cyrus_sync.common.stores.native.packs import PackWriter
from cyrus_sync.fleet.cache import CachedOwner, Phase, State, cached_owner, directory_of, new_state
from cyrus_sync.fleet.claims import Claims
from cyrus_sync.fleet.counted import CountedObjects
from cyrus_sync.fleet.delta import encode_whole
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.farpacks import FarPacks, near_and_far
from cyrus_sync.fleet.figures import FleetFigures
from cyrus_sync.fleet.finding import Head
from cyrus_sync.fleet.holders import HoldersInPostgres
from cyrus_sync.fleet.holding import FleetHold, Held, Holds
from cyrus_sync.fleet.journal import Journal, Newcomer, new_head
from cyrus_sync.fleet.outgoing import Outgoing, new_place
from cyrus_sync.fleet.publishing import PATIENCE, Publishing
from cyrus_sync.fleet.refresh import Refresh
from cyrus_sync.fleet.servers import Servers, Unnamed
from cyrus_sync.fleet.tallies import TALLIES, Tallies
from cyrus_sync.fleet.wal import Position
from cyrus_sync.objects.store import ObjectStore


class FleetHome:
    """One node, which may be several processes."""

    def __init__(
        self,
        servers: Servers,
        objects: ObjectStore,
        cache: Path,
        *,
        notes: Path,
        partitions: Collection[str] = ("default",),
        defaultpartition: str = "default",
        readonly: bool = False,
        machine: Callable[[], str] = lambda: "",
    ) -> None:
        """`cache` is this node's own. `notes`: hints of this machine. `machine`: its word for itself, if
        owners in its partitions count (`claims`)."""
        self.journal = Journal(servers, machine)
        self.claims = Claims(servers, machine)
        self.registry = HoldersInPostgres(servers)
        self.readonly = readonly
        self.notes = notes
        self.cache = cache
        self.tallies = Tallies(cache / TALLIES)
        self.objects: ObjectStore = CountedObjects(objects, self.tallies)
        self.servers = servers
        self._figures: FleetFigures | None = None
        self.partitions_are_places = False
        self._partitions = frozenset(partitions)
        self._default = defaultpartition
        self._held = Holds()
        self._noted = False
        self._publishing = Publishing(self.journal, self.objects, self.tallies)

    # -- the whole

    def check(self) -> None:
        """`Misfit` where the servers are not those of this fleet. One that is away may come."""
        with contextlib.suppress(Away):
            self.journal.generations()

    def away(self) -> Mapping[str, str]:
        return {}

    def check_partition(self, partition: str) -> str:
        if partition and partition not in self._partitions:
            raise PartitionUnknown(f"Unknown/invalid partition {partition[:80]!r}")
        return partition or self._default

    def tighten(self) -> int:
        return tighten_all(self.cache) + tighten_all(self.notes)

    def staging(self) -> Path:
        path = self.cache / "sync."
        make_directories(path)
        return path

    def generations(self) -> Mapping[str, str]:
        return {f"postgresql {number}": text for number, text in enumerate(self.journal.generations(), 1)}

    def put_generation(self, text: str) -> None:
        self.journal.put_generation(text)

    def everybody(self) -> list[Owner]:
        found = sorted({*self.journal.owners(), *self.registry.owners()})
        return [owner for kind in KINDS for owner in found if owner.kind == kind]

    def userids(self) -> list[str]:
        return sorted(owner.name for owner in self.journal.owners() if owner.kind == "user")

    def add_figures(self, sheet: Sheet) -> None:
        if self._figures is None:
            self._figures = FleetFigures(self.servers, self.tallies, self.cache)
        self._figures.add(sheet)

    def close(self) -> None:
        self.tallies.add_up()
        if self._figures is not None:
            self._figures.close()
        self.journal.close()
        self.objects.close()

    # -- an owner's directory

    def cached(self, owner: Owner) -> CachedOwner:
        """Where this node has the owner."""
        return cached_owner(self.cache, owner)

    def find(self, owner: Owner, known: OwnerDirectory | None = None) -> OwnerDirectory | None:
        if (mine := self._held.mine(owner)) is not None:
            return mine.directory
        cached = self.cached(owner)
        if known is None:
            cached.touch()
        for _ in range(2):  # a commit of this node may come between the two answers
            try:
                head = self.journal.head(owner)
            except Unnamed:
                raise  # other nodes can tell: what this one has seen last is not to be believed
            except Away:
                state = cached.state(PATIENCE)
                if state is None or state.phase is not Phase.CLEAN:
                    raise
                return _found(owner, cached, state, known)
            if head is None:
                return None
            state = cached.state(PATIENCE)
            if state is not None and state.is_of(head):
                self.tallies.count("copies current")
                return _found(owner, cached, state, known)
        with cached.lock(PATIENCE):
            refreshed = self._refresh(owner, cached, head)
        return _found(owner, cached, refreshed[0], known) if refreshed else None

    def _refresh(self, owner: Owner, cached: CachedOwner, head: Head | None) -> tuple[State, Head] | None:
        if not self._noted:
            make_directories(self.notes)  # there once anything is stored, here or elsewhere
            self._noted = True
        return Refresh(owner, cached, self.journal, self.objects, self.tallies).run(PATIENCE, head)

    def stamps(self) -> Mapping[Owner, Stamp]:
        return {owner: self._stamp(owner, head) for owner, head in self.journal.heads().items()}

    def stamp(self, directory: OwnerDirectory) -> Stamp | None:
        mine = self._held.mine(directory.owner)
        head = mine.held.head if mine is not None else self.journal.head(directory.owner)
        return self._stamp(directory.owner, head) if head is not None else None

    def mark(self, directory: OwnerDirectory) -> Stamp | None:
        return self.stamp(directory)

    def _stamp(self, owner: Owner, head: Head) -> Stamp:
        """A head is of one state alone, so it is a stamp. Files are counted by nobody."""
        return Stamp(directory_of(self.cache, owner), f"{head.id}.{head.head}", True, False, 0, UNCOUNTED)

    def glance(self, directory: OwnerDirectory, *, unlocked: bool) -> sqlite3.Connection:
        found = self.find(directory.owner)
        if found is None:
            raise StoreError("not stored")
        with self.reading(found):
            try:
                return schema.glance(found.path / INDEX, unlocked=False)
            except schema.OldVersion:
                connection = schema.connect(found.path / INDEX, readonly=True)
                connection.execute("BEGIN")
                return connection

    def check_unknown(self, owner: Owner) -> bool:
        if owner != SERVER and self.registry.was_there(owner) and self.journal.head(owner) is None:
            raise StoreCorrupt(
                "lost: mailboxes are registered and PostgreSQL has nothing else of the owner; put it back"
                " from a backup, or, if that is well, let sync_reset -f forget"
            )
        return False

    def open_index(self, directory: OwnerDirectory, *, held: bool = False) -> sqlite3.Connection:
        """An index of an older format is read as it is. Who holds the owner has one of the present format."""
        path = directory.path / INDEX
        try:
            connection = schema.connect(path, readonly=False)
        except schema.OldVersion:
            if held:
                raise
            return schema.connect(path, readonly=True)
        connection.execute("PRAGMA synchronous = OFF")  # a copy need not outlive a power cut
        connection.execute("PRAGMA wal_autocheckpoint = 0")  # what was changed is read out of the log
        return connection

    @contextmanager
    def reading(self, directory: OwnerDirectory) -> Iterator[None]:
        try:
            with self.cached(directory.owner).gate(closed=False, timeout=PATIENCE) as gate:
                state = gate.state
                if state is None or state.phase is not Phase.CLEAN or state.generation != directory.version:
                    raise StaleOwner()
                yield
        except FileNotFoundError as error:
            raise StaleOwner() from error

    def packs(self, directory: OwnerDirectory) -> NearAndFar:
        cached = self.cached(directory.owner)
        return near_and_far(directory.owner, cached, self.journal, self.objects, self.tallies)

    def pack_writer(
        self, directory: OwnerDirectory, lengths: Mapping[int, int], *, new: bool = False
    ) -> PackWriter:
        packs = self.cached(directory.owner).packs
        last = max(lengths, default=0)
        if _octets(packs / pack_name(last)) < max(lengths.get(last, 0), 1):
            packs.mkdir(0o700, exist_ok=True)
            if last:
                lengths = {**lengths, last: 0}  # its octets are elsewhere: a new one is begun
        return PackWriter(packs, lengths, apart=True)

    # -- changing an owner

    def hold(self, owner: Owner, timeout: float, known: OwnerDirectory | None = None) -> Hold | None:
        head = self.journal.head(owner)
        if head is None:
            return None
        cached = self.cached(owner)
        lock = cached.lock(timeout)
        try:
            refreshed = self._refresh(owner, cached, head)
            if refreshed is None:
                lock.release()
                return None
            try:
                state, head = self._publishing.fit_for_writing(owner, cached, *refreshed)
            except StaleOwner:  # another node has upgraded the index
                refreshed = self._refresh(owner, cached, None) or refreshed
                state, head = self._publishing.fit_for_writing(owner, cached, *refreshed)
            return self._hold(_found(owner, cached, state, known), lock, Held(head, state.position))
        except BaseException:
            lock.release()
            raise

    def _hold(self, directory: OwnerDirectory, lock: FileLock, held: Held) -> FleetHold:
        hold = FleetHold(directory, lock, held, self._before_release)
        self._held.add(hold)
        return hold

    def _before_release(self, hold: FleetHold) -> None:
        self._publishing.publish_rest(hold, self.cached(hold.directory.owner))
        self._held.end(hold)

    def make(self, owner: Owner, partition: str, *, large: bool = False) -> Hold:
        partition = self.check_partition(partition)
        self.check_unknown(owner)
        make_directories(self.notes)
        cached = self.cached(owner)
        lock = cached.lock(0)
        try:
            if self.journal.head(owner) is not None:
                raise MailboxLocked().at(user=str(owner))
            with cached.gate(closed=True, timeout=PATIENCE) as gate:
                gate.clear()
                cached.wipe()
            generation = cached.name_generation()
            schema.blank(cached.generation(generation), large=large)
            directory = OwnerDirectory(owner, cached.generation(generation), generation)
            return self._hold(directory, lock, Held(None, Position(), partition, new_place(owner)))
        except BaseException:
            lock.release()
            raise

    def blank(self, hold: Hold) -> sqlite3.Connection:
        return schema.building(hold.directory.path)

    def bring_in(self, made: Sequence[tuple[Hold, Grown]], note: Callable[[], None]) -> None:
        newcomers = []
        begun = time.perf_counter()
        for hold, grown in made:
            assert isinstance(hold, FleetHold)
            owner, path, _ = hold.directory
            schema.seal(path)
            held = hold.held
            index = encode_whole(path / INDEX)
            outgoing = Outgoing(self.cached(owner).packs, self.objects, held.place, 1)
            outgoing.take(grown)
            data = outgoing.behind(index)
            newcomers.append(Newcomer(owner, new_head(), held.partition, held.place, outgoing.pieces, data))
        with self.registry.tentative([one.owner for one in newcomers]):
            note()
            heads = self.journal.found(newcomers)
        for (hold, _), one in zip(made, newcomers, strict=True):
            assert isinstance(hold, FleetHold)
            head = heads[one.owner]
            cached = self.cached(one.owner)
            shutil.copyfile(hold.directory.path / INDEX, cached.image.path)
            cached.image.path.chmod(0o600)
            with cached.gate(closed=True, timeout=PATIENCE) as gate:
                gate.state = new_state(head, str(hold.directory.version))
            hold.held = Held(head, Position())
            self.tallies.committed(time.perf_counter() - begun, len(one.data))

    def publish(self, hold: Hold, commit: Callable[[], Grown | None]) -> None:
        assert isinstance(hold, FleetHold)
        self._publishing.publish(hold, self.cached(hold.directory.owner), commit)

    def abandon(self, hold: Hold) -> None:
        assert isinstance(hold, FleetHold)
        owner = hold.directory.owner
        self._publishing.abandon(hold, self.cached(owner))
        if hold.made:
            with contextlib.suppress(Away):  # what was told of him is tentative, and misleads nobody
                if self.journal.head(owner) is None:
                    self.registry.forget(owner)

    def remove(self, directory: OwnerDirectory) -> None:
        owner = directory.owner
        mine = self._held.mine(owner)
        assert mine is not None
        assert mine.held.head is not None
        uniqueids = self.registry.held_by(owner)
        self.registry.forget(owner)
        try:
            self.journal.remove(owner, mine.held.head)
        except StaleOwner:
            self.registry.note([(uniqueid, owner) for uniqueid in uniqueids], owner)
            raise
        self.drop_copy(owner)

    def drop_copy(self, owner: Owner) -> None:
        """Nothing of an owner who is held, and in the fleet no more, is left on this node."""
        cached = self.cached(owner)
        with cached.gate(closed=True, timeout=PATIENCE) as gate:
            gate.clear()
            cached.wipe()

    def drop_packs(self, directory: OwnerDirectory, keep: Collection[int]) -> None:
        known = {pack_name(number) for number in keep}
        packs = self.cached(directory.owner).packs
        for path in packs.iterdir() if packs.is_dir() else ():
            if path.name not in known:
                path.unlink(missing_ok=True)

    # -- from one partition to another: partitions are names

    def begin_move(self, owner: Owner, partition: str, index: int, packs: int, *, to_new: bool) -> Arrival:
        raise StoreError("nobody of a fleet is on a partition")

    def moves_left(self) -> list[Path]:
        return []

    def clear_moves(self) -> Iterator[Path]:
        return iter(())

    def clear_moves_of(self, owner: Owner) -> bool:
        return False

    # -- one whose index cannot be used

    def hold_remains(self, owner: Owner, timeout: float) -> Hold:
        head = self.journal.head(owner)
        if head is None:
            raise StoreError("PostgreSQL has nothing of this owner, so there is nothing to reconstruct from")
        try:
            hold = self.hold(owner, timeout)
        except StoreCorrupt:
            cached = self.cached(owner)
            lock = cached.lock(timeout)
            generation = cached.name_generation()
            directory = OwnerDirectory(owner, cached.generation(generation), generation)
            hold = self._hold(directory, lock, Held(head, Position()))
        assert hold is not None
        try:
            FarPacks(owner, self.journal, self.objects, self.tallies).fetch_all(hold.directory.path)
        except BaseException:
            hold.close()
            raise
        return hold

    def partition_of(self, directory: OwnerDirectory) -> str:
        head = self.journal.head(directory.owner)
        return head.partition if head is not None else self._default

    def set_aside(self, owner: Owner, timeout: float) -> Iterable[Path]:
        cached = self.cached(owner)
        with cached.lock(timeout), cached.gate(closed=True, timeout=PATIENCE) as gate:
            gate.clear()
            cached.wipe()
            name = self.journal.set_aside(owner, time.strftime("%Y%m%dT%H%M%S"))
        self.registry.forget(owner)
        return [Path(f"postgresql:{name}")] if name else []


def _octets(path: Path) -> int:
    """0 for a file that is not there."""
    try:
        return os.stat(path).st_size  # noqa: PTH116 (at every commit)
    except FileNotFoundError:
        return 0


def _found(owner: Owner, cached: CachedOwner, state: State, known: OwnerDirectory | None) -> OwnerDirectory:
    if known is not None and known.version == state.generation:
        return known
    return OwnerDirectory(owner, cached.generation(state.generation), state.generation)
