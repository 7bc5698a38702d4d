"""Who holds which mailbox: uniqueid → owner, over the whole store.

It is a hint, not the truth: whoever asks checks every answer against the owner's own index, and `renew` makes
the registry anew from the indexes. It is written only when a mailbox comes, goes or changes its owner. What
comes is written before the index is committed, what goes after it, each synced. So a crash or a power cut may
leave it knowing too much (two holders of one mailbox), never too little.

It is also the evidence of who should be here: an owner that it names, and of which nothing is left, has been
lost and not deleted. So no owner is struck out because its index cannot be read.

A registry that is damaged stops nobody. It is made anew in memory from the indexes, for as long as the
process lives, and the log says what to do.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import make_directories, make_private, sync_directory, sync_file, tighten
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.layout import KINDS
from cyrus_sync.common.stores.native.pages import Pages
from cyrus_sync.common.stores.native.rows import storable
from cyrus_sync.common.stores.trouble import is_damage

log = logging.getLogger(__name__)

Holding = tuple[str, Owner]
"""A uniqueid and who holds that mailbox."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS holders (
    uniqueid TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (uniqueid, kind, name)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS holders_owner ON holders (kind, name);
"""
_INSERT = "INSERT OR REPLACE INTO holders (uniqueid, kind, name) VALUES (?, ?, ?)"
_DELETE = "DELETE FROM holders WHERE uniqueid = ? AND kind = ? AND name = ?"


class Registry:
    """The file ``registry.sqlite``. Safe for several threads and processes.

    Every call raises `StoreError` where the file cannot be used, sqlite3.Error where it is locked.
    """

    def __init__(self, path: Path, scan: Callable[[], Iterable[Holding]], *, readonly: bool = False) -> None:
        """`scan`: what the indexes of all owners say, for when the registry is damaged."""
        self._path = path
        self._scan = scan
        self._readonly = readonly
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._instead: defaultdict[str, set[Owner]] | None = None

    # -- asking

    def holders(self, uniqueid: str) -> list[Owner]:
        """Who may hold the mailbox."""
        if not storable(uniqueid):
            return []
        with self._lock:
            rows = self._rows("SELECT kind, name FROM holders WHERE uniqueid = ?", uniqueid)
            if rows is None:
                return sorted(self._substitute().get(uniqueid, ()))
        return _owners(rows)

    def held_by(self, owner: Owner) -> list[str]:
        """The uniqueids of the mailboxes that the owner is known to hold."""
        if not storable(owner.name):
            return []
        with self._lock:
            rows = self._rows("SELECT uniqueid FROM holders WHERE kind = ? AND name = ?", *owner)
        return [uniqueid for (uniqueid,) in rows or () if isinstance(uniqueid, str)]

    def owners(self) -> list[Owner]:
        """Everybody who holds a mailbox. Of a damaged registry: nobody."""
        with self._lock:
            rows = self._rows("SELECT DISTINCT kind, name FROM holders")
        return _owners(rows or ())

    def is_anybody_known(self) -> bool:
        """Whether it names anybody."""
        with self._lock:
            return bool(self._rows("SELECT 1 FROM holders LIMIT 1"))

    def entries(self) -> list[Holding]:
        """All that is known."""
        with self._lock:
            rows = self._rows("SELECT uniqueid, kind, name FROM holders")
        return [(uniqueid, Owner(kind, name)) for uniqueid, kind, name in rows or ()]

    def damage(self) -> str:
        """What is wrong with the file, "" if nothing is."""
        with self._lock:
            rows = self._rows("PRAGMA integrity_check")
            if rows is None:
                return f"{self._path} is damaged; mailstore repair makes it anew"
            wrong = [text for (text,) in rows if text != "ok"]
        return f"{wrong[0]}; mailstore repair makes it anew" if wrong else ""

    # -- telling

    def note(self, hints: Sequence[tuple[str, Owner | None]], by: Owner) -> None:
        """Remember who holds what; None = `by` holds it no more."""
        if hints:
            self._change(
                [uniqueid for uniqueid, owner in hints if owner is None],
                [(uniqueid, owner) for uniqueid, owner in hints if owner is not None],
                by,
            )

    def forget(self, owner: Owner) -> None:
        """The owner is gone with everything, and rightly so."""
        held = self.held_by(owner)
        if held:
            self._change(held, (), owner)

    def replace(self, owner: Owner, uniqueids: Collection[str]) -> None:
        """Make what is known of one owner this."""
        known = set(self.held_by(owner))
        self._change(
            known.difference(uniqueids), [(one, owner) for one in uniqueids if one not in known], owner
        )

    def renew(self) -> Path | None:
        """Begin anew, in the place of a damaged file, with what can be read of that; where that is now, None
        if nothing was wrong."""
        with self._lock:
            if not self._path.exists() or (not self.damage() and self._instead is None):
                return None
            known = self._legible()
            self.close()
            aside = self._path.with_name(f"{self._path.name}.damaged-{time.strftime('%Y%m%dT%H%M%S')}")
            self._path.rename(aside)
            for tail in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    Path(f"{self._path}{tail}").replace(f"{aside}{tail}")
            sync_directory(self._path.parent)
            self._instead = None
            self._change((), known, Owner("", ""))
            return aside

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # -- the file

    def _open(self, *, create: bool) -> sqlite3.Connection | None:
        """The connection, to the file that is there now (another process may have made it anew); None where
        there is none, and none is to be made."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            identity = (0, 0)
        else:
            identity = (found.st_dev, found.st_ino)
        if self._connection is not None and identity == self._identity:
            return self._connection
        self.close()
        if identity == (0, 0) and not create:
            return None
        if self._readonly:
            where, uri = f"{self._path.absolute().as_uri()}?mode=ro", True
        else:
            if identity == (0, 0):
                self._make()
            where, uri = str(self._path), False
        tighten(self._path)
        connection = sqlite3.connect(
            where, uri=uri, isolation_level=None, check_same_thread=False, timeout=30
        )
        try:
            if not self._readonly:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
                connection.executescript(_SCHEMA)
            found = self._path.stat()
        except BaseException:
            connection.close()
            raise
        self._connection, self._identity = connection, (found.st_dev, found.st_ino)
        return connection

    def _make(self) -> None:
        """An empty file, whole and durable: SQLite syncs the first page of a new file late, and throws away a
        log beside a file that is empty."""
        make_directories(self._path.parent)
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}-{threading.get_ident()}.new")
        new.unlink(missing_ok=True)
        make_private(new)
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as connection:
            connection.executescript(f"BEGIN;{_SCHEMA}COMMIT;")
            connection.execute("PRAGMA journal_mode = WAL")
        sync_file(new)
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.link(new, self._path)
        new.unlink()
        sync_directory(self._path.parent)

    def _rows(self, query: str, *arguments: str) -> list[tuple[str, ...]] | None:
        """The answer; None from a damaged registry."""
        if self._instead is not None:
            return None
        try:
            connection = self._open(create=False)
            return connection.execute(query, arguments).fetchall() if connection else []
        except (sqlite3.Error, UnicodeDecodeError) as error:
            self._met(error)
            return None

    def _change(self, going: Collection[str], coming: Collection[Holding], by: Owner) -> None:
        with self._lock:
            if self._instead is None:
                try:
                    connection = self._open(create=True)
                    assert connection is not None
                    with _transaction(connection):
                        connection.executemany(_DELETE, [(uniqueid, *by) for uniqueid in going])
                        connection.executemany(_INSERT, [(uniqueid, *owner) for uniqueid, owner in coming])
                    return
                except (sqlite3.Error, UnicodeDecodeError) as error:
                    self._met(error)
            for uniqueid in going:
                self._substitute()[uniqueid].discard(by)
            for uniqueid, owner in coming:
                self._substitute()[uniqueid].add(owner)

    def _met(self, error: Exception) -> None:
        """Raises what is no damage."""
        if isinstance(error, sqlite3.OperationalError) and "unable to open" in str(error):
            raise StoreError(f"the registry of mailboxes cannot be opened: {self._path}") from error
        if not is_damage(error):
            raise error
        self.close()
        self._substitute()

    def _substitute(self) -> defaultdict[str, set[Owner]]:
        """What stands for a damaged registry."""
        if self._instead is None:
            log.error("%s is damaged; mailstore repair makes it anew", self._path)
            self._instead = defaultdict(set)
            for uniqueid, owner in self._scan():
                self._instead[uniqueid].add(owner)
        return self._instead

    def _legible(self) -> list[Holding]:
        """What can be read of a damaged file: the table has rows of (uniqueid, kind, name), the index of the
        same in another order."""
        tails = [Path(f"{self._path}{tail}") for tail in ("", "-wal")]
        data, log = (path.read_bytes() if path.is_file() else b"" for path in tails)
        found: set[Holding] = set()
        for _, values in Pages(data, log).rows():
            if len(values) != 3:
                continue
            one, two, three = values if values[1] in KINDS else (values[2], values[0], values[1])
            found.update((one, owner) for owner in _owners([(two, three)]) if isinstance(one, str))
        return sorted(found)


def _owners(rows: Iterable[Sequence[object]]) -> list[Owner]:
    """The owners in rows of (kind, name), of which damage may have made anything."""
    return [Owner(str(kind), name) for kind, name in rows if kind in KINDS and isinstance(name, str) and name]


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
