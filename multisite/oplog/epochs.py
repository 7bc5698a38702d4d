"""The epoch matrix: for each replica, the last operation of each origin that it has, or is believed to have.

This replica's own row follows the log and is fact. The row of another is belief. An export raises it to what
was written, and keeps the old row (`export_sync` record). An import raises it to what the packet proves. An
administrator corrects it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from cyrus_sync.multisite.oplog.database import Database

Row = dict[str, int]
"""Origin's replica id -> number of its last operation."""


_OLD_EXPORTS = (
    "FROM exports WHERE time < ? AND number NOT IN (SELECT max(number) FROM exports GROUP BY target)"
)


class Export(NamedTuple):
    """An export that was made at `time` (Unix seconds), and the `row` that its target was believed to have
    before."""

    number: int
    time: int
    target: str
    row: Row
    packet: str
    comment: str


def merged(one: Mapping[str, int], other: Mapping[str, int]) -> Row:
    """The higher number of each origin."""
    return {origin: max(one.get(origin, 0), other.get(origin, 0)) for origin in {*one, *other}}


class Epochs:
    """The matrix in the database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def row(self, replica: str) -> Row:
        """The row of `replica` (id). Origins of which it has nothing are left out."""
        found = self._db.execute("SELECT origin, id FROM epochs WHERE replica = ?", (replica,))
        return {origin: number for origin, number in found if number}

    def rows(self) -> dict[str, Row]:
        """The whole matrix."""
        matrix: dict[str, Row] = {}
        for replica, origin, number in self._db.execute("SELECT replica, origin, id FROM epochs"):
            matrix.setdefault(replica, {})[origin] = number
        return matrix

    def put(self, replica: str, row: Mapping[str, int]) -> None:
        """Replace the row of `replica`."""
        with self._db.transaction():
            self._db.execute("DELETE FROM epochs WHERE replica = ?", (replica,))
            self._db.executemany(
                "INSERT INTO epochs (replica, origin, id) VALUES (?, ?, ?)",
                [(replica, origin, number) for origin, number in row.items() if number],
            )

    def raise_to(self, replica: str, row: Mapping[str, int]) -> None:
        """Raise what is lower."""
        self.put(replica, merged(self.row(replica), row))

    def forget(self, replica: str) -> None:
        """Drop the row of a replica."""
        self._db.execute("DELETE FROM epochs WHERE replica = ?", (replica,))

    # -- exports

    def exported(self, target: str, row: Mapping[str, int], *, time: int, packet: str, comment: str) -> None:
        """Note that `target` is believed to get all up to `row` by `packet`, and keep the old belief."""
        with self._db.transaction():
            self._db.execute(
                "INSERT INTO exports (time, target, row, packet, comment) VALUES (?, ?, ?, ?, ?)",
                (time, target, json.dumps(self.row(target)), packet, comment),
            )
            self.raise_to(target, row)

    def exports(self, target: str = "") -> list[Export]:
        """The exports to `target`, or all, oldest first."""
        found = self._db.execute(
            "SELECT number, time, target, row, packet, comment FROM exports"
            " WHERE target = ? OR ? = '' ORDER BY number",
            (target, target),
        )
        return [
            Export(number, when, to, json.loads(row), packet, comment)
            for number, when, to, row, packet, comment in found
        ]

    def count_exports(self, before: int) -> int:
        """How many `forget_exports` would forget."""
        return int(self._db.row(f"SELECT count(*) {_OLD_EXPORTS}", (before,))[0])

    def forget_exports(self, before: int) -> int:
        """Forget the exports that were made before a time (Unix seconds), but the last to each target; how
        many."""
        return self._db.execute(f"DELETE {_OLD_EXPORTS}", (before,)).rowcount

    def recover(self, target: str, since: int) -> Export | None:
        """Set the row of `target` back to what was believed before the last export at or before `since` (Unix
        seconds), and return that export. None, and nothing done, if none is old enough."""
        old = [export for export in self.exports(target) if export.time <= since]
        if not old:
            return None
        self.put(target, old[-1].row)
        return old[-1]
