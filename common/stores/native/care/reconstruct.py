"""`reconstruct`: a new index for one owner, from the packs and from whatever of the old index can be read.

The packs are read from end to end: a message is what its SHA-1 says, wherever an index thinks it is. The
old index gives the rest: mailboxes with uniqueid and UIDVALIDITY, UIDs, flags, dates, annotations, what
belongs to the user. What it cannot give is made up so that the other end of a replication still comes to the
same:

==============================  ==================================================================
a mailbox row is lost           its records are known by its number: a folder ``Recovered`` gets them
a record is lost                its message comes into ``Recovered``, dated by its header
INBOX is lost                   it is made anew, with its old uniqueid where the registry tells it
a record is not what the sums   the mailbox gets a new HIGHESTMODSEQ, and forgets that anything was
of its mailbox say              cleaned up: so no replica's copy is expunged for want of ours
a record has no message         it stays, and `verify` goes on naming it: a peer may have the message
==============================  ==================================================================

Crash-safe: the new index is complete and synced before it takes the place of the old one, by one rename. The
old one stays beside it under another name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path

from cyrus_sync.common.files import make_private, sync_directory, sync_file
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import PATIENCE, Reconstructed
from cyrus_sync.common.stores.native.care.new_index import NewIndex
from cyrus_sync.common.stores.native.homes import Grown
from cyrus_sync.common.stores.native.layout import INDEX
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.trouble import reporting

_SCRATCH = "reconstruct."


def reconstruct(
    store: NativeStore, owner: Owner, *, dry_run: bool = False, timeout: float = PATIENCE
) -> Reconstructed:
    """Give the owner a new index. `StoreError` where nothing is left to make it from, `MailboxLocked`."""
    store.home.check()
    with reporting(owner):
        with contextlib.closing(store.home.hold_remains(owner, timeout)) as hold:
            directory = hold.directory.path
            _remove_left_overs(directory)
            parent = None if dry_run else directory
            with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=parent) as scratch:
                done = Reconstructed(directory)
                new = Path(scratch) / "new.sqlite"
                held = NewIndex(store, hold.directory, Path(scratch), done).build(new)
                if not dry_run:
                    store.open.forget(owner)
                    store.home.publish(hold, lambda: _take_place(done, new))
        if not dry_run:
            store.home.registry.replace(owner, held)
            with store.write(owner, create=False, timeout=timeout):
                pass  # writes the lines for the action log that wait in the new index
    return done


def _remove_left_overs(directory: Path) -> None:
    """Of one who was killed."""
    for path in directory.glob(f"{_SCRATCH}*"):
        shutil.rmtree(path, ignore_errors=True)


# -- taking the place of the old index


def _take_place(done: Reconstructed, new: Path) -> Grown:
    done.aside = _switch(done.directory, new)
    return {}


def _switch(directory: Path, new: Path) -> Path | None:
    """Let `new` be the index. Killed at any moment, this leaves the old one or the new one."""
    index = directory / INDEX
    log, shared = directory / f"{INDEX}-wal", directory / f"{INDEX}-shm"
    aside = _free(directory / f"{INDEX}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
    if log.is_file():
        _copy(log, Path(f"{aside}-wal"))
    if index.is_file():
        # What the log has goes into the file, as whoever opened it next would do it. A file that cannot be
        # opened loses nothing without its log: both are set aside.
        with (
            contextlib.suppress(sqlite3.Error, UnicodeDecodeError),
            contextlib.closing(sqlite3.connect(index)) as connection,
        ):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if index.is_file() or index.is_symlink():
        with contextlib.suppress(FileNotFoundError):
            os.link(index, aside, follow_symlinks=False)
        if log.is_file() and log.stat().st_size:
            log.unlink()
            sync_directory(directory)
    elif index.is_dir():
        index.rename(aside)
    else:
        log.unlink(missing_ok=True)
    sync_directory(directory)
    new.replace(index)
    log.unlink(missing_ok=True)
    shared.unlink(missing_ok=True)
    sync_directory(directory)
    return aside if aside.exists() or aside.is_symlink() else None


def _free(path: Path) -> Path:
    """`path`, or one like it that is not there yet."""
    number, found = 1, path
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def _copy(source: Path, target: Path) -> None:
    make_private(target)
    shutil.copyfile(source, target)
    sync_file(target)
