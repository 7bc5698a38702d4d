"""`FleetHome`: owners whose directories are copies (`native.homes.OwnerHome`). PostgreSQL says what counts.

A change: the owner's lock on this node, a look whether the copy is up to date, the verbs on the copy, then
`publish`: what SQLite has committed is read out of its log, and becomes one row of the journal if the
owner's head is still what it was. Readers on this node wait at the gate meanwhile, which is as long as one
statement of PostgreSQL's.

Whatever interrupts that leaves the image as it was published last, and a state that says so. The next one
makes a new generation of it. So no outcome has to be repaired, nor guessed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cyrus_sync.common.errors import CyrusSyncError, MailboxLocked, PartitionUnknown, StoreCorrupt, StoreError
from cyrus_sync.common.files import make_directories, tighten_all
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.mailstore import StaleOwner
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.homes import UNCOUNTED, Grown, Hold, OwnerDirectory, Stamp
from cyrus_sync.common.stores.native.layout import INDEX, KINDS, pack_name
from cyrus_sync.common.stores.native.locks import FileLock
from cyrus_sync.common.stores.native.packs import PackWriter
from cyrus_sync.fleet.cache import CachedOwner, Gate, Phase, State, directory_of, new_state
from cyrus_sync.fleet.counted import CountedObjects
from cyrus_sync.fleet.delta import encode_whole
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.farpacks import FarPacks, NearAndFar
from cyrus_sync.fleet.figures import FleetFigures
from cyrus_sync.fleet.holders import HoldersInPostgres
from cyrus_sync.fleet.journal import Head, Journal, Newcomer, new_head
from cyrus_sync.fleet.outgoing import Outgoing, new_place
from cyrus_sync.fleet.refresh import Refresh
from cyrus_sync.fleet.servers import Servers
from cyrus_sync.fleet.tallies import TALLIES, Tallies
from cyrus_sync.fleet.wal import Position, read_log
from cyrus_sync.objects.store import ObjectStore

PATIENCE = 20.0
"""Seconds to wait for somebody on this node who commits, or brings an owner here: longer than PostgreSQL is
given."""

_LONG_LOG = 4 * 1024 * 1024
"""Octets of SQLite's log after which a writer begins with a new generation."""


class FleetHold:
    """An owner held on this node."""

    def __init__(self, home: FleetHome, directory: OwnerDirectory, lock: FileLock, held: Held) -> None:
        self.directory = directory
        self.held = held
        self._home = home
        self._lock = lock

    @property
    def made(self) -> bool:
        return self.held.head is None

    def close(self) -> None:
        try:
            self._home.before_release(self)
        finally:
            self._lock.release()


@dataclass
class Held:
    """What is known of an owner who is held."""

    head: Head | None
    """None: he is new."""
    position: Position
    partition: str = ""
    place: str = ""
    published: bool = False


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
    ) -> None:
        """`cache` is this node's own. `notes`: hints of this machine."""
        self.journal = Journal(servers)
        self.registry = HoldersInPostgres(servers)
        self.readonly = readonly
        self.notes = notes
        self.cache = cache
        self.tallies = Tallies(cache / TALLIES)
        self.objects: ObjectStore = CountedObjects(objects, self.tallies)
        self._servers = servers
        self._figures: FleetFigures | None = None
        self._partitions = frozenset(partitions)
        self._default = defaultpartition
        self._held: dict[Owner, tuple[int, FleetHold]] = {}

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
            self._figures = FleetFigures(self._servers, self.tallies, self.cache)
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
        return CachedOwner(directory_of(self.cache, owner))

    def find(self, owner: Owner, known: OwnerDirectory | None = None) -> OwnerDirectory | None:
        if (mine := self._mine(owner)) is not None:
            return mine.directory
        cached = self.cached(owner)
        if known is None:
            cached.touch()
        for _ in range(2):  # a commit of this node may come between the two answers
            try:
                head = self.journal.head(owner)
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

    def _mine(self, owner: Owner) -> FleetHold | None:
        """What this thread holds of an owner."""
        thread, hold = self._held.get(owner, (0, None))
        return hold if thread == threading.get_ident() else None

    def _refresh(self, owner: Owner, cached: CachedOwner, head: Head | None) -> tuple[State, Head] | None:
        make_directories(self.notes)  # there once anything is stored, here or elsewhere
        return Refresh(owner, cached, self.journal, self.objects, self.tallies).run(PATIENCE, head)

    def stamps(self) -> Mapping[Owner, Stamp]:
        return {owner: self._stamp(owner, head) for owner, head in self.journal.heads().items()}

    def stamp(self, directory: OwnerDirectory) -> Stamp | None:
        mine = self._mine(directory.owner)
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
            return schema.glance(found.path / INDEX, unlocked=False)

    def check_unknown(self, owner: Owner) -> bool:
        if owner != SERVER and self.registry.was_there(owner) and self.journal.head(owner) is None:
            raise StoreCorrupt(
                "lost: mailboxes are registered and PostgreSQL has nothing else of the owner; put it back"
                " from a backup, or, if that is well, let sync_reset -f forget"
            )
        return False

    def open_index(self, directory: OwnerDirectory, *, held: bool = False) -> sqlite3.Connection:
        connection = schema.connect(directory.path / INDEX, readonly=False)
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
        return NearAndFar(directory.owner, cached, self.journal, self.objects, self.tallies)

    def pack_writer(
        self, directory: OwnerDirectory, lengths: Mapping[int, int], *, new: bool = False
    ) -> PackWriter:
        packs = self.cached(directory.owner).packs
        packs.mkdir(0o700, exist_ok=True)
        if lengths:
            last = max(lengths)
            path = packs / pack_name(last)
            if not path.exists() or path.stat().st_size < lengths[last]:
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
            state = self._fit_for_writing(cached, refreshed[0])
            return self._hold(_found(owner, cached, state, known), lock, Held(refreshed[1], state.position))
        except BaseException:
            lock.release()
            raise

    def _hold(self, directory: OwnerDirectory, lock: FileLock, held: Held) -> FleetHold:
        hold = FleetHold(self, directory, lock, held)
        self._held[directory.owner] = (threading.get_ident(), hold)
        return hold

    def _fit_for_writing(self, cached: CachedOwner, state: State) -> State:
        """A new generation where SQLite's log is not known to the end, or has become long."""
        found = read_log(cached.generation(state.generation) / INDEX, state.position)
        if found is not None:
            octets = found[0].frames * (found[1].page if found[1] is not None else schema.SMALL_PAGE)
            if octets < max(_LONG_LOG, cached.image.path.stat().st_size):
                return state
        with cached.gate(closed=True, timeout=PATIENCE) as gate:
            state = state._replace(generation=cached.new_generation(), position=Position())
            gate.state = state
        return state

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
            numbers = self.journal.found(newcomers)
        for (hold, _), one in zip(made, newcomers, strict=True):
            assert isinstance(hold, FleetHold)
            head = Head(numbers[one.owner], one.head, 1, 0, "", one.partition, one.place)
            cached = self.cached(one.owner)
            shutil.copyfile(hold.directory.path / INDEX, cached.image.path)
            cached.image.path.chmod(0o600)
            with cached.gate(closed=True, timeout=PATIENCE) as gate:
                gate.state = new_state(head, str(hold.directory.version))
            hold.held = Held(head, Position())
            self.tallies.committed(time.perf_counter() - begun, len(one.data))

    def publish(self, hold: Hold, commit: Callable[[], Grown | None]) -> None:
        assert isinstance(hold, FleetHold)
        cached = self.cached(hold.directory.owner)
        index = hold.directory.path / INDEX
        with cached.gate(closed=True, timeout=PATIENCE) as gate:
            before, inode = gate.state, _inode(index)
            if before is not None:
                gate.state = before._replace(phase=Phase.COMMITTING)
            try:
                grown = commit()
            except BaseException:
                if before is not None and read_log(index, before.position) == (before.position, None):
                    gate.state = before
                raise
            if grown is None:
                if before is not None:
                    gate.state = before
                return
            try:
                self._publish(hold, gate, before if _inode(index) == inode else None, grown)
            except StaleOwner:
                self.tallies.count("commits overtaken")
                raise
            except BaseException:
                self.tallies.count("commits failed")
                raise

    def _publish(self, hold: FleetHold, gate: Gate, before: State | None, grown: Grown) -> None:
        """What was committed in the directory since the state `before`; None: the index is another."""
        begun = time.perf_counter()
        owner, head = hold.directory.owner, hold.held.head
        assert head is not None
        cached, index = self.cached(owner), hold.directory.path / INDEX
        logged = read_log(index, before.position) if before is not None else None
        outgoing = Outgoing(cached.packs, self.objects, head.place, head.seq + 1)
        outgoing.take(grown)
        if logged is not None:
            position, change = logged
            if change is None:
                assert before is not None
                gate.state = before
                return
            difference, writes = cached.image.encode(change)
            octets = change.total * change.page
        else:
            difference = encode_whole(index)
            content = index.read_bytes()
            position, writes, octets = Position(), [(0, content)], len(content)
        data = outgoing.behind(difference)
        new = new_head()
        seq = self.journal.swap(owner, head, new, outgoing.pieces, data)
        head = head._replace(head=new, seq=seq)
        state = new_state(head, str(hold.directory.version))._replace(position=position)
        gate.state = state._replace(phase=Phase.WRITING)
        cached.image.write(writes, octets)
        gate.state = state
        hold.held = Held(head, position, published=True)
        self.tallies.committed(time.perf_counter() - begun, len(data))

    def before_release(self, hold: FleetHold) -> None:
        """What was done in the directory behind the commit (the outbox was emptied) is published too, so
        that no node takes its lines for lines that wait. If that fails, they are written twice."""
        owner = hold.directory.owner
        if hold.held.published:
            with contextlib.suppress(CyrusSyncError, OSError, sqlite3.Error):
                found = read_log(hold.directory.path / INDEX, hold.held.position)
                if found is not None and found[1] is not None:
                    self.publish(hold, dict)
        if self._held.get(owner, (0, None))[1] is hold:
            del self._held[owner]

    def abandon(self, hold: Hold) -> None:
        assert isinstance(hold, FleetHold)
        owner, head = hold.directory.owner, hold.held.head
        cached = self.cached(owner)
        with cached.gate(closed=True, timeout=PATIENCE) as gate:
            state = gate.state
            if head is None:
                cached.wipe()
                gate.clear()
            elif state is not None and state.phase is Phase.COMMITTING:
                generation = cached.new_generation()
                cached.trim(generation)
                gate.state = state._replace(phase=Phase.CLEAN, generation=generation, position=Position())
        if head is None:
            with contextlib.suppress(Away):  # what was told of him is tentative, and misleads nobody
                if self.journal.head(owner) is None:
                    self.registry.forget(owner)

    def remove(self, directory: OwnerDirectory) -> None:
        owner = directory.owner
        mine = self._mine(owner)
        assert mine is not None
        assert mine.held.head is not None
        uniqueids = self.registry.held_by(owner)
        self.registry.forget(owner)
        try:
            self.journal.remove(owner, mine.held.head)
        except StaleOwner:
            self.registry.note([(uniqueid, owner) for uniqueid in uniqueids], owner)
            raise
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


def _found(owner: Owner, cached: CachedOwner, state: State, known: OwnerDirectory | None) -> OwnerDirectory:
    if known is not None and known.version == state.generation:
        return known
    return OwnerDirectory(owner, cached.generation(state.generation), state.generation)


def _inode(path: Path) -> int:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 (at every commit)
    except FileNotFoundError:
        return 0
