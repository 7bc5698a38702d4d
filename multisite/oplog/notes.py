"""What a replica has to remember of itself, by key: numbers, texts and lists, as JSON."""

from __future__ import annotations

import json
from typing import Any

from cyrus_sync.multisite.oplog.database import Database


class Notes:
    """The table of notes."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, key: str, default: Any = None) -> Any:
        """The value that was put last, `default` if there is none."""
        found = self._db.row("SELECT value FROM notes WHERE key = ?", (key,))
        return json.loads(found[0]) if found else default

    def put(self, key: str, value: Any) -> None:
        """Remember a value. One that is there already is not written again."""
        if self.get(key) != value:
            self._db.execute(
                "INSERT OR REPLACE INTO notes (key, value) VALUES (?, ?)", (key, json.dumps(value))
            )

    def keys(self, prefix: str) -> list[str]:
        """What was put under keys that begin so, without the prefix."""
        found = self._db.execute("SELECT key FROM notes WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
        return [key[len(prefix) :] for (key,) in found.fetchall()]

    def drop(self, key: str) -> None:
        """Forget a value."""
        self._db.execute("DELETE FROM notes WHERE key = ?", (key,))
