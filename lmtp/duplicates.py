"""`Duplicates`: which message was delivered to which mailbox already (`duplicatesuppression`).

As in Cyrus, one message is another if Message-ID, mailbox and Date are the same. What was delivered is
remembered for `KEPT_DAYS`, in a file that may be deleted: then a message may come twice, no more.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import make_directories

FILE = "lmtp-delivered.db"
KEPT_DAYS = 3
_SWEEP_SECONDS = 3600.0


class Seen(NamedTuple):
    """A message in a mailbox; `mailbox` is its uniqueid."""

    message_id: str
    mailbox: str
    date: str


class Duplicates:
    """Safe between threads. Everything here blocks."""

    def __init__(self, directory: Path) -> None:
        """Raises `StoreError`."""
        self._lock = threading.Lock()
        self._swept = 0.0
        try:
            make_directories(directory)
            self._db = sqlite3.connect(
                directory / FILE, isolation_level=None, check_same_thread=False, timeout=10
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS delivered (message TEXT, mailbox TEXT, date TEXT, at INTEGER,"
                " PRIMARY KEY (message, mailbox, date)) WITHOUT ROWID"
            )
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"{directory / FILE}: {error}") from error

    def has(self, one: Seen) -> bool:
        """Raises `StoreError`."""
        with self._lock, _reported():
            found = self._db.execute(
                "SELECT 1 FROM delivered WHERE message = ? AND mailbox = ? AND date = ? AND at > ?",
                (*one, int(time.time()) - KEPT_DAYS * 86400),
            ).fetchone()
        return found is not None

    def remember(self, several: Sequence[Seen]) -> None:
        """After they are on disk. What cannot be written is forgotten: it may be delivered twice."""
        now = time.time()
        with self._lock, contextlib.suppress(sqlite3.Error):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(
                    "INSERT OR REPLACE INTO delivered VALUES (?, ?, ?, ?)",
                    [(*one, int(now)) for one in several],
                )
                if now - self._swept > _SWEEP_SECONDS:
                    self._db.execute("DELETE FROM delivered WHERE at < ?", (int(now) - KEPT_DAYS * 86400,))
                    self._swept = now
            finally:
                self._db.execute("COMMIT")

    def close(self) -> None:
        self._db.close()


@contextlib.contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{FILE}: {error}") from error
