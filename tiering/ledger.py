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
from collections.abc import Collection, Iterable, Iterator
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

    def look(self, named: Iterable[str], now: int, keep: int) -> list[str]:
        """`named` are needed and no others. Those that have been needless for `keep` seconds. Raises what
        `named` raises; then nothing is noted."""
        with self._open() as connection:
            query = connection.execute
            query("CREATE TEMP TABLE named (key TEXT PRIMARY KEY) WITHOUT ROWID")
            connection.executemany("INSERT OR IGNORE INTO temp.named VALUES (?)", ((key,) for key in named))
            query("INSERT OR IGNORE INTO objects (key) SELECT key FROM temp.named")
            query(
                "UPDATE objects SET needless_since = NULL"
                " WHERE needless_since IS NOT NULL AND key IN (SELECT key FROM temp.named)"
            )
            query(
                "UPDATE objects SET needless_since = ?"
                " WHERE needless_since IS NULL AND key NOT IN (SELECT key FROM temp.named)",
                (now,),
            )
            due = query("SELECT key FROM objects WHERE needless_since <= ?", (now - keep,))
            return [key for (key,) in due]

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
