"""What each replica has *proved* to have: by a packet of its own, or by what others have heard of it.

The epoch matrix is belief: an export raises it. What may be trimmed goes by proof. Everybody passes on what
he has heard, so that a replica to which no packets go from somewhere is known there, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.oplog.epochs import Row, merged


class Heard(NamedTuple):
    """In its `incarnation` a replica has the operations of each origin up to those in `row`."""

    incarnation: int
    row: Row


class Hearsay:
    """The table heard."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def note(self, replica: str, incarnation: int, row: Mapping[str, int]) -> None:
        """A replica (id) has shown this row. What it had before a restore does not count any more."""
        known = self.of(replica)
        if known is not None and incarnation < known.incarnation:
            return
        if known is not None and incarnation == known.incarnation:
            row = merged(known.row, row)
        if known == (incarnation, row):
            return
        with self._db.transaction():
            self._db.execute("DELETE FROM heard WHERE replica = ?", (replica,))
            self._db.executemany(
                "INSERT INTO heard (replica, incarnation, origin, id) VALUES (?, ?, ?, ?)",
                [(replica, incarnation, origin, number) for origin, number in row.items()],
            )

    def of(self, replica: str) -> Heard | None:
        """What a replica has shown; None for one of which nothing was heard."""
        found = self._db.execute(
            "SELECT incarnation, origin, id FROM heard WHERE replica = ?", (replica,)
        ).fetchall()
        return Heard(found[0][0], {origin: number for _, origin, number in found}) if found else None

    def all(self) -> dict[str, Heard]:
        """Replica -> what it has shown."""
        found: dict[str, Heard] = {}
        for replica, incarnation, origin, number in self._db.execute(
            "SELECT replica, incarnation, origin, id FROM heard"
        ):
            found.setdefault(replica, Heard(incarnation, {})).row[origin] = number
        return found
