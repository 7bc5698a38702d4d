"""The last known state of the replica's mailboxes, kept between runs (`sync_cache_db_path`).

A rolling client takes it in place of GET MAILBOXES, which saves a round trip for every change. It is
never the ground for a deletion or a rename, and a delta built on it names its base (SINCE_*), so an
entry that is out of date costs one refused APPLY and nothing else. It is a cache: a damaged file, one
of another layout or of another replica is thrown away.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import make_directories, make_private, tighten
from cyrus_sync.common.model import Annotation, MailboxState

LAYOUT = 1
_NAMES_A_QUERY = 500
_FIELDS = [field.name for field in fields(MailboxState)]


class RemoteCache:
    """MAILBOX states by name, of the replica `server`. Blocks on a disk: use it in threads."""

    def __init__(self, path: Path, server: str) -> None:
        self.path = path
        self.server = server
        self._lock = threading.Lock()
        try:
            make_directories(path.parent)
            try:
                self._db = self._open()
            except sqlite3.DatabaseError:
                self._remove()
                self._db = self._open()
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot use the cache {path}: {reason(error, path)}") from error

    def _open(self) -> sqlite3.Connection:
        make_private(self.path)
        tighten(self.path)
        db = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None, timeout=10.0)
        try:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = OFF")
            db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
            db.execute("CREATE TABLE IF NOT EXISTS mailbox (name TEXT PRIMARY KEY, state TEXT) WITHOUT ROWID")
            known = dict(db.execute("SELECT key, value FROM meta").fetchall())
            expected = {"layout": str(LAYOUT), "server": self.server}
            if known != expected:
                db.execute("BEGIN IMMEDIATE")
                db.execute("DELETE FROM mailbox")
                db.execute("DELETE FROM meta")
                db.executemany("INSERT INTO meta VALUES (?, ?)", expected.items())
                db.execute("COMMIT")
        except BaseException:
            db.close()
            raise
        return db

    def _remove(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).unlink()

    def get(self, names: Sequence[str]) -> dict[str, MailboxState]:
        """The remembered states of those of `names` that are known."""
        found: dict[str, MailboxState] = {}
        with self._lock:
            for begin in range(0, len(names), _NAMES_A_QUERY):
                part = names[begin : begin + _NAMES_A_QUERY]
                marks = ",".join("?" * len(part))
                rows = self._db.execute(f"SELECT name, state FROM mailbox WHERE name IN ({marks})", part)
                found.update((name, _decode(text)) for name, text in rows)
        return found

    def put(self, states: Iterable[MailboxState]) -> None:
        """Remember what the replica now has."""
        rows = [(state.name, _encode(state)) for state in states]
        with self._lock, self._db:
            self._db.executemany("INSERT OR REPLACE INTO mailbox VALUES (?, ?)", rows)

    def drop(self, names: Iterable[str]) -> None:
        """Forget: the next run asks."""
        with self._lock, self._db:
            self._db.executemany("DELETE FROM mailbox WHERE name = ?", [(name,) for name in names])

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _encode(state: MailboxState) -> str:
    values: dict[str, Any] = {name: getattr(state, name) for name in _FIELDS}
    values["annotations"] = [[*note[:3], note.value.decode("latin-1")] for note in state.annotations]
    return json.dumps(values)


def _decode(text: str) -> MailboxState:
    values: dict[str, Any] = json.loads(text)
    values["annotations"] = tuple(
        Annotation(entry, userid, modseq, value.encode("latin-1"))
        for entry, userid, modseq, value in values["annotations"]
    )
    values["userflags"] = tuple(values["userflags"])
    return MailboxState(**values)
