"""Users of one machine go into the fleet, and come back, while they are in use; cut off anywhere."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cyrus_sync.common.errors import MailboxLocked, ObjectsUnavailable, StoreCorrupt, StoreError
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.mailstore import MailStore, StaleOwner
from cyrus_sync.common.stores.native.care.keeper import NativeCare
from cyrus_sync.common.stores.native.farpack import FarReader
from cyrus_sync.common.stores.native.local_home import LocalHome
from cyrus_sync.common.stores.native.partitions import PartitionAway
from cyrus_sync.common.stores.native.reader import Reader
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.fleet import journal, moving
from cyrus_sync.fleet.claims import Claims
from cyrus_sync.fleet.database import Lost, Server
from cyrus_sync.fleet.errors import Away, Elsewhere
from cyrus_sync.fleet.journal import Journal
from cyrus_sync.fleet.machine import Machine
from cyrus_sync.fleet.moving import move_in, move_out, register
from cyrus_sync.fleet.moving_home import MovingHome
from cyrus_sync.fleet.opening import Moves
from cyrus_sync.fleet.rebalance import Rebalance
from cyrus_sync.multisite.generation import Generation
from cyrus_sync.multisite.oplog.log import Log as OperationsLog
from tests.common.stores.conformance import StoreConformance
from tests.common.stores.tools import (
    ALICE,
    BOB,
    INBOX,
    Clock,
    Log,
    all_records,
    bodies_in,
    layout_in,
    message,
    native_store,
    random_message,
)
from tests.deadlines import scaled, until
from tests.fleet.histories.wires import Way, Wire
from tests.fleet.nodes import Fleet
from tests.fleet.test_rebalance import rebalance
from tests.tiering.far_store import Unsure, objects_at, reader_of, tiering_of


def moving_home(fleet: Fleet, path: Path, *, far: FarReader | None = None) -> MovingHome:
    """The partitions below `path`, and the fleet."""
    local = LocalHome(layout_in(path), far=far)
    machine = Machine(local.notes, "mail.example.org")
    return MovingHome(local, fleet.home(path.name, notes=local.notes, machine=lambda: machine.word), machine)


def home_of(store: NativeStore) -> MovingHome:
    assert isinstance(store.home, MovingHome)
    return store.home


def add(store: NativeStore, number: int, owner: Owner = ALICE) -> None:
    """As a session does it: once more, if somebody was faster."""
    inbox = f"user.{owner.name}"
    for last in (False, False, True):
        try:
            with store.write(owner, timeout=20) as writer:
                if writer.mailbox(inbox) is None:
                    writer.create(inbox)
                writer.append(inbox, [(message(number), 1, "")])
            return
        except StaleOwner:
            if last:
                raise


def numbers(store: NativeStore, owner: Owner = ALICE) -> list[int]:
    """Of the messages that somebody has, in order."""
    bodies = bodies_in(store, f"user.{owner.name}")
    return [int(body.split(b"\r\n", 1)[0].removeprefix(b"Subject: ")) for body in bodies]


def problems(store: NativeStore, owner: Owner = ALICE) -> list[str]:
    care = NativeCare(store)
    return [str(one) for one in (*care.verify(owner), *care.problems())]


class Restless:
    """A store whose users are somewhere else at each call."""

    def __init__(self, store: NativeStore) -> None:
        self._store = store
        self._turn = itertools.count()

    def __getattr__(self, name: str) -> Any:
        home = home_of(self._store)
        go = (move_in, move_out)[next(self._turn) % 2]
        for owner in home.everybody():
            with contextlib.suppress(MailboxLocked):
                go(home, owner, 0)
        return getattr(self._store, name)

    def close(self) -> None:
        self._store.close()


class TestStoreWhoseUsersMoveAllTheTime(StoreConformance):
    @pytest.fixture(autouse=True)
    def _database(self, database: str) -> None:
        self.url = database

    def make(self, path: Path, log: Log, clock: Clock) -> MailStore:
        home = moving_home(Fleet(path, self.url), path / "here")
        register(home)
        return Restless(NativeStore(home, action_log=log, clock=clock))  # type: ignore[return-value]


class Sites:
    """A machine with users of its own, and a node without any."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.url = url
        with closing(native_store(path / "here")) as store:
            for number, owner in enumerate((ALICE, BOB)):
                add(store, number, owner)
        self.log = Log()
        self.fleet = Fleet(path, url)
        self.here, self.also_here = self.open(self.log), self.open()
        self.home = home_of(self.here)
        self.there = self.fleet.node("there")
        self.mover = moving_home(self.fleet, path / "here")

    def open(self, log: Log | None = None) -> NativeStore:
        return NativeStore(moving_home(self.fleet, self.path / "here"), action_log=log, clock=Clock())

    def close(self) -> None:
        for one in (self.here, self.also_here, self.there, self.mover):
            one.close()

    def begin(self) -> Sites:
        assert register(self.mover) == 2
        return self

    def names(self) -> list[str]:
        """What there is of alice on the disk, but for what is set aside."""
        group = self.path / "here" / "default" / "users" / "52"
        return sorted(path.name for path in group.iterdir() if not path.name.startswith(".in-fleet-"))

    def check(self, expected: list[int], owner: Owner = ALICE) -> bool:
        """The user has these, whoever asks; whether he is in the fleet."""
        assert numbers(self.here, owner) == numbers(self.also_here, owner) == expected
        try:
            found = numbers(self.there, owner)
        except Elsewhere as error:
            assert "is on mail.example.org" in str(error)
            return False
        assert found == expected
        return True


@pytest.fixture
def sites(tmp_path: Path, database: str) -> Iterator[Sites]:
    with closing(Sites(tmp_path, database)) as opened:
        yield opened


@pytest.mark.covers("mailstore: commands and options", "fleet move-in")
def test_a_user_goes_in_and_comes_out_and_is_the_same(sites, caplog):
    sites.begin()
    assert not sites.check([0])
    with pytest.raises(Elsewhere):
        add(sites.there, 70)
    assert sites.there.userids() == sites.here.userids() == ["alice", "bob"]
    aside = move_in(sites.mover, ALICE, 5)
    assert aside is not None and (aside / "index.sqlite").exists() and sites.names() == []
    assert sites.check([0]) and move_in(sites.mover, ALICE, 5) is None
    add(sites.there, 1)
    add(sites.here, 2)
    assert sites.check([0, 1, 2]) and problems(sites.here) == problems(sites.there) == []
    path = move_out(sites.mover, ALICE, 5)
    assert path is not None and sites.names() == ["alice"] and move_out(sites.mover, ALICE, 5) is None
    assert not sites.check([0, 1, 2])
    add(sites.here, 3)
    with pytest.raises(Elsewhere):
        add(sites.there, 71)
    assert not sites.check([0, 1, 2, 3]) and problems(sites.here) == []
    assert not sites.check([1], BOB)
    with closing(native_store(sites.path / "here")) as store:
        assert numbers(store) == [0, 1, 2, 3], "nothing of it needs the fleet"
    with pytest.raises(StoreError, match="not stored"):
        move_in(sites.mover, Owner("user", "nobody"), 5)
    move_in(sites.mover, ALICE, 5)
    assert sites.check([0, 1, 2, 3]) and caplog.text == "", "nobody takes the way out for a failover"


class Killed(BaseException):
    """As SIGKILL: nobody cleans up."""


class Cut:
    """Kills this thread at its n-th act, a statement or a renaming, before it or behind it."""

    def __init__(self, patch: pytest.MonkeyPatch, further: int, *, carried_out: bool) -> None:
        self.late: Callable[[], object] | None = None
        """What a server may still do, though nobody waits for it."""
        left, mine = iter(range(further)), threading.get_ident()

        def cutting(act: Callable[..., Any], *, is_statement: bool) -> Callable[..., Any]:
            def cut(*arguments: Any) -> Any:
                if threading.get_ident() != mine or next(left, None) is not None:
                    return act(*arguments)
                if carried_out:
                    act(*arguments)
                elif is_statement:
                    self.late = lambda: act(*arguments)
                raise Killed

            return cut

        patch.setattr(Server, "run", cutting(Server.run, is_statement=True))
        patch.setattr(Path, "rename", cutting(Path.rename, is_statement=False))


@pytest.mark.covers("A fleet: losing a part of it", "12")
@pytest.mark.parametrize("carried_out", [False, True], ids=["before it", "behind it"])
@pytest.mark.parametrize("inwards", [True, False], ids=["in", "out"])
def test_a_move_is_cut_off_at_each_act_and_the_same_command_ends_it(sites, carried_out, inwards):
    """Each time it gets by one act further. Clients work in between, on both machines or on one, or nobody
    does; and a statement that the mover had sent is carried out behind them."""
    go, back = (move_in, move_out) if inwards else (move_out, move_in)
    expected, number = [0], itertools.count(100)
    clients = [(), (sites.here,), (sites.there,), (sites.there, sites.here)]
    sites.begin()
    for further, stores in itertools.product(range(100), clients):
        back(sites.mover, ALICE, 5)
        with pytest.MonkeyPatch.context() as patch:
            cut = Cut(patch, further, carried_out=carried_out)
            try:
                go(sites.mover, ALICE, 5)
                break
            except Killed:
                pass
        for store in stores:
            with contextlib.suppress(Elsewhere):
                add(store, one := next(number))
                expected.append(one)
        if cut.late is not None:
            with contextlib.suppress(StaleOwner, Lost):
                cut.late()
        in_fleet = sites.check(expected)
        assert in_fleet == (sites.home.fleet.journal.head(ALICE) is not None)
        assert ("alice" in sites.names()) <= (not in_fleet)
        go(sites.mover, ALICE, 5)
        assert sites.check(expected) == inwards
        assert sites.names() == ([] if inwards else ["alice"])
        assert problems(sites.here) == []
    assert further >= 5
    assert not sites.check([1], BOB), "nobody else was touched"


def test_who_was_read_on_his_way_is_not_taken_to_be_there_still(sites):
    """A mover is killed, and PostgreSQL carries out its statement later."""
    sites.begin()
    for further in itertools.count():
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            cut = Cut(patch, further, carried_out=False)
            move_in(sites.mover, ALICE, 5)
        if sites.names() == [".leaving-alice"]:
            break
        move_out(sites.mover, ALICE, 5)
    assert numbers(sites.here) == [0] and cut.late is not None
    cut.late()
    add(sites.there, 5)
    assert numbers(sites.here) == [0, 5]


def test_readers_and_writers_of_both_machines_go_on_meanwhile(sites):
    """Nobody misses what he was told, and nothing is there twice."""
    sites.begin()
    stop, told, failures = threading.Event(), {ALICE: [0], BOB: [1]}, list[BaseException]()
    number, lock = itertools.count(100), threading.Lock()

    def work(store: NativeStore, owner: Owner) -> None:
        while not stop.is_set():
            try:
                before = set(told[owner])
                assert before <= set(numbers(store, owner))
                with lock:
                    one = next(number)
                add(store, one, owner)
                told[owner].append(one)
            except MailboxLocked:
                stop.wait(0.002)
            except BaseException as error:
                failures.append(error)
                return

    workers = [
        threading.Thread(target=work, args=(store, owner))
        for store in (sites.here, sites.also_here, sites.there)
        for owner in (ALICE, BOB)
    ]
    for worker in workers:
        worker.start()
    moved, deadline = 0, time.monotonic() + scaled(20)
    while moved < 12 and not failures and time.monotonic() < deadline:
        for owner in (ALICE, BOB):
            with contextlib.suppress(MailboxLocked):
                moved += (move_in, move_out)[moved // 2 % 2](sites.mover, owner, 10) is not None
    stop.set()
    for worker in workers:
        worker.join(scaled(60))
    assert failures == [] and moved >= 4
    for owner in (ALICE, BOB):
        move_out(sites.mover, owner, 20)
        found = numbers(sites.here, owner)
        assert len(found) == len(set(found)) and set(told[owner]) <= set(found)
        assert problems(sites.here, owner) == []


@pytest.mark.parametrize("go", [move_in, move_out], ids=["in", "out"])
def test_several_movers_at_once_are_one(sites, go):
    sites.begin()
    if go is move_out:
        move_in(sites.mover, ALICE, 5)
    outcomes = list[object]()

    def work() -> None:
        with closing(moving_home(sites.fleet, sites.path / "here")) as home:
            try:
                outcomes.append(go(home, ALICE, 10))
            except (MailboxLocked, StoreError) as error:
                outcomes.append(error)

    movers = [threading.Thread(target=work) for _ in range(4)]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join(scaled(60))
    assert len(outcomes) == 4 and sum(isinstance(one, Path) for one in outcomes) == 1, outcomes
    assert all(one is None or isinstance(one, (Path, MailboxLocked)) for one in outcomes), outcomes
    assert sites.check([0]) == (go is move_in) and problems(sites.here) == []
    assert sites.names() == ([] if go is move_in else ["alice"])


def test_who_has_begun_to_read_reads_on_though_the_user_goes(sites):
    sites.begin()
    for number in (1, 2, 3):
        add(sites.here, number)
    wanted = [message(number) for number in range(4)]
    for go in (move_in, move_out, move_in):
        with sites.here.read(ALICE) as reader, sites.also_here.read(ALICE) as another:
            first, second = (bodies_of(one) for one in (reader, another))
            assert next(first) == wanted[0]
            assert go(sites.mover, ALICE, 5) is not None
            assert [wanted[0], *first] == list(second) == wanted
    assert sites.check([0, 1, 2, 3]) and problems(sites.here) == []


def bodies_of(reader: Reader) -> Iterator[bytes]:
    """One by one."""
    for record in all_records(reader):
        for batch in reader.bodies([record.guid]):
            yield from (bytes(body.data) for body in batch)  # type: ignore[arg-type]


def test_users_of_this_machine_need_no_postgresql_and_who_would_move_stays(tmp_path, postgres):
    wire = Wire(("127.0.0.1", postgres.port))
    url = postgres.database().replace(f":{postgres.port}/", f":{wire.port}/")
    with closing(Sites(tmp_path, url)) as sites:
        sites.begin()
        move_in(sites.mover, BOB, 5)
        wire.turn(Way.CUT)
        add(sites.here, 2)
        assert numbers(sites.here) == [0, 2]
        for go in (move_in, move_out):
            with pytest.raises(MailboxLocked):
                go(sites.mover, (ALICE, BOB)[go is move_out], 5)
        with pytest.raises(MailboxLocked):
            add(sites.here, 3, BOB)
        with pytest.raises(MailboxLocked):
            add(sites.here, 4, Owner("user", "newcomer"))
        wire.turn(Way.OPEN)
        here = [home.fleet.journal for home in (sites.home, home_of(sites.also_here), sites.mover)]
        for one in (*here, sites.there.home.journal):  # type: ignore[attr-defined]
            until(lambda one=one: answers(one), "PostgreSQL answers")
        add(sites.here, 5)
        assert not sites.check([0, 2, 5]) and sites.check([1], BOB)
        assert move_in(sites.mover, ALICE, 5) and sites.check([0, 2, 5])
    wire.close()


def answers(one: Journal) -> bool:
    """Whether one who is in the fleet can be had."""
    with contextlib.suppress(Away):
        return one.head(BOB) is not None
    return False


@pytest.mark.parametrize("inwards", [True, False], ids=["in", "out"])
def test_an_answer_that_was_lost_is_asked_for(sites, monkeypatch, inwards):
    sites.begin()
    go, back = (move_in, move_out) if inwards else (move_out, move_in)
    back(sites.mover, ALICE, 5)
    tell, lost = Server.tell, list[str]()

    def losing(server: Server, query: str, *values: object) -> Any:
        done = tell(server, query, *values)
        if "UPDATE owners SET id" in query and not lost:
            lost.append(query)
            raise Lost("the connection died")
        return done

    monkeypatch.setattr(Server, "tell", losing)
    assert go(sites.mover, ALICE, 5) is not None and lost
    assert sites.check([0]) == inwards


def test_a_commit_whose_answer_was_lost_while_its_user_moved_out_may_have_been_carried_out(
    sites, monkeypatch
):
    """Who made it is not told to do it again, nor that nothing was done."""
    sites.begin()
    move_in(sites.mover, ALICE, 5)
    tell, lost = Server.tell, list[str]()

    def losing(server: Server, query: Any, *values: object) -> Any:
        done = tell(server, query, *values)
        if query is journal._SWAP and not lost:
            lost.append("it")
            move_out(sites.mover, ALICE, 5)
            raise Lost("the connection died")
        return done

    monkeypatch.setattr(Server, "tell", losing)
    with pytest.raises(Away, match="may have been carried out"):
        add(sites.there, 1)
    assert lost and not sites.check([0, 1])


def test_what_nobody_has_foreseen_is_said_of_one_user_and_the_others_move(sites, monkeypatch):
    sites.begin()
    fetch = Claims.of

    def of(claims: Claims, owner: Owner) -> Any:
        if owner == ALICE:
            raise psycopg.errors.InsufficientPrivilege("permission denied for table owners")
        return fetch(claims, owner)

    monkeypatch.setattr(Claims, "of", of)
    failed, moved = Moves(sites.mover).move([ALICE, BOB], 5, inwards=True)
    assert isinstance(failed, StoreError) and "permission denied for table owners" in str(failed)
    assert failed.address["user"] == "alice" and isinstance(moved, Path)


def test_a_user_with_packs_in_an_object_store_takes_them_along(tmp_path, database):
    objects = objects_at(tmp_path / "tier")
    here = layout_in(tmp_path / "here")
    with closing(native_store(tmp_path / "here")) as store:
        for number in range(3):
            add(store, number)
    with closing(tiering_of(here, objects)) as tiering:
        tiering.carrier.send(ALICE, 0)
    far = here.partitions["default"] / "users" / "52" / "alice"
    assert list(far.glob("*.far")) and not list(far.glob("*.zst")), "all of it is there"
    fleet, away = Fleet(tmp_path, database), Unsure(tmp_path / "tier" / "objects")

    def home() -> MovingHome:
        return moving_home(fleet, tmp_path / "here", far=reader_of(tmp_path / "tier", away, 0))

    with closing(home()) as one:
        register(one)
        away.away = True
        with pytest.raises(ObjectsUnavailable):
            move_in(one, ALICE, 5)
        assert far.exists()
        away.away = False
    with closing(home()) as one, closing(NativeStore(one, clock=Clock())) as store:
        add(store, 3)
        assert move_in(one, ALICE, 5) is not None
        away.away = True
        with closing(fleet.node("there")) as there:
            assert numbers(there) == numbers(store) == [0, 1, 2, 3] and problems(there) == []
        assert move_out(one, ALICE, 5) == far and not list(far.glob("*.far"))
        assert numbers(store) == [0, 1, 2, 3] and problems(store) == []


def test_a_pack_that_goes_into_an_object_store_meanwhile_is_not_taken_twice(tmp_path, database, monkeypatch):
    objects, fleet = objects_at(tmp_path / "tier"), Fleet(tmp_path, database)
    monkeypatch.setattr(moving, "_LITTLE", 1)
    put, turn = moving.Outgoing.put, iter((1,))
    with closing(moving_home(fleet, tmp_path / "here", far=reader_of(tmp_path / "tier", objects, 0))) as home:
        with closing(native_store(tmp_path / "here")) as local:
            add(local, 0)
        register(home)

        def tiering(*arguments: Any) -> None:
            put(*arguments)
            for number in turn:
                with closing(native_store(tmp_path / "here")) as local:
                    add(local, number)
                with closing(tiering_of(layout_in(tmp_path / "here"), objects)) as at_work:
                    at_work.carrier.send(ALICE, 0)

        monkeypatch.setattr(moving.Outgoing, "put", tiering)
        aside = move_in(home, ALICE, 5)
        assert aside is not None and list(aside.glob("*.far"))
        with closing(fleet.node("there")) as there:
            assert numbers(there) == [0, 1] and problems(there) == []


class Tiered:
    """A machine whose user alice has three messages of 300,000 octets, which are in an object store."""

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        self.objects = objects_at(path / "tier")
        with closing(native_store(path / "here")) as store, store.write(ALICE) as writer:
            writer.create(INBOX)
            writer.append(INBOX, [(random_message(number, 300_000), 1, "") for number in range(3)])
        self.directory = layout_in(path / "here").partitions["default"] / "users" / "52" / "alice"
        self.near = self.directory / "pack-000001.zst"
        self.octets = self.near.read_bytes()
        with closing(tiering_of(layout_in(path / "here"), self.objects)) as tiering:
            tiering.carrier.send(ALICE, 0)
        assert not self.near.exists()
        self.fleet = Fleet(path, url)
        self.home = moving_home(self.fleet, path / "here", far=reader_of(path / "tier", self.objects, 0))
        register(self.home)

    def close(self) -> None:
        self.home.close()

    def readable(self, store: NativeStore) -> list[int]:
        """Those of the messages that can be read."""
        found = []
        with store.read(ALICE) as reader:
            for number, record in enumerate(all_records(reader)):
                with contextlib.suppress(StoreCorrupt):
                    for batch in reader.bodies([record.guid]):
                        found += [number for _ in batch]
        return found


@pytest.fixture
def tiered(tmp_path: Path, database: str) -> Iterator[Tiered]:
    with closing(Tiered(tmp_path, database)) as opened:
        yield opened


def test_a_pack_of_which_a_part_is_here_and_all_in_an_object_store_is_taken_whole(tiered):
    tiered.near.write_bytes(tiered.octets[:1000])
    move_in(tiered.home, ALICE, 5)
    with closing(tiered.fleet.node("there")) as there:
        assert tiered.readable(there) == [0, 1, 2] and problems(there) == []


def test_a_pack_that_is_shorter_than_it_should_be_is_named_when_it_has_moved(sites):
    sites.begin()
    with sites.here.write(ALICE) as writer:
        writer.append(INBOX, [(random_message(number, 3000), 1, "") for number in (1, 2)])
    pack = sites.home.local.find(ALICE).path / "pack-000001.zst"
    whole = pack.read_bytes()
    pack.write_bytes(whole[:-100])
    named = f"pack-000001.zst octets {len(whole) - 100} to {len(whole)}"
    with pytest.raises(StoreCorrupt, match=f"is in the fleet now, .* {named}; mailstore verify"):
        move_in(sites.mover, ALICE, 5)
    assert move_in(sites.mover, ALICE, 5) is None
    with pytest.raises(StoreCorrupt, match=f"is here now, .* {named}; mailstore verify"):
        move_out(sites.mover, ALICE, 5)
    assert sites.names() == ["alice"] and pack.read_bytes() == whole[:-100]


def test_an_object_of_which_a_part_is_lost_keeps_nobody_from_going_in(tiered):
    """What is behind it keeps its place."""
    (key,) = (tiered.path / "tier" / "objects" / "tier").rglob("*pack-000001*")
    with key.open("r+b") as file:
        file.seek(len(tiered.octets) // 2)
        file.write(bytes(10))
    with pytest.raises(StoreCorrupt, match=r"in the fleet now, .*: pack-000001.zst octets 393216 to 524288;"):
        move_in(tiered.home, ALICE, 5)
    with closing(tiered.fleet.node("there")) as there:
        assert tiered.readable(there) == [0, 2]


def test_an_object_that_is_lost_keeps_nobody_from_coming_out(sites):
    sites.begin()
    with sites.here.write(ALICE) as writer:
        writer.append(INBOX, [(random_message(number, 300_000), 1, "") for number in (1, 2, 3)])
    move_in(sites.mover, ALICE, 5)
    objects = sorted((sites.path / "objects").rglob("*-*"), key=lambda path: path.name)
    lost = [path for path in objects if path.is_file()][1]
    lost.unlink()
    with pytest.raises(StoreCorrupt, match=r"is here now, .*: pack-000001.zst octets \d+ to \d+;"):
        move_out(sites.mover, ALICE, 5)
    assert sites.names() == ["alice"] and move_out(sites.mover, ALICE, 5) is None
    assert len(Tiered.readable(sites, sites.here)) == 3, "one of four is lost"


def test_much_mail_goes_ahead_and_the_user_is_held_for_the_rest_alone(sites, monkeypatch):
    """A writer comes after each piece."""
    monkeypatch.setattr(moving, "_LITTLE", 2000)
    sites.begin()
    with sites.here.write(ALICE) as writer:
        writer.append(INBOX, [(random_message(number, 3000), 1, "") for number in (1, 2, 3)])
    more = iter((10, 11, 12, 13))

    def once_more(act: Callable[..., Any]) -> Callable[..., Any]:
        def doing(*arguments: Any) -> Any:
            done = act(*arguments)
            for number in itertools.islice(more, 1):
                with sites.here.write(ALICE, timeout=0) as writer:
                    writer.append(INBOX, [(random_message(number, 3000), 1, "")])
            return done

        return doing

    monkeypatch.setattr(moving.Outgoing, "put", once_more(moving.Outgoing.put))
    assert move_in(sites.mover, ALICE, 5) is not None
    assert sites.check([0, 1, 2, 3, 10, 11, 12, 13])
    more = iter((20, 21))
    monkeypatch.setattr(moving, "copy", once_more(moving.copy))
    assert move_out(sites.mover, ALICE, 5) is not None
    assert not sites.check([0, 1, 2, 3, 10, 11, 12, 13, 20, 21]) and problems(sites.here) == []


def test_who_was_changed_on_another_node_at_the_last_moment_comes_out_with_it(sites, monkeypatch):
    sites.begin()
    move_in(sites.mover, ALICE, 5)
    leave, late = Claims.leave, iter((7, 8))

    def leaving(*arguments: Any) -> bool:
        for number in itertools.islice(late, 1):
            add(sites.there, number)
        return leave(*arguments)

    monkeypatch.setattr(Claims, "leave", leaving)
    assert move_out(sites.mover, ALICE, 5) is not None
    assert not sites.check([0, 7, 8]) and sites.names() == ["alice"]


def test_no_uniqueid_is_given_twice_and_mailboxes_go_from_one_home_to_the_other(sites):
    sites.begin()
    with sites.here.write(ALICE) as writer:
        writer.create(f"{INBOX}.Work")
        uniqueid = writer.mailbox(f"{INBOX}.Work").uniqueid
    move_in(sites.mover, BOB, 5)
    with pytest.raises(Elsewhere):
        sites.there.owner_of_uniqueid(uniqueid)
    assert sites.here.owner_of_uniqueid(uniqueid) == ALICE
    sites.here.rename(f"{INBOX}.Work", "user.bob.Work", log=False)
    assert sites.there.owner_of_uniqueid(uniqueid) == sites.here.owner_of_uniqueid(uniqueid) == BOB
    sites.here.rename("user.bob.Work", f"{INBOX}.Play", log=False)
    assert sites.here.owner_of_uniqueid(uniqueid) == ALICE
    move_in(sites.mover, ALICE, 5)
    assert sites.there.owner_of_uniqueid(uniqueid) == ALICE
    assert problems(sites.there) == problems(sites.there, BOB) == []


def test_who_is_removed_on_this_machine_may_come_anew_anywhere(sites):
    sites.begin()
    clock = Clock()
    clock.now += 400 * 86400
    with closing(NativeStore(moving_home(sites.fleet, sites.path / "here"), clock=clock)) as store:
        with store.write(ALICE) as writer:
            writer.apply_unuser()
        clock.now += 400 * 86400
        NativeCare(store).expire(ALICE, 0)
    assert sites.names() == []
    add(sites.there, 5)
    assert sites.check([5])


def test_who_was_removed_while_postgresql_was_away_may_come_anew_here(sites, monkeypatch):
    sites.begin()
    with monkeypatch.context() as patch:
        patch.setattr(Claims, "row", lambda *_: (_ for _ in ()).throw(Away("away")))
        hold = sites.mover.hold(ALICE, 5)
        sites.mover.remove(hold.directory)
        hold.close()
    with pytest.raises(Elsewhere):
        add(sites.there, 5)
    add(sites.here, 6)
    assert sites.check([6])


def test_one_who_is_lost_is_said_to_be(sites):
    """As by a failover of PostgreSQL that has lost the statement with which he came."""
    sites.begin()
    move_in(sites.mover, ALICE, 5)
    head = sites.mover.fleet.journal.head(ALICE)
    sites.mover.fleet.claims.leave(ALICE, head)
    for act in (numbers, lambda store: add(store, 9)):
        with pytest.raises(StoreCorrupt, match=r"PostgreSQL says that he is on this machine.*in-fleet"):
            act(sites.here)


@pytest.mark.parametrize("fate", ["stays", "changes", "is removed"])
@pytest.mark.parametrize("go", [move_in, move_out], ids=["in", "out"])
def test_a_copy_that_was_made_in_vain_is_in_nobodys_way(sites, monkeypatch, go, fate):
    """The mover is killed between the renaming and the statement."""
    sites.begin()
    move_in(sites.mover, ALICE, 5)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Claims, "leave", lambda *_: (_ for _ in ()).throw(Killed))
        move_out(sites.mover, ALICE, 5)
    assert sites.names() == [".coming-alice"]
    if fate == "changes":
        add(sites.there, 7)
    elif fate == "is removed":
        clock = Clock()
        clock.now += 400 * 86400
        with closing(NativeStore(sites.fleet.home("remover"), clock=clock)) as store:
            with store.write(ALICE) as writer:
                writer.apply_unuser()
            clock.now += 400 * 86400
            NativeCare(store).expire(ALICE, 0)
        assert sites.home.find(ALICE) is None
    everybody = Moves(sites.mover).everybody(inwards=True)
    assert everybody == ([BOB] if fate == "stays" else [ALICE, BOB])
    outcome = go(sites.mover, ALICE, 5)
    if fate == "is removed":
        assert outcome is not None and ".in-fleet-" in outcome.name and sites.names() == []
        with pytest.raises(StoreError, match="not stored"):
            go(sites.mover, ALICE, 5)
        add(sites.there, 5)
        assert sites.check([5])
    elif go is move_in:
        assert outcome is None and sites.check([0, 7][: 1 + (fate == "changes")])
        assert sites.names() == [".coming-alice"] * (fate == "stays"), "the statement may come yet"
    else:
        assert not sites.check([0, 7][: 1 + (fate == "changes")]) and sites.names() == ["alice"]


def test_a_copy_of_one_who_has_gone_to_another_machine_is_set_aside(sites, monkeypatch):
    sites.begin()
    move_in(sites.mover, ALICE, 5)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Claims, "leave", lambda *_: (_ for _ in ()).throw(Killed))
        move_out(sites.mover, ALICE, 5)
    with closing(moving_home(sites.fleet, sites.path / "second")) as second:
        register(second)
        assert move_out(second, ALICE, 5) is not None
    moves = Moves(sites.mover)
    assert moves.everybody(inwards=True) == [ALICE, BOB]
    (aside,) = moves.move([ALICE], 5, inwards=True)
    assert isinstance(aside, Path) and sites.names() == [] and moves.everybody(inwards=True) == [BOB]
    with pytest.raises(Elsewhere):
        numbers(sites.here)


def test_who_comes_takes_the_place_of_what_a_crash_has_left_there(sites):
    sites.begin()
    place = sites.home.local.find(ALICE).path
    move_in(sites.mover, ALICE, 5)
    place.mkdir()
    for name in ("lock", "index.sqlite.new"):
        (place / name).touch()
    assert move_out(sites.mover, ALICE, 5) == place and not sites.check([0])


def test_a_name_that_both_have_is_refused(sites):
    add(sites.there, 9)
    with pytest.raises(StoreError, match=r"others of these names: .*: alice"):
        register(sites.mover)
    with pytest.raises(StoreError, match="another one of this name"):
        move_in(sites.mover, ALICE, 5)
    assert numbers(sites.here) == [0] and numbers(sites.there) == [9]
    newcomer = Owner("user", "newcomer")
    with pytest.raises(MailboxLocked, match="once it knows who is here"):
        add(sites.here, 1, newcomer)
    with closing(native_store(sites.path / "here")) as old:
        add(old, 1, newcomer)
        assert numbers(old, newcomer) == [1], "nothing has begun"


def test_who_cannot_be_found_on_this_machine_is_named_as_long_as_he_is_not_in_the_fleet(sites):
    moves = Moves(sites.begin().mover)
    place = sites.mover.local.find(ALICE).path
    (place / "index.sqlite").rename(place.parent / "elsewhere")
    assert moves.everybody(inwards=True) == [ALICE, BOB]
    lost, moved = moves.move([ALICE, BOB], 5, inwards=True)
    assert isinstance(lost, StoreCorrupt) and "index lost" in str(lost) and isinstance(moved, Path)
    (place.parent / "elsewhere").rename(place / "index.sqlite")
    place.rename(place.parent.parent / "away")
    assert moves.everybody(inwards=True) == [ALICE]
    (lost,) = moves.move([ALICE], 5, inwards=True)
    assert isinstance(lost, StoreCorrupt) and "no directory is there" in str(lost)
    sites.mover.local.registry.forget(ALICE)
    assert moves.everybody(inwards=True) == [ALICE], "PostgreSQL says that he is here"
    (place.parent.parent / "away").rename(place)
    assert all(moves.move([ALICE], 5, inwards=True)) and moves.everybody(inwards=True) == []


def test_a_disk_that_is_not_mounted_is_said_before_anybody_goes(sites):
    marker = layout_in(sites.path / "here").partitions["default"] / ".cyrus-sync-partition"
    moves = Moves(sites.mover)
    marker.rename(marker.with_name("marker"))
    with pytest.raises(PartitionAway):
        moves.register()
    marker.with_name("marker").rename(marker)
    assert moves.register() == 2
    marker.rename(marker.with_name("marker"))
    with pytest.raises(PartitionAway):
        moves.everybody(inwards=True)


def test_the_annotations_of_a_second_server_stay_behind(sites):
    """There is one server in a fleet."""
    with closing(native_store(sites.path / "here")) as old:
        for store, text in ((sites.there, b"there"), (old, b"here")):
            with store.write(SERVER) as writer:
                writer.annotate("", "/comment", "", text)
    moves = Moves(sites.mover)
    assert moves.register() == 2 and moves.leaves_server()
    outcomes = list(moves.move(moves.everybody(inwards=True), 5, inwards=True))
    assert len(outcomes) == 3 and all(isinstance(one, Path) for one in outcomes), outcomes
    assert not moves.leaves_server() and moves.everybody(inwards=True) == []
    for store in (sites.here, sites.there):
        with store.read(SERVER) as reader:
            assert [one.value for one in reader.annotations("")] == [b"there"]


def test_a_process_of_the_old_configuration_makes_nobody_and_takes_nobody_for_gone(sites):
    """Neither where it writes nor where it looks: LMTP would bounce, and sync_client be content."""
    newcomer = Owner("user", "newcomer")
    with closing(native_store(sites.path / "here")) as old:
        assert numbers(old) == [0] and old.home.check_unknown(newcomer) is False
        sites.begin()
        add(old, 1)
        assert old.home.check_unknown(SERVER) is False, "which nobody has here, nor had"
        aside = move_in(sites.mover, ALICE, 5)
        for one in (ALICE, newcomer):
            for act in (lambda one=one: add(old, 2, one), lambda one=one: numbers(old, one)):
                with pytest.raises(MailboxLocked, match=r"may be in the fleet: .*store: moving"):
                    act()
        old.home.registry.note([("0123456789abcdef", ALICE)], ALICE)  # as where the mover was killed
        with pytest.raises(MailboxLocked, match="may be in the fleet"):
            numbers(old)
        old.home.registry.forget(ALICE)
        assert aside is not None
    assert sites.check([0, 1])
    add(sites.here, 4, newcomer)
    assert sites.check([4], newcomer), "with the new one they are made in the fleet"


def test_to_a_process_of_the_old_configuration_the_servers_annotations_are_in_the_fleet(sites):
    with closing(native_store(sites.path / "here")) as old:
        with old.write(SERVER) as writer:
            writer.annotate("", "/comment", "", b"here")
        assert register(sites.mover) == 3 and move_in(sites.mover, SERVER, 5) is not None
        with pytest.raises(MailboxLocked, match="may be in the fleet"), old.read(SERVER):
            pass


def test_a_machine_whose_users_are_out_again_is_one_like_any_other(sites):
    moves = Moves(sites.mover)
    assert moves.register() == 2 and moves.register() == 0
    assert [one is not None for one in moves.move([ALICE, BOB], 5, inwards=True)] == [True, True]
    assert not moves.end()
    assert all(moves.move(moves.everybody(inwards=False), 5, inwards=False))
    assert moves.end() and moves.everybody(inwards=True) == [ALICE, BOB]
    with closing(native_store(sites.path / "here")) as old:
        add(old, 4, Owner("user", "newcomer"))
        assert numbers(old) == [0]
    assert moves.register() == 3, "and may begin anew"
    assert move_in(sites.mover, Owner("user", "newcomer"), 5) is not None


def test_a_site_that_goes_in_and_comes_out_was_not_restored_from_a_backup(sites, tmp_path):
    """As multisite sees it, however long nobody was in the partitions, or in the fleet."""
    log, moves = OperationsLog(tmp_path / "log", "here"), Moves(sites.mover)

    def a_command_changes_something(store: NativeStore) -> None:
        generation = Generation(log, NativeCare(store))
        generation.check()
        generation._row = {"one that has changed": 1}
        generation.end()
        generation.check()

    for _ in range(2):
        with closing(native_store(sites.path / "here")) as local:
            a_command_changes_something(local)
        for inwards in (True, False):
            a_command_changes_something(sites.here)
            moves.register()
            a_command_changes_something(sites.here)
            for owner in (ALICE, BOB):
                assert all(moves.move([owner], 5, inwards=inwards))
                Generation(log, NativeCare(sites.here)).check()
            if inwards:
                for _ in range(3):
                    a_command_changes_something(sites.there)
        assert moves.end()
    log.close()


def test_users_on_a_machine_are_spread_over_more_servers_like_all_others(tmp_path, postgres):
    urls = [postgres.database() for _ in range(3)]
    with closing(native_store(tmp_path / "here")) as store:
        for number in range(8):
            add(store, number, Owner("user", f"u{number}"))
    everybody = [Owner("user", f"u{number}") for number in range(8)]
    with closing(moving_home(Fleet(tmp_path, urls[0]), tmp_path / "here")) as home:
        register(home)
        move_in(home, everybody[0], 5)
    fleet = Fleet(tmp_path, *urls)
    with (
        closing(moving_home(fleet, tmp_path / "here")) as home,
        closing(fleet.node("there")) as there,
        closing(NativeStore(home, clock=Clock())) as store,
    ):
        layout = Rebalance(home.fleet.servers).begin()
        with pytest.raises(StoreError, match="rebalance"):
            home.fleet.claims.make([Owner("user", "newcomer")])
        move_in(home, everybody[1], 5)
        assert layout.following != layout.servers and rebalance(home.fleet.servers) > 0
        move_out(home, everybody[0], 5)
        for number, owner in enumerate(everybody):
            assert numbers(store, owner) == [number]
            with pytest.raises(Elsewhere) if number != 1 else contextlib.nullcontext():
                add(there, 50, owner)
        assert numbers(there, everybody[1]) == [1, 50]
        for owner in everybody:
            move_in(home, owner, 5)
        assert [numbers(there, one) for one in everybody] == [[n, *[50] * (n == 1)] for n in range(8)]
