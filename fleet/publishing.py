"""How a commit on a node's copy comes to count: what SQLite has committed is read out of its log, and becomes
one row of the journal if the owner's head is still what it was. Readers on this node wait at the gate
meanwhile, which is as long as one statement of PostgreSQL's.

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
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import StaleOwner
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.homes import Grown
from cyrus_sync.common.stores.native.layout import INDEX
from cyrus_sync.fleet.cache import CachedOwner, Gate, Phase, State, new_state
from cyrus_sync.fleet.delta import encode_whole
from cyrus_sync.fleet.finding import Head
from cyrus_sync.fleet.holding import FleetHold, Held
from cyrus_sync.fleet.journal import Journal, new_head
from cyrus_sync.fleet.outgoing import Outgoing
from cyrus_sync.fleet.tallies import Tallies
from cyrus_sync.fleet.wal import Position, end_of, log_size, read_log
from cyrus_sync.objects.store import ObjectStore

PATIENCE = 20.0
"""Seconds to wait for somebody on this node who commits, or brings an owner here: longer than PostgreSQL is
given."""

_LONG_LOG = 4 * 1024 * 1024
"""Octets of SQLite's log after which a writer begins with a new generation."""


_KNOWN = 256
"""Owners of whom it is remembered what this process has left of them."""


class _Fit(NamedTuple):
    """A generation of the present format whose log ends where it was published: `log_end` is its size."""

    generation: str
    position: Position
    log_end: int


class Publishing:
    """What a node commits. Safe for several threads."""

    def __init__(self, journal: Journal, objects: ObjectStore, tallies: Tallies) -> None:
        self._tallies = tallies
        self._journal = journal
        self._objects = objects
        self._lock = threading.Lock()
        self._fit: OrderedDict[Owner, _Fit] = OrderedDict()

    def fit_for_writing(
        self, owner: Owner, cached: CachedOwner, state: State, head: Head
    ) -> tuple[State, Head]:
        """A new generation where SQLite's log is not known to the end, or has become long; an index of the
        present format. The caller has the owner's lock. `StaleOwner`, `StoreError`."""
        fit = self._fit.get(owner, _Fit("", Position(), -1))
        index = cached.generation(state.generation) / INDEX
        if fit == (state.generation, state.position, log_size(index)) and fit.log_end < _LONG_LOG:
            return state, head
        if cached.image.format < schema.VERSION:
            return self._upgrade(owner, cached, head)
        found = read_log(index, state.position)
        if found is not None:
            octets = found[0].frames * (found[1].page if found[1] is not None else schema.SMALL_PAGE)
            if octets < max(_LONG_LOG, cached.image.path.stat().st_size):
                return state, head
        with cached.gate(closed=True, timeout=PATIENCE) as gate:
            state = state._replace(generation=cached.new_generation(), position=Position())
            gate.state = state
        return state, head

    def _upgrade(self, owner: Owner, cached: CachedOwner, head: Head) -> tuple[State, Head]:
        """An index of an older format becomes one of the present one, by a commit like any other. Whoever
        reads in the older one goes on there."""
        generation = cached.new_generation()
        directory = cached.generation(generation)
        schema.upgrade(directory / INDEX)
        data, new = encode_whole(directory / INDEX), new_head()
        with cached.gate(closed=True, timeout=PATIENCE) as gate:
            seq = self._journal.swap(owner, head, new, [], data)
            head = head._replace(head=new, seq=seq)
            state = new_state(head, generation)
            gate.state = state._replace(phase=Phase.WRITING)
            shutil.copyfile(directory / INDEX, cached.image.path)
            gate.state = state
        return state, head

    def publish(self, hold: FleetHold, cached: CachedOwner, commit: Callable[[], Grown | None]) -> None:
        """`OwnerHome.publish`."""
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
                self._publish(hold, cached, gate, before if _inode(index) == inode else None, grown)
            except StaleOwner:
                self._tallies.count("commits overtaken")
                raise
            except BaseException:
                self._tallies.count("commits failed")
                raise

    def _publish(
        self, hold: FleetHold, cached: CachedOwner, gate: Gate, before: State | None, grown: Grown
    ) -> None:
        """What was committed in the directory since the state `before`; None: the index is another."""
        begun = time.perf_counter()
        head, index = hold.held.head, hold.directory.path / INDEX
        assert head is not None
        logged = read_log(index, before.position) if before is not None else None
        outgoing = Outgoing(cached.packs, self._objects, head.place, head.seq + 1)
        outgoing.take(grown)
        if logged is not None:
            position, change = logged
            if change is None:
                assert before is not None
                gate.state = before
                return
            difference, writes = cached.image.encode(change)
            octets, log_end = change.total * change.page, end_of(position, change.page)
        else:
            difference = encode_whole(index)
            content = index.read_bytes()
            position, writes, octets, log_end = Position(), [(0, content)], len(content), -1
        data = outgoing.behind(difference)
        new = new_head()
        seq = self._journal.swap(hold.directory.owner, head, new, outgoing.pieces, data)
        head = head._replace(head=new, seq=seq)
        state = new_state(head, str(hold.directory.version))._replace(position=position)
        gate.state = state._replace(phase=Phase.WRITING)
        cached.image.write(writes, octets)
        gate.state = state
        hold.held = Held(head, position, published=True, log_end=log_end)
        self._remember(hold.directory.owner, _Fit(state.generation, position, log_end))
        self._tallies.committed(time.perf_counter() - begun, len(data))

    def _remember(self, owner: Owner, fit: _Fit) -> None:
        with self._lock:
            self._fit[owner] = fit
            self._fit.move_to_end(owner)
            if len(self._fit) > _KNOWN:
                self._fit.popitem(last=False)

    def publish_rest(self, hold: FleetHold, cached: CachedOwner) -> None:
        """What was done in the directory behind the commit (the outbox was emptied) is published too, so
        that no node takes its lines for lines that wait. If that fails, they are written twice."""
        if hold.held.published:
            with contextlib.suppress(CyrusSyncError, OSError, sqlite3.Error):
                if log_size(hold.directory.path / INDEX) == hold.held.log_end:
                    return
                found = read_log(hold.directory.path / INDEX, hold.held.position)
                if found is not None and found[1] is not None:
                    self.publish(hold, cached, dict)

    def abandon(self, hold: FleetHold, cached: CachedOwner) -> None:
        """What was committed and not published is gone again; so is an owner who was made."""
        with cached.gate(closed=True, timeout=PATIENCE) as gate:
            state = gate.state
            if hold.made:
                cached.wipe()
                gate.clear()
            elif state is not None and state.phase is Phase.COMMITTING:
                generation = cached.new_generation()
                cached.trim(generation)
                gate.state = state._replace(phase=Phase.CLEAN, generation=generation, position=Position())


def _inode(path: Path) -> int:
    try:
        return os.stat(path).st_ino  # noqa: PTH116 (at every commit)
    except FileNotFoundError:
        return 0
