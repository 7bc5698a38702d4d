"""`Database`: the file ``oplog.db`` of a replica, and the lock that every multisite command holds.

SQLite runs in WAL mode with synchronous=FULL, so what was committed survives a power loss. One process at a
time changes the file (`SiteLock`); readers need no lock. A file that is newer than this program is refused.
An older one is upgraded, and a copy of it stays beside it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.filelock import lock_within
from cyrus_sync.common.files import make_directories, make_private, sync_directory, sync_file, tighten
from cyrus_sync.multisite.errors import SiteLocked

VERSION = 7
FREE_AT_MOST = 4 << 20
"""Bytes of free pages that are left in the file for later."""

FILE = "oplog.db"
LOCK = "lock"
_SCHEMA = Path(__file__).with_name("schema.sql")

MIGRATIONS: Mapping[int, str] = {
    1: "CREATE INDEX objects_of_owner ON objects (owner);",
    2: "ALTER TABLE operations ADD COLUMN reason TEXT NOT NULL DEFAULT '';",
    3: "CREATE TABLE notes (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;",
    4: "CREATE INDEX introduced_by_guid ON introduced (guid);",
    5: """
        CREATE TABLE heard (
            replica TEXT NOT NULL, incarnation INTEGER NOT NULL, origin TEXT NOT NULL, id INTEGER NOT NULL,
            PRIMARY KEY (replica, origin)
        ) WITHOUT ROWID;
        CREATE TABLE trimmed (origin TEXT PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID;
        CREATE TABLE given (mark INTEGER PRIMARY KEY);
        CREATE TABLE earlier (uniqueid TEXT PRIMARY KEY, word TEXT NOT NULL) WITHOUT ROWID;
    """,
    6: "CREATE INDEX operations_on_mailbox ON operations (json_extract(attributes, '$.uniqueid'), seq);",
}
"""SQL that takes a file of version N to N + 1, by N. Never changed once released."""


class SiteLock:
    """The exclusive right to change this replica's multisite state. flock(2), so it ends with the process."""

    def __init__(self, directory: Path, *, wait: float = 0.0) -> None:
        """Raises `SiteLocked` if it is not had within `wait` seconds."""
        make_directories(directory)
        self._descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not lock_within(self._descriptor, wait):
            os.close(self._descriptor)
            raise SiteLocked()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


class Database:
    """The tables of ``schema.sql``. `execute` outside of `transaction` commits at once."""

    def __init__(self, directory: Path, *, readonly: bool = False) -> None:
        """Opens the file in `directory`, and makes it where it is missing. Raises `StoreError` where it
        cannot be used."""
        self.path = directory / FILE
        self._within = False
        self._failure: sqlite3.Error | None = None
        try:
            if not readonly:
                make_directories(directory)
                self._make()
                tighten(self.path)
            mode = "ro" if readonly else "rw"
            self._connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None
            )
            self._connection.execute("PRAGMA busy_timeout = 5000")
            self._connection.execute("PRAGMA cache_size = -16384")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._check_version()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"cannot use the operations log {self.path}: {reason(error, self.path)}"
            ) from error

    def _make(self) -> None:
        if self.path.exists():
            return
        new = self.path.with_name(f"{FILE}.new")
        new.unlink(missing_ok=True)
        make_private(new)
        connection = sqlite3.connect(new, isolation_level=None)
        script = _SCHEMA.read_text(encoding="utf-8")
        connection.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {VERSION};\nCOMMIT;")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        sync_file(new)
        new.replace(self.path)
        sync_directory(self.path.parent)

    def _check_version(self) -> None:
        (version,) = self._connection.execute("PRAGMA user_version").fetchone()
        if version > VERSION:
            raise StoreError(f"{self.path} is of version {version}, newer than this program's {VERSION}")
        if any(number not in MIGRATIONS for number in range(version, VERSION)):
            raise StoreError(f"cannot use the operations log {self.path}: it is of no version that ever was")
        if version < VERSION:
            before = self.path.with_name(f"{FILE}.v{version}")
            before.unlink(missing_ok=True)
            make_private(before)
            shutil.copyfile(self.path, before)
            sync_file(before)
            sync_directory(before.parent)
        while version < VERSION:
            script = f"BEGIN;\n{MIGRATIONS[version]}\nPRAGMA user_version = {version + 1};\nCOMMIT;"
            self._connection.executescript(script)
            version += 1

    def execute(self, statement: str, values: tuple[Any, ...] | dict[str, Any] = ()) -> sqlite3.Cursor:
        """Run one statement. Raises `sqlite3.Error`; within a transaction, again at each later call."""
        self._check_whole()
        try:
            return self._connection.execute(statement, values)
        except sqlite3.Error as error:
            self._note(error)
            raise

    def executemany(self, statement: str, rows: Iterator[Any] | list[Any]) -> None:
        """Run one statement for each row. Raises as `execute`."""
        self._check_whole()
        try:
            self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            self._note(error)
            raise

    def row(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        """The first row, or None."""
        return self.execute(statement, values).fetchone()

    def _note(self, error: sqlite3.Error) -> None:
        """A transaction in which a statement failed can only be undone, even where the error was caught:
        SQLite may have undone it already."""
        if self._within:
            self._failure = error

    def _check_whole(self) -> None:
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, durable at its end. Transactions nest, and only the outermost one commits. Where a
        statement failed nothing is committed, and its error is raised again at the end."""
        if self._within:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        self._within = True
        try:
            yield
            self._check_whole()
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            self._within, self._failure = False, None

    def commit(self) -> None:
        """Make durable what the surrounding `transaction` has done so far, and go on in a new one."""
        if self._within:
            self._check_whole()
            self._connection.execute("COMMIT")
            self._connection.execute("BEGIN IMMEDIATE")

    def shrink(self) -> None:
        """Give pages back to the file system where many are free. Not within a transaction. Whoever reads the
        file meanwhile keeps it from that, and it is done another time."""
        (free,), (pages,), (size,) = (
            self._connection.execute(f"PRAGMA {name}").fetchone()
            for name in ("freelist_count", "page_count", "page_size")
        )
        if free * size > FREE_AT_MOST and free * 4 > pages:
            with contextlib.suppress(sqlite3.OperationalError):
                self._connection.execute("VACUUM")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


Clock = Callable[[], float]
