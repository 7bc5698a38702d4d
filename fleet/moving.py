"""Owners who go from the partitions of this machine into the fleet, or come back, while they are in use.

`register` is the beginning, once: PostgreSQL learns who is here (`claims`), and from then on no node makes
anybody of that name. Each owner then goes by himself:

    in                                            out
    packs are put into the object store           packs are copied from the fleet (``.fetching-``)
    he is held on this machine;                   he is held in the fleet;
        the rest of the packs, and the index          the rest of the packs, and the index, synced
        alice becomes ``.leaving-alice``              the copy becomes ``.coming-alice``
        one statement: he is in the fleet             one statement: he is on this machine
        ``.leaving-alice`` becomes ``.in-fleet-…``    ``.coming-alice`` becomes alice

The statement decides. It is carried out only if nothing has changed since: of one who goes in nothing can,
for he is locked, and who breaks that lock by killing the mover gives his claim another head before he
changes anything; of one who comes out the head says so. Before it a reader finds him where he was, behind
it where he is now (`moving_home`). So he is whole at one place at any time, and the same command ends what
was cut off:

* before the renaming: everything is as it was. Objects that were put are below his place, and go when he is
  settled there; a copy in the making is begun anew.
* between the renaming and the statement: he is where he was. Whoever changes him first renames him back, or
  (out) nobody does: the next move out takes the copy if the head is still the same. If it is not, a move in
  either direction sets it aside.
* behind the statement: he is where he goes. Who is leaving has another name at the next move; who is coming
  has his own as soon as somebody changes him.

What he was in the partition is not deleted. Who has begun to read there reads on.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cyrus_sync.common.errors import CyrusSyncError, MailboxLocked, StoreCorrupt, StoreError
from cyrus_sync.common.files import make_directories, private, sync_directory, sync_file
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.mailstore import StaleOwner
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.homes import OwnerDirectory
from cyrus_sync.common.stores.native.layout import INDEX, KINDS, LOCK, MAKING, far_name, pack_name
from cyrus_sync.common.stores.native.locks import FileLock, Gone
from cyrus_sync.common.stores.native.moves import is_held
from cyrus_sync.fleet.between import COMING, FETCHING, OF_HEAD, head_of, is_leaving, place_of
from cyrus_sync.fleet.cache import immutable, pack_lengths
from cyrus_sync.fleet.copying import Losses, copy
from cyrus_sync.fleet.delta import encode_whole
from cyrus_sync.fleet.errors import Elsewhere
from cyrus_sync.fleet.finding import Head
from cyrus_sync.fleet.holding import FleetHold
from cyrus_sync.fleet.journal import Newcomer, new_head
from cyrus_sync.fleet.moving_home import MovingHome, may_still_come
from cyrus_sync.fleet.outgoing import Outgoing

_LITTLE = 4 * 1024 * 1024
"""So many octets are copied while the owner is held."""
_ROUNDS = 8
"""So often what has come meanwhile is copied before, however much that is."""
_TRIES = 10
_AT_ONCE = 2000
_PATIENCE = 20.0


def register(home: MovingHome) -> int:
    """Tell the fleet who is on this machine, unless it knows; how many they are. `StoreError` where it has
    somebody else of one of these names, or a rebalance is under way, and `PartitionAway` where a disk is not
    mounted: then it is as it was. `Away`. Annotations of the server may be the fleet's alone: those that are
    here stay behind."""
    if home.machine.ready:
        return 0
    home.local.partitions.check()
    began = home.machine.begin(home.local.layout)
    try:
        return _register(home)
    except CyrusSyncError:
        if began:
            home.machine.end()
        raise


def _register(home: MovingHome) -> int:
    for partition in home.local.layout.partitions.values():
        for kind in KINDS.values():
            for path in (partition / kind).glob(f"*/{MAKING}*"):
                if is_held(path, _PATIENCE):
                    raise MailboxLocked("somebody new is being made on this machine: once more")
    everybody = [*([SERVER] if home.local.find(SERVER) is not None else []), *home.local.everybody()]
    held: dict[Owner, list[str]] = {}
    for uniqueid, owner in home.local.registry.entries():
        held.setdefault(owner, []).append(uniqueid)
    elsewhere: list[Owner] = []
    for start in range(0, len(everybody), _AT_ONCE):
        together = everybody[start : start + _AT_ONCE]
        elsewhere += home.fleet.claims.make(together)
        hints = [(uniqueid, owner) for owner in together for uniqueid in held.get(owner, ())]
        home.fleet.registry.note(hints, together[0])
    stays = elsewhere.count(SERVER)
    elsewhere = [owner for owner in elsewhere if owner != SERVER]
    if elsewhere:
        names = ", ".join(map(str, elsewhere[:10])) + (", …" if len(elsewhere) > 10 else "")
        raise StoreError(f"the fleet has others of these names: rename or delete one of each first: {names}")
    home.machine.set_ready()
    return len(everybody) - stays


# -- into the fleet


def move_in(home: MovingHome, owner: Owner, timeout: float) -> Path | None:
    """Bring an owner of this machine into the fleet; where what he was is now. None for one who is there
    already. Of one who was removed in the fleet while he came out, or has gone to another machine, a copy
    may be left: it is set aside.
    `StoreError` where he is nowhere; `Torn` when he is there, if something of him was lost before;
    `MailboxLocked`, `Away`."""
    path = home.between.find(owner)
    if path is not None and _is_elsewhere(home, owner):
        return _drop_left(home, owner, path, timeout)
    if path is not None and not home.bring_back(owner, path, timeout):
        if is_leaving(path):
            return _end_leaving(home, owner, path, timeout)
        aside = None if may_still_come(home, owner, path) else _drop_left(home, owner, path, timeout)
        return aside if home.fleet.journal.head(owner) is None else None
    directory = home.local.find(owner)
    if directory is None:
        if home.fleet.journal.head(owner) is not None:
            return None
        if home.check_unknown(owner):  # which says if he is lost
            raise MailboxLocked("has come meanwhile: once more").at(user=str(owner))
        raise StoreError("not stored on this machine").at(user=str(owner))
    claim = home.fleet.claims.of(owner)
    if claim is None:
        if home.fleet.claims.make([owner]):
            if home.local.find(owner, directory) != directory:
                return None  # somebody else has moved him
            if owner == SERVER:
                return _leave_behind(home, directory, timeout)
            raise StoreError("the fleet has another one of this name: rename or delete one of them first").at(
                user=str(owner)
            )
        claim = home.fleet.claims.of(owner)
        assert claim is not None
    with tempfile.TemporaryDirectory(prefix="cyrus-sync-move.") as scratch:
        going = _Going(home, directory, claim, Path(scratch))
        try:
            going.ahead()
        except (sqlite3.Error, OSError, StoreError):
            if home.local.find(owner, directory) == directory:
                raise
        hold = home.local.hold(owner, timeout, directory)
        if hold is not None:
            with contextlib.closing(hold):
                if hold.directory == directory:
                    return going.go()
    if home.local.find(owner) is None and home.fleet.journal.head(owner) is not None:
        return None  # somebody else has moved him
    raise MailboxLocked("has become another while he was copied: once more").at(user=str(owner))


def _leave_behind(home: MovingHome, directory: OwnerDirectory, timeout: float) -> Path | None:
    """The annotations of the server: the fleet has some, and there is one server."""
    hold = home.local.hold(directory.owner, timeout, directory)
    if hold is None:
        return None
    with contextlib.closing(hold):
        return home.between.set_aside(hold.directory.path)


def _end_leaving(home: MovingHome, owner: Owner, path: Path, timeout: float) -> Path | None:
    """One who is in the fleet, and has left."""
    try:
        with FileLock(path / LOCK, timeout):
            return _has_left(home, owner, path)
    except (Gone, FileNotFoundError):
        return None


def _is_elsewhere(home: MovingHome, owner: Owner) -> bool:
    """Whether an owner is on another machine. `Away`."""
    try:
        home.fleet.claims.row(owner)
    except Elsewhere:
        return True
    return False


def _drop_left(home: MovingHome, owner: Owner, path: Path, timeout: float) -> Path | None:
    """What is left of one who was on his way, and is not on this machine: he has stayed in the fleet, was
    removed there, or has gone to another machine. Where it is now; None where it was gone. `MailboxLocked`
    where he has come meanwhile; `Away`."""
    try:
        with FileLock(path / LOCK, timeout):
            if not _is_elsewhere(home, owner) and home.fleet.claims.of(owner) is not None:
                raise MailboxLocked("has come meanwhile: once more").at(user=str(owner))
            return home.between.set_aside(path)
    except (Gone, FileNotFoundError):
        return None


def _has_left(home: MovingHome, owner: Owner, path: Path) -> Path:
    """The same; the caller has the lock."""
    home.local.registry.forget(owner)
    return home.between.set_aside(path)


class _Going:
    """One on his way into the fleet."""

    def __init__(self, home: MovingHome, directory: OwnerDirectory, claim: Head, scratch: Path) -> None:
        self._home = home
        self._owner = directory.owner
        self._directory = directory
        self._claim = claim
        self._scratch = scratch
        self._done: dict[int, int] = {}
        self._torn: set[int] = set()
        """Packs of which something seems to be lost: looked at again when he is held."""
        self._losses = Losses()
        self._outgoing = Outgoing(directory.path, home.fleet.objects, claim.place, 1)

    def ahead(self) -> None:
        """Put what there is of packs, with nobody kept waiting, until little is left."""
        for _ in range(_ROUNDS):
            with contextlib.closing(self._home.local.open_index(self._directory)) as index:
                missing = self._missing(_lengths(index))
            missing = {pack: between for pack, between in missing.items() if pack not in self._torn}
            if sum(end - start for start, end in missing.values()) < _LITTLE and not self._far(missing):
                break
            self._put(missing)

    def _missing(self, lengths: Mapping[int, int]) -> dict[int, tuple[int, int]]:
        """What was not put yet of packs with these lengths."""
        done = self._done
        return {
            pack: (done.get(pack, 0), length)
            for pack, length in lengths.items()
            if length > done.get(pack, 0)
        }

    def _far(self, packs: Mapping[int, tuple[int, int]]) -> list[int]:
        """Those of which something is not here: that may be in an object store."""
        return [pack for pack, (_, end) in packs.items() if not self._is_near(pack, end)]

    def _is_near(self, pack: int, length: int) -> bool:
        """Whether a pack is here so far; or what there is of it, where no object store has it."""
        path = self._directory.path
        try:
            size = (path / pack_name(pack)).stat().st_size
        except FileNotFoundError:
            return False
        return size >= length or not (path / far_name(pack)).exists()

    def _put(self, missing: Mapping[int, tuple[int, int]], losses: Losses | None = None) -> None:
        """`losses`: the owner is held, and what cannot be had is lost."""
        far = self._far(missing)
        for pack, (start, end) in missing.items():
            path, before = self._directory.path / pack_name(pack), len(self._outgoing.pieces)
            try:
                if pack in far:
                    path = self._fetched(pack, start, end, losses)
                end = min(end, path.stat().st_size)
                if start < end:
                    self._outgoing.put(pack, path, start, end)
            except FileNotFoundError:  # it has gone meanwhile; or it is lost
                del self._outgoing.pieces[before:]
                continue
            except StoreCorrupt:
                if losses is not None:
                    raise
                self._torn.add(pack)
                continue
            finally:
                (self._scratch / pack_name(pack)).unlink(missing_ok=True)
            self._done[pack] = max(start, end)

    def _fetched(self, pack: int, start: int, end: int, losses: Losses | None) -> Path:
        """A far pack, as a file, from `start` on. FileNotFoundError where there is none;
        `ObjectsUnavailable`."""
        path = self._scratch / pack_name(pack)
        with open(path, "wb", opener=private) as file:
            file.truncate(start)
        with contextlib.closing(self._home.local.packs(self._directory)) as packs:
            copy(packs, pack, path, (start, end), losses)
        return path

    def go(self) -> Path:
        """The owner is held: what is left, and the statement. Where he has been is now called otherwise.
        `Torn` once he is in the fleet, if something of him was lost before."""
        home, owner, directory = self._home, self._owner, self._directory
        index = self._scratch / INDEX
        with (
            contextlib.closing(home.local.open_index(directory, held=True)) as source,
            contextlib.closing(sqlite3.connect(index)) as copy,
        ):
            source.backup(copy)
        lengths = {pack: length for pack, length in pack_lengths(index).items() if length}
        missing = self._missing(lengths)
        self._put({pack: missing[pack] for pack in self._far(missing)}, self._losses)
        self._outgoing.keep(lengths)
        missing = self._missing(lengths)
        near = {pack: missing[pack] for pack in missing if self._is_near(pack, lengths[pack])}
        grown = {pack: _as_far_as(directory.path / pack_name(pack), *near[pack]) for pack in near}
        self._outgoing.take({pack: between for pack, between in grown.items() if between[0] < between[1]})
        data = self._outgoing.behind(encode_whole(index))
        partition = home.partition_of(directory)
        home.fleet.registry.replace(owner, _uniqueids(index))
        new = Newcomer(owner, new_head(), partition, self._claim.place, self._outgoing.pieces, data)
        path = home.between.leave(directory.path)
        if not home.fleet.claims.enter(self._claim, new):
            raise MailboxLocked("the fleet knows of another one meanwhile: once more").at(user=str(owner))
        aside = _has_left(home, owner, path)
        arrived: dict[int, int] = {}
        for piece in self._outgoing.pieces:
            arrived[piece.pack] = max(arrived.get(piece.pack, 0), piece.end)
        self._losses.check(lengths, arrived, "in the fleet")
        return aside


def _as_far_as(path: Path, start: int, end: int) -> tuple[int, int]:
    """As much of it as the pack has."""
    return start, max(start, min(end, path.stat().st_size))


# -- out of the fleet


def move_out(home: MovingHome, owner: Owner, timeout: float) -> Path | None:
    """Bring an owner of the fleet to this machine; where he is now. None for one who is here already.
    `StoreError` where he is nowhere, or there is no room; `Torn` as `move_in`; `MailboxLocked`,
    `Away`."""
    path = home.between.find(owner)
    if path is not None and not home.bring_back(owner, path, timeout) and is_leaving(path):
        _end_leaving(home, owner, path, timeout)
    if home.local.find(owner) is not None:
        return None
    head = home.fleet.journal.head(owner)
    if head is None:
        if home.find(owner) is not None:
            return None  # somebody else has moved him
        if path is not None and not is_leaving(path) and (aside := _drop_left(home, owner, path, timeout)):
            return aside
        raise StoreError("not stored in the fleet").at(user=str(owner))
    layout = home.local.layout
    partition = head.partition if head.partition in layout.partitions else layout.defaultpartition
    home.local.partitions.check()
    home.local.partitions.mark(partition)
    place = layout.directory(owner, partition)
    making = place.with_name(FETCHING + place.name)
    make_directories(making, 0o700)
    try:
        lock = FileLock(making / LOCK, timeout=0)
    except (MailboxLocked, Gone):
        raise MailboxLocked(f"{owner} is being moved already") from None
    with lock:
        for left in making.iterdir():
            if left.name != LOCK:
                left.unlink()
        with contextlib.closing(_Coming(home, owner, head.id, making)) as coming:
            coming.ahead()
            for _ in range(_TRIES):
                hold = home.fleet.hold(owner, timeout)
                if not isinstance(hold, FleetHold):
                    break
                with contextlib.closing(hold), contextlib.suppress(_Again):
                    return coming.come(hold)
    raise MailboxLocked("has changed all the time, or was moved: once more").at(user=str(owner))


class _Again(Exception):
    """Another node was faster."""


class _Coming:
    """One on his way out of the fleet."""

    def __init__(self, home: MovingHome, owner: Owner, number: int, making: Path) -> None:
        """`number`: the id of his row."""
        self._home = home
        self._owner = owner
        self._number = number
        self._making = making
        self._is_complete = False
        self._losses = Losses()
        self._lengths: Mapping[int, int] = {}

    def close(self) -> None:
        """Remove a copy that nobody needs. One that was complete is another's to look after."""
        if not self._is_complete:
            shutil.rmtree(self._making, ignore_errors=True)

    def ahead(self) -> None:
        """Copy what there is of packs, with nobody kept waiting."""
        fleet = self._home.fleet
        for _ in range(_ROUNDS):
            directory = fleet.find(self._owner)
            if directory is None:
                return
            try:
                with fleet.reading(directory):
                    lengths = pack_lengths(fleet.cached(self._owner).image.path)
            except StaleOwner:
                continue
            self._check_room(lengths)
            if self._copy(directory, lengths) < _LITTLE:
                break

    def _check_room(self, lengths: Mapping[int, int]) -> None:
        found = os.statvfs(self._making)
        free = found.f_bavail * found.f_frsize
        octets = sum(lengths.values()) - sum(path.stat().st_size for path in self._making.glob("pack-*"))
        if octets > free:
            raise StoreError(
                f"{self._making.parent} has room for {free:,} octets, and {octets:,} are to come"
            )

    def _copy(
        self, directory: OwnerDirectory, lengths: Mapping[int, int], losses: Losses | None = None
    ) -> int:
        """Copy what is not here yet; how many octets. `losses`: the owner is held, and what cannot be had is
        lost."""
        copied = 0
        with contextlib.closing(self._home.fleet.packs(directory)) as packs:
            for pack, length in lengths.items():
                path = self._making / pack_name(pack)
                here = _size(path)
                try:
                    copy(packs, pack, path, (here, length), losses)
                except FileNotFoundError:  # what is lost there is lost here too
                    pass
                except StoreCorrupt:
                    if losses is not None:
                        raise
                copied += max(length - here, 0)
        return copied

    def come(self, hold: FleetHold) -> Path:
        """The owner is held: what is left, and the statement. Where he is now."""
        home, owner = self._home, self._owner
        head = hold.held.head  # of what is here; another node may have gone on
        if head is None or head.id != self._number:
            raise MailboxLocked("has become another meanwhile: once more").at(user=str(owner))
        with contextlib.ExitStack() as stack:
            path = home.between.find(owner)
            if path is not None and head_of(path) == head.head:
                stack.enter_context(FileLock(path / LOCK, _PATIENCE))
            else:
                path = self._complete(hold.directory, head, path)
            if not home.fleet.claims.leave(owner, head):
                if self._is_complete:
                    path.rename(self._making)
                    self._is_complete = False
                raise _Again
            home.fleet.drop_copy(owner)
            here = home.settle_here(owner, path)
            lengths = self._lengths
            self._losses.check(lengths, {pack: _size(here / pack_name(pack)) for pack in lengths}, "here")
            return here

    def _complete(self, directory: OwnerDirectory, head: Head, before: Path | None) -> Path:
        """The copy is whole, and lasts; what was copied `before`, of another head, is for nobody."""
        making, image = self._making, self._home.fleet.cached(self._owner).image.path
        lengths = self._lengths = pack_lengths(image)
        self._copy(directory, lengths, self._losses)
        for left in making.glob("pack-*"):
            if left.name not in {pack_name(pack) for pack in lengths}:
                left.unlink()
        shutil.copyfile(image, making / INDEX)
        (making / INDEX).chmod(0o600)
        schema.seal(making)
        (making / OF_HEAD).write_text(str(head.head))
        for file in making.iterdir():
            if file.name != LOCK:
                sync_file(file)
        sync_directory(making)
        if before is not None:
            self._home.between.set_aside(before)
        path = making.with_name(COMING + place_of(making).name)
        self._is_complete = True
        making.rename(path)
        sync_directory(path.parent)
        return path


def _size(path: Path) -> int:
    """0 where there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _lengths(index: sqlite3.Connection) -> dict[int, int]:
    return dict(index.execute("SELECT pack, length FROM packs WHERE length > 0 ORDER BY pack"))


def _uniqueids(index: Path) -> list[str]:
    with contextlib.closing(immutable(index)) as connection:
        rows = connection.execute("SELECT uniqueid FROM mailboxes WHERE deleted_at = 0").fetchall()
    return [uniqueid for (uniqueid,) in rows]
