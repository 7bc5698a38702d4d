"""The kind sql: a table in an SQLite file, ``sql_engine: sqlite``.

The table has the name of the file that the database would be, with ``_`` for its last dot, and two columns,
`dbkey` and `data`. Cyrus writes them as text, whatever they hold.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from cyrus_sync.common.errors import StoreError
from cyrus_sync.spool.trouble import SpoolDamaged

_BATCH = 2000
"""Rows of one query: its lock, which a writer waits for, is held no longer than for these."""


class SqliteTable:
    """A `Database`. `path` is the file that the database would be, `file` where the table is."""

    kind = "sql"

    def __init__(self, path: Path, file: Path) -> None:
        self.path = path
        self._file = file
        head, dot, tail = path.name.rpartition(".")
        self._table = '"' + (f"{head}_{tail}" if dot else tail).replace('"', '""') + '"'

    def is_current(self) -> bool:
        return True

    def close(self) -> None:
        """Nothing is kept open."""

    def get(self, key: bytes) -> bytes | None:
        rows = self._rows("WHERE CAST(dbkey AS BLOB) = ?", (key,))
        return rows[0][1] if rows else None

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        last = prefix
        comparison = ">="
        while True:
            where = f"WHERE CAST(dbkey AS BLOB) {comparison} ? ORDER BY CAST(dbkey AS BLOB) LIMIT {_BATCH}"
            rows = self._rows(where, (last,))
            for key, value in rows:
                if not key.startswith(prefix):
                    return
                yield key, value
            if len(rows) < _BATCH:
                return
            last, comparison = rows[-1][0], ">"

    def _rows(self, where: str, values: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
        query = f"SELECT CAST(dbkey AS BLOB), CAST(data AS BLOB) FROM {self._table} {where}"
        try:
            with closing(sqlite3.connect(f"file:{quote(str(self._file))}?mode=ro", uri=True)) as connection:
                rows = connection.execute(query, values).fetchall()
        except sqlite3.OperationalError as error:
            raise StoreError(f"{self._file}: table {self._table}: {error}") from error
        except sqlite3.DatabaseError as error:
            raise SpoolDamaged(self._file, 0, str(error), "SQLite") from error
        return [(key or b"", value or b"") for key, value in rows]
