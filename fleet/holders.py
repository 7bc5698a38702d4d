"""Who holds which mailbox, by uniqueid, over the whole store, in PostgreSQL (`native.homes.Holders`).

It says what the registry of a local store says, and is as much of a hint: what comes is told before the
commit, what goes after it. It cannot be damaged without PostgreSQL's saying so.

Of an owner who is being made it is told *tentatively*, and once more when he is there. A node that is killed
between the two has left nobody who would be missed. Where a server was away at the second telling, the owner
is there and would not be missed either, until one of his mailboxes is told of again.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import StaleOwner
from cyrus_sync.fleet.database import fits
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.layout import Layout
from cyrus_sync.fleet.servers import Servers

_LOOKS = 5

_INSERT = """
INSERT INTO holders (uniqueid, kind, name, tentative)
SELECT held.*, %s FROM (SELECT FROM fleet WHERE epoch = %s FOR SHARE) AS known,
    unnest(%s::text[], %s::text[], %s::text[]) AS held
ON CONFLICT (uniqueid, kind, name) DO UPDATE SET tentative = holders.tentative AND excluded.tentative
RETURNING 1
"""
_CONFIRM = """
UPDATE holders SET tentative = false FROM unnest(%s::text[], %s::text[]) AS made (kind, name)
WHERE holders.kind = made.kind AND holders.name = made.name AND tentative
"""
_DELETE = (
    "WITH gone AS (DELETE FROM holders WHERE uniqueid = ANY(%s) AND kind = %s AND name = %s)"
    " SELECT epoch FROM fleet"
)


class HoldersInPostgres:
    """Each uniqueid is on one of the servers, or on two while it moves from one to the other. Raises `Away`,
    and `StaleOwner` where the layout was another one at each look."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._tentatively = threading.local()

    def holders(self, uniqueid: str) -> list[Owner]:
        if not fits(uniqueid):
            return []
        query = "SELECT kind, name, epoch FROM fleet LEFT JOIN holders ON uniqueid = %s"
        for _ in range(_LOOKS):
            layout, same = self._servers.layout(), True
            found: set[Owner] = set()
            for number in dict.fromkeys(layout.places(uniqueid)):  # what moves is at the new place first
                rows = self._servers.at(number).ask(query, uniqueid)
                same = same and all(epoch <= layout.epoch for *_, epoch in rows)
                found.update(Owner(kind, name) for kind, name, _ in rows if kind is not None)
            if same:
                return sorted(found)
            self._servers.look()
        raise StaleOwner()

    def held_by(self, owner: Owner) -> list[str]:
        if not fits(owner.name):
            return []
        query = "SELECT uniqueid FROM holders WHERE kind = %s AND name = %s"
        found = (row[0] for server in self._servers.swept() for row in server.ask(query, *owner))
        return list(dict.fromkeys(found))

    def owners(self) -> set[Owner]:
        """Everybody who was there and held a mailbox."""
        query = "SELECT DISTINCT kind, name FROM holders WHERE NOT tentative"
        return {Owner(*row) for server in self._servers.swept() for row in server.ask(query)}

    def was_there(self, owner: Owner) -> bool:
        """Whether an owner of whom nothing is there has been lost."""
        query = "SELECT EXISTS (SELECT FROM holders WHERE kind = %s AND name = %s AND NOT tentative)"
        return fits(owner.name) and any(server.ask(query, *owner)[0][0] for server in self._servers.swept())

    @contextlib.contextmanager
    def tentative(self, owners: Sequence[Owner]) -> Iterator[None]:
        """What this thread tells within is tentative; when it ends well, the owners are there."""
        self._tentatively.now = True
        try:
            yield
        finally:
            self._tentatively.now = False
        with contextlib.suppress(Away):  # they are there, and whoever asks for them finds them
            for server in self._servers.swept():
                server.ask(_CONFIRM, [owner.kind for owner in owners], [owner.name for owner in owners])

    def damage(self) -> str:
        return ""

    def note(self, hints: Sequence[tuple[str, Owner | None]], by: Owner) -> None:
        for _ in range(_LOOKS):
            if self._note(self._servers.layout(), hints, by):
                return
            self._servers.look()
        raise StaleOwner()

    def _note(self, layout: Layout, hints: Sequence[tuple[str, Owner | None]], by: Owner) -> bool:
        """False where a server knows a newer layout: some of it may have been done."""
        going: defaultdict[str, list[str]] = defaultdict(list)
        coming: defaultdict[str, list[tuple[str, Owner]]] = defaultdict(list)
        leaving: defaultdict[str, list[str]] = defaultdict(list)
        for uniqueid, owner in hints:
            old, new = layout.places(uniqueid)
            if owner is not None:
                coming[new].append((uniqueid, owner))
            else:
                going[new].append(uniqueid)
                if old != new:
                    leaving[old].append(uniqueid)
        for places in (leaving, going):  # the old place first: see `rebalance`
            for number, uniqueids in places.items():
                if self._servers.at(number).ask(_DELETE, uniqueids, *by)[0][0] > layout.epoch:
                    return False
        for number, holdings in coming.items():
            server = self._servers.at(number)
            columns = zip(*((uniqueid, *owner) for uniqueid, owner in holdings), strict=True)
            tentative = getattr(self._tentatively, "now", False)
            if not server.ask(_INSERT, tentative, layout.epoch, *map(list, columns)):
                return False
        return True

    def forget(self, owner: Owner) -> None:
        if not fits(owner.name):
            return
        for _ in range(_LOOKS):
            layout = self._servers.layout()
            for server in self._servers.swept():
                server.ask("DELETE FROM holders WHERE kind = %s AND name = %s", *owner)
            if self._servers.look() == layout:
                return
        raise StaleOwner()

    def replace(self, owner: Owner, uniqueids: Collection[str]) -> None:
        known = set(self.held_by(owner))
        gone: list[tuple[str, Owner | None]] = [(one, None) for one in known.difference(uniqueids)]
        new: list[tuple[str, Owner | None]] = [(one, owner) for one in uniqueids if one not in known]
        self.note([*gone, *new], owner)

    def renew(self) -> None:
        return None
