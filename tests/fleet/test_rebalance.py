"""A fleet that gets another PostgreSQL server, or loses one, while clients write; cut off anywhere."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import StaleOwner
from cyrus_sync.common.stores.native.care.keeper import NativeCare
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.fleet import migrations
from cyrus_sync.fleet.database import Lost, Server
from cyrus_sync.fleet.journal import Journal
from cyrus_sync.fleet.layout import Layout, key_of, without
from cyrus_sync.fleet.rebalance import Rebalance
from cyrus_sync.fleet.servers import Servers, Unnamed
from cyrus_sync.fleet.settler import Settler
from tests.common.stores.tools import bodies_in, message
from tests.deadlines import scaled
from tests.fleet.histories.wires import Way, Wire
from tests.fleet.nodes import Fleet
from tests.fleet.postgres import Postgres
from tests.fleet.test_command import MAIL, Node

NAMES = [f"u{number}" for number in range(8)]
GOES = next(
    name for name in NAMES if len(set(Layout(2, "", ("a", "b"), ("a", "b", "c")).places(f"user/{name}"))) > 1
)
"""Somebody who has to move when there is a third server, whatever the servers are called."""


def add(store: NativeStore, name: str, number: int) -> None:
    """As a session does it: once more, if somebody was faster."""
    for last in (False, True):
        try:
            with store.write(Owner("user", name), timeout=20) as writer:
                if writer.mailbox(f"user.{name}") is None:
                    writer.create(f"user.{name}")
                writer.append(f"user.{name}", [(message(number), 1, "")])
            return
        except StaleOwner:
            if last:
                raise


def messages(store: NativeStore, name: str) -> list[bytes]:
    return sorted(bodies_in(store, f"user.{name}"))


def rebalance(servers: Servers, *leaving: str, back: Sequence[str] = ()) -> int:
    """What the command does; how many moved."""
    work = Rebalance(servers)
    layout = work.begin(leaving, back)
    if not layout.moving:
        return 0
    work.mend(layout)
    moved = 0
    for _ in range(5):
        moved += sum(work.move(layout, *place) for place in list(work.misplaced(layout)))
        if work.end(layout):
            return moved
    raise AssertionError("it does not end")


class Sites:
    """A node that knows two servers, and one that knows three."""

    def __init__(self, path: Path, *urls: str) -> None:
        self.path = path
        self.urls = urls
        self.old = Fleet(path, *urls[:2]).node("old")
        for number, name in enumerate(NAMES):
            add(self.old, name, number)
        self.new = Fleet(path, *urls).node("new")
        self.servers = Servers(urls)

    def close(self) -> None:
        self.old.close()
        self.new.close()
        self.servers.close()

    def layout(self) -> Layout:
        return self.servers.look()

    def rows(self, table: str = "owners") -> list[int]:
        """On each server."""
        with contextlib.ExitStack() as stack:
            servers = [Server(url) for url in self.urls]
            for server in servers:
                stack.callback(server.close)
            return [int(server.ask(f"SELECT count(*) FROM {table}")[0][0]) for server in servers]

    def move(self, name: str) -> None:
        """One user, in a rebalance onto all servers."""
        work = Rebalance(self.servers)
        layout = work.begin()
        old, _ = layout.places(f"user/{name}")
        assert work.move(layout, old, Owner("user", name))

    def check(self, expected: dict[str, list[int]]) -> None:
        """Everybody has these messages, at every node that knows all servers, and is on one server."""
        with closing(Fleet(self.path, *self.urls).node("third")) as third:
            for name, numbers in expected.items():
                assert messages(third, name) == sorted(map(message, numbers)), name
                assert messages(self.new, name) == messages(third, name)
                assert list(NativeCare(third).verify(Owner("user", name))) == []
        assert sum(self.rows()) == sum(self.rows("holders")) == len(expected)


@pytest.fixture
def sites(tmp_path: Path, postgres: Postgres) -> Iterator[Sites]:
    with closing(Sites(tmp_path, *(postgres.database() for _ in range(3)))) as sites:
        yield sites


@pytest.mark.covers("mailstore: commands and options", "fleet rebalance")
def test_a_third_server_gets_its_share_and_nobody_else_moves(sites):
    layouts = Layout(2, "", ("a", "b"), ("a", "b", "c"))
    share = sum(len(set(layouts.places(f"user/{name}"))) > 1 for name in NAMES)
    add(sites.new, GOES, 50)
    assert 0 < share < len(NAMES) and sites.rows()[2] == 0, "it is not used by being named"
    assert rebalance(sites.servers) == share == sites.rows()[2]
    assert rebalance(sites.servers) == 0
    for name in NAMES:
        add(sites.new, name, 60)
    sites.check({name: [number, 60, *[50] * (name == GOES)] for number, name in enumerate(NAMES)})
    with pytest.raises(MailboxLocked, match="not in store_journal"):
        messages(sites.old, GOES)
    other = next(name for name in NAMES if len(set(layouts.places(f"user/{name}"))) == 1)
    assert messages(sites.old, other) == messages(sites.new, other), "all others are served there too"


@pytest.mark.parametrize("leaving", [0, 1, 2])
def test_a_server_that_is_drained_has_nothing_and_may_be_forgotten(sites, leaving):
    rebalance(sites.servers)
    care = NativeCare(sites.new)
    care.give_up(Owner("user", NAMES[0]))
    with sites.new.write(Owner("user", NAMES[1])) as writer:
        writer.apply_unuser()
    sites.new._clock.now += 400 * 86400
    care.expire(Owner("user", NAMES[1]), 0)
    drained = sites.layout().servers[leaving]
    rebalance(sites.servers, drained)
    for table in ("owners", "holders", "gone", "arriving"):
        assert sites.rows(table)[leaving] == 0, table
    assert sum(sites.rows()) == len(NAMES) - 1 and sum(sites.rows("gone")) == 1
    assert rebalance(sites.servers) == 0, "it does not come back by itself"
    urls = [url for number, url in enumerate(sites.urls) if number != leaving]
    with closing(Fleet(sites.path, *reversed(urls)).node("without")) as store:
        for number, name in enumerate(NAMES[2:], 2):
            assert messages(store, name) == [message(number)]
        add(store, NAMES[0], 70)
        assert store.userids() == sorted({*NAMES} - {NAMES[1]})
        assert messages(sites.new, NAMES[0]) == [message(70)]


@pytest.mark.covers("A fleet: losing a part of it", "10")
@pytest.mark.parametrize("carried_out", [False, True], ids=["before it", "after it"])
def test_it_is_cut_off_at_each_statement_and_gone_on_with(sites, monkeypatch, carried_out):
    """Each time it gets by one statement further, and clients of both kinds of nodes work in between."""
    run, numbers = Server.run, itertools.count(100)
    expected = {name: [number] for number, name in enumerate(NAMES)}
    mine = threading.get_ident()
    for further in itertools.count(1):
        left = iter(range(further))

        def cut(server: Server, work: Any, left: Iterator[int] = left) -> Any:
            if threading.get_ident() != mine or next(left, None) is not None:
                return run(server, work)
            if carried_out:
                run(server, work)
            raise KeyboardInterrupt

        with closing(Servers(sites.urls)) as servers, monkeypatch.context() as patch:
            servers.look()
            patch.setattr(Server, "run", cut)
            try:
                rebalance(servers)
                break
            except KeyboardInterrupt:
                pass
        name, number = NAMES[further % len(NAMES)], next(numbers)
        with contextlib.suppress(Unnamed):
            add((sites.old, sites.new)[further % 2], name, number)
            expected[name].append(number)
        assert messages(sites.new, name) == sorted(map(message, expected[name]))
    assert further > 30 and not sites.layout().moving
    sites.check(expected)


def test_clients_of_both_kinds_of_nodes_write_meanwhile_and_nothing_is_lost_or_doubled(sites):
    expected = {name: [number] for number, name in enumerate(NAMES)}
    stop, numbers, failures = threading.Event(), itertools.count(100), []

    def write(store: NativeStore, name: str) -> None:
        while not stop.is_set():
            number = next(numbers)
            try:
                add(store, name, number)
                expected[name].append(number)
            except Unnamed:
                return
            except StaleOwner:
                pass
            except Exception as error:
                failures.append(error)
                return

    clients = [threading.Thread(target=write, args=(sites.old, name)) for name in NAMES[::2]]
    clients += [threading.Thread(target=write, args=(sites.new, name)) for name in (*NAMES[1::2], GOES)]
    for client in clients:
        client.start()
    rebalance(sites.servers)
    rebalance(sites.servers, sites.layout().servers[0])
    stop.set()
    for client in clients:
        client.join(scaled(30))
    assert failures == []
    sites.check(expected)


def test_who_moves_between_a_change_and_its_commit_gets_the_change_at_the_new_place(sites, monkeypatch):
    swap, moves = Journal.swap, iter([GOES])

    def late(*arguments: Any) -> int:
        for name in moves:
            sites.move(name)
        return swap(*arguments)

    monkeypatch.setattr(Journal, "swap", late)
    add(sites.new, GOES, 50)
    rebalance(sites.servers)
    sites.check({name: [number, *[50] * (name == GOES)] for number, name in enumerate(NAMES)})


def test_a_commit_whose_answer_was_lost_and_who_moved_with_it_counts_once(sites, monkeypatch):
    tell, moves = Server.tell, iter([GOES])

    def lost(server: Server, query: str, *values: object) -> Any:
        done = tell(server, query, *values)
        if "UPDATE owners SET head" in query:
            for name in moves:
                sites.move(name)
                raise Lost("the connection died")
        return done

    with monkeypatch.context() as patch:
        patch.setattr(Server, "tell", lost)
        add(sites.new, GOES, 50)
    rebalance(sites.servers)
    sites.check({name: [number, *[50] * (name == GOES)] for number, name in enumerate(NAMES)})


def test_a_settler_that_comes_between_is_no_harm(sites, monkeypatch):
    """Before he moves, while he is copied, and after."""
    names = [name for name in NAMES if len(set(sites.layout().places(f"user/{name}"))) == 1]
    settler = Settler(sites.new.home.journal, sites.new.home.objects, keep=0)
    settler.settle(Owner("user", names[0]))
    run, settled = Server.run, set()

    def settling(server: Server, work: Any) -> Any:
        if "switch" in getattr(work, "__qualname__", "") or "_move" in getattr(work, "__qualname__", ""):
            for name in set(NAMES) - settled:
                settled.add(name)
                settler.settle(Owner("user", name))
        return run(server, work)

    with monkeypatch.context() as patch:
        patch.setattr(Server, "run", settling)
        rebalance(sites.servers)
    assert settled
    for name in NAMES:
        add(sites.new, name, 80)
        settler.settle(Owner("user", name))
    sites.check({name: [number, 80] for number, name in enumerate(NAMES)})


def test_new_users_come_to_the_new_place_alone_whatever_a_node_had_heard(sites):
    """The nodes have looked at the layout before the rebalance began."""
    newcomers = [f"n{number}" for number in range(8)]
    Rebalance(sites.servers).begin()
    made = []
    for number, name in enumerate(newcomers):
        with contextlib.suppress(Unnamed):
            add((sites.old, sites.new)[number % 2], name, 200 + number)
            made.append(name)
    assert set(newcomers[1::2]) <= set(made) != set(newcomers), "one that knows two servers cannot"
    layout = sites.layout()
    for name in made:
        new = layout.places(f"user/{name}")[1]
        assert sites.servers.at(new).ask("SELECT count(*) FROM owners WHERE name = %s", name) == [(1,)]
    rebalance(sites.servers)
    for name in {*newcomers} - {*made}:
        add(sites.new, name, 200 + newcomers.index(name))
    sites.check(
        {name: [number] for number, name in enumerate(NAMES)}
        | {name: [200 + number] for number, name in enumerate(newcomers)}
    )


@pytest.mark.covers("A fleet: losing a part of it", "11")
def test_while_the_new_server_is_away_others_are_served_and_it_is_gone_on_with_later(tmp_path, postgres):
    wire = Wire(("127.0.0.1", postgres.port))
    third = postgres.database().replace(f":{postgres.port}/", f":{wire.port}/")
    with closing(Sites(tmp_path, postgres.database(), postgres.database(), third)) as sites:
        sites.move(GOES)
        wire.turn(Way.CUT)
        for name in NAMES:
            with contextlib.nullcontext() if name != GOES else pytest.raises(MailboxLocked):
                add(sites.new, name, 90)
        with pytest.raises(MailboxLocked):
            rebalance(sites.servers)
        wire.turn(Way.OPEN)
        assert rebalance(sites.servers) == sites.rows()[2] - 1
        sites.check({name: [number, *[90] * (name != GOES)] for number, name in enumerate(NAMES)})
    wire.close()


@pytest.mark.covers("A fleet: losing a part of it", "11")
def test_whom_a_failover_of_the_new_server_has_lost_is_put_back_and_moved_again(sites, caplog):
    sites.move(GOES)
    sites.servers.at(sites.layout().following[2]).tell("DELETE FROM owners")
    with pytest.raises(StoreError, match="lost"):
        messages(sites.new, GOES)
    rebalance(sites.servers)
    assert f"{GOES}: the new place has lost him" in caplog.text
    sites.check({name: [number] for number, name in enumerate(NAMES)})


@pytest.mark.covers("A fleet: losing a part of it", "11")
def test_who_comes_up_again_at_the_old_server_by_its_failover_counts_no_more(sites, caplog):
    sites.move(GOES)
    add(sites.new, GOES, 50)
    old = sites.servers.at(sites.layout().places(f"user/{GOES}")[0])
    old.tell(
        "INSERT INTO owners (id, kind, name, head, seq, base_seq, base, partition, place)"
        " OVERRIDING SYSTEM VALUE"
        " SELECT id, kind, name, head, seq, base_seq, base, partition, place FROM moved"
    )
    old.tell("DELETE FROM moved")
    add(sites.new, GOES, 51)
    rebalance(sites.servers)
    assert f"{GOES}: PostgreSQL at" in caplog.text
    sites.check({name: [number, *[50, 51] * (name == GOES)] for number, name in enumerate(NAMES)})


def test_several_rebalances_at_once_are_one(sites):
    outcomes: list[object] = []

    def work() -> None:
        with closing(Servers(sites.urls)) as servers:
            try:
                outcomes.append(rebalance(servers))
            except StoreError as error:
                outcomes.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(scaled(60))
    assert any(isinstance(outcome, int) for outcome in outcomes)
    rebalance(sites.servers)
    sites.check({name: [number] for number, name in enumerate(NAMES)})


def test_what_stays_at_old_places_goes_after_a_while_and_back_is_a_way_too(sites):
    rebalance(sites.servers)
    assert sum(sites.rows("moved")) == sites.rows()[2]
    rebalance(sites.servers, sites.layout().servers[2])
    with pytest.raises(StoreError, match="no server"):
        Rebalance(sites.servers).begin(["elsewhere:5432/x"])
    Rebalance(sites.servers).forget()
    assert sum(sites.rows("moved")) > 0
    Rebalance(sites.servers, keep=0).forget()
    assert sites.rows("moved")[:2] == [0, 0]
    sites.check({name: [number] for number, name in enumerate(NAMES)})
    third = next(iter(sites.servers.apart()))
    assert rebalance(sites.servers, back=[third]) == sites.rows()[2] > 0
    Rebalance(sites.servers, keep=0).forget()
    assert sum(sites.rows("moved")) == 0
    sites.check({name: [number] for number, name in enumerate(NAMES)})
    assert sum(sites.rows("journal")) == sum(
        sites.new.home.journal.head(Owner("user", name)).seq for name in NAMES
    )


def test_a_place_that_is_left_is_taken_by_who_comes_or_by_the_last():
    assert without("abc", {"b"}, ["d"]) == ("a", "d", "c")
    assert without("abc", {"a"}, []) == ("c", "b")
    assert without("abc", {"c"}, []) == ("a", "b")
    assert without("abc", {"a", "c"}, []) == ("b",)
    assert without("a", {"a"}, []) == ()
    assert key_of(Owner("user", "alice")) == "user/alice"


def test_a_fleet_of_before_there_were_layouts_goes_on(tmp_path, postgres, monkeypatch):
    """Its tables say which server of how many each is."""
    urls = [postgres.database(), postgres.database()]
    for number, url in enumerate(urls):
        with closing(Server(url)) as server:
            server.tell("CREATE TABLE fleet (version integer NOT NULL)")
            server.tell("INSERT INTO fleet (version) VALUES (1)")
            server.run(lambda line: line.execute(migrations._STEPS[1]) and [])
            server.tell("UPDATE fleet SET position = %s, servers = 2", number)
    with closing(Servers(urls[::-1])) as servers:
        layout = servers.look()
        assert layout.servers == ("1", "2") and not layout.moving
        assert [servers.at(number).url for number in layout.servers] == urls
    with closing(Sites(tmp_path, *urls, postgres.database())) as sites:
        rebalance(sites.servers)
        sites.check({name: [number] for number, name in enumerate(NAMES)})


# -- the command


@pytest.mark.covers("mailstore: commands and options", "fleet rebalance")
def test_the_command_takes_a_server_in_and_drains_one_and_status_says_how_far_it_is(tmp_path, postgres):
    urls = [postgres.database() for _ in range(3)]
    node = Node(tmp_path / "here", urls[0], tmp_path / "objects")
    node.ok("create", "user/alice")
    node.deliver(1, 2)
    for name in NAMES:
        node.ok("create", f"user/{name}")
    mail = node.ok("dump", "alice").out
    node = Node(tmp_path / "here", " ".join(urls[1:] + urls[:1]), tmp_path / "objects")
    assert node.ok("fleet", "status").out.count("has nobody; mailstore fleet rebalance takes it in") == 2
    with closing(Servers(urls)) as servers:
        Rebalance(servers).begin()
        status = json.loads(node.ok("fleet", "status", "--format", "json").out)
        assert len(status["rebalance"]["onto"]) == 3 and status["rebalance"]["users_to_move"] > 0
        assert "users have to move" in node.ok("fleet", "status").out
    assert f"moved {status['rebalance']['users_to_move']} users" in node.ok("fleet", "rebalance").out
    assert "everybody is where he is to be" in node.ok("fleet", "rebalance").out
    status = json.loads(node.ok("fleet", "status", "--format", "json").out)
    owners = [server["owners"] for server in status["servers"]]
    assert sum(owners) == len(NAMES) + 1 and all(owners) and status["rebalance"] is None
    assert node.run("fleet", "rebalance", "--drain", "nowhere:1/x").status != 0
    node.ok("fleet", "rebalance", "--drain", status["servers"][0]["id"])
    node = Node(tmp_path / "here", " ".join(urls[1:]), tmp_path / "objects")
    assert node.ok("dump", "alice").out == mail
    assert node.run("verify").status == 0
    node = Node(tmp_path / "here", " ".join(urls), tmp_path / "objects")
    (line,) = [one for one in node.ok("fleet", "status").out.splitlines() if "takes it in again" in one]
    node.ok("fleet", "rebalance", "--add", line.split("--add ")[1].split()[0])
    assert len(json.loads(node.ok("fleet", "status", "--format", "json").out)["servers"]) == 3
    assert node.run("deliver", f"user/{GOES}", stdin=MAIL % 3).status == 0


def test_a_server_of_another_fleet_and_one_that_is_named_twice_are_refused(tmp_path, postgres):
    one, two = postgres.database(), postgres.database()
    for name, url in (("a", one), ("b", two)):
        Node(tmp_path / name, url, tmp_path / f"objects of {name}").ok("create", "user/alice")
    refused = Node(tmp_path / "c", f"{one} {two}", tmp_path / "objects of a").run("ls", "-1", "user/alice")
    assert refused.status != 0 and "of another fleet" in refused.err
    refused = Node(tmp_path / "c", f"{one} {one}", tmp_path / "objects of a").run("ls", "-1", "user/alice")
    assert refused.status != 0 and "twice in store_journal" in refused.err


def test_a_mover_that_was_stopped_in_the_middle_is_told_so_and_nothing_is_harmed(sites, monkeypatch):
    """PostgreSQL ends the session of who holds a row and does nothing."""
    patience = "SET LOCAL idle_in_transaction_session_timeout = 50"
    monkeypatch.setitem(Rebalance.move.__globals__, "_PATIENCE", patience)  # whoever else imported it anew
    add_row, paused = Server.tell, list[str]()

    def pausing(server: Server, query: str, *values: object) -> Any:
        if "UPDATE arriving" in query and not paused:
            paused.append(query)
            time.sleep(0.5)
        return add_row(server, query, *values)

    monkeypatch.setattr(Server, "tell", pausing)
    with pytest.raises(MailboxLocked, match="PostgreSQL at"):
        sites.move(GOES)
    assert paused and rebalance(sites.servers) > 0
    sites.check({name: [number] for number, name in enumerate(NAMES)})
