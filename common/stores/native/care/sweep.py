"""`sweep`: write the action-log lines that a change has left behind, for whoever starts to replicate.

What it looks at is said by `common.stores.native.unlogged`: as a rule a file or two, and every owner once
after the machine has started. An owner whom somebody is writing to is left alone: that writer does it.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.native import schema, unlogged
from cyrus_sync.common.stores.native.layout import INDEX
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.native.unlogged import Line

log = logging.getLogger(__name__)


PATIENCE = 1.0
"""Seconds to wait for an owner to whom somebody is writing."""


def sweep(store: NativeStore, stop: threading.Event | None = None) -> list[Owner]:
    """The owners whose lines were written. `stop` ends it early; the next sweep then begins anew."""
    if store.home.readonly or not store.keeps_lines:
        return []
    run = _Sweep(store, stop or threading.Event())
    directory = store.unlogged.directory
    everybody = not unlogged.all_looked_at(directory)
    if everybody:
        unlogged.begin_with_all(directory)
    for notes in unlogged.all_notes(directory):
        well = run.write_all(notes.owners) and (notes.alive or run.write_new(notes.new))
        if well and not notes.alive and not run.stop.is_set():
            notes.remove()
    if everybody:
        run.write_all(_owners(store))
        if not run.stop.is_set():
            unlogged.done_with_all(directory)
    for owner in run.written:
        log.info("action log: wrote what an earlier change of %s had left over", owner)
    return run.written


def _owners(store: NativeStore) -> Iterable[Owner]:
    """Everybody of whom it is not known that nothing waits."""
    yield SERVER
    for owner, _, summary in store.summaries.everybody():
        if summary is None or summary.waiting:
            yield owner


class _Sweep:
    def __init__(self, store: NativeStore, stop: threading.Event) -> None:
        self.store = store
        self.stop = stop
        self.written: list[Owner] = []

    def write_all(self, owners: Iterable[Owner]) -> bool:
        """Whether all is well with these; who is left is noted, for the next sweep."""
        well = True
        for owner in owners:
            if self.stop.is_set():
                break
            try:
                left = self._write(owner)
            except (CyrusSyncError, OSError, sqlite3.Error) as error:
                log.warning("action log of %s not looked at: %s", owner, reason(error))
                left = True
            if left:
                self.store.unlogged.note(owner)
                well = False
        return well

    def write_new(self, new: Mapping[Owner, Sequence[Line]]) -> bool:
        """Write the lines of owners who were new when a process ended, as far as they were shown."""
        try:
            there = [owner for owner in new if self.store.find(owner) is not None]
            self.store.lines.put([line for owner in there for line in new[owner]])
        except (CyrusSyncError, OSError, sqlite3.Error) as error:
            log.warning("action log of new owners not written: %s", reason(error))
            return False
        self.written += there
        return True

    def _write(self, owner: Owner) -> bool:
        """Whether lines are left still."""
        if not waiting(self.store, owner):
            return False
        with self.store.transaction(owner, create=False, timeout=PATIENCE) as transaction:
            found = transaction.left_over
        left = waiting(self.store, owner) > 0
        if found and not left:
            self.written.append(owner)
        return left


def waiting(store: NativeStore, owner: Owner) -> int:
    """How many lines of an owner are not in the action log. Leaves no files open: everybody is asked."""
    directory = store.home.find(owner)
    if directory is None:
        return 0
    try:
        connection = schema.connect(directory.path / INDEX, readonly=True)
    except schema.OldVersion:
        return 1  # Who knows; the writer that looks upgrades it.
    with contextlib.closing(connection):
        return int(connection.execute("SELECT count(*) FROM outbox").fetchone()[0])
