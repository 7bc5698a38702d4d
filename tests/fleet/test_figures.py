"""What a fleet tells Prometheus (`fleet.figures`), and the sums of a node (`fleet.tallies`)."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.common.metrics.sheet import Sheet, plain_text
from cyrus_sync.common.stores.mailstore import StaleOwner
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.fleet.database import Server
from cyrus_sync.fleet.figures import PATIENCE, look_at
from cyrus_sync.fleet.settler import Settler
from cyrus_sync.fleet.tallies import Spent, Tallies
from tests.common.stores.conformance_nodes import append
from tests.common.stores.tools import ALICE, INBOX, bodies_in, message
from tests.fleet.nodes import Fleet
from tests.fleet.postgres import Postgres, new_postgres
from tests.fleet.test_command import Node


def told(node: NativeStore) -> dict[str, float]:
    """Value by name and the last label, without those of every figure; without those that are 0."""
    sheet = Sheet("sync_server")
    node.home.add_figures(sheet)
    found = {}
    for line in plain_text(sheet).decode().splitlines():
        if line.startswith("cyrus_sync_fleet_"):
            name, _, value = line.removeprefix("cyrus_sync_fleet_").rpartition(" ")
            assert 'program="sync_server"' in name and "alice" not in name
            name, _, labels = name.partition("{")
            wanted = ("found", "kind", "le", "request", "result", "shard", "source")
            pairs = [one.split("=") for one in labels.rstrip("}").split(",")]
            words = [value.strip('"') for label, value in pairs if label in wanted]
            if float(value):
                found[" ".join([name, *words])] = float(value)
    return found


def test_commits_copies_reads_and_requests_are_counted(tmp_path, database):
    fleet = Fleet(tmp_path, database)
    here, there = fleet.node("here"), fleet.node("there")
    append(here, 1)
    append(here, 2)
    found = told(here)
    published = found["commits_total published"]
    assert published == found["commit_duration_seconds_count"] == found["journal_commits 1"] >= 2
    assert found["shard_up 1"] == 1 and found["journal_bytes 1"] == found["commit_bytes_total"] > 1000
    assert "copies_total base" not in found and "commits_total overtaken" not in found
    assert bodies_in(there) == [message(1), message(2)]
    found = told(there)
    assert found["copies_total base"] == 1 and found["copy_bytes_total base"] > 1000
    assert found["reads_total cache"] >= 1, "the journal has brought the messages"
    append(here, 3)
    assert len(bodies_in(there)) == 3
    assert told(there)["copies_total journal"] == 1
    assert Settler(here.home.journal, here.home.objects).settle(ALICE)
    cold = fleet.node("cold")
    assert len(bodies_in(cold)) == 3
    found = told(cold)
    assert found["reads_total objects"] >= 1 and found["object_requests_total get ok"] >= 3
    assert found["read_bytes_total objects"] > 0 and "journal_commits 1" not in found
    for node in (here, there, cold):
        node.close()


def test_a_commit_that_was_overtaken_and_one_that_failed_are_counted(tmp_path, database, monkeypatch):
    here, there = Fleet(tmp_path, database).node("here"), Fleet(tmp_path, database).node("there")
    append(here, 1)
    with pytest.raises(StaleOwner), here.write(ALICE) as writer:
        writer.set_flags(INBOX, [1], add=["\\Seen"])
        append(there, 2)
    monkeypatch.setattr(here.home.journal, "swap", _fails)
    with pytest.raises(MailboxLocked):
        append(here, 3)
    found = told(here)
    assert (found["commits_total overtaken"], found["commits_total failed"]) == (1, 1)
    here.close()
    there.close()


def _fails(*_: object) -> int:
    raise MailboxLocked()


@pytest.fixture
def own(real_postgres: None) -> Iterator[Postgres]:
    with new_postgres() as server:
        server.start()
        yield server


def test_a_server_that_is_away_or_silent_is_told_in_time(tmp_path, own):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/postgres"
        here = Fleet(tmp_path, own.database(), url).node("here")
        own.stop(signal.SIGKILL)
        with pytest.raises(MailboxLocked):
            append(here, 1)
        began = time.monotonic()
        found = told(here)
        assert not any(name.startswith(("shard_up", "journal")) for name in found)
        assert found["shard_failures_total 1"] >= 1
        told(here)
        assert time.monotonic() - began < 2 * PATIENCE, "the silent one is waited for once"
        here.home.add_figures(Sheet("sync_server"))
        here.close()


def test_of_a_long_journal_a_sample_is_looked_at(tmp_path, database):
    here = Fleet(tmp_path, database).node("here")
    append(here, 1)
    server = Server(database)
    server.tell(
        "INSERT INTO journal (owner, seq, head, prev, packs, data)"
        " SELECT 0, n, 1, 1, '', sha256(n::text::bytea) FROM generate_series(1, 20000) AS n"
    )
    whole, some = look_at(server), look_at(server, blocks=60)
    assert whole.commits >= 20_000 and whole.octets >= 640_000
    assert whole.commits / 2 < some.commits < whole.commits * 2, some
    server.close()
    here.close()


def test_processes_of_a_node_add_up_and_a_torn_file_counts_anew(tmp_path: Path) -> None:
    one, other = Tallies(tmp_path / "tallies"), Tallies(tmp_path / "tallies")
    for tallies in (one, other, one):
        tallies.count("reads cache", 10)
        tallies.add_up()
    one.add_up()
    since, sums = other.of_node()
    assert sums == {"reads cache": Spent(3, 30)} and abs(since - time.time()) < 60
    (tmp_path / "tallies").write_bytes(b'{"counts": [1')
    one.count("reads cache")
    assert one.of_node()[1]["reads cache"].times == 1


@pytest.mark.covers("mailstore: commands and options", "fleet")
def test_status_tells_how_often_the_cache_had_what_was_wanted(tmp_path, database):
    here = Node(tmp_path / "here", database, tmp_path / "objects")
    here.ok("create", "user/alice")
    here.deliver(1, 2)
    there = Node(tmp_path / "there", database, tmp_path / "objects")
    assert len(there.messages()) == 2
    assert len(there.messages()) == 2
    cache = json.loads(there.ok("fleet", "status", "--format", "json").out)["cache"]
    assert cache["asked_for"]["base"] == 1 and 0 < cache["asked_for"]["hit_rate"] < 1
    assert "users asked for since 2" in there.ok("fleet", "status").out
