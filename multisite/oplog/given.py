"""Messages that trimmed operations brought (`multisite.scrubbing`): everybody has them. Eight octets of each
are remembered, so that no later operation brings them again, as long as they are here
(`multisite.forgetting`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence

from cyrus_sync.multisite.oplog.database import Database

_MARKS_A_QUERY = 500


def mark_of(owner: str, guid: bytes) -> int:
    """What stands for a message of an owner (`owner_text`): no two are likely to have one mark, and where
    they have, one of them is asked for by whoever lacks it."""
    digest = hashlib.blake2b(guid, digest_size=8, key=hashlib.sha256(owner.encode()).digest()).digest()
    return int.from_bytes(digest, "big", signed=True)


class Given:
    """The table given."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def __bool__(self) -> bool:
        return self._db.row("SELECT 1 FROM given LIMIT 1") is not None

    def add(self, owner: str, guids: Iterable[bytes]) -> None:
        """Everybody has these messages of an owner (`owner_text`)."""
        self._db.executemany(
            "INSERT OR IGNORE INTO given (mark) VALUES (?)", [(mark_of(owner, guid),) for guid in guids]
        )

    def count(self) -> int:
        """How many messages are remembered."""
        return int(self._db.row("SELECT count(*) FROM given")[0])

    def keep(self, marks: Iterable[Collection[int]]) -> int:
        """Forget the messages that have none of these marks (`mark_of`), which may be very many; how many.
        To be called in a transaction."""
        self._db.execute("CREATE TEMP TABLE kept (mark INTEGER PRIMARY KEY)")
        try:
            for some in marks:
                self._db.executemany(
                    "INSERT OR IGNORE INTO kept SELECT mark FROM given WHERE mark = ?",
                    [(mark,) for mark in some],
                )
            return self._db.execute("DELETE FROM given WHERE mark NOT IN (SELECT mark FROM kept)").rowcount
        finally:
            self._db.execute("DROP TABLE kept")

    def among(self, owner: str, guids: Sequence[bytes]) -> set[bytes]:
        """Those of these messages that everybody has."""
        if not (guids and self):
            return set()
        marks = {mark_of(owner, guid): guid for guid in guids}
        found: set[bytes] = set()
        asked = list(marks)
        for begin in range(0, len(asked), _MARKS_A_QUERY):
            part = asked[begin : begin + _MARKS_A_QUERY]
            rows = self._db.execute(
                f"SELECT mark FROM given WHERE mark IN ({','.join('?' * len(part))})", tuple(part)
            )
            found.update(marks[mark] for (mark,) in rows)
        return found
