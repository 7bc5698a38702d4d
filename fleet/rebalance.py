"""Rebalancing: the owners of a fleet over more PostgreSQL servers, or fewer, while everybody works on.

`begin` makes the layout one in which owners are on their way (`layout`); from then on nobody new comes to a
place that he would have to leave. `move` takes one owner: his row and what is in the journal are copied to
the new place as *arriving*, where nobody sees them. Then, in one transaction at the old place that holds his
row, what has come since is copied too, and the row goes from ``owners`` to ``moved``, which names the copy.
With that transaction he is at the new place: whoever commits on the old row is overtaken, looks again, and
makes the copy count (`finding`). Objects stay where they are. `end` makes the layout the one that follows,
when nobody is left who has to move.

Any of it may be cut off, and any number of processes may do it at once: copies of which ``moved`` knows
nothing are nobody's. What was moved stays at the old place for a while. If a failover at the new place has
lost him, he is put back from there, and moved again; if one at the old place has lost that he moved, what
came up there again goes.

Holders of mailboxes go too. Each is locked at the old place until he is at the new one, and who lets a
mailbox go says so at the old place first; so none comes to life again.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cyrus_sync.common.errors import CyrusSyncError, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.layout import KINDS
from cyrus_sync.fleet.database import Lost, Row, Server, in_part
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.finding import ARRIVE, Finder, Head, OtherLayout
from cyrus_sync.fleet.holders import HoldersInPostgres
from cyrus_sync.fleet.layout import Layout, key_of, without
from cyrus_sync.fleet.servers import Servers, tell

log = logging.getLogger(__name__)

KEEP = 3600.0
"""Seconds for which an owner stays at the old place too, and after which a copy is nobody's."""

_AT_ONCE = 16
_NAMES = 10_000
_TRIES = 10
_MOVERS = 8

_PATIENCE = "SET LOCAL idle_in_transaction_session_timeout = '10s'"
"""Who is stopped in the middle of a transaction holds nobody up for longer."""

_COPY = (
    "INSERT INTO arriving (kind, name, head, seq, base_seq, base, partition, place, machine)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s) RETURNING id"
)
_READY = "UPDATE arriving SET head = %s, seq = %s, since = now() WHERE id = %s RETURNING 1"
_ROWS = in_part(
    "seq, head, prev, made, packs, data",
    "SELECT seq, head, prev, made, packs, data FROM journal WHERE owner = %s AND seq > %s"
    " ORDER BY seq LIMIT %s",
)
_ADD = (
    "INSERT INTO journal (owner, seq, head, prev, made, packs, data)"
    " VALUES (%s, %s, %s, %s, %s, %s, %b) ON CONFLICT DO NOTHING"
)
_MOVE = """
WITH o AS (DELETE FROM owners WHERE id = %s RETURNING *)
INSERT INTO moved
    (kind, name, epoch, target, number, id, head, seq, base_seq, base, partition, place, machine)
SELECT kind, name, %s, %s, %s, id, head, seq, base_seq, base, partition, place, machine FROM o
ON CONFLICT (kind, name) DO UPDATE SET epoch = excluded.epoch, target = excluded.target,
    number = excluded.number, done = false, since = now(), id = excluded.id, head = excluded.head,
    seq = excluded.seq, base_seq = excluded.base_seq, base = excluded.base, partition = excluded.partition,
    place = excluded.place, machine = excluded.machine
"""
_MISSING = (
    "SELECT m.kind, m.name FROM unnest(%s::text[], %s::text[]) AS m (kind, name)"
    " WHERE NOT EXISTS (SELECT FROM owners AS o WHERE o.kind = m.kind AND o.name = m.name)"
)
_FORGET_COPY = (
    "WITH a AS (DELETE FROM arriving WHERE id = %s RETURNING id)"
    " DELETE FROM journal USING a WHERE owner = a.id"
)
_DONE = "UPDATE moved SET done = true WHERE kind = %s AND name = %s AND epoch = %s"
_ALL_DONE = (
    "UPDATE moved SET done = true FROM unnest(%s::text[], %s::text[]) AS m (kind, name)"
    " WHERE moved.epoch = %s AND moved.kind = m.kind AND moved.name = m.name AND NOT done"
)
_ALL_MOVED = (
    "SELECT kind, name, target, number, head, done FROM moved WHERE epoch = %s AND (kind, name) > (%s, %s)"
    " ORDER BY kind, name LIMIT %s"
)
_PUT_BACK = """
WITH m AS (DELETE FROM moved WHERE kind = %s AND name = %s AND epoch = %s RETURNING *)
INSERT INTO owners (id, kind, name, head, seq, base_seq, base, partition, place, machine)
OVERRIDING SYSTEM VALUE
SELECT id, kind, name, head, seq, base_seq, base, partition, place, machine FROM m ON CONFLICT DO NOTHING
"""
_FORGET_COPIES = """
WITH a AS (DELETE FROM arriving WHERE since < now() - make_interval(secs => %s::float8) RETURNING id)
DELETE FROM journal USING a WHERE owner = a.id
"""
_FORGET_MOVED = """
WITH m AS (
    DELETE FROM moved USING fleet WHERE moved.epoch < fleet.epoch
    AND since < now() - make_interval(secs => %s::float8) RETURNING moved.id
)
DELETE FROM journal USING m WHERE owner = m.id
"""
_HOLD = "SELECT uniqueid, kind, name, tentative FROM holders WHERE uniqueid = ANY(%s) FOR UPDATE"
_HOLDER = (
    "INSERT INTO holders (uniqueid, kind, name, tentative) SELECT * FROM"
    " unnest(%s::text[], %s::text[], %s::text[], %s::boolean[]) ON CONFLICT (uniqueid, kind, name)"
    " DO UPDATE SET tentative = holders.tentative AND excluded.tentative"
)
_GONE = (
    "INSERT INTO gone (place, since) SELECT * FROM unnest(%s::text[], %s::timestamptz[])"
    " ON CONFLICT DO NOTHING"
)


class _Again(Exception):
    """Somebody settled meanwhile: the copy is to be made anew."""


class Rebalance:
    """Of one fleet. Raises `Away`, `Misfit`, `StoreError`."""

    def __init__(self, servers: Servers, *, keep: float = KEEP) -> None:
        self._servers = servers
        self._finder = Finder(servers)
        self._registry = HoldersInPostgres(servers)
        self._keep = keep

    # -- the layout

    def begin(self, leaving: Collection[str] = (), back: Collection[str] = ()) -> Layout:
        """Go over to all servers in store_journal but those that are `leaving`, or were drained before and do
        not come `back` (names, or what they call themselves). Goes on with a rebalance that is under way.
        Every server has confirmed the layout when this returns."""
        layout, apart = self._servers.look(), self._servers.apart()
        drained, coming = (
            self._named(layout.everyone, leaving),
            self._named([*apart, *layout.following], back),
        )
        if layout.moving:
            if drained.intersection(layout.following) or coming.difference(layout.following):
                raise StoreError("a rebalance onto other servers is under way: end it first, without options")
        else:
            new = [number for number, was_drained in apart.items() if not was_drained or number in coming]
            following = without(layout.servers, drained, new)
            if not following:
                raise StoreError("one server has to stay")
            if following == layout.servers:
                return layout
            layout = self._step(layout._replace(epoch=layout.epoch + 1, following=following))
        ((generation,),) = self._servers.at(layout.servers[0]).ask("SELECT generation FROM fleet")
        for number in layout.everyone:
            server = self._servers.at(number)
            tell(server, layout)
            if server.ask("SELECT epoch FROM fleet")[0][0] != layout.epoch:
                raise StoreError("another rebalance was faster: once more")
            if number not in layout.servers:
                server.tell("UPDATE fleet SET generation = %s", generation)
        return layout

    def _named(self, numbers: Collection[str], typed: Collection[str]) -> set[str]:
        """Those of the servers that are meant."""
        if not typed:
            return set()
        names = {number: self._servers.at(number).name for number in numbers}
        found: set[str] = set()
        for word in typed:
            meant = [number for number, name in names.items() if word in (number, name)]
            if len(meant) != 1:
                raise StoreError(
                    f"{word}: {'several servers' if meant else 'no server'} of that name; ids work too"
                )
            found.update(meant)
        return found

    def _step(self, layout: Layout) -> Layout:
        """The layout, or that of another process that was faster."""
        first = self._servers.at(layout.servers[0])
        with contextlib.suppress(Lost):  # the look tells
            first.tell(
                "UPDATE fleet SET epoch = %s, layout = %s WHERE epoch = %s",
                layout.epoch, layout.text, layout.epoch - 1,
            )  # fmt: skip
        found = self._servers.look()
        if not found.moving:
            raise StoreError("another rebalance was faster: once more")
        return found

    def end(self, layout: Layout) -> bool:
        """The layout that follows, if nobody is left who has to move; whether that is so."""
        self._move_holders(layout)
        if any(True for _ in self.misplaced(layout)) or self._move_holders(layout) or self.mend(layout):
            return False
        self._move_gone(layout)
        final = layout._replace(epoch=layout.epoch + 1, servers=layout.following)
        for number in layout.everyone:
            tell(self._servers.at(number), final)
        self._servers.look()
        return True

    # -- owners

    def misplaced(self, layout: Layout) -> Iterator[tuple[str, Owner]]:
        """Everybody who is at a place that he has to leave, and that place."""
        query = "SELECT kind, name FROM owners WHERE (kind, name) > (%s, %s) ORDER BY kind, name LIMIT %s"
        for number in layout.servers:
            server, last = self._servers.at(number), ("", "")
            rows: list[Row] = [()] * _NAMES
            while len(rows) == _NAMES:
                rows = server.ask(query, *last, _NAMES)
                for kind, name in rows:
                    owner = last = Owner(kind, name)
                    if layout.places(key_of(owner))[1] != number and not _stays(layout, number, owner):
                        yield number, owner

    def move_all(
        self, layout: Layout, places: Sequence[tuple[str, Owner]]
    ) -> Iterator[bool | CyrusSyncError]:
        """`move` for each of them, several at once; what became of it, in their order."""

        def move(place: tuple[str, Owner]) -> bool | CyrusSyncError:
            try:
                return self.move(layout, *place)
            except CyrusSyncError as error:
                return error

        with ThreadPoolExecutor(_MOVERS) as pool:
            yield from pool.map(move, places)

    def move(self, layout: Layout, number: str, owner: Owner) -> bool:
        """Bring an owner from a place that he has to leave to his new one; False where he is not there any
        more."""
        for _ in range(_TRIES):
            with contextlib.suppress(_Again):
                return self._move(layout, number, owner)
        raise Away("changed all the time; once more").at(user=str(owner))

    def _move(self, layout: Layout, number: str, owner: Owner) -> bool:
        _, new = layout.places(key_of(owner))
        source, target = self._servers.at(number), self._servers.at(new)
        try:
            there = self._finder.row(layout, new, owner)  # first: see `finding`
            head = self._finder.row(layout, number, owner)
        except OtherLayout as error:
            raise StoreError("the rebalance was ended by another process") from error
        if head is None:
            return False
        if there is not None:
            log.error(
                "%s: PostgreSQL at %s has lost that he moved; what came up there goes", owner, source.name
            )
            source.tell(_MOVE, head.id, layout.epoch, new, there.id)
        else:
            copy = _Copy(owner, head, source, target)
            try:
                copy.catch_up(source.run)
                source.run(lambda line: copy.switch(line, layout, new))
            except _Again:
                copy.drop()
                raise
            copy.arrive()
        source.tell(_DONE, *owner, layout.epoch)
        return True

    def mend(self, layout: Layout) -> bool:
        """Whoever was moved and is nowhere: his copy is made to count, or, if the new place has lost it, he
        is put back; whether anybody was. Then copies go that are nobody's."""
        put_back = False
        for number in layout.servers:
            source, last = self._servers.at(number), ("", "")
            rows: list[Row] = [()] * _NAMES
            while len(rows) == _NAMES:
                rows = source.ask(_ALL_MOVED, layout.epoch, *last, _NAMES)
                for target in {row[2] for row in rows}:
                    lost = self._lost(self._servers.at(target), [row for row in rows if row[2] == target])
                    for owner in lost:
                        log.error(
                            "%s: the new place has lost him, as by a failover to a standby that was behind;"
                            " he is put back, as he was when he moved", owner,
                        )  # fmt: skip
                        source.tell(_PUT_BACK, *owner, layout.epoch)
                        put_back = True
                source.tell(_ALL_DONE, [row[0] for row in rows], [row[1] for row in rows], layout.epoch)
                last = rows[-1][:2] if rows else last
        for number in layout.everyone:
            self._servers.at(number).tell(_FORGET_COPIES, self._keep)
        return put_back

    def _lost(self, target: Server, rows: list[Row]) -> list[Owner]:
        """Whom the place to which they moved does not have, and ought to."""
        for kind, name, _, number, head, done in rows:
            if not done:
                target.ask(ARRIVE, number, kind, name, head)
        kinds, names = [row[0] for row in rows], [row[1] for row in rows]
        missing = [Owner(*row) for row in target.ask(_MISSING, kinds, names)]
        known = {(row[0], row[1]): row for row in rows}
        for owner in missing:
            _, _, _, number, head, _ = known[owner]
            target.ask(ARRIVE, number, *owner, head)
        still = target.ask(_MISSING, [one.kind for one in missing], [one.name for one in missing])
        return [owner for row in still if self._registry.was_there(owner := Owner(*row))]

    def forget(self) -> None:
        """What earlier rebalances have left."""
        if self._servers.layout().moving:
            return
        for server in self._servers.all():
            server.tell(_FORGET_MOVED, self._keep)
            server.tell(_FORGET_COPIES, self._keep)

    # -- what else there is

    def _move_holders(self, layout: Layout) -> bool:
        """Whether there were any that had to move."""
        found = False
        for number in layout.servers:
            source, last = self._servers.at(number), ""
            while True:
                query = "SELECT DISTINCT uniqueid FROM holders WHERE uniqueid > %s ORDER BY uniqueid LIMIT %s"
                uniqueids = [row[0] for row in source.ask(query, last, _NAMES)]
                by_place: dict[str, list[str]] = {}
                for uniqueid in uniqueids:
                    by_place.setdefault(layout.places(uniqueid)[1], []).append(uniqueid)
                by_place.pop(number, None)
                for new, going in by_place.items():
                    _hand_over(source, self._servers.at(new), going)
                    found = True
                if len(uniqueids) < _NAMES:
                    break
                last = uniqueids[-1]
        return found

    def _move_gone(self, layout: Layout) -> None:
        """Places that are to be emptied are no more known to who leaves."""
        heir = self._servers.at(layout.following[0])
        for number in set(layout.servers) - set(layout.following):
            server = self._servers.at(number)
            rows = server.ask("SELECT place, since FROM gone")
            if rows:
                heir.tell(_GONE, *map(list, zip(*rows, strict=True)))
                server.tell("DELETE FROM gone WHERE place = ANY(%s)", [place for place, _ in rows])


def _stays(layout: Layout, number: str, owner: Owner) -> bool:
    """Who was given up is asked for by nobody, and goes only from a server that leaves."""
    return owner.kind not in KINDS and number in layout.following


class _Copy:
    """An owner on his way."""

    def __init__(self, owner: Owner, head: Head, source: Server, target: Server) -> None:
        self._owner = owner
        self._head = head
        self._source = source
        self._target = target
        values = (
            head.head, head.seq, head.base_seq, head.base, head.partition, head.place, head.machine,
        )  # fmt: skip
        ((self._number,),) = target.tell(_COPY, *owner, *values)
        self._seq = head.base_seq
        self._rows: list[Row] = []

    def catch_up(self, run: Any) -> None:
        """Copy what is in the journal behind what was copied."""
        while rows := run(self._following):
            self._rows = [(self._number, *row) for row in rows]
            self._target.run(self._add)
            self._seq = rows[-1][0]

    def _following(self, line: Any) -> list[Row]:
        found: list[Row] = line.execute(_ROWS, (self._head.id, self._seq, _AT_ONCE)).fetchall()
        return found

    def _add(self, line: Any) -> list[Row]:
        with line.transaction():
            line.cursor(binary=True).executemany(_ADD, self._rows)
        return []

    def switch(self, line: Any, layout: Layout, new: str) -> list[Row]:
        """The transaction with which he is at the new place."""
        with line.transaction():
            line.execute(_PATIENCE)
            row = line.execute(
                "SELECT head, seq, base_seq FROM owners WHERE id = %s FOR UPDATE", (self._head.id,)
            ).fetchone()
            if row is None or row[2] != self._head.base_seq:
                raise _Again
            head, seq, _ = row
            self.catch_up(lambda work: work(line))
            if not self._target.tell(_READY, head, seq, self._number):
                raise _Again
            line.execute(_MOVE, (self._head.id, layout.epoch, new, self._number))
        self._head = self._head._replace(head=head, seq=seq)
        return []

    def arrive(self) -> None:
        """Make it count."""
        self._target.ask(ARRIVE, self._number, *self._owner, self._head.head)

    def drop(self) -> None:
        """It is nobody's."""
        self._target.tell(_FORGET_COPY, self._number)


def _hand_over(source: Server, target: Server, uniqueids: list[str]) -> None:
    def work(line: Any) -> list[Row]:
        with line.transaction():
            line.execute(_PATIENCE)
            rows = line.execute(_HOLD, (uniqueids,)).fetchall()
            if rows:
                target.ask(_HOLDER, *map(list, zip(*rows, strict=True)))
            line.execute("DELETE FROM holders WHERE uniqueid = ANY(%s)", (uniqueids,))
        return []

    source.run(work)
