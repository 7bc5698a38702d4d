"""Opening an owner's index: how SQLite is set up, new files, and upgrades from older formats.

Durability: WAL with synchronous=FULL, so SQLite syncs the log at every commit before it returns. A new index
is built without WAL in a directory that nobody else sees (`blank`), put into WAL mode (`seal`) and synced
before that gets its name, so it exists whole or not at all. An upgrade first leaves a copy of the old index
beside it; an index newer than this program is refused.

Every table and every index takes a page, and most owners are small: a new index has pages of `SMALL_PAGE`
octets, unless it is known to become large. Any page size is read; the format has no opinion on it.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from urllib.parse import quote

from cyrus_sync.common.errors import StoreCorrupt, StoreError
from cyrus_sync.common.files import make_private, private, sync_directory, sync_file, tighten
from cyrus_sync.common.stores import disk
from cyrus_sync.common.stores.native.layout import INDEX

VERSION = 2
WITH_HISTORY = 2
"""The first version that has a history."""
_READABLE = 1
"""An index from this version on can be read as it is, which is done where nothing may be changed."""

_SCHEMA = Path(__file__).with_name("schema.sql")

MIGRATIONS: Mapping[int, str] = {
    1: """
        ALTER TABLE owner ADD COLUMN known_since INTEGER NOT NULL DEFAULT 0;
        UPDATE owner SET known_since = CAST(strftime('%s', 'now') AS INTEGER);
        CREATE TABLE history (seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, was BLOB NOT NULL);
    """,
}
"""SQL that takes an index of version N to N + 1, by N. Never changed once released."""

_SQL = _SCHEMA.read_text(encoding="utf-8") + f"\nPRAGMA user_version = {VERSION};\n"

SMALL_PAGE = 512
LARGE_PAGE = 4096
_JOURNAL_VERSIONS = 18
"""Where in the file SQLite says how it is written and read (file format 1.3.4): two octets, 1 = with a
rollback journal, 2 = with a write-ahead log."""
_BUSY_MS = 5000
_PAGES_KIB = 2048


def schema_sql() -> str:
    """The statements that make an empty index of the present version."""
    return _SQL


@cache
def _template(page: int) -> bytes:
    """The file of an empty index, without WAL."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute(f"PRAGMA page_size = {page}")
        connection.executescript(f"BEGIN;\n{_terse(schema_sql())}\nCOMMIT;")
        return connection.serialize()
    finally:
        connection.close()


def _terse(sql: str) -> str:
    """The same statements without what is there for people: SQLite keeps their text in every index."""
    text = re.sub(r"\s+", " ", re.sub(r"--.*", "", sql))
    return re.sub(r" ?([(),]) ?", r"\1", text)


def blank(directory: Path, *, large: bool = False) -> None:
    """Put an empty index into `directory`, to be built (`building`) and sealed before anybody looks."""
    with open(directory / INDEX, "wb", opener=private) as file:
        file.write(_template(LARGE_PAGE if large else SMALL_PAGE))


def building(directory: Path) -> sqlite3.Connection:
    """A connection to an index of which nobody else knows yet. Nothing is synced; memory is bounded."""
    connection = sqlite3.connect(directory / INDEX, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA journal_mode = MEMORY")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"PRAGMA cache_size = -{_PAGES_KIB}")
    return connection


def seal(directory: Path) -> None:
    """Give a built index its WAL mode; nobody has it open. The caller syncs it."""
    descriptor = os.open(directory / INDEX, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, b"\x02\x02", _JOURNAL_VERSIONS)
    finally:
        os.close(descriptor)


def memory_index() -> sqlite3.Connection:
    """An empty index that is nowhere: what an unknown owner reads as."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    connection.deserialize(_template(SMALL_PAGE))
    return connection


def connect(path: Path, *, readonly: bool) -> sqlite3.Connection:
    """A connection to an existing index; raises `StoreError` for one of another version or on a read-only
    file system, sqlite3.Error for a damaged one. An older one must be upgraded first, see `upgrade`, before
    it is written to."""
    if path.is_dir():
        raise StoreCorrupt(f"index damaged: {path} is a directory")
    tighten(path)
    uri = _uri(path, "mode=ro" if readonly else "mode=rw")
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    try:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
        connection.execute(f"PRAGMA cache_size = -{_PAGES_KIB}")
        connection.execute("PRAGMA synchronous = FULL")
        check_version(connection, path, oldest=_READABLE if readonly else VERSION)
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.OperationalError) and _lacks_its_log(error, path):
            refused = OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
            raise StoreError(f"index: {disk.why(refused)}") from error
        raise
    return connection


def _lacks_its_log(error: sqlite3.OperationalError, path: Path) -> bool:
    """Whether an index could not be opened since SQLite must make the log beside it, for a reader too, and
    the file system is read-only. SQLite says nothing but that it cannot."""
    if "unable to open" not in str(error) or not os.access(path, os.R_OK):
        return False
    try:
        return bool(os.statvfs(path).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _uri(path: Path, how: str) -> str:
    return f"file:{quote(str(path.absolute()))}?{how}"


def glance(path: Path, *, unlocked: bool) -> sqlite3.Connection:
    """A connection for a short look, with nothing set up. `unlocked`: SQLite takes the file for one that
    cannot change, and does without locks and log; whether it has changed is the caller's affair. Raises as
    `connect`."""
    uri = _uri(path, "immutable=1" if unlocked else "mode=ro")
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_MS / 1000)
    try:
        check_version(connection, path)
        if not unlocked:
            connection.execute("BEGIN")
    except BaseException:
        connection.close()
        raise
    return connection


def stored_version(connection: sqlite3.Connection) -> int:
    """The format number of an open index."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def check_version(connection: sqlite3.Connection, path: Path, *, oldest: int = 0) -> None:
    """Raises `StoreError` unless the index has our version, or one from `oldest` on (0: ours alone);
    `StoreCorrupt` if it has none."""
    found = stored_version(connection)
    if found == 0:
        raise StoreCorrupt(f"index damaged: {path} is empty or no index at all")
    if found > VERSION:
        raise StoreError(f"{path}: index version {found} is newer than this program knows ({VERSION})")
    if found < (oldest or VERSION):
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
