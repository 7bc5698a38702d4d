"""Who is in the directories of a machine, as PostgreSQL says it: a *claim* is a row of ``owners`` that
names the machine.

There is one row of a name. So an owner is in the fleet or on one machine, no node founds anybody who is on
a machine, and going in or out is one statement on that row: who goes in gives up the machine for a head,
who goes out the head for a machine. Both name the head that the row had, and give it another one, and
another id: a commit, and a move that somebody else has begun, then finds another row. So does a statement
of a mover that was killed, and comes late, once the claim is `renewed`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.fleet.database import Lost
from cyrus_sync.fleet.errors import Elsewhere
from cyrus_sync.fleet.finding import Finder, Head
from cyrus_sync.fleet.journal import Newcomer, encode, new_head
from cyrus_sync.fleet.layout import key_of
from cyrus_sync.fleet.outgoing import new_place
from cyrus_sync.fleet.servers import Servers

_CLAIM = """
WITH f AS (SELECT epoch FROM fleet WHERE epoch = %s FOR SHARE), o AS (
    INSERT INTO owners (kind, name, head, seq, partition, place, machine)
    SELECT c.kind, c.name, c.head, 0, '', c.place, %s
    FROM f, unnest(%s::text[], %s::text[], %s::bigint[], %s::text[]) AS c (kind, name, head, place)
    ON CONFLICT DO NOTHING
)
SELECT epoch FROM f
"""
_OTHERS = (
    "SELECT o.kind, o.name FROM unnest(%s::text[], %s::text[]) AS c (kind, name)"
    " JOIN owners AS o ON o.kind = c.kind AND o.name = c.name WHERE o.machine <> %s"
)
_ENTER = """
WITH u AS (
    UPDATE owners SET id = DEFAULT, head = %s, seq = 1, partition = %s, machine = ''
    WHERE id = %s AND head = %s AND machine = %s RETURNING id
)
INSERT INTO journal (owner, seq, head, prev, packs, data) SELECT id, 1, %s, 0, %s, %b FROM u RETURNING owner
"""
_LEAVE = """
WITH u AS (
    UPDATE owners SET id = DEFAULT, head = %s, seq = 0, base_seq = 0, base = '', place = %s, machine = %s
    WHERE id = %s AND head = %s AND machine = '' RETURNING id
), j AS (
    DELETE FROM journal WHERE owner = %s AND EXISTS (SELECT FROM u)
)
INSERT INTO gone (place) SELECT %s FROM u ON CONFLICT DO NOTHING RETURNING place
"""
_RENEW = "UPDATE owners SET head = %s WHERE id = %s AND head = %s AND machine = %s RETURNING id"
_DROP = """
WITH o AS (DELETE FROM owners WHERE id = %s AND head = %s AND machine = %s RETURNING place)
INSERT INTO gone (place) SELECT place FROM o ON CONFLICT DO NOTHING RETURNING place
"""


class Claims:
    """Those of one machine, and of others. Raises `Away`."""

    def __init__(self, servers: Servers, machine: Callable[[], str]) -> None:
        """`machine`: the word of this one, "" for one that has no claims."""
        self._servers = servers
        self._finder = Finder(servers)
        self._machine = machine

    def row(self, owner: Owner) -> Head | None:
        """What there is of an owner, who is in the fleet or on this machine; None where there is nothing.
        `Elsewhere`."""
        found = self._finder.find(owner)
        if found is not None and found.machine and found.machine != self._machine():
            raise Elsewhere(found.machine).at(user=str(owner))
        return found

    def of(self, owner: Owner) -> Head | None:
        """The claim of this machine; None for an owner of whom there is none."""
        found = self.row(owner)
        return found if found is not None and found.machine else None

    def make(self, owners: Collection[Owner]) -> list[Owner]:
        """Claim all of these of whom there is nothing; those who are somewhere else. `StoreError` while a
        rebalance is under way."""
        layout = self._servers.look()
        if layout.moving:
            raise StoreError("a rebalance of the fleet is under way: end it first")
        by_server: dict[str, list[Owner]] = {}
        for owner in owners:
            by_server.setdefault(layout.places(key_of(owner))[1], []).append(owner)
        elsewhere = []
        for number, together in by_server.items():
            server = self._servers.at(number)
            names = [owner.kind for owner in together], [owner.name for owner in together]
            heads, places = [new_head() for _ in together], [new_place(owner) for owner in together]
            values = (layout.epoch, self._machine(), *names, heads, places)
            try:
                known = server.tell(_CLAIM, *values)
            except Lost:
                known = server.tell(_CLAIM, *values)
            if not known:
                raise StoreError("a rebalance of the fleet was begun meanwhile: end it first")
            elsewhere += [Owner(*row) for row in server.ask(_OTHERS, *names, self._machine())]
        return elsewhere

    def enter(self, claim: Head, new: Newcomer) -> bool:
        """The owner is in the fleet from here on; False where the claim is not what it was. `Away`: nobody
        knows."""
        values = (
            new.head, new.partition, claim.id, claim.head, claim.machine,
            new.head, encode(new.pieces), new.data,
        )  # fmt: skip
        return self._swap(claim, new.owner, _ENTER, values, to_fleet=True)

    def leave(self, owner: Owner, known: Head) -> bool:
        """The owner is on this machine from here on; False where the head is not the known one any more.
        `Away`: nobody knows."""
        values = (
            new_head(), new_place(owner), self._machine(), known.id, known.head,
            known.id, known.place,
        )  # fmt: skip
        return self._swap(known, owner, _LEAVE, values, to_fleet=False)

    def _swap(
        self, known: Head, owner: Owner, query: str, values: Sequence[object], *, to_fleet: bool
    ) -> bool:
        server = self._servers.at(known.server)
        try:
            return bool(server.tell(query, *values))
        except Lost:
            if server.tell(query, *values):
                return True
            now = self.row(owner)  # the caller holds the owner, so nobody else has brought him there
            return now is not None and to_fleet == (not now.machine)

    def renewed(self, claim: Head) -> bool:
        """Give a claim another head: who was about to take the owner into the fleet is too late. False where
        it is not what it was."""
        rows = self._servers.at(claim.server).tell(_RENEW, new_head(), claim.id, claim.head, claim.machine)
        return bool(rows)

    def drop(self, claim: Head) -> None:
        """Nobody is there any more. Without effect where the claim is not what it was."""
        self._servers.at(claim.server).tell(_DROP, claim.id, claim.head, claim.machine)

    def everybody(self) -> list[Owner]:
        """Whoever is on this machine, in order."""
        query = "SELECT kind, name FROM owners WHERE machine = %s"
        rows = (row for server in self._servers.swept() for row in server.ask(query, self._machine()))
        return sorted({Owner(*row) for row in rows})

    def counts(self) -> Mapping[str, int]:
        """How many owners are on which machine, by its word for itself."""
        found: dict[str, int] = {}
        query = "SELECT machine, count(*) FROM owners WHERE machine <> '' GROUP BY machine"
        for server in self._servers.all():
            for machine, count in server.ask(query):
                found[machine] = found.get(machine, 0) + count
        return found
