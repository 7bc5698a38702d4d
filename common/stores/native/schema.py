"""Opening an owner's index: how SQLite is set up, new files, and upgrades from older formats.

Durability: WAL with synchronous=FULL, so SQLite syncs the log at every commit before it returns. A new
index is written under another name, synced, and renamed, so it exists whole or not at all. An upgrade
first leaves a copy of the old index beside it; an index newer than this program is refused.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from cyrus_sync.common.errors import StoreCorrupt, StoreError
from cyrus_sync.common.files import make_private, private, sync_directory, sync_file, tighten
from cyrus_sync.common.stores.native.layout import INDEX

VERSION = 1
_SCHEMA = Path(__file__).with_name("schema.sql")

MIGRATIONS: Mapping[int, str] = {}
"""SQL that takes an index of version N to N + 1, by N. Never changed once released."""

_SQL = _SCHEMA.read_text(encoding="utf-8") + f"\nPRAGMA user_version = {VERSION};\n"
_BUSY_MS = 5000
_PAGES_KIB = 2048


def schema_sql() -> str:
    """The statements that make an empty index of the present version."""
    return _SQL


@cache
def _template() -> bytes:
    """The file of an empty index, in WAL mode."""
    with tempfile.TemporaryDirectory(prefix="cyrus-sync-") as directory:
        path = Path(directory) / INDEX
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(f"BEGIN;\n{schema_sql()}\nCOMMIT;")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.close()
        return path.read_bytes()


def write_template(directory: Path) -> None:
    """Put an empty index into `directory`, whole and synced, or nothing. The caller syncs `directory`."""
    new = directory / f"{INDEX}.new"
    with open(new, "wb", opener=private) as file:
        file.write(_template())
        file.flush()
        os.fsync(file.fileno())
    new.replace(directory / INDEX)


def memory_index() -> sqlite3.Connection:
    """An empty index that is nowhere: what an unknown owner reads as."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.executescript(_SQL)
    return connection


def connect(path: Path, *, readonly: bool) -> sqlite3.Connection:
    """A connection to an existing index; raises `StoreError` for one of another version, sqlite3.Error
    for a damaged one. An older one must be upgraded first, see `upgrade`."""
    mode = "ro" if readonly else "rw"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    if path.is_dir():
        raise StoreCorrupt(f"index damaged: {path} is a directory")
    tighten(path)
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        connection.execute(f"PRAGMA cache_size = -{_PAGES_KIB}")
        connection.execute("PRAGMA synchronous = FULL")
        check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def stored_version(connection: sqlite3.Connection) -> int:
    """The format number of an open index."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raises `StoreError` unless the index has exactly our version, `StoreCorrupt` if it has none."""
    found = stored_version(connection)
    if found == 0:
        raise StoreCorrupt(f"index damaged: {path} is empty or no index at all")
    if found > VERSION:
        raise StoreError(f"{path}: index version {found} is newer than this program knows ({VERSION})")
    if found < VERSION:
        raise OldVersion(f"{path}: index version {found} has to be upgraded to {VERSION}")


class OldVersion(StoreError):
    """The index has an older format; `upgrade` brings it up to date."""


def upgrade(path: Path) -> None:
    """Bring the index at `path` to the present version; the caller holds the owner's lock.

    The old index stays beside it as ``index.sqlite.v<N>``. All steps are one transaction.
    """
    target = VERSION
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        found = stored_version(connection)
        if found == target:
            return
        missing = [number for number in range(found, target) if number not in MIGRATIONS]
        if found > target or missing:
            raise StoreError(f"{path}: no way from index version {found} to {target}")
        _copy(connection, path.with_name(f"{INDEX}.v{found}"))
        connection.execute("PRAGMA synchronous = FULL")
        script = "\n".join(MIGRATIONS[number] for number in range(found, target))
        try:
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {target};\nCOMMIT;")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
    finally:
        connection.close()


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    new = target.with_name(target.name + ".new")
    new.unlink(missing_ok=True)
    make_private(new)
    copy = sqlite3.connect(new)
    try:
        connection.backup(copy)
    finally:
        copy.close()
    sync_file(new)
    new.replace(target)
    sync_directory(target.parent)
