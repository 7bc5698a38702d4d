"""Messages that the log holds itself: they wait for an operation, or are to be passed on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.mail import SiteMail
from cyrus_sync.multisite.oplog.database import Database


def not_stored(store: SiteMail, owners: Iterable[Owner], guids: Sequence[bytes]) -> list[bytes]:
    """Those of these messages that none of the owners has. Asks no more of them than it takes."""
    left = list(guids)
    for owner in owners if left else ():
        with store.read(owner) as reader:
            stored = reader.has_guids(left)
        left = [guid for guid in left if guid not in stored]
        if not left:
            break
    return left


class Held:
    """Messages that wait in the database for an operation, or to be passed on."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def put(self, bodies: Iterable[MessageBody]) -> None:
        """Keep messages, given as zstd frames."""
        self._db.executemany(
            "INSERT OR IGNORE INTO held (guid, size, frame) VALUES (?, ?, ?)",
            (
                (body.guid, body.size, body.data if isinstance(body.data, bytes) else b"".join(body.data))
                for body in bodies
            ),
        )

    def get(self, guid: bytes) -> MessageBody | None:
        """The message, as a zstd frame; None if it is not held."""
        found = self._db.row("SELECT size, frame FROM held WHERE guid = ?", (guid,))
        return MessageBody("", guid, found[0], found[1], "zstd") if found else None

    def __contains__(self, guid: object) -> bool:
        return self._db.row("SELECT 1 FROM held WHERE guid = ?", (guid,)) is not None

    def guids(self) -> list[bytes]:
        """All that is held."""
        return [guid for (guid,) in self._db.execute("SELECT guid FROM held ORDER BY guid").fetchall()]

    def drop(self, guids: Iterable[bytes]) -> None:
        """Let go of these messages."""
        self._db.executemany("DELETE FROM held WHERE guid = ?", [(guid,) for guid in guids])
