"""What a fleet depends on goes away: the rows of the table in docs/fleet.md for which servers are stopped."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cyrus_sync.common.errors import MailboxLocked, StoreCorrupt
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.fleet import database as databases
from cyrus_sync.fleet.database import Lost, Server
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.journal import Journal
from cyrus_sync.fleet.settler import Settler
from tests.common.stores.conformance_nodes import append, uids
from tests.common.stores.tools import ALICE, INBOX, Clock, bodies_in, message
from tests.deadlines import scaled, until
from tests.fleet.histories.wires import Way, Wire
from tests.fleet.nodes import Fleet
from tests.fleet.postgres import Postgres, new_postgres
from tests.fleet.test_two_nodes import run_group


@pytest.fixture
def own(real_postgres: None) -> Iterator[Postgres]:
    """A server that the test may stop."""
    with new_postgres() as server:
        server.start()
        yield server


def node_on(path: Path, url: str, name: str = "here") -> NativeStore:
    return Fleet(path, url).node(name)


@pytest.mark.covers("A fleet: losing a part of it", "3")
def test_while_postgresql_is_away_changes_are_deferred_and_reads_go_on(tmp_path, own, monkeypatch):
    here = node_on(tmp_path, own.database())
    append(here, 1)
    own.stop(signal.SIGKILL)
    with pytest.raises(MailboxLocked, match="PostgreSQL"):
        append(here, 2)
    assert bodies_in(here) == [message(1)]
    own.start()
    append(here, 3)
    assert bodies_in(here) == [message(1), message(3)]
    monkeypatch.setattr(databases, "PATIENCE", 0.3)
    pids = [own.pid, *map(int, _children(own.pid))]
    _signal(signal.SIGSTOP, pids)  # not dead, and silent: no error of TCP's tells
    try:
        with pytest.raises(MailboxLocked, match="no answer within"):
            append(here, 4)
    finally:
        _signal(signal.SIGCONT, pids)
    until(lambda: _tries(lambda: append(here, 5)), "it answers again")
    assert bodies_in(here)[:3] == [message(1), message(3), message(5)]
    here.close()


@pytest.mark.covers("A fleet: losing a part of it", "3")
def test_a_postgresql_that_never_answers_keeps_one_waiting_and_nobody_else(tmp_path, postgres, monkeypatch):
    """A listener that takes connections and says nothing: as far as a node can see, packets are dropped."""
    wire = Wire(("127.0.0.1", postgres.port))
    url = postgres.database().replace(f":{postgres.port}/", f":{wire.port}/")
    monkeypatch.setattr(databases, "_CONNECTING", 2)
    here = node_on(tmp_path, url)
    append(here, 1)
    here.home.journal._servers.of(ALICE)._close_idle()
    wire.turn(Way.STILL)
    assert bodies_in(here) == [message(1)]
    begun = time.monotonic()
    for _ in range(20):
        assert bodies_in(here) == [message(1)]
        with pytest.raises(MailboxLocked, match="PostgreSQL"):
            append(here, 2)
    assert time.monotonic() - begun < scaled(2)
    wire.turn(Way.OPEN)
    until(lambda: _tries(lambda: append(here, 3)), "it is asked again")
    assert bodies_in(here) == [message(1), message(3)]
    here.close()
    wire.close()


def _signal(number: int, pids: list[int]) -> None:
    """Some of PostgreSQL's processes end by themselves."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _tries(act: Any) -> bool:
    try:
        act()
    except MailboxLocked:
        return False
    return True


@pytest.mark.covers("A fleet: losing a part of it", "2")
@pytest.mark.parametrize("carried_out", [True, False], ids=["carried out", "not carried out"])
def test_a_commit_whose_answer_is_lost_counts_once(tmp_path, database, monkeypatch, carried_out):
    here = node_on(tmp_path, database)
    append(here, 1)
    tell, told = Server.tell, []

    def cut_off(server: Server, query: str, *values: object) -> Any:
        told.append(query)
        if len(told) == 1:
            if carried_out:
                tell(server, query, *values)
            raise Lost("the connection died")
        return tell(server, query, *values)

    with monkeypatch.context() as patch:
        patch.setattr(Server, "tell", cut_off)
        append(here, 2)
    assert bodies_in(here) == bodies_in(node_on(tmp_path, database, "there")) == [message(1), message(2)]
    assert uids(here) == [1, 2] and here.home.journal.head(ALICE).seq == 2
    here.close()


def test_a_commit_whose_answer_is_lost_counts_once_even_if_another_node_has_committed_upon_it(
    tmp_path, database, monkeypatch
):
    here, there = node_on(tmp_path, database), node_on(tmp_path, database, "there")
    append(here, 1)
    tell, told = Server.tell, []

    def cut_off(server: Server, query: str, *values: object) -> Any:
        told.append(query)
        if len(told) > 1:
            return tell(server, query, *values)
        tell(server, query, *values)
        append(there, 3)
        raise Lost("the connection died")

    with monkeypatch.context() as patch:
        patch.setattr(Server, "tell", cut_off)
        append(here, 2)
    assert bodies_in(here) == bodies_in(there) == [message(1), message(2), message(3)]
    here.close()
    there.close()


def test_a_commit_of_which_nobody_can_tell_is_not_made_again(tmp_path, database, monkeypatch):
    """Its answer was lost, others have committed upon it, and all of that was settled."""
    fleet = Fleet(tmp_path, database)
    here, there = fleet.node("here"), fleet.node("there")
    append(here, 1)
    tell, told = Server.tell, []

    def cut_off(server: Server, query: str, *values: object) -> Any:
        told.append(query)
        if len(told) > 1:
            return tell(server, query, *values)
        tell(server, query, *values)
        append(there, 3)
        Settler(there.home.journal, fleet.objects).settle(ALICE)
        raise Lost("the connection died")

    with monkeypatch.context() as patch:
        patch.setattr(Server, "tell", cut_off)
        (error,) = run_group(here, lambda writer: writer.append(INBOX, [(message(2), 1, "")]))
    assert isinstance(error, MailboxLocked) and "may have been carried out" in str(error)
    assert bodies_in(here) == bodies_in(there) == [message(1), message(2), message(3)]
    here.close()
    there.close()


@pytest.mark.parametrize("carried_out", [True, False], ids=["carried out", "not carried out"])
def test_a_new_user_of_whom_the_answer_is_lost_is_there_once(tmp_path, database, monkeypatch, carried_out):
    here = node_on(tmp_path, database)
    run, runs = Server.run, []

    def cut_off(server: Server, work: Any) -> Any:
        if "found" not in work.__qualname__:
            return run(server, work)
        runs.append(work)
        if len(runs) > 1:
            return run(server, work)
        if carried_out:
            run(server, work)
        raise Lost("the connection died")

    with monkeypatch.context() as patch:
        patch.setattr(Server, "run", cut_off)
        append(here, 1)
    assert len(runs) == 2
    assert bodies_in(here) == bodies_in(node_on(tmp_path, database, "there")) == [message(1)]
    here.close()


def test_a_new_user_who_was_announced_and_never_came_is_not_missed(tmp_path, database, monkeypatch):
    """PostgreSQL went away, or the node was killed, between the two."""
    fleet = Fleet(tmp_path, database)
    here, there = fleet.node("here"), fleet.node("there")
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "found", lambda *_: (_ for _ in ()).throw(Away("away")))
        patch.setattr(here.home, "abandon", lambda _: None)
        with pytest.raises(MailboxLocked):
            append(here, 1)
    assert not there.exists(ALICE) and there.home.everybody() == []
    append(there, 2)
    assert bodies_in(here) == [message(2)]
    there.home.journal._servers.of(ALICE).tell("DELETE FROM owners")
    with pytest.raises(StoreCorrupt, match="lost"), here.read(ALICE):
        pass
    here.close()
    there.close()


@pytest.mark.parametrize("statement", range(4))
def test_a_new_user_whose_node_dies_at_a_statement_is_there_or_may_be_made(
    tmp_path, database, monkeypatch, statement
):
    """Told of his mailboxes, the row of the owner, told that he is there: each of them is the last."""
    fleet = Fleet(tmp_path, database)
    here, there = fleet.node("here"), fleet.node("there")
    assert here.home.everybody() == []
    run, runs = Server.run, itertools.count()

    def dies(server: Server, work: Any) -> Any:
        if next(runs) >= statement + asked:
            raise KeyboardInterrupt
        return run(server, work)

    asked = 4  # whether he is there, or was, and once more under the lock
    with monkeypatch.context() as patch:
        patch.setattr(Server, "run", dies)
        with contextlib.suppress(KeyboardInterrupt):
            append(here, 1)
    made = there.exists(ALICE)
    assert made == (statement >= 2)
    append(there, 2)
    assert bodies_in(fleet.node("third")) == [message(1), message(2)][not made :]
    there.close()


def test_a_connection_that_died_while_nobody_used_it_is_noticed_by_nobody(tmp_path, postgres, database):
    here = node_on(tmp_path, database)
    append(here, 1)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'cyrus-sync'"
        )
    append(here, 2)
    assert bodies_in(here) == [message(1), message(2)]
    here.close()


@pytest.mark.covers("A fleet: losing a part of it", "9")
def test_nodes_whose_clocks_differ_by_hours_agree(tmp_path, database):
    early, late = Clock(), Clock()
    late.now += 5 * 3600
    fleet = Fleet(tmp_path, database)
    here, there = fleet.node("here", clock=early), fleet.node("there", clock=late)
    for number in range(1, 7, 2):
        append(there, number)
        append(here, number + 1)
    assert uids(here) == uids(there) == [1, 2, 3, 4, 5, 6]
    assert bodies_in(here) == bodies_in(there) == [message(number) for number in range(1, 7)]
    here.close()
    there.close()


# -- failover


class Standing:
    """A primary and its standby, and the address that names both."""

    def __init__(self, primary: Postgres, standby: Postgres) -> None:
        self.primary = primary
        self.standby = standby

    def begin(self, *, synchronous: bool) -> str:
        names = "*" if synchronous else ""
        self.primary.start("wal_level=replica", "hot_standby=on")
        self.standby.run(
            "pg_basebackup", "-D", self.standby.data, "-R", "-c", "fast", "-d", self.primary.url("postgres")
        )
        self.standby.start("hot_standby=on")
        with psycopg.connect(self.primary.url("postgres"), autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
            connection.execute("SELECT pg_reload_conf()")
            until(
                lambda: self._streams(connection, "sync" if synchronous else "async"), "the standby follows"
            )
        ports = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return f"postgresql://postgres@{ports}/postgres"

    @staticmethod
    def _streams(connection: psycopg.Connection[Any], state: str) -> bool:
        found = connection.execute("SELECT sync_state FROM pg_stat_replication").fetchall()
        return [one for (one,) in found] == [state]

    def fail_over(self) -> None:
        self.primary.stop(signal.SIGKILL)
        self.standby.run("pg_ctl", "promote", "-w", "-D", self.standby.data)


@pytest.fixture
def standing(real_postgres: None) -> Iterator[Standing]:
    with new_postgres() as primary, new_postgres(empty=True) as standby:
        yield Standing(primary, standby)


@pytest.mark.covers("A fleet: losing a part of it", "4")
def test_a_failover_to_a_synchronous_standby_loses_nothing(tmp_path, standing):
    here = node_on(tmp_path, standing.begin(synchronous=True))
    stop, acknowledged = threading.Event(), []

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            if _tries(lambda number=number: append(here, number)):
                acknowledged.append(number)
            else:
                stop.wait(0.05)

    writer = threading.Thread(target=write)
    writer.start()
    until(lambda: len(acknowledged) >= 20, "some are written")
    standing.fail_over()
    before = len(acknowledged)
    until(lambda: len(acknowledged) >= before + 20, "and again", 60)
    stop.set()
    writer.join(scaled(30))
    there = node_on(tmp_path, here.home.journal._servers.of(ALICE).url, "there")
    for store in (here, there):
        found = {int(body.split()[1]) for body in bodies_in(store)}
        assert found >= set(acknowledged)
        assert uids(store) == sorted(set(uids(store)))
    here.close()
    there.close()


@pytest.mark.covers("A fleet: losing a part of it", "4")
def test_a_failover_that_has_lost_commits_is_noticed_and_said(tmp_path, standing, caplog):
    here = node_on(tmp_path, standing.begin(synchronous=False))
    append(here, 1)
    until(lambda: _is_there(standing), "the standby has it")
    standing.standby.stop(signal.SIGINT)
    append(here, 2)
    append(here, 3)
    assert uids(here) == [1, 2, 3]
    standing.primary.stop(signal.SIGKILL)
    standing.standby.start("hot_standby=on")
    standing.fail_over()
    until(lambda: _tries(lambda: append(here, 4)), "the standby answers", 60)
    assert "commits were lost" in caplog.text and "alice" in caplog.text
    assert bodies_in(here) == [message(1), message(4)]
    assert bodies_in(node_on(tmp_path, here.home.journal._servers.of(ALICE).url, "there")) == [
        message(1),
        message(4),
    ]
    here.close()


def _is_there(standing: Standing) -> bool:
    with psycopg.connect(standing.standby.url("postgres"), autocommit=True) as connection:
        with contextlib.suppress(psycopg.errors.UndefinedTable):
            return connection.execute("SELECT count(*) FROM owners").fetchone() == (1,)
        return False
