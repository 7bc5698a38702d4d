"""Which objects this store has put, in ``<configdirectory>/store/tier.sqlite``: so none stays for ever.

A key is entered, durably, before its object is put. It goes when the object has been deleted. Whether an
object is needed says nobody but the owners' directories: one that no ``pack-….far`` names is needless since
the first look that did not find it named, and deleted when that is long enough ago. So whatever lets go of a
pack (expire, a user who is removed, somebody killed in the middle) has nothing to do for it; and where an
older copy of a partition is put back, its objects are still there.

Only what is in this file is ever deleted. Where the file is lost, those keys that are named are entered
again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import give_to_owner_of, make_directories, make_private

FILE = "tier.sqlite"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (key TEXT PRIMARY KEY, needless_since INTEGER) WITHOUT ROWID;
"""


class Ledger:
    """Raises `StoreError`."""

    def __init__(self, notes: Path) -> None:
        self._path = notes / FILE

    def enter(self, key: str) -> None:
        """Before the object is put."""
        with self._open() as connection:
            connection.execute("INSERT OR IGNORE INTO objects (key) VALUES (?)", (key,))

    def strike_out(self, keys: Collection[str]) -> None:
        """The objects are deleted."""
        with self._open() as connection:
            connection.executemany("DELETE FROM objects WHERE key = ?", [(key,) for key in keys])

    def look(self, named: Collection[str], now: int, keep: int) -> list[str]:
        """`named` are needed and no others. Those that have been needless for `keep` seconds."""
        with self._open() as connection:
            known = dict(connection.execute("SELECT key, needless_since FROM objects"))
            connection.executemany(
                "INSERT OR REPLACE INTO objects (key) VALUES (?)",
                [(key,) for key in named if known.get(key, 0) is not None],
            )
            connection.executemany(
                "UPDATE objects SET needless_since = ? WHERE key = ?",
                [(now, key) for key, since in known.items() if since is None and key not in named],
            )
        return [
            key
            for key, since in known.items()
            if since is not None and since <= now - keep and key not in named
        ]

    def needed(self) -> int:
        """How many objects are not known to be needless."""
        with self._open() as connection:
            query = "SELECT count(*) FROM objects WHERE needless_since IS NULL"
            return int(connection.execute(query).fetchone()[0])

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            make_directories(self._path.parent)
            if not self._path.exists():
                make_private(self._path)
                with self._path.open("rb") as file:
                    give_to_owner_of(self._path.parent, file.fileno())
            connection = sqlite3.connect(self._path, isolation_level=None, timeout=10)
            try:
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_SCHEMA)
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{self._path}: {error}") from error
