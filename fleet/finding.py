"""Which server has an owner: `Finder`.

Without a rebalance that is the one to which the hash of the name leads. While one is under way it is one of
two, and the servers say which: an owner who is at the new place is there; else he is at the old one; or he
was there, and has *moved*: then the copy of him that is *arriving* at the new place is he, and whoever sees
that first makes it one that counts. That he moved is one statement at the old place (`rebalance`), so he is
at one place at any moment. Every answer has the epoch of the server that gives it: a node whose layout is
older, or newer, than the server's is told so before it believes anything.

The new place is asked first: if a failover at the old one has lost that he moved, he still has.
"""

from __future__ import annotations

from typing import NamedTuple

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import StaleOwner
from cyrus_sync.fleet.database import fits
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.layout import Layout, key_of
from cyrus_sync.fleet.prepared import Statement
from cyrus_sync.fleet.servers import Servers, tell

_LOOKS = 5

_HEAD = Statement.of(
    "SELECT epoch, owners.id, head, seq, base_seq, base, partition, place, machine"
    " FROM fleet LEFT JOIN owners ON kind = %s AND name = %s"
)
_MOVED = "SELECT number, head FROM moved WHERE kind = %s AND name = %s AND target = %s AND epoch = %s"
ARRIVE = """
WITH a AS (DELETE FROM arriving WHERE id = %s AND kind = %s AND name = %s AND head = %s RETURNING *)
INSERT INTO owners (id, kind, name, head, seq, base_seq, base, partition, place, machine)
OVERRIDING SYSTEM VALUE
SELECT id, kind, name, head, seq, base_seq, base, partition, place, machine FROM a ON CONFLICT DO NOTHING
"""


class Head(NamedTuple):
    """What the row of an owner says."""

    id: int
    head: int
    seq: int
    base_seq: int
    base: str
    """The key of an object, "" while there is none."""
    partition: str
    place: str
    """What the keys of all of the owner's objects begin with."""
    machine: str
    """In whose directories he is, so not in the fleet (`claims`); "" for one who is."""
    server: str
    """Which one says it."""


class OtherLayout(Exception):
    """A server knows a newer layout than this node."""


class Finder:
    """Raises `Away`, `Misfit`."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers

    def find(self, owner: Owner) -> Head | None:
        """As it is now; None for an owner that is not stored."""
        if not fits(owner.name):
            return None
        for _ in range(_LOOKS):
            try:
                return self.find_in(self._servers.layout(), owner)
            except OtherLayout:
                self._servers.look()
        raise StaleOwner()

    def find_in(self, layout: Layout, owner: Owner) -> Head | None:
        """As `find`, if the servers know this layout. `OtherLayout` if they know another one."""
        old, new = layout.places(key_of(owner))
        if old == new:
            return self.row(layout, new, owner)
        try:
            found = self.row(layout, new, owner)
        except Away:  # who has not moved can do without
            found = self.row(layout, old, owner)
            if found is None:
                raise
            return found
        found = found or self.row(layout, old, owner)
        if found is None and self._arrive(layout, owner):
            found = self.row(layout, new, owner)
        return found

    def row(self, layout: Layout, number: str, owner: Owner) -> Head | None:
        """What one server says of an owner. `OtherLayout`."""
        server = self._servers.at(number)
        ((epoch, *row),) = server.ask(_HEAD, *owner)
        if epoch < layout.epoch:
            tell(server, layout)
            ((epoch, *row),) = server.ask(_HEAD, *owner)
        if epoch != layout.epoch:
            raise OtherLayout
        return Head(*[*row, number]) if row[0] is not None else None

    def _arrive(self, layout: Layout, owner: Owner) -> bool:
        """Whether the owner has moved; then he is at the new place now, unless he is no more."""
        old, new = layout.places(key_of(owner))
        rows = self._servers.at(old).ask(_MOVED, *owner, new, layout.epoch)
        for number, head in rows:
            self._servers.at(new).ask(ARRIVE, number, *owner, head)
        return bool(rows)
