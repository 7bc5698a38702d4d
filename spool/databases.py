"""The databases of a spool, opened: those of the server once, a user's when he is looked at."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from cyrus_sync.common.errors import StoreError
from cyrus_sync.spool.config import SpoolConfig
from cyrus_sync.spool.db import Database, Empty, mailbox_order, open_database, raw_order


class Databases:
    """By the configuration `config`. Safe between threads."""

    def __init__(self, config: SpoolConfig) -> None:
        self._config = config
        self._order = mailbox_order if config.dots_first else raw_order
        self._lock = Lock()
        self._open: dict[Path, Database] = {}

    def mailboxes(self) -> Database:
        """The list of mailboxes. `StoreError` where there is none: then this is no spool."""
        config = self._config
        found = self._kept(config.mailboxes, sql="mboxlist_db" in config.sql_databases)
        if found is None:
            raise StoreError(f"{config.mailboxes}: not there: no mailboxes of a Cyrus server")
        return found

    def annotations(self) -> Database:
        """Those of mailboxes and of the server."""
        path = self._config.annotations
        return self._kept(path) or Empty(path)

    def quotas(self) -> Database:
        """Quota roots, where they are in a database."""
        config = self._config
        return self._kept(config.quotas, sql="quota_db" in config.sql_databases) or Empty(config.quotas)

    def of_user(self, path: Path) -> Database:
        """One that is opened for the moment. Nothing in it where it does not exist."""
        try:
            return open_database(path, self._order)
        except FileNotFoundError:
            return Empty(path)

    def close(self) -> None:
        """Close what is kept open."""
        with self._lock:
            for database in self._open.values():
                database.close()
            self._open.clear()

    def _kept(self, path: Path, *, sql: bool = False) -> Database | None:
        """Open from now on; None as long as it is not there."""
        with self._lock:
            found = self._open.get(path)
            if found is not None and found.is_current():
                return found
            if sql:
                from cyrus_sync.spool.db.sql import SqliteTable  # loads SQLite

                found = SqliteTable(path, self._config.sqlite or path)
            else:
                try:
                    found = open_database(path, self._order)
                except FileNotFoundError:
                    self._open.pop(path, None)
                    return None
            self._open[path] = found
            return found
