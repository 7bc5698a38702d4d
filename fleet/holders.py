"""Who holds which mailbox, by uniqueid, over the whole store, in PostgreSQL (`native.homes.Holders`).

It says what the registry of a local store says, and is as much of a hint: what comes is told before the
commit, what goes after it. It cannot be damaged without PostgreSQL's saying so.

Of an owner who is being made it is told *tentatively*, and once more when he is there. A node that is killed
between the two has left nobody who would be missed.
"""

from __future__ import annotations

import contextlib
import threading
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from cyrus_sync.common.names import Owner
from cyrus_sync.fleet.database import Server, fits
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.servers import Servers

_INSERT = """
INSERT INTO holders (uniqueid, kind, name, tentative)
SELECT *, %s FROM unnest(%s::text[], %s::text[], %s::text[])
ON CONFLICT (uniqueid, kind, name) DO UPDATE SET tentative = holders.tentative AND excluded.tentative
"""
_CONFIRM = """
UPDATE holders SET tentative = false FROM unnest(%s::text[], %s::text[]) AS made (kind, name)
WHERE holders.kind = made.kind AND holders.name = made.name AND tentative
"""
_DELETE = "DELETE FROM holders WHERE uniqueid = ANY(%s) AND kind = %s AND name = %s"


class HoldersInPostgres:
    """Each uniqueid is on one of the servers. Raises `Away`."""

    def __init__(self, servers: Servers) -> None:
        self._servers = servers
        self._tentatively = threading.local()

    def holders(self, uniqueid: str) -> list[Owner]:
        if not fits(uniqueid):
            return []
        rows = self._servers.of_uniqueid(uniqueid).ask(
            "SELECT kind, name FROM holders WHERE uniqueid = %s ORDER BY kind, name", uniqueid
        )
        return [Owner(*row) for row in rows]

    def held_by(self, owner: Owner) -> list[str]:
        if not fits(owner.name):
            return []
        query = "SELECT uniqueid FROM holders WHERE kind = %s AND name = %s"
        return [row[0] for server in self._servers.all() for row in server.ask(query, *owner)]

    def owners(self) -> set[Owner]:
        """Everybody who was there and held a mailbox."""
        query = "SELECT DISTINCT kind, name FROM holders WHERE NOT tentative"
        return {Owner(*row) for server in self._servers.all() for row in server.ask(query)}

    def was_there(self, owner: Owner) -> bool:
        """Whether an owner of whom nothing is there has been lost."""
        query = "SELECT EXISTS (SELECT FROM holders WHERE kind = %s AND name = %s AND NOT tentative)"
        return fits(owner.name) and any(server.ask(query, *owner)[0][0] for server in self._servers.all())

    @contextlib.contextmanager
    def tentative(self, owners: Sequence[Owner]) -> Iterator[None]:
        """What this thread tells within is tentative; when it ends well, the owners are there."""
        self._tentatively.now = True
        try:
            yield
        finally:
            self._tentatively.now = False
        with contextlib.suppress(Away):  # they are there, and whoever asks for them finds them
            for server in self._servers.all():
                server.ask(_CONFIRM, [owner.kind for owner in owners], [owner.name for owner in owners])

    def damage(self) -> str:
        return ""

    def note(self, hints: Sequence[tuple[str, Owner | None]], by: Owner) -> None:
        going: defaultdict[Server, list[str]] = defaultdict(list)
        coming: defaultdict[Server, list[tuple[str, Owner]]] = defaultdict(list)
        for uniqueid, owner in hints:
            server = self._servers.of_uniqueid(uniqueid)
            if owner is None:
                going[server].append(uniqueid)
            else:
                coming[server].append((uniqueid, owner))
        for server, uniqueids in going.items():
            server.ask(_DELETE, uniqueids, *by)
        for server, holdings in coming.items():
            columns = zip(*((uniqueid, *owner) for uniqueid, owner in holdings), strict=True)
            server.ask(_INSERT, getattr(self._tentatively, "now", False), *map(list, columns))

    def forget(self, owner: Owner) -> None:
        if fits(owner.name):
            for server in self._servers.all():
                server.ask("DELETE FROM holders WHERE kind = %s AND name = %s", *owner)

    def replace(self, owner: Owner, uniqueids: Collection[str]) -> None:
        known = set(self.held_by(owner))
        gone: list[tuple[str, Owner | None]] = [(one, None) for one in known.difference(uniqueids)]
        new: list[tuple[str, Owner | None]] = [(one, owner) for one in uniqueids if one not in known]
        self.note([*gone, *new], owner)

    def renew(self) -> None:
        return None
