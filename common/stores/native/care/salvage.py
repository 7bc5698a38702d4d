"""What can be had of an index that may be damaged: its rows, put into a new one.

Where SQLite finds nothing wrong, its word is taken. Else every page is read for itself (`pages`), and a row
is taken for what its shape says, if its values are such as stand there. What is older than another version
of the same row (pages that were given back keep their text) loses against it.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.files import make_private
from cyrus_sync.common.model import MAX_UID
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.pages import Pages, Row

_TABLES = (
    "owner", "mailboxes", "records", "annotations", "messages", "packs", "tombstones", "former_names",
    "quotas", "subscriptions", "seen", "outbox",
)  # fmt: skip
_TYPES = {"INTEGER": int, "TEXT": str, "BLOB": bytes}
_BATCH = 1000

Values = tuple[Any, ...]


class _Table(NamedTuple):
    name: str
    columns: tuple[str, ...]
    types: tuple[type, ...]
    has_rowid: bool
    """Its first column is the rowid, which stands outside of the row."""


def _tables() -> dict[str, _Table]:
    found = {}
    with contextlib.closing(schema.memory_index()) as empty:
        for name in _TABLES:
            info = empty.execute(f"PRAGMA table_info({name})").fetchall()
            columns = tuple(column[1] for column in info)
            types = tuple(_TYPES[column[2]] for column in info)
            (sql,) = empty.execute("SELECT sql FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
            found[name] = _Table(name, columns, types, not sql.endswith("WITHOUT ROWID"))
    return found


class Salvage:
    """Rows of the index in `directory`, read from copies in `scratch`: nothing there is changed."""

    def __init__(self, owner: Owner, directory: Path, scratch: Path) -> None:
        self._owner = owner
        self._tables = _tables()
        self._path = scratch / "old.sqlite"
        self._log = scratch / "old.sqlite-wal"
        self.is_there = False
        for target, name in ((self._path, "index.sqlite"), (self._log, "index.sqlite-wal")):
            if (directory / name).is_file():
                _copy(directory / name, target)
                self.is_there = True
        self._raw_log = self._log.read_bytes() if self._log.exists() else b""
        self.is_whole = self._is_sound()
        """Whether SQLite can read all of it."""

    def _is_sound(self) -> bool:
        if not self._path.exists():
            return False
        try:
            with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
                if schema.stored_version(connection) != schema.VERSION:
                    return False
                if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
                    return False
                return all(self._is_legible(connection, table) for table in self._tables.values())
        except (sqlite3.Error, UnicodeDecodeError):
            return False

    def _is_legible(self, connection: sqlite3.Connection, table: _Table) -> bool:
        for row in connection.execute(f"SELECT {', '.join(table.columns)} FROM {table.name}"):
            if not self._is_plausible(table, row):
                return False
        return True

    def pour(self, into: sqlite3.Connection, held: Collection[str] = ()) -> None:
        """Put everything that can be had into an empty index; `held` are uniqueids that the registry has for
        the owner now."""
        batches: dict[str, list[Values]] = {}
        for name, row in self._by_sqlite() if self.is_whole else self._by_page():
            batch = batches.setdefault(name, [])
            batch.append(row)
            if len(batch) >= _BATCH and name != "mailboxes":
                self._insert(into, name, batch)
                batch.clear()
        # What the registry knows comes before a mailbox of an earlier life that had the same name; then the
        # newest version of a mailbox first: the others are in its way.
        uniqueid, modseq = (self._column("mailboxes", name) for name in ("uniqueid", "highestmodseq"))
        batches.get("mailboxes", []).sort(key=lambda row: (row[uniqueid] not in held, -row[modseq]))
        for name, batch in batches.items():
            self._insert(into, name, batch)

    def _insert(self, into: sqlite3.Connection, name: str, rows: Iterable[Values]) -> None:
        table = self._tables[name]
        marks = ", ".join("?" * len(table.columns))
        statement = f"INSERT OR IGNORE INTO {name} VALUES ({marks})"
        if name == "records":
            newer = ", ".join(f"{column} = excluded.{column}" for column in table.columns[2:])
            statement = (
                f"INSERT INTO records VALUES ({marks}) ON CONFLICT (mailbox, uid)"
                f" DO UPDATE SET {newer} WHERE excluded.modseq > modseq"
            )
        into.executemany(statement, rows)

    def _column(self, table: str, column: str) -> int:
        return self._tables[table].columns.index(column)

    # -- reading

    def _by_sqlite(self) -> Iterator[tuple[str, Values]]:
        with contextlib.closing(sqlite3.connect(self._path, isolation_level=None)) as connection:
            for table in self._tables.values():
                for row in connection.execute(f"SELECT {', '.join(table.columns)} FROM {table.name}"):
                    yield table.name, row

    def _by_page(self) -> Iterator[tuple[str, Values]]:
        # SQLite may have put the log into the file, or have refused both: either is read in the same way.
        with contextlib.ExitStack() as stack:
            data: bytes | mmap.mmap = b""
            if self._path.exists() and self._path.stat().st_size:
                file = stack.enter_context(self._path.open("rb"))
                data = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            for row in Pages(data, self._raw_log).rows():
                table = self._table_of(row)
                if table is not None:
                    values = (row.rowid, *row.values[1:]) if table.has_rowid else row.values
                    if self._is_plausible(table, values):
                        yield table.name, values

    def _table_of(self, row: Row) -> _Table | None:
        """The table whose shape a row has. The shapes of all differ, entries of indexes included."""
        if row.rowid is not None and row.values[0] is not None:
            return None  # The schema's own table: all of ours with a rowid have it in the first column.
        for table in self._tables.values():
            if table.has_rowid == (row.rowid is not None) and len(table.columns) == len(row.values):
                start = 1 if table.has_rowid else 0
                if all(map(isinstance, row.values[start:], table.types[start:])):
                    return table
        return None

    def _is_plausible(self, table: _Table, row: Values) -> bool:
        """Whether the values are such as are ever stored."""
        if not all(map(isinstance, row, table.types)):
            return False
        check = _CHECKS.get(table.name)
        try:
            return check is None or check(self._owner, dict(zip(table.columns, row, strict=True)))
        except (CyrusSyncError, ValueError):
            return False


def _copy(source: Path, target: Path) -> None:
    make_private(target)
    with source.open("rb") as reading, target.open("wb") as writing:
        while piece := reading.read(1 << 20):
            writing.write(piece)


# -- what may stand in a row


def _mailbox(owner: Owner, row: dict[str, Any]) -> bool:
    belongs = row["deleted_at"] > 0 or owner_of(row["name"]) == owner
    unsigned = ("id", "last_uid", "highestmodseq", "uidvalidity", "foldermodseq", "deletedmodseq", "sync_crc")
    return belongs and bool(row["uniqueid"]) and all(row[name] >= 0 for name in unsigned)


def _record(_owner: Owner, row: dict[str, Any]) -> bool:
    return (
        row["mailbox"] > 0
        and 0 < row["uid"] <= MAX_UID
        and row["modseq"] >= 0
        and row["expunged"] in (0, 1)
        and row["unlinked"] in (0, 1)
        and len(row["guid"]) == 20
        and row["size"] >= 0
        and "\0" not in row["flags"]
    )


def _quota(owner: Owner, row: dict[str, Any]) -> bool:
    limits = json.loads(row["limits"])
    return (
        owner_of(row["root"]) == owner
        and isinstance(limits, dict)
        and all(isinstance(limit, int) for limit in limits.values())
    )


def _line(_owner: Owner, row: dict[str, Any]) -> bool:
    line = json.loads(row["line"])
    return isinstance(line, list) and len(line) > 1 and all(isinstance(word, str) for word in line)


_CHECKS: dict[str, Callable[[Owner, dict[str, Any]], bool]] = {
    "owner": lambda owner, row: (row["kind"], row["name"]) == owner and row["highestmodseq"] >= 0,
    "mailboxes": _mailbox,
    "records": _record,
    "annotations": lambda _, row: row["mailbox"] >= 0 and 0 <= row["uid"] <= MAX_UID and bool(row["entry"]),
    "messages": lambda _, row: len(row["guid"]) == 20 and row["pack"] > 0 and row["offset"] >= 0,
    "packs": lambda _, row: 0 < row["pack"] < 1 << 32 and row["length"] >= 0,
    "quotas": _quota,
    "outbox": _line,
}
