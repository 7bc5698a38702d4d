"""The tables of the fleet, and how they came to be: numbered steps, each taken once on every server.

``owners``
    who there is. `head` is a random number that changes with every commit, `seq` counts them. All that was
    committed up to `base_seq` is in the object `base`; what came after it is in ``journal``. `machine`: who
    is in the directories of a machine, and not in the fleet (`claims`).
``journal``
    one row a commit: the pages of the index that it has changed, and what it added to packs. `prev` is the
    head on which it was made, `packs` says which octets of packs it brings, and where they are (`delta`).
``holders``
    who holds which mailbox, over the whole store (`common.stores.native.registry`); `tentative` while an
    owner is being made.
``gone``
    places in the object store of owners who are no more, to be emptied.
``fleet``
    one row: `id`, the server's name for itself, and the `layout` of the fleet, with its `epoch` (`layout`).
``arriving``
    copies of owners that a rebalance makes here. None of them counts yet (`rebalance`).
``moved``
    who was here and is at server `target` now, as `arriving` number `number`, and what there was of him. The
    rows of the journal stay for as long. `done`: he is an owner there.

Owners are spread over the servers by their names, holders by uniqueids.
"""

from __future__ import annotations

import secrets
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
    2: """
ALTER TABLE fleet ADD COLUMN id text NOT NULL DEFAULT '', ADD COLUMN epoch bigint NOT NULL DEFAULT 0,
    ADD COLUMN layout text NOT NULL DEFAULT '';
UPDATE fleet SET id = (position + 1)::text, epoch = 1, layout = (
    SELECT json_build_object('fleet', '', 'servers', json_agg(n::text), 'next', json_agg(n::text))
    FROM generate_series(1, servers) AS n
) WHERE position IS NOT NULL;
CREATE TABLE arriving (
    id bigint PRIMARY KEY DEFAULT nextval(pg_get_serial_sequence('owners', 'id')),
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    head bigint NOT NULL,
    seq bigint NOT NULL,
    base_seq bigint NOT NULL,
    base text NOT NULL,
    partition text NOT NULL,
    place text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE moved (
    kind text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    target text NOT NULL,
    number bigint NOT NULL,
    done boolean NOT NULL DEFAULT false,
    since timestamptz NOT NULL DEFAULT now(),
    id bigint NOT NULL,
    head bigint NOT NULL,
    seq bigint NOT NULL,
    base_seq bigint NOT NULL,
    base text NOT NULL,
    partition text NOT NULL,
    place text NOT NULL,
    PRIMARY KEY (kind, name)
);
""",
    3: """
ALTER TABLE owners ADD COLUMN machine text NOT NULL DEFAULT '';
ALTER TABLE arriving ADD COLUMN machine text NOT NULL DEFAULT '';
ALTER TABLE moved ADD COLUMN machine text NOT NULL DEFAULT '';
""",
}
"""What takes the tables from the version before to this one. Never changed once released."""

VERSION = max(_STEPS)

_LOCK = 0x63797273
"""Held, until the end of the transaction, by whoever takes a step."""


def migrate(server: Server) -> None:
    """Bring a server's tables up to date. Raises `Misfit` where they are newer than this program; `Away`."""
    version = _version(server)
    if version < VERSION:
        server.run(_step)
        version = _version(server)
    if version > VERSION:
        raise Misfit(
            f"{server.name}: tables of version {version} are newer than this program knows ({VERSION})"
        )


def _version(server: Server) -> int:
    if not server.ask("SELECT to_regclass('fleet') IS NOT NULL")[0][0]:
        return 0
    return int(server.ask("SELECT version FROM fleet")[0][0])


def _step(line: psycopg.Connection[tuple[object, ...]]) -> list[tuple[object, ...]]:
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
        line.execute("UPDATE fleet SET id = %s WHERE id = ''", (secrets.token_hex(8),))
    return []
