"""The tables of the fleet, and how they came to be: numbered steps, each taken once on every server.

``owners``
    who there is. `head` is a random number that changes with every commit, `seq` counts them. All that was
    committed up to `base_seq` is in the object `base`; what came after it is in ``journal``.
``journal``
    one row a commit: the pages of the index that it has changed, and what it added to packs. `prev` is the
    head on which it was made, `packs` says which octets of packs it brings, and where they are (`delta`).
``holders``
    who holds which mailbox, over the whole store (`common.stores.native.registry`); `tentative` while an
    owner is being made.
``gone``
    places in the object store of owners who are no more, to be emptied.
``fleet``
    one row: which server of how many this is, so that a list in another order is noticed.

Owners are spread over the servers by their names, holders by uniqueids.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg

from cyrus_sync.fleet.database import Server
from cyrus_sync.fleet.errors import Misfit

_STEPS: Mapping[int, str] = {
    1: """
CREATE TABLE owners (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    head bigint NOT NULL,
    seq bigint NOT NULL,
    base_seq bigint NOT NULL DEFAULT 0,
    base text NOT NULL DEFAULT '',
    partition text NOT NULL,
    place text NOT NULL,
    UNIQUE (kind, name)
) WITH (fillfactor = 80);
CREATE TABLE journal (
    owner bigint NOT NULL,
    seq bigint NOT NULL,
    head bigint NOT NULL,
    prev bigint NOT NULL,
    made timestamptz NOT NULL DEFAULT now(),
    packs text NOT NULL,
    data bytea NOT NULL,
    PRIMARY KEY (owner, seq)
);
ALTER TABLE journal ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE holders (
    uniqueid text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    tentative boolean NOT NULL,
    PRIMARY KEY (uniqueid, kind, name)
);
CREATE INDEX holders_owner ON holders (kind, name);
CREATE TABLE gone (place text PRIMARY KEY, since timestamptz NOT NULL DEFAULT now());
ALTER TABLE fleet ADD COLUMN position integer, ADD COLUMN servers integer,
    ADD COLUMN generation text NOT NULL DEFAULT '';
""",
}
"""What takes the tables from the version before to this one. Never changed once released."""

VERSION = max(_STEPS)

_LOCK = 0x63797273
"""Held, until the end of the transaction, by whoever takes a step."""


def migrate(server: Server, position: int, servers: int) -> None:
    """Bring a server's tables up to date; it is the one at `position` (from 0) of so many. Raises `Misfit`
    where it is not, or knows newer tables than this program; `Away`."""
    found = _state(server)
    if found is None or found[0] != VERSION:
        server.run(lambda line: _step(line, position, servers))
        found = _state(server)
    assert found is not None
    version, place, count = found
    if version > VERSION:
        raise Misfit(
            f"{server.name}: tables of version {version} are newer than this program knows ({VERSION})"
        )
    if place != position:
        raise Misfit(
            f"{server.name} is number {place + 1} of the servers in store_journal, and stands there as number"
            f" {position + 1}: the order counts"
        )
    if count != servers:
        raise Misfit(f"{server.name} is one of {count} servers, and store_journal names {servers}")


def _state(server: Server) -> tuple[int, int, int] | None:
    if not server.ask("SELECT to_regclass('fleet') IS NOT NULL")[0][0]:
        return None
    (version,) = server.ask("SELECT version FROM fleet")[0]
    if version < 1:
        return None
    place, count = server.ask("SELECT position, servers FROM fleet")[0]
    return version, place, count


def _step(
    line: psycopg.Connection[tuple[object, ...]], position: int, servers: int
) -> list[tuple[object, ...]]:
    with line.transaction():
        line.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        line.execute("CREATE TABLE IF NOT EXISTS fleet (version integer NOT NULL)")
        row = line.execute("SELECT version FROM fleet").fetchone()
        found = int(str(row[0])) if row else 0
        if row is None:
            line.execute("INSERT INTO fleet (version) VALUES (0)")
        for number in range(found + 1, VERSION + 1):
            line.execute(_STEPS[number].encode())
            line.execute("UPDATE fleet SET version = %s", (number,))
        if not found:
            line.execute("UPDATE fleet SET position = %s, servers = %s", (position, servers))
    return []
