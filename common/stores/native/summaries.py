"""Summaries of all owners, kept in ``<home>/summaries.sqlite``: a cache that is never believed on its word.

Each row stands beside the *stamp* of the index from which it was read (`homes.Stamp`): which file that is,
its length and time, and those of its write-ahead log. Whatever is committed changes the stamp, whoever does
it and however he ends; so a summary is right if the stamp is the same, and else it is read anew. A process
that is killed between a commit and this file leaves an old stamp there, not an old answer.

A file's time has the grain of the kernel's clock. So a summary that is read of a file which was changed a
moment ago is not kept, unless the reader holds the owner, and has given the file a time that no clock gives
(`mark`).

Nothing here is synced, and the file may be removed at any time.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.files import give_to_owner_of, make_directories
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.homes import OwnerDirectory, OwnerHome, Stamp
from cyrus_sync.common.stores.native.layout import KINDS
from cyrus_sync.common.stores.native.opened import OpenOwner
from cyrus_sync.common.stores.native.schema import VERSION
from cyrus_sync.common.stores.native.summary import Summary, summarise

log = logging.getLogger(__name__)

FILE = "summaries.sqlite"
_FORMAT = VERSION * 1000 + 2
"""Raised with what a summary says. A file with another number is begun anew."""

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS summaries (kind TEXT NOT NULL, name TEXT NOT NULL, stamp TEXT NOT NULL,"
    " summary TEXT NOT NULL, PRIMARY KEY (kind, name)) WITHOUT ROWID"
)
_AT_ONCE = 500

_SMALL = 512 * 1024
"""Octets of an index of which a summary is read in passing."""


def is_small(connection: sqlite3.Connection) -> bool:
    """Whether a summary of the index costs next to nothing."""
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    (size,) = connection.execute("PRAGMA page_size").fetchone()
    return bool(pages * size <= _SMALL)


class Known(NamedTuple):
    """One owner, as he is now. `summary` None: only asking him himself tells (he is damaged, lost, of an
    older format)."""

    owner: Owner
    stamp: Stamp | None
    summary: Summary | None


class Summaries:
    """Of the owners of a home. Safe for several threads and processes; never raises for its own file."""

    def __init__(self, home: OwnerHome) -> None:
        self._home = home
        self._path = home.notes / FILE
        self._lock = threading.Lock()
        self._waiting: dict[Owner, tuple[str, str]] = {}

    def everybody(self) -> Iterator[Known]:
        """All owners of the store, in its order."""
        stamps = self._home.stamps()
        kept = self._load()
        for owner in self._home.everybody():
            stamp = stamps.get(owner)
            yield Known(owner, stamp, self._of(owner, stamp, kept) if stamp else None)
        self.flush()

    def of(self, owners: Sequence[Owner]) -> Iterator[Known]:
        """Of these, in their order, which is that of their names."""
        kept = self._load(owners[0].name, owners[-1].name) if owners else {}
        for owner in owners:
            stamp = None
            with contextlib.suppress(CyrusSyncError, OSError):
                directory = self._home.find(owner)
                stamp = self._home.stamp(directory) if directory else None
            yield Known(owner, stamp, self._of(owner, stamp, kept) if stamp else None)
        self.flush()

    def _of(self, owner: Owner, stamp: Stamp, kept: dict[Owner, tuple[str, str]]) -> Summary | None:
        known = kept.get(owner)
        if known is not None and known[0] == stamp.text:
            with contextlib.suppress(ValueError, TypeError, IndexError):
                return Summary.decode(known[1])
        return self._read(owner, stamp)

    def _read(self, owner: Owner, stamp: Stamp) -> Summary | None:
        """From the index. One that nobody has open, and that has not changed for a moment, is read without
        SQLite's locks: if somebody comes meanwhile, its stamp tells, and it is read again."""
        directory = OwnerDirectory(owner, stamp.directory, None)
        quiet = stamp.settled and not stamp.logged
        for unlocked in (True, False) if quiet else (False,):
            with contextlib.suppress(CyrusSyncError, sqlite3.Error, OSError, ValueError, TypeError):
                with contextlib.closing(self._home.glance(directory, unlocked=unlocked)) as connection:
                    found = summarise(owner, connection)
                after = self._home.stamp(directory)
                same = after is not None and after.text == stamp.text
                if same and stamp.settled:
                    self._keep(owner, stamp.text, found)
                if same or not unlocked:
                    return found
        return None

    def note(self, owner: Owner, directory: OwnerDirectory, summary: Summary) -> None:
        """Keep what was read of an owner who is held, after whose last commit the index was closed."""
        with contextlib.suppress(CyrusSyncError, OSError):
            stamp = self._home.mark(directory)
            if stamp is not None:
                self._keep(owner, stamp.text, summary)

    def retire(self, opened: OpenOwner) -> None:
        """Close an owner's files. Of one who was changed the summary is kept, if that costs next to
        nothing."""
        owner, directory = opened.directory.owner, opened.directory
        with contextlib.ExitStack() as stack:
            found = None
            if opened.written and not opened.in_use and not self._home.readonly:
                with contextlib.suppress(CyrusSyncError, sqlite3.Error, OSError, ValueError, TypeError):
                    hold = self._home.hold(owner, 0, directory)
                    if hold is not None:
                        stack.callback(hold.close)
                        connection = opened.glance()
                        if connection is not None and hold.directory == directory and is_small(connection):
                            found = summarise(owner, connection)
            opened.close()
            if found is not None:
                self.note(owner, directory, found)

    def _keep(self, owner: Owner, stamp: str, summary: Summary) -> None:
        with self._lock:
            self._waiting[owner] = (stamp, summary.encode())
            full = len(self._waiting) >= _AT_ONCE
        if full:
            self.flush()

    # -- the file

    def _load(self, first: str = "", last: str = "") -> dict[Owner, tuple[str, str]]:
        """What is kept, of all or of those whose names are between these two."""
        self.flush()
        where, between = (" WHERE name >= ? AND name <= ?", (first, last)) if last else ("", ())
        try:
            with contextlib.closing(self._connect(create=False)) as connection:
                select = f"SELECT kind, name, stamp, summary FROM summaries{where}"
                rows = connection.execute(select, between)
                return {Owner(kind, name): (stamp, text) for kind, name, stamp, text in rows if kind in KINDS}
        except (sqlite3.Error, OSError) as error:
            log.debug("%s: %s", self._path, error)
            return {}

    def flush(self) -> None:
        """Write what is to be kept."""
        with self._lock:
            waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            with contextlib.closing(self._connect(create=True)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    "INSERT OR REPLACE INTO summaries (kind, name, stamp, summary) VALUES (?, ?, ?, ?)",
                    [(*owner, *row) for owner, row in waiting.items()],
                )
                connection.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            log.debug("%s: %s", self._path, error)
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                self._drop()

    def _connect(self, *, create: bool) -> sqlite3.Connection:
        if create:
            make_directories(self._path.parent)
        mode = "rwc" if create else "ro"
        if create and not self._path.exists():
            self._path.touch(0o600)
            with self._path.open("rb") as file:
                give_to_owner_of(self._path.parent, file.fileno())
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=5
        )
        try:
            if create:
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute("PRAGMA journal_mode = WAL")
            (found,) = connection.execute("PRAGMA user_version").fetchone()
            if found != _FORMAT:
                if not create:
                    raise sqlite3.OperationalError("another format")
                connection.execute("DROP TABLE IF EXISTS summaries")
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _drop(self) -> None:
        for tail in ("", "-wal", "-shm"):
            with contextlib.suppress(OSError):
                Path(f"{self._path}{tail}").unlink()
