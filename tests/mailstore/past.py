"""Time that goes by in a store, for what is asked of its history."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def time_goes_by(root: Path, seconds: int, user: str, *, dated: bool = False) -> None:
    """Let what a user did so far, in the store below `root`, have been done so much earlier. `dated`: what is
    dumped says so, too."""
    (index,) = root.glob(f"*/users/*/{user}/index.sqlite")
    with closing(sqlite3.connect(index, isolation_level=None)) as connection:
        connection.execute("UPDATE history SET at = at - ?", (seconds,))
        connection.execute("UPDATE owner SET known_since = known_since - ?", (seconds,))
        if dated:
            connection.execute(
                "UPDATE records SET last_updated = last_updated - ? WHERE expunged = 1", (seconds,)
            )
            for table in ("mailboxes", "tombstones"):
                connection.execute(
                    f"UPDATE {table} SET deleted_at = deleted_at - ? WHERE deleted_at > 0", (seconds,)
                )
