"""Mastership: whose word counts for an owner, what of others' changes it contains, and what ours build on.

The first replica that changes an owner claims it (version 0). `multitool chmaster` hands it over with the
next version. Where two replicas claim an owner before they know of one another, the replica with the lower id
is the master everywhere (mostly that of the older one, see `family.new_id`); the other's changes are
arbitrated like anybody's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.oplog.operations import owner_from, owner_text


class Master(NamedTuple):
    """`replica` (id) is the master by the claim or hand-over number `version`."""

    version: int
    replica: str

    @property
    def reign(self) -> str:
        """``version:replica``, as it stands with everything that is said in this reign."""
        return f"{self.version}:{self.replica}"


def prevails(one: Master, other: Master) -> bool:
    """Whether `one` is the master where both have been said."""
    return (one.version, _inverse(one.replica)) > (other.version, _inverse(other.replica))


def _inverse(replica: str) -> int:
    return -int(replica, 16)


class Base(NamedTuple):
    """`modseq` and `last_uid` are the master's state of a mailbox on which ours is built. Our own changes
    since then are in the log up to `told_modseq`; our operation `told_id` holds the last of them."""

    modseq: int = 0
    last_uid: int = 0
    told_id: int = 0
    told_modseq: int = 0


class Masters:
    """Tables masters, settled, bases, followed."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def of(self, owner: Owner) -> Master | None:
        """The owner's master; None for an owner that nobody has changed yet."""
        found = self._db.row("SELECT version, replica FROM masters WHERE owner = ?", (owner_text(owner),))
        return Master(*found) if found else None

    def put(self, owner: Owner, master: Master) -> None:
        """Note who is the owner's master."""
        self._db.execute(
            "INSERT OR REPLACE INTO masters (owner, version, replica) VALUES (?, ?, ?)",
            (owner_text(owner), *master),
        )

    def drop(self, owner: Owner) -> None:
        """Note that the owner has no master."""
        self._db.execute("DELETE FROM masters WHERE owner = ?", (owner_text(owner),))

    def of_replica(self, replica: str) -> list[Owner]:
        """All owners whose master is `replica` (id)."""
        rows = self._db.execute("SELECT owner FROM masters WHERE replica = ? ORDER BY owner", (replica,))
        return [owner_from(text) for (text,) in rows.fetchall()]

    # -- what the master's state contains

    def settled(self, owner: Owner) -> dict[str, int]:
        """Origin -> its last operation that is part of the master's state, as that state is known here."""
        rows = self._db.execute("SELECT origin, id FROM settled WHERE owner = ?", (owner_text(owner),))
        return dict(rows.fetchall())

    def note_settled(self, owner: Owner, vector: Mapping[str, int]) -> None:
        """Raise what is lower than `vector`: origin -> its last operation that is settled."""
        self._db.executemany(
            "INSERT INTO settled (owner, origin, id) VALUES (?, ?, ?)"
            " ON CONFLICT (owner, origin) DO UPDATE SET id = max(id, excluded.id)",
            [(owner_text(owner), origin, number) for origin, number in vector.items()],
        )

    def forget_settled(self, owner: Owner) -> None:
        """Note that nothing is known of what the master's state contains."""
        self._db.execute("DELETE FROM settled WHERE owner = ?", (owner_text(owner),))

    def roll_back_settled(self, row: Mapping[str, int]) -> None:
        """Lower what is higher than in an epoch row."""
        self._db.execute(
            "UPDATE settled SET id = min(id, coalesce((SELECT value FROM json_each(?)"
            " WHERE key = settled.origin), 0))",
            (json.dumps(dict(row)),),
        )

    # -- what ours build on

    def base(self, uniqueid: str) -> Base:
        """The base of a mailbox; all zeros where none is known."""
        found = self._db.row(
            "SELECT modseq, last_uid, told_id, told_modseq FROM bases WHERE uniqueid = ?", (uniqueid,)
        )
        return Base(*found) if found else Base()

    def put_base(self, uniqueid: str, base: Base) -> None:
        """Replace the base of a mailbox."""
        self._db.execute(
            "INSERT OR REPLACE INTO bases (uniqueid, modseq, last_uid, told_id, told_modseq)"
            " VALUES (?, ?, ?, ?, ?)",
            (uniqueid, *base),
        )

    def forget_bases(self, owner: Owner) -> list[str]:
        """Note that no base is known of any mailbox whose home is `owner`, also where the log says nothing of
        it just now. Returns their uniqueids."""
        rows = self._db.execute(
            "UPDATE bases SET modseq = 0, last_uid = 0, told_id = 0, told_modseq = 0"
            " WHERE uniqueid IN (SELECT uniqueid FROM objects WHERE owner = ?) RETURNING uniqueid",
            (owner_text(owner),),
        )
        return [uniqueid for (uniqueid,) in rows.fetchall()]

    def drop_base(self, uniqueid: str) -> None:
        """Forget the base of a mailbox."""
        self._db.execute("DELETE FROM bases WHERE uniqueid = ?", (uniqueid,))

    # -- what another has changed alone

    def followed(self, uniqueid: str, origin: str) -> int:
        """Up to which modseq all changes of a mailbox since the base of `origin` are those of `origin`; 0 if
        others have changed it."""
        found = self._db.row(
            "SELECT modseq FROM followed WHERE uniqueid = ? AND origin = ?", (uniqueid, origin)
        )
        return int(found[0]) if found else 0

    def put_followed(self, uniqueid: str, origin: str, modseq: int) -> None:
        """Note what `followed` gives."""
        self._db.execute(
            "INSERT OR REPLACE INTO followed (uniqueid, origin, modseq) VALUES (?, ?, ?)",
            (uniqueid, origin, modseq),
        )

    def drop_followed(self, uniqueid: str) -> None:
        """Note that more than one replica has changed the mailbox."""
        self._db.execute("DELETE FROM followed WHERE uniqueid = ?", (uniqueid,))
