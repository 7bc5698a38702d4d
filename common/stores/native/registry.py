"""Who holds which mailbox: uniqueid → owner, over the whole store.

A hint, not the truth: every answer is checked against the owner's own index by whoever asks, and
`rebuild` makes it anew from the indexes. Written only when a mailbox comes, goes or changes its owner:
what comes before the index is committed, what goes after. So a crash may leave it knowing too much (two
holders of one mailbox), never too little. (A power cut may cost it the last entries, since it is not
synced; `rebuild` brings them back.)
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from common.names import Owner
from common.stores.native.rows import storable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS holders (
    uniqueid TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (uniqueid, kind, name)
) WITHOUT ROWID;
"""


class Registry:
    """The file ``registry.sqlite``. Safe for several threads and processes."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self._path = path
        self._readonly = readonly
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def _open(self) -> sqlite3.Connection | None:
        if self._connection is None:
            if self._readonly:
                if not self._path.exists():
                    return None
                uri = f"{self._path.absolute().as_uri()}?mode=ro"
                self._connection = sqlite3.connect(
                    uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30
                )
                return self._connection
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=30
            )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.executescript(_SCHEMA)
            self._connection = connection
        return self._connection

    def holders(self, uniqueid: str) -> list[Owner]:
        """Who may hold the mailbox."""
        if not storable(uniqueid):
            return []
        with self._lock:
            connection = self._open()
            if connection is None:
                return []
            rows = connection.execute(
                "SELECT kind, name FROM holders WHERE uniqueid = ?", (uniqueid,)
            ).fetchall()
        return [Owner(*row) for row in rows]

    def note(self, hints: Sequence[tuple[str, Owner | None]], by: Owner) -> None:
        """Remember who holds what; None = `by` holds it no more."""
        if not hints:
            return
        with self._lock:
            connection = self._open()
            assert connection is not None
            with _transaction(connection):
                for uniqueid, owner in hints:
                    if owner is None:
                        connection.execute(
                            "DELETE FROM holders WHERE uniqueid = ? AND kind = ? AND name = ?",
                            (uniqueid, *by),
                        )
                    else:
                        connection.execute(
                            "INSERT OR REPLACE INTO holders (uniqueid, kind, name) VALUES (?, ?, ?)",
                            (uniqueid, *owner),
                        )

    def rebuild(self, holders: Iterable[tuple[str, Owner]]) -> None:
        """Make the registry anew."""
        with self._lock:
            connection = self._open()
            assert connection is not None
            with _transaction(connection):
                connection.execute("DELETE FROM holders")
                connection.executemany(
                    "INSERT OR REPLACE INTO holders (uniqueid, kind, name) VALUES (?, ?, ?)",
                    ((uniqueid, *owner) for uniqueid, owner in holders),
                )

    def entries(self) -> list[tuple[str, Owner]]:
        """All that is known."""
        with self._lock:
            connection = self._open()
            rows = (
                connection.execute("SELECT uniqueid, kind, name FROM holders").fetchall()
                if connection
                else []
            )
        return [(uniqueid, Owner(kind, name)) for uniqueid, kind, name in rows]

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
