"""`MovingHome`: owners of whom some are in the partitions of this machine and some in the fleet
(``store: moving``). They go from the one to the other while they are in use (`moving`).

Who decides where an owner is:

* One whose directory has his name is here. Nobody else is asked: he is served as by ``store: local``, also
  while PostgreSQL is away. Renaming that directory is the first thing that is done to let him go (`between`),
  and is done under his lock; so whoever has found it, and then has the lock, has the owner.
* One whose directory has the name of somebody on his way is where PostgreSQL says (`claims`). Who wants to
  change one who is still here brings him back to his name before: by then no move that somebody has begun can
  succeed any more.
* All others are in the fleet, or nowhere. New ones are made there.

On every other node an owner who is on this machine is `Elsewhere`, and cannot be founded, since PostgreSQL
has a row of him. The fleet's registry knows of mailboxes on this machine too: so no node gives a uniqueid
twice.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from cyrus_sync.common.errors import MailboxLocked, StoreCorrupt, StoreError
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.native.homes import Arrival, Grown, Hold, OwnerDirectory, OwnerHome, Stamp
from cyrus_sync.common.stores.native.layout import KINDS, LOCK, pack_name
from cyrus_sync.common.stores.native.local_home import LocalHome, directory_at
from cyrus_sync.common.stores.native.locks import FileLock, Gone
from cyrus_sync.common.stores.native.nearfar import NearAndFar
from cyrus_sync.common.stores.native.packs import PackFiles, PackOctets, PackWriter
from cyrus_sync.fleet.between import Between, head_of, is_leaving, place_of
from cyrus_sync.fleet.errors import Away, Elsewhere
from cyrus_sync.fleet.holding import FleetHold
from cyrus_sync.fleet.home import FleetHome
from cyrus_sync.fleet.machine import Machine
from cyrus_sync.fleet.moving_registry import MovingRegistry

_LOOKS = 5


class MovingHome:
    """The partitions of a machine, and a fleet (`native.homes.OwnerHome`)."""

    def __init__(self, local: LocalHome, fleet: FleetHome, machine: Machine) -> None:
        """Both have the notes of this machine, and the fleet its word."""
        self.local = local
        self.fleet = fleet
        self.machine = machine
        self.between = Between(local.layout)
        self.readonly = local.readonly
        self.notes = local.notes
        self.registry = MovingRegistry(
            local.registry, fleet.registry, machine, lambda owner: local.find(owner) is not None
        )
        self.partitions_are_places = False
        self.check_partition = local.check_partition
        self.away, self.staging = local.away, local.staging
        self.moves_left, self.clear_moves, self.clear_moves_of = (
            local.moves_left, local.clear_moves, local.clear_moves_of,
        )  # fmt: skip
        self.add_figures: Callable[[Sheet], None] = fleet.add_figures
        local.whereabouts = self._files_now
        local.is_part = True
        self._cache = f"{fleet.cache}/"

    # -- the whole

    def check(self) -> None:
        self.local.check()
        self.fleet.check()

    def tighten(self) -> int:
        return self.local.tighten() + self.fleet.tighten()

    def generations(self) -> Mapping[str, str]:
        """Of partitions in which nobody is, or of a fleet in which nobody is, the text is what it was when
        somebody was last, and tells nothing."""
        layout, found = self.local.layout, dict(self.local.generations())
        counting = {name: text for name, text in found.items() if layout.is_inhabited(name)}
        if not counting or self.fleet.journal.has_anybody():
            counting.update(self.fleet.generations())
        return counting

    def even_generations(self) -> None:
        """Whatever is empty is of the same moment as all that is not: before somebody comes there."""
        texts = set(self.generations().values())
        everywhere = {*self.local.generations().values(), *self.fleet.generations().values()}
        if len(texts) == 1 and texts != everywhere:
            self.put_generation(texts.pop())

    def put_generation(self, text: str) -> None:
        self.local.put_generation(text)
        self.fleet.put_generation(text)

    def everybody(self) -> list[Owner]:
        found = sorted({*self.local.everybody(), *self.fleet.everybody()})
        return [owner for kind in KINDS for owner in found if owner.kind == kind]

    def userids(self) -> list[str]:
        return sorted({*self.local.userids(), *self.fleet.userids()})

    def close(self) -> None:
        self.local.close()
        self.fleet.close()

    # -- an owner's directory

    def _home(self, directory: OwnerDirectory) -> OwnerHome:
        """Whose directory it is."""
        return self.fleet if str(directory.path).startswith(self._cache) else self.local

    def _known(self, known: OwnerDirectory | None) -> tuple[OwnerDirectory | None, OwnerDirectory | None]:
        """What was found before, for the home whose it is: this machine, the fleet. Who was on his way is
        looked for anew."""
        if known is None:
            return None, None
        if self._home(known) is self.fleet:
            return None, known
        return (known if place_of(known.path) is known.path else None), None

    def find(self, owner: Owner, known: OwnerDirectory | None = None) -> OwnerDirectory | None:
        here, there = self._known(known)
        for _ in range(_LOOKS):
            if (found := self.local.find(owner, here)) is not None:
                return found
            if (path := self._on_his_way(owner)) is not None:
                with contextlib.suppress(FileNotFoundError):
                    return directory_at(owner, path)
                continue
            if (found := self.fleet.find(owner, there)) is not None:
                return found
            if self.local.find(owner) is None and self._on_his_way(owner) is None:
                return None
        raise MailboxLocked("moves all the time").at(user=str(owner))

    def _on_his_way(self, owner: Owner) -> Path | None:
        """Where one is who is leaving or coming, if PostgreSQL says that he is on this machine."""
        path = self.between.find(owner)
        if path is None:
            return None
        row = self.fleet.claims.row(owner)
        if row is None and is_leaving(path):
            raise StoreCorrupt(
                f"was on his way into the fleet, and PostgreSQL has nothing of him: he is in {path}; if that"
                " is well, remove it, else give it the name of its user"
            ).at(user=str(owner))
        return path if row is not None and row.machine else None

    def _files_now(self, owner: Owner) -> Path | None:
        """Where the files are that were an owner's on this machine."""
        layout = self.local.layout
        return layout.find(owner) or self.between.find(owner) or self.between.aside(owner)

    def stamps(self) -> Mapping[Owner, Stamp]:
        return {**self.fleet.stamps(), **self.local.stamps()}

    def stamp(self, directory: OwnerDirectory) -> Stamp | None:
        return self._home(directory).stamp(directory)

    def mark(self, directory: OwnerDirectory) -> Stamp | None:
        return self._home(directory).mark(directory)

    def glance(self, directory: OwnerDirectory, *, unlocked: bool) -> sqlite3.Connection:
        return self._home(directory).glance(directory, unlocked=unlocked)

    def check_unknown(self, owner: Owner) -> bool:
        if self.local.check_unknown(owner):
            return True
        claim = self.fleet.claims.of(owner)
        if claim is None:
            return self.fleet.check_unknown(owner)
        if self.find(owner) is not None:
            return True
        if (path := self.between.aside(owner)) is not None:
            raise StoreCorrupt(
                f"lost: PostgreSQL says that he is on this machine, and he is not; before he went into the"
                f" fleet he was {path}"
            ).at(user=str(owner))
        if not self.readonly:  # he was removed, and PostgreSQL was not told
            self.fleet.registry.forget(owner)
            self.fleet.claims.drop(claim)
        return False

    def open_index(self, directory: OwnerDirectory, *, held: bool = False) -> sqlite3.Connection:
        return self._home(directory).open_index(directory, held=held)

    def reading(self, directory: OwnerDirectory) -> AbstractContextManager[object]:
        return self._home(directory).reading(directory)

    def packs(self, directory: OwnerDirectory) -> PackOctets:
        found = self._home(directory).packs(directory)
        if self._home(directory) is self.local:
            return found
        return NearAndFar(found, _Come(lambda: self.local.layout.find(directory.owner)))

    def pack_writer(
        self, directory: OwnerDirectory, lengths: Mapping[int, int], *, new: bool = False
    ) -> PackWriter:
        return self._home(directory).pack_writer(directory, lengths, new=new)

    # -- changing an owner

    def hold(self, owner: Owner, timeout: float, known: OwnerDirectory | None = None) -> Hold | None:
        here, there = self._known(known)
        deadline = time.monotonic() + timeout
        for _ in range(_LOOKS):
            if self.local.find(owner, here) is not None:
                hold = self.local.hold(owner, max(deadline - time.monotonic(), 0), here)
                if hold is not None:
                    return hold
            path = self.between.find(owner)
            if path is not None and self.bring_back(owner, path, max(deadline - time.monotonic(), 0)):
                continue
            hold = self.fleet.hold(owner, max(deadline - time.monotonic(), 0), there)
            if hold is not None:
                return hold
            if self.local.find(owner) is None and self._on_his_way(owner) is None:
                return None
        raise MailboxLocked("moves all the time").at(user=str(owner))

    def bring_back(self, owner: Owner, path: Path, timeout: float) -> bool:
        """One who is leaving or coming is here again, if he is on this machine; False if he is in the fleet.
        Who moves him has him locked, and is waited for. `MailboxLocked`, `Away`."""
        try:
            lock = FileLock(path / LOCK, timeout)
        except (Gone, FileNotFoundError):
            return True
        with lock:
            claim = self.fleet.claims.of(owner)
            if claim is None:
                return False
            if not is_leaving(path) or self.fleet.claims.renewed(claim):
                self.settle_here(owner, path)
            return True

    def settle_here(self, owner: Owner, path: Path) -> Path:
        """One who was leaving or coming, and whose lock the caller has, is here: where. The registry learns
        of him before he is seen."""
        with contextlib.closing(self.local.open_index(OwnerDirectory(owner, path, None), held=True)) as index:
            rows = index.execute("SELECT uniqueid FROM mailboxes WHERE deleted_at = 0").fetchall()
        self.local.registry.replace(owner, [uniqueid for (uniqueid,) in rows])
        return self.between.be_here(path)

    def make(self, owner: Owner, partition: str, *, large: bool = False) -> Hold:
        if not self.machine.ready:
            raise MailboxLocked(
                "new users are made in the fleet, once it knows who is here: mailstore fleet move-in"
            ).at(user=str(owner))
        if self.local.find(owner) is not None:
            raise MailboxLocked().at(user=str(owner))
        return self.fleet.make(owner, partition, large=large)

    def blank(self, hold: Hold) -> sqlite3.Connection:
        return self.fleet.blank(hold)

    def bring_in(self, made: Sequence[tuple[Hold, Grown]], note: Callable[[], None]) -> None:
        self.fleet.bring_in(made, note)

    def publish(self, hold: Hold, commit: Callable[[], Grown | None]) -> None:
        (self.fleet if isinstance(hold, FleetHold) else self.local).publish(hold, commit)

    def abandon(self, hold: Hold) -> None:
        (self.fleet if isinstance(hold, FleetHold) else self.local).abandon(hold)

    def remove(self, directory: OwnerDirectory) -> None:
        owner = directory.owner
        if self._home(directory) is self.fleet:
            self.fleet.remove(directory)
            return
        self.local.remove(directory)
        with contextlib.suppress(Away):  # else `check_unknown` does it
            self._disclaim(owner)

    def _disclaim(self, owner: Owner) -> None:
        """Nobody of that name is on this machine any more."""
        row = self.fleet.claims.row(owner)
        if row is None or row.machine:
            self.fleet.registry.forget(owner)
        if row is not None and row.machine:
            self.fleet.claims.drop(row)

    def drop_packs(self, directory: OwnerDirectory, keep: Collection[int]) -> None:
        self._home(directory).drop_packs(directory, keep)

    # -- from one partition to another

    def begin_move(self, owner: Owner, partition: str, index: int, packs: int, *, to_new: bool) -> Arrival:
        raise StoreError("users who are on their way into a fleet, or out of it, change no partitions")

    # -- one whose index cannot be used

    def hold_remains(self, owner: Owner, timeout: float) -> Hold:
        home: OwnerHome = self.local if self._has_remains(owner) else self.fleet
        return home.hold_remains(owner, timeout)

    def _has_remains(self, owner: Owner) -> bool:
        return any(path.is_dir() for path in self.local.layout.places(owner))

    def partition_of(self, directory: OwnerDirectory) -> str:
        if self._home(directory) is self.fleet:
            return self.fleet.partition_of(directory)
        if directory.owner == SERVER:
            return self.local.layout.defaultpartition
        return self.local.partition_of(directory._replace(path=place_of(directory.path)))

    def set_aside(self, owner: Owner, timeout: float) -> Iterable[Path]:
        if not self._has_remains(owner) and self.fleet.claims.of(owner) is None:
            return self.fleet.set_aside(owner, timeout)
        aside = self.local.set_aside(owner, timeout)
        if (path := self.between.find(owner)) is not None:
            with FileLock(path / LOCK, timeout):
                aside.append(self.between.set_aside(path))
        self._disclaim(owner)
        return aside


class _Come:
    """The packs of one who has come out of the fleet since somebody began to read him there: they have the
    same numbers (`nearfar.FarSide`)."""

    def __init__(self, find: Callable[[], Path | None]) -> None:
        self._find = find

    def _files(self) -> PackFiles:
        path = self._find()
        if path is None:
            raise FileNotFoundError(2, "not on this machine")
        return PackFiles(path)

    def read(self, pack: int, offset: int, length: int) -> bytes:
        with contextlib.closing(self._files()) as files:
            return files.read(pack, offset, length)

    def size(self, pack: int) -> int:
        with contextlib.closing(self._files()) as files:
            return files.size(pack)

    def identity(self, pack: int) -> str:
        with contextlib.closing(self._files()) as files:
            return files.identity(pack)

    def again(self) -> _Come:
        return self

    def name(self, pack: int) -> str:
        return pack_name(pack)


def everybody_here(home: MovingHome) -> Iterator[Owner]:
    """Whoever is on this machine, the server's annotations too, or on his way from it or to it; also who is
    not found there, unless he is in the fleet, or on another machine."""
    found: dict[Owner, None] = {}
    for owner in home.between.everybody():
        path = home.between.find(owner)
        if path is None or not may_still_come(home, owner, path):
            found[owner] = None
    if home.local.find(SERVER) is not None:
        found[SERVER] = None
    found.update(dict.fromkeys(home.fleet.claims.everybody()))
    for owner in home.local.everybody():
        if owner not in found and (home.local.find(owner) is not None or _is_nowhere(home, owner)):
            found[owner] = None
    yield from found


def may_still_come(home: MovingHome, owner: Owner, path: Path) -> bool:
    """Whether one who was coming has stayed in the fleet, and is what his copy is: the statement of a mover
    that was killed may be carried out yet, and then he is that copy."""
    if is_leaving(path):
        return False
    try:
        row = home.fleet.claims.row(owner)
    except Elsewhere:
        return False
    return row is not None and not row.machine and row.head == head_of(path)


def _is_nowhere(home: MovingHome, owner: Owner) -> bool:
    """Whether PostgreSQL has nothing of an owner of whom there is something on this machine."""
    try:
        return home.fleet.claims.row(owner) is None
    except Elsewhere:
        return False
