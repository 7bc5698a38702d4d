"""The table in docs/fleet.md is what the program says, and rests on costs that are still true."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.fleet_arithmetic import MEASURED, Site, assumed, cost, lines, main, markdown
from bench.mail import Post
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.fleet.database import Server
from cyrus_sync.fleet.settler import Settler
from cyrus_sync.fleet.tallies import Spent
from tests.absent import skip_without
from tests.fleet.nodes import Fleet
from tests.fleet.postgres import new_postgres, why_unavailable

DOCUMENT = Path(__file__).parents[2] / "docs/fleet.md"
MESSAGES, ROWS = 2000, 20_000


def test_the_document_has_the_table() -> None:
    text = DOCUMENT.read_text("utf-8")
    hint = "put in what python -m bench.fleet_arithmetic prints"
    assert markdown(Site()) in text, hint
    assert assumed(Site()) in text, hint


def test_a_site_of_ones_own_is_reckoned_with(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mailboxes", "1e6", "--put-price", "0"]) == 0
    said = capsys.readouterr().out
    assert "2.7 GB over all servers" in said and "mailboxes (users): 1,000,000" in said
    assert len(said.splitlines()) == len(list(lines(Site()))) + 4


def test_what_was_measured_is_still_so(tmp_path: Path) -> None:
    skip_without("real PostgreSQL", why_unavailable())
    with new_postgres() as postgres:
        postgres.start()
        found = measured(tmp_path, postgres.database())
    for name, value in found.items():
        assert value == pytest.approx(cost(name), rel=0.25), (name, MEASURED[name].rests_on)
    for name in ("settle put", "settle get", "settle list"):
        assert found[name] == cost(name), name


def measured(path: Path, database: str) -> dict[str, float]:
    """Costs of a small fleet."""
    found: dict[str, float] = {}
    node, server = Fleet(path, database).node("here"), Server(database)
    owner, inbox, post = Owner("user", "someone"), inbox_of("someone"), Post(3)

    def append(count: int) -> None:
        with node.write(owner) as writer:
            writer.append(inbox, [(raw, 1, "") for raw in post.alike(count)])

    def spent() -> dict[str, Spent]:
        words = ("commits published", "put ok", "get ok", "list ok")
        return {word: node.home.tallies.spent(word) for word in words}

    with node.write(owner) as writer:
        writer.create(inbox)
    append(MESSAGES)
    settler = Settler(node.home.journal, node.home.objects)
    settler.settle(owner)
    before = spent()
    for uid in range(1, 41):
        with node.write(owner) as writer:
            writer.set_flags(inbox, [uid * 37], add=["\\Flagged"])
    after = spent()
    octets = after["commits published"].octets - before["commits published"].octets
    found["flag"] = octets / (after["commits published"].times - before["commits published"].times)
    begun = _log_of(server)
    before = spent()
    for _ in range(10):
        append(1)
    found["log share"] = (_log_of(server) - begun) / (
        spent()["commits published"].octets - before["commits published"].octets
    )
    settler.settle(owner)
    append(10)
    before = spent()
    settler.settle(owner)
    for word in ("put", "get", "list"):
        found[f"settle {word}"] = spent()[f"{word} ok"].times - before[f"{word} ok"].times
    head = node.home.journal.head(owner)
    assert head is not None
    found["base record"] = node.home.objects.size(head.base) / (MESSAGES + 20)
    place = "'user/someone' || n || '@example.org/0123456789abcdef'"
    server.tell(
        "INSERT INTO owners (kind, name, head, seq, partition, place, base)"
        f" SELECT 'user', 'someone' || n || '@example.org', n, 5, 'default', {place},"
        f" {place} || '/000000000017-0123456789abcdef' FROM generate_series(1, {ROWS}) AS n"
    )
    server.tell(
        "INSERT INTO holders SELECT md5(n::text), 'user', 'someone' || n / 10 || '@example.org', false"
        f" FROM generate_series(1, {ROWS}) AS n"
    )
    for name, table in (("owner row", "owners"), ("holder row", "holders")):
        ((size,),) = server.ask(f"SELECT pg_total_relation_size('{table}')")
        found[name] = size / ROWS
    server.close()
    node.close()
    return found


def _log_of(server: Server) -> int:
    """How far PostgreSQL's log is, in octets."""
    return int(server.ask("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")[0][0])
