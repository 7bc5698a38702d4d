"""Mastership: whose word counts for an owner, what of others' changes it contains, and what ours build on.

The first who changes an owner claims him (version 0). `multitool chmaster` hands him over with the next
version. Where two replicas claimed the same owner before they knew of one another, the lower replica id
is master everywhere; the other's changes are settled like any other's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.oplog.operations import owner_from, owner_text


class Master(NamedTuple):
    """`replica` is master by the claim or hand-over number `version`."""

    version: int
    replica: str

    @property
    def reign(self) -> str:
        """As it stands with what is said under it: ``version:replica``."""
        return f"{self.version}:{self.replica}"


def prevails(one: Master, other: Master) -> bool:
    """Whether `one` is master if both were said."""
    return (one.version, _inverse(one.replica)) > (other.version, _inverse(other.replica))


def _inverse(replica: str) -> int:
    return -int(replica, 16)


class Base(NamedTuple):
    """`modseq`, `last_uid`: the master's state of a mailbox that ours is built on. Our own changes since
    are in the log as far as `told_modseq`, the last of them in our operation `told_id`."""

    modseq: int = 0
    last_uid: int = 0
    told_id: int = 0
    told_modseq: int = 0


class Masters:
    """Tables masters, settled, bases, followed."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def of(self, owner: Owner) -> Master | None:
        """None for an owner whom nobody has changed yet."""
        found = self._db.row("SELECT version, replica FROM masters WHERE owner = ?", (owner_text(owner),))
        return Master(*found) if found else None

    def put(self, owner: Owner, master: Master) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO masters (owner, version, replica) VALUES (?, ?, ?)",
            (owner_text(owner), *master),
        )

    def of_replica(self, replica: str) -> list[Owner]:
        """All owners that `replica` is master of."""
        rows = self._db.execute("SELECT owner FROM masters WHERE replica = ? ORDER BY owner", (replica,))
        return [owner_from(text) for (text,) in rows.fetchall()]

    # -- what the master's state contains

    def settled(self, owner: Owner) -> dict[str, int]:
        """Origin -> its last operation that is part of the master's state, as it is known here."""
        rows = self._db.execute("SELECT origin, id FROM settled WHERE owner = ?", (owner_text(owner),))
        return dict(rows.fetchall())

    def note_settled(self, owner: Owner, vector: Mapping[str, int]) -> None:
        """Raise what is lower."""
        self._db.executemany(
            "INSERT INTO settled (owner, origin, id) VALUES (?, ?, ?)"
            " ON CONFLICT (owner, origin) DO UPDATE SET id = max(id, excluded.id)",
            [(owner_text(owner), origin, number) for origin, number in vector.items()],
        )

    # -- what ours build on

    def base(self, uniqueid: str) -> Base:
        found = self._db.row(
            "SELECT modseq, last_uid, told_id, told_modseq FROM bases WHERE uniqueid = ?", (uniqueid,)
        )
        return Base(*found) if found else Base()

    def put_base(self, uniqueid: str, base: Base) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO bases (uniqueid, modseq, last_uid, told_id, told_modseq)"
            " VALUES (?, ?, ?, ?, ?)",
            (uniqueid, *base),
        )

    def drop_base(self, uniqueid: str) -> None:
        self._db.execute("DELETE FROM bases WHERE uniqueid = ?", (uniqueid,))

    # -- what another has changed alone

    def followed(self, uniqueid: str, origin: str) -> int:
        """Up to which modseq the changes of a mailbox since `origin`'s base are all of `origin`."""
        found = self._db.row(
            "SELECT modseq FROM followed WHERE uniqueid = ? AND origin = ?", (uniqueid, origin)
        )
        return int(found[0]) if found else 0

    def put_followed(self, uniqueid: str, origin: str, modseq: int) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO followed (uniqueid, origin, modseq) VALUES (?, ?, ?)",
            (uniqueid, origin, modseq),
        )

    def drop_followed(self, uniqueid: str) -> None:
        self._db.execute("DELETE FROM followed WHERE uniqueid = ?", (uniqueid,))
