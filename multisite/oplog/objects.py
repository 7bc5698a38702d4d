"""Mailboxes as objects with an identity, and names that two of them want.

A mailbox is known by its uniqueid. Where another one has its name here, it gets a generated name:
``<creating replica>_<name>``. Both names are remembered, and the mailbox gets the wanted one as soon as that
is free. Operations always carry wanted names.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cyrus_sync.common.names import (
    MAX_MAILBOX_NAME,
    Owner,
    deleted_name,
    in_domain,
    is_inbox,
    live_name,
    parent_of,
    split_domain,
)
from cyrus_sync.multisite.oplog.database import Database
from cyrus_sync.multisite.oplog.operations import owner_from, owner_text

_UNFIT = re.compile(r"[^A-Za-z0-9_@+=,:-]")
_CUT_LETTERS = re.compile(r"&[^-]*\Z")
"""The beginning of letters in modified UTF-7 whose end was cut off."""


class Object(NamedTuple):
    """A mailbox. `owner` is its *home*, in which it was made: all operations on it go by the master of that
    owner, whatever it is renamed to. `creator` is the replica where it was made. `wanted` and `local` are
    internal names, "" for a mailbox that has the name that it should have."""

    uniqueid: str
    owner: Owner
    creator: str
    wanted: str = ""
    local: str = ""


def generated_name(name: str, replica: str, number: int = 0) -> str:
    """`name` with the replica in front of its last component, and `number` behind it if that is taken too.

    The mailbox stays with its owner: an INBOX and a top-level shared mailbox get a name below themselves. A
    mailbox that delayed delete has set aside keeps its time at the end.

    >>> generated_name("user.bob.Projects", "boston_hub")
    'user.bob.boston_hub_Projects'
    >>> generated_name("user.bob", "boston_hub")
    'user.bob.boston_hub_INBOX'
    >>> generated_name("projects", "boston_hub", 1)
    'projects.boston_hub_projects_1'
    >>> generated_name("DELETED.user.bob.Projects.6B013001", "boston_hub")
    'DELETED.user.bob.boston_hub_Projects.6B013001'
    """
    live = live_name(name)
    if live != name:
        stamp = name.rpartition(".")[2]
        room = MAX_MAILBOX_NAME - (len(name) - len(live))
        return deleted_name(_generated(live, replica, number, room), int(stamp, 16))
    return _generated(name, replica, number, MAX_MAILBOX_NAME)


def _generated(name: str, replica: str, number: int, room: int) -> str:
    domain, inner = split_domain(name)
    parent, dot, last = inner.rpartition(".")
    if parent_of(name) is None:
        parent, dot, last = inner, ".", "INBOX" if is_inbox(name) else last
    behind = f"_{number}" if number else ""
    made = in_domain(domain, f"{parent}{dot}{_UNFIT.sub('_', replica)}_{last}")
    room -= len(behind)
    return (made if len(made) <= room else _CUT_LETTERS.sub("", made[:room])) + behind


class Objects:
    """The table of objects."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def get(self, uniqueid: str) -> Object | None:
        """The mailbox; None for one that was never noted."""
        found = self._db.row(
            "SELECT uniqueid, owner, creator, wanted, local FROM objects WHERE uniqueid = ?", (uniqueid,)
        )
        return _object(found) if found else None

    def note(self, uniqueid: str, owner: Owner, creator: str) -> None:
        """Note that a mailbox came into being. Its home and its creator are remembered for good."""
        self._db.execute(
            "INSERT OR IGNORE INTO objects (uniqueid, owner, creator) VALUES (?, ?, ?)",
            (uniqueid, owner_text(owner), creator),
        )

    def set_names(self, uniqueid: str, wanted: str, local: str) -> None:
        """Note that a mailbox should be called `wanted` and is called `local` here; both "" = it has its
        name."""
        self._db.execute(
            "UPDATE objects SET wanted = ?, local = ? WHERE uniqueid = ?", (wanted, local, uniqueid)
        )

    def drop(self, uniqueid: str) -> None:
        """Forget a mailbox."""
        self._db.execute("DELETE FROM objects WHERE uniqueid = ?", (uniqueid,))

    def waiting_for(self, name: str) -> Object | None:
        """A mailbox that should be called `name` and is not; the one with the lowest uniqueid if several."""
        found = self._db.row(
            "SELECT uniqueid, owner, creator, wanted, local FROM objects WHERE wanted = ?"
            " ORDER BY uniqueid LIMIT 1",
            (name,),
        )
        return _object(found) if found else None

    def in_conflict(self) -> list[Object]:
        """All mailboxes that have generated names here."""
        rows = self._db.execute(
            "SELECT uniqueid, owner, creator, wanted, local FROM objects WHERE wanted <> '' ORDER BY wanted"
        )
        return [_object(row) for row in rows.fetchall()]

    def wanted_name(self, uniqueid: str, name: str) -> str:
        """The name that the log should tell of a mailbox that is called `name` here.

        A mailbox that no longer has the name that was generated for it was renamed by somebody: its name is
        what it is called now.
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
