"""The journal: what PostgreSQL knows of owners, and the one statement that a commit is.

A commit counts if the owner's head is still the one on which it was made. Heads are random: after a failover
that has lost commits a counter could say the same of another history. They settle a commit whose answer was
lost, too: the same statement again does nothing if it had been carried out, and the head tells.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import StaleOwner
from cyrus_sync.fleet.database import Lost, Row, Server, in_part
from cyrus_sync.fleet.errors import Away, Elsewhere
from cyrus_sync.fleet.finding import Finder, Head, OtherLayout
from cyrus_sync.fleet.layout import Layout, key_of
from cyrus_sync.fleet.prepared import Statement
from cyrus_sync.fleet.servers import Servers

_AT_ONCE = 16
"""Rows of the journal that are fetched together."""

_SWAP = Statement.of("""
WITH u AS (UPDATE owners SET head = %s, seq = seq + 1 WHERE id = %s AND head = %s RETURNING id, seq)
INSERT INTO journal (owner, seq, head, prev, packs, data) SELECT id, seq, %s, %s, %s, %b FROM u RETURNING seq
""")

_SINCE = in_part(
    "seq, head, prev, packs, data",
    "SELECT seq, head, prev, packs, data FROM journal WHERE owner = %s AND seq > %s AND seq <= %s"
    " ORDER BY seq LIMIT %s",
)

_FOUND = """
WITH f AS (SELECT 1 FROM fleet WHERE epoch = %s FOR SHARE), o AS (
    INSERT INTO owners (kind, name, head, seq, partition, place) SELECT %s, %s, %s, 1, %s, %s FROM f
    ON CONFLICT DO NOTHING RETURNING id
)
INSERT INTO journal (owner, seq, head, prev, packs, data) SELECT id, 1, %s, 0, %s, %b FROM o RETURNING owner
"""

_REMOVE = """
WITH o AS (DELETE FROM owners WHERE id = %s AND head = %s RETURNING id, place),
     j AS (DELETE FROM journal WHERE owner IN (SELECT id FROM o))
INSERT INTO gone (place) SELECT place FROM o ON CONFLICT DO NOTHING RETURNING place
"""

_SETTLE = """
WITH u AS (
    UPDATE owners SET base = %s, base_seq = %s
    WHERE id = %s AND base_seq = %s AND seq >= %s RETURNING id, base_seq
)
DELETE FROM journal USING u WHERE owner = u.id AND journal.seq <= u.base_seq
"""


class Piece(NamedTuple):
    """Octets `start` to `end` of a pack, and where they are: an object, or (`key` "") the row of the journal
    that names them, from `offset` of its data."""

    pack: int
    start: int
    end: int
    key: str
    offset: int = 0


class Entry(NamedTuple):
    """A row of the journal."""

    seq: int
    head: int
    prev: int
    pieces: Sequence[Piece]
    data: bytes


class Newcomer(NamedTuple):
    """An owner who is made."""

    owner: Owner
    head: int
    partition: str
    place: str
    pieces: Sequence[Piece]
    data: bytes


class Standing(NamedTuple):
    """How an owner stands in the journal, for whoever settles."""

    owner: Owner
    rows: int
    octets: int
    age: float
    """Seconds since the first of these commits, by PostgreSQL's clock."""


def new_head() -> int:
    """A number that no other commit has, or ever had."""
    return secrets.randbelow(2**63 - 1) + 1


def encode(pieces: Sequence[Piece]) -> str:
    return json.dumps(pieces) if pieces else ""


def decode(text: str) -> list[Piece]:
    return [Piece(*one) for one in json.loads(text)] if text else []


class Journal:
    """Everything that a node asks PostgreSQL, and tells it, about owners. Raises `Away`."""

    def __init__(self, servers: Servers, machine: Callable[[], str] = lambda: "") -> None:
        """`machine`: the word of this one for itself, if its directories have owners who count (`claims`)."""
        self._servers = servers
        self._finder = Finder(servers)
        self._machine = machine

    def head(self, owner: Owner) -> Head | None:
        """As it is now; None for an owner that is not stored in the fleet. `Elsewhere` for one who is in the
        directories of another machine."""
        found = self._finder.find(owner)
        if found is None or not found.machine:
            return found
        if found.machine != self._machine():
            raise Elsewhere(found.machine).at(user=str(owner))
        return None

    def since(self, known: Head, seq: int) -> Iterator[Entry]:
        """What was committed after `seq`, in order, as far as it is in the journal, up to the known head."""
        server = self._servers.at(known.server)
        number, up_to = known.id, known.seq
        while seq < up_to:
            rows = server.ask(_SINCE, number, seq, up_to, _AT_ONCE)
            for found, head, prev, packs, data in rows:
                yield Entry(found, head, prev, decode(packs), bytes(data))
                seq = found
            if not rows:
                return

    def pieces(self, known: Head) -> list[tuple[int, Piece]]:
        """The pieces of packs that commits after the base have brought, each with its commit's number."""
        rows = self._servers.at(known.server).ask(
            "SELECT seq, packs FROM journal WHERE owner = %s AND seq > %s AND packs <> '' ORDER BY seq",
            known.id,
            known.base_seq,
        )
        return [(found, piece) for found, packs in rows for piece in decode(packs)]

    def octets(self, known: Head, seq: int, offset: int, length: int) -> bytes | None:
        """A range of one row's data; None where the row has been settled meanwhile."""
        rows = self._servers.at(known.server).ask(
            "SELECT substring(data FROM %s FOR %s) FROM journal WHERE owner = %s AND seq = %s",
            offset + 1, length, known.id, seq,
        )  # fmt: skip
        return bytes(rows[0][0]) if rows else None

    def swap(self, owner: Owner, known: Head, new: int, pieces: Sequence[Piece], data: bytes) -> int:
        """One commit: the head becomes `new` if it is the known one; its number. `StaleOwner` if it is not.
        `Away`: nobody knows."""
        server = self._servers.at(known.server)
        values = (new, known.id, known.head, new, known.head, encode(pieces), data)
        try:
            rows = server.tell(_SWAP, *values)
        except Lost:
            rows = server.tell(_SWAP, *values)
            if not rows and self._has(owner, known.seq + 1, new):
                return known.seq + 1
        if not rows:
            raise StaleOwner()
        return int(rows[0][0])

    def _has(self, owner: Owner, seq: int, head: int) -> bool:
        """Whether commit `seq` is the one that made this head, even if others have committed upon it, or the
        owner has moved with it. `Away` where nobody can tell any more, since it was settled together with a
        later one, or the owner has gone to the directories of a machine with it."""
        now = self._finder.find(owner)
        if now is None:
            return False
        if now.machine:
            raise _may_have_been(owner)
        rows = self._servers.at(now.server).ask(
            "SELECT seq, head, (SELECT head FROM journal WHERE owner = id AND journal.seq = %s)"
            " FROM owners WHERE id = %s",
            seq, now.id,
        )  # fmt: skip
        last, newest, there = rows[0] if rows else (seq + 1, 0, None)
        if there is None and last > seq:
            raise _may_have_been(owner)
        return bool((newest if last == seq else there) == head)

    def found(self, newcomers: Sequence[Newcomer]) -> dict[Owner, Head]:
        """New owners, all of one server or none: what there is of them. `StaleOwner` if one of them is there
        already."""
        heads: dict[Owner, Head] = {}
        for last in (False, True):
            layout = self._servers.layout()
            try:
                self._found_in(layout, [one for one in newcomers if one.owner not in heads], heads)
                return heads
            except (StaleOwner, OtherLayout) as error:
                if last or self._servers.look() == layout:
                    raise StaleOwner() from error
        raise StaleOwner()

    def _found_in(self, layout: Layout, newcomers: Sequence[Newcomer], heads: dict[Owner, Head]) -> None:
        """New owners come to the new place only. The old one is asked behind the beginning of a rebalance: he
        who is not there then never comes there."""
        by_server: dict[str, list[Newcomer]] = {}
        for one in newcomers:
            if layout.moving and self._finder.find_in(layout, one.owner) is not None:
                raise StaleOwner()
            by_server.setdefault(layout.places(key_of(one.owner))[1], []).append(one)
        for number, together in by_server.items():
            server = self._servers.at(number)
            try:
                numbers = _found(server, layout, together)
            except (Lost, StaleOwner) as error:
                numbers = self._found_again(server, layout, together, error)
            for one in together:
                first = Head(
                    numbers[one.owner], one.head, 1, 0, "", one.partition, one.place, "", number
                )  # fmt: skip
                heads[one.owner] = first

    def _found_again(
        self, server: Server, layout: Layout, newcomers: Sequence[Newcomer], error: Exception
    ) -> dict[Owner, int]:
        """After an answer that was lost."""
        if isinstance(error, Lost):
            try:
                return _found(server, layout, newcomers)
            except StaleOwner:
                numbers = {one.owner: now.id for one in newcomers if (now := self.head(one.owner))}
                ours = (
                    one.owner in numbers and self._has(one.owner, 1, one.head)
                    for one in newcomers
                )  # fmt: skip
                if all(ours):
                    return numbers
                raise
        raise error

    def remove(self, owner: Owner, known: Head) -> None:
        """The owner is no more. `StaleOwner` if the head is not the known one."""
        server = self._servers.at(known.server)
        try:
            rows = server.tell(_REMOVE, known.id, known.head)
        except Lost:
            rows = server.tell(_REMOVE, known.id, known.head) or [()] * (self.head(owner) is None)
        if not rows:
            raise StaleOwner()

    def set_aside(self, owner: Owner, stamp: str) -> str | None:
        """Give the owner's row a name that nobody has; None where there is no row."""
        head = self.head(owner)
        if head is None:
            return None
        rows = self._servers.at(head.server).tell(
            "UPDATE owners SET kind = 'aside-' || kind, name = name || %s WHERE id = %s"
            " RETURNING kind || '/' || name",
            f" {stamp}", head.id,
        )  # fmt: skip
        return str(rows[0][0]) if rows else None

    def settle(self, owner: Owner, known: Head, base: str, seq: int) -> bool:
        """All up to `seq` is in the object `base`; False if somebody else has settled meanwhile."""
        server = self._servers.at(known.server)
        with_base = (base, seq, known.id, known.base_seq, seq)
        try:
            server.tell(_SETTLE, *with_base)
        except Lost:
            server.tell(_SETTLE, *with_base)
        now = self.head(owner)
        return now is not None and now.id == known.id and now.base == base

    def owners(self) -> list[Owner]:
        """Everybody who is stored, in the fleet or on a machine, in no order."""
        return list({owner: None for server in self._servers.swept() for owner in _owners(server)})

    def heads(self) -> Mapping[Owner, Head]:
        """Of everybody who is in the fleet."""
        query = (
            "SELECT kind, name, id, head, seq, base_seq, '', partition, place, machine FROM owners"
            " WHERE machine = ''"
        )
        return {
            Owner(kind, name): Head(*[*rest, ""])
            for server in self._servers.swept()
            for kind, name, *rest in server.ask(query)
        }

    def has_anybody(self) -> bool:
        """Whether anybody is in the fleet."""
        query = "SELECT EXISTS (SELECT FROM owners WHERE machine = '')"
        return any(server.ask(query)[0][0] for server in self._servers.swept())

    def standings(self) -> Iterator[Standing]:
        """Of everybody who has something in the journal."""
        for server in self._servers.all():
            rows = server.ask(
                "SELECT kind, name, count(*), sum(octet_length(data))::bigint,"
                " extract(epoch FROM now() - min(made))::float8"
                " FROM journal JOIN owners ON owners.id = owner GROUP BY kind, name, owners.id"
            )
            for kind, name, *rest in rows:
                yield Standing(Owner(kind, name), *rest)

    def figures(self) -> list[dict[str, object]]:
        """What is on each server: owners, commits and octets that are not settled, seconds since the oldest
        of these; who is in need of settling is told by `standings`."""
        query = (
            "SELECT (SELECT count(*) FROM owners WHERE kind IN ('user', 'shared') AND machine = ''),"
            " (SELECT count(*) FROM owners WHERE seq > base_seq), count(*),"
            " coalesce(sum(octet_length(data)), 0)::bigint,"
            " coalesce(extract(epoch FROM now() - min(made)), 0)::bigint"
            " FROM journal JOIN owners ON owners.id = owner"
        )
        names = ("owners", "not_settled", "commits", "octets", "oldest_seconds")
        return [
            {"name": server.name, "id": number, **dict(zip(names, server.ask(query)[0], strict=True))}
            for number, server in zip(self._servers.layout().everyone, self._servers.all(), strict=True)
        ]

    def gone(self, seconds: float) -> Iterator[tuple[Server, str]]:
        """Places in the object store of owners who have been gone for so long, by PostgreSQL's clock, and who
        is to be told when these are emptied."""
        for server in self._servers.all():
            query = "SELECT place FROM gone WHERE since <= now() - make_interval(secs => %s::float8)"
            for (place,) in server.ask(query, seconds):
                yield server, place

    # -- the whole

    def generations(self) -> list[str]:
        return [
            str(row[0])
            for server in self._servers.all()
            for row in server.ask("SELECT generation FROM fleet")
        ]

    def put_generation(self, text: str) -> None:
        for server in self._servers.all():
            server.tell("UPDATE fleet SET generation = %s", text)

    def close(self) -> None:
        self._servers.close()


def _may_have_been(owner: Owner) -> Away:
    return Away("the answer to a commit was lost, and it may have been carried out").at(user=str(owner))


def _owners(server: Server) -> list[Owner]:
    """Those too who are on their way to another one."""
    query = (
        "SELECT kind, name FROM owners"
        " UNION SELECT kind, name FROM moved, fleet WHERE moved.epoch = fleet.epoch AND NOT done"
    )
    return [Owner(kind, name) for kind, name in server.ask(query)]


def _found(server: Server, layout: Layout, newcomers: Sequence[Newcomer]) -> dict[Owner, int]:
    def work(line: object) -> list[Row]:
        numbers: list[Row] = []
        with line.transaction():  # type: ignore[attr-defined]
            for one in newcomers:
                values = (
                    layout.epoch,
                    *one.owner,
                    one.head,
                    one.partition,
                    one.place,
                    one.head,
                    encode(one.pieces),
                    one.data,
                )
                row = line.execute(_FOUND, values).fetchone()  # type: ignore[attr-defined]
                if row is None:
                    raise StaleOwner()
                numbers.append((one.owner, row[0]))
        return numbers

    return {owner: number for owner, number in server.run(work)}  # noqa: C416 (pairs that are rows)
