"""What a node keeps of an owner. All of it may be removed at any time, when nobody has the owner's lock::

    <cache>/users/52/alice/lock       whoever changes the owner on this node holds this with flock(2)
    <cache>/users/52/alice/state      what is here (`State`); the gate between readers and a commit
    <cache>/users/52/alice/image      the index as it was published last (`delta.Image`)
    <cache>/users/52/alice/packs/     what is here of packs: from the beginning of each, without holes
    <cache>/users/52/alice/g-3f9c…/   a *generation*: the copy of the image on which SQLite works

Another node's commit makes a new generation. Whoever reads in an older one goes on there.

Nothing is synced. After a power cut files may be anything, so a state names the boot in which it was written.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.common.files import make_directories, private
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.layout import INDEX, LOCK, Layout, pack_name
from cyrus_sync.common.stores.native.locks import FileLock, Gone
from cyrus_sync.common.stores.native.unlogged import boot_id
from cyrus_sync.fleet.delta import Image
from cyrus_sync.fleet.finding import Head
from cyrus_sync.fleet.journal import Piece
from cyrus_sync.fleet.wal import Position

_STATE_OCTETS = 512
_GENERATION = "g-"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.01


class Phase(StrEnum):
    """What may be trusted of what is here."""

    CLEAN = "clean"
    """Everything is what was published."""
    COMMITTING = "committing"
    """The image is; the generation may have a commit of which nobody has heard."""
    WRITING = "writing"
    """Nothing is."""


class State(NamedTuple):
    """What a node has of an owner."""

    boot: str
    phase: Phase
    id: int
    head: int
    seq: int
    generation: str
    position: Position
    """Up to where SQLite's log in the generation is published."""

    def is_of(self, head: Head) -> bool:
        """Whether it is what PostgreSQL says."""
        return self.phase is Phase.CLEAN and (self.id, self.head) == (head.id, head.head)


class CachedOwner:
    """The directory of one owner."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.image = Image(path / "image")
        self.packs = path / "packs"
        self._state, self._lock = str(path / "state"), path / LOCK

    def lock(self, timeout: float) -> FileLock:
        """`MailboxLocked` after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            with contextlib.suppress(Gone):
                try:
                    return FileLock(self._lock, max(deadline - time.monotonic(), 0))
                except FileNotFoundError:
                    make_directories(self.path, lasting=False)

    @contextlib.contextmanager
    def gate(self, *, closed: bool, timeout: float) -> Iterator[Gate]:
        """Readers come through together, and whoever has `closed` it is alone. `MailboxLocked` after
        `timeout` seconds; FileNotFoundError where nothing is here of the owner."""
        flags = (os.O_RDWR | os.O_CREAT) if closed else os.O_RDONLY
        descriptor = os.open(self._state, flags | os.O_CLOEXEC, 0o600)
        try:
            if not _flock(descriptor, fcntl.LOCK_EX if closed else fcntl.LOCK_SH, timeout):
                raise MailboxLocked()
            yield Gate(descriptor)
        finally:
            os.close(descriptor)

    def state(self, timeout: float) -> State | None:
        """What is here; None for nothing that may be used. Waits while somebody commits."""
        try:
            with self.gate(closed=False, timeout=timeout) as gate:
                return gate.state
        except FileNotFoundError:
            return None

    def touch(self) -> None:
        """Somebody has asked for the owner: it is not the first one to go."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self._state)

    def generation(self, name: str) -> Path:
        return self.path / name

    def new_generation(self) -> str:
        """A copy of the image, for SQLite. Older ones go, but for the last: readers may just be on their
        way."""
        older = sorted(self.path.glob(f"{_GENERATION}*"), key=lambda path: path.stat().st_mtime_ns)
        name = self.name_generation()
        shutil.copyfile(self.image.path, self.path / name / INDEX)
        (self.path / name / INDEX).chmod(0o600)
        for path in older[:-1]:
            shutil.rmtree(path, ignore_errors=True)
        return name

    def name_generation(self) -> str:
        """An empty directory for a new one."""
        name = f"{_GENERATION}{secrets.token_hex(8)}"
        self.generation(name).mkdir(0o700)
        return name

    def wipe(self) -> None:
        """Remove everything but lock and state. The caller has the lock, and has closed the gate."""
        for path in self.path.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name not in (LOCK, "state"):
                path.unlink()

    # -- packs

    def take_in(self, pieces: Sequence[Piece], data: bytes) -> None:
        """Append what a row of the journal brings of packs, where it follows what is here."""
        for piece in pieces:
            path = self.packs / pack_name(piece.pack)
            here = path.stat().st_size if path.exists() else 0
            if here > piece.start:
                os.truncate(path, piece.start)
            if here < piece.start or piece.key:
                continue
            self.packs.mkdir(0o700, exist_ok=True)
            with open(path, "ab", opener=private) as file:
                file.write(memoryview(data)[piece.offset :][: piece.end - piece.start])

    def trim(self, generation: str) -> None:
        """Cut off what stands in packs behind what the index knows."""
        if not self.packs.is_dir():
            return
        lengths = pack_lengths(self.path / generation / INDEX)
        known = {pack_name(number): length for number, length in lengths.items()}
        for path in self.packs.iterdir():
            if path.stat().st_size > known.get(path.name, 0):
                os.truncate(path, known.get(path.name, 0))


class Gate:
    """The open gate of an owner: what is here, read and written."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def state(self) -> State | None:
        data = os.pread(self._descriptor, _STATE_OCTETS, 0)
        try:
            boot, phase, number, head, seq, generation, *position = json.loads(data)
        except ValueError:
            return None
        if boot != _BOOT:
            return None
        return State(boot, Phase(phase), number, head, seq, generation, Position(*position))

    @state.setter
    def state(self, state: State) -> None:
        values = [*state[:-1], *state.position]
        os.pwrite(self._descriptor, json.dumps(values).encode().ljust(_STATE_OCTETS), 0)

    def clear(self) -> None:
        """Nothing is here."""
        os.ftruncate(self._descriptor, 0)


_BOOT = boot_id() or secrets.token_hex(8)


def new_state(head: Head, generation: str) -> State:
    """Of a generation that was made just now."""
    return State(_BOOT, Phase.CLEAN, head.id, head.head, head.seq, generation, Position())


def _flock(descriptor: int, how: int, timeout: float) -> bool:
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def immutable(index: Path) -> sqlite3.Connection:
    """A connection to an index that nobody changes now: no lock is taken, and no file is made beside it."""
    return sqlite3.connect(f"{index.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)


def pack_lengths(index: Path) -> dict[int, int]:
    """How long packs are, as an index says that nobody changes now."""
    with contextlib.closing(immutable(index)) as connection:
        return dict(connection.execute("SELECT pack, length FROM packs"))


@lru_cache(maxsize=4096)
def cached_owner(cache: Path, owner: Owner) -> CachedOwner:
    """Where the cache has an owner: as a partition would."""
    return CachedOwner(Layout({"": cache}, "", cache).directory(owner, ""))


def directory_of(cache: Path, owner: Owner) -> Path:
    """The path of `cached_owner`."""
    return cached_owner(cache, owner).path
