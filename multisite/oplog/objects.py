"""Mailboxes as objects with an identity, and names that two of them want.

A mailbox is known by its uniqueid. Where its name is taken by another one here, it gets a generated name,
``<creating replica>_<name>``, and both names are remembered: as soon as the wanted one is free, it is given
back. Operations always carry wanted names.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from common.names import MAX_MAILBOX_NAME, Owner, is_inbox
from multisite.oplog.database import Database
from multisite.oplog.operations import owner_from, owner_text

_UNFIT = re.compile(r"[./^]")


class Object(NamedTuple):
    """`wanted` and `local` are "" for a mailbox that has the name that it should have."""

    uniqueid: str
    owner: Owner
    creator: str
    wanted: str = ""
    local: str = ""


def generated_name(name: str, replica: str) -> str:
    """`name` with the replica in front of its last component; an INBOX becomes a mailbox below itself.

    >>> generated_name("user.bob.Projects", "boston_hub")
    'user.bob.boston_hub_Projects'
    >>> generated_name("user.bob", "boston_hub")
    'user.bob.boston_hub_INBOX'
    """
    mark = _UNFIT.sub("_", replica)
    if is_inbox(name):
        return f"{name}.{mark}_INBOX"
    parent, dot, last = name.rpartition(".")
    return f"{parent}{dot}{mark}_{last}"[:MAX_MAILBOX_NAME]


class Objects:
    """The table of objects."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, uniqueid: str) -> Object | None:
        found = self._db.row(
            "SELECT uniqueid, owner, creator, wanted, local FROM objects WHERE uniqueid = ?", (uniqueid,)
        )
        return _object(found) if found else None

    def note(self, uniqueid: str, owner: Owner, creator: str) -> None:
        """A mailbox came into being; who made it is remembered for good."""
        self._db.execute(
            "INSERT INTO objects (uniqueid, owner, creator) VALUES (?, ?, ?)"
            " ON CONFLICT (uniqueid) DO UPDATE SET owner = excluded.owner",
            (uniqueid, owner_text(owner), creator),
        )

    def set_names(self, uniqueid: str, wanted: str, local: str) -> None:
        """The mailbox should be called `wanted` and is called `local` here; both "" = it has its name."""
        self._db.execute(
            "UPDATE objects SET wanted = ?, local = ? WHERE uniqueid = ?", (wanted, local, uniqueid)
        )

    def drop(self, uniqueid: str) -> None:
        self._db.execute("DELETE FROM objects WHERE uniqueid = ?", (uniqueid,))

    def waiting_for(self, name: str) -> Object | None:
        """A mailbox that should be called `name` and is not, the one that was noted first if several."""
        found = self._db.row(
            "SELECT uniqueid, owner, creator, wanted, local FROM objects WHERE wanted = ?"
            " ORDER BY uniqueid LIMIT 1",
            (name,),
        )
        return _object(found) if found else None

    def in_conflict(self) -> list[Object]:
        """All that have generated names here."""
        rows = self._db.execute(
            "SELECT uniqueid, owner, creator, wanted, local FROM objects WHERE wanted <> '' ORDER BY wanted"
        )
        return [_object(row) for row in rows.fetchall()]

    def wanted_name(self, uniqueid: str, name: str) -> str:
        """The name that the log should tell of a mailbox that is called `name` here.

        One that is not called any more as we had named it was renamed by somebody: that is what it is
        called now.
        """
        found = self.get(uniqueid)
        if found is None or not found.wanted:
            return name
        if found.local == name:
            return found.wanted
        self.set_names(uniqueid, "", "")
        return name


def _object(row: tuple[str, str, str, str, str]) -> Object:
    return Object(row[0], owner_from(row[1]), *row[2:])
