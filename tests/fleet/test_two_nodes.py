"""Several nodes of a fleet: what one commits another reads and adds to, and nothing that is not published is
seen."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.errors import MailboxLocked, MailboxNonexistent, StoreCorrupt
from cyrus_sync.common.stores.grouping import GroupExecutor, QueuedVerb
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.stores.native.care.keeper import NativeCare
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.fleet.cache import Phase
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.journal import Journal
from tests.common.stores.conformance import StoreConformance
from tests.common.stores.conformance_nodes import NodesConformance, append, uids
from tests.common.stores.tools import ALICE, INBOX, Clock, Log, bodies_in, message
from tests.fleet.nodes import Fleet


class Alternating:
    """Two nodes as one store: each call goes to the other one than the call before."""

    def __init__(self, *stores: NativeStore) -> None:
        self._all = stores
        self._turn = itertools.cycle(stores)

    def __getattr__(self, name: str) -> Any:
        return getattr(next(self._turn), name)

    def close(self) -> None:
        for store in self._all:
            store.close()


class TestTwoNodesInTurns(StoreConformance):
    @pytest.fixture(autouse=True)
    def _database(self, database: str) -> None:
        self.url = database

    def test_a_second_writer_is_told_that_the_mailbox_is_locked(self):  # type: ignore[override]
        """On another node that is said at the end: see below."""

    def make(self, path: Path, log: Log, clock: Clock) -> MailStore:
        fleet = Fleet(path, self.url)
        return Alternating(  # type: ignore[return-value]
            fleet.node("here", log=log, clock=clock), fleet.node("there", log=log, clock=clock)
        )


@pytest.fixture
def fleet(tmp_path: Path, database: str) -> Fleet:
    return Fleet(tmp_path, database)


@pytest.fixture
def here(fleet: Fleet) -> Iterator[NativeStore]:
    store = fleet.node("here")
    yield store
    store.close()


@pytest.fixture
def there(fleet: Fleet) -> Iterator[NativeStore]:
    store = fleet.node("there")
    yield store
    store.close()


class TestTwoNodes(NodesConformance):
    pass


def test_a_reader_that_goes_on_while_another_node_commits_keeps_its_snapshot(here, there):
    append(here, 1)
    with here.read(ALICE) as reader:
        append(there, 2)
        assert uids(here) == [1, 2]
        append(there, 3)
        assert uids(here) == [1, 2, 3]
        assert reader.mailbox(INBOX).last_uid == 1
        state = reader.mailbox(INBOX)
        (batch,) = reader.records(state.uniqueid)
        assert [record.uid for record in batch] == [1]


def test_a_commit_that_could_not_be_published_is_forgotten_and_reads_go_on(here, monkeypatch):
    append(here, 1)

    def unreachable(*_: object) -> int:
        raise Away("PostgreSQL is not to be reached")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "swap", unreachable)
        with pytest.raises(MailboxLocked, match="not to be reached"):
            append(here, 2)
        assert bodies_in(here) == [message(1)]
    append(here, 3)
    assert bodies_in(here) == [message(1), message(3)] and uids(here) == [1, 2]


def test_a_new_user_who_could_not_be_published_is_not_there(here, there, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "found", lambda *_: (_ for _ in ()).throw(Away("away")))
        with pytest.raises(MailboxLocked):
            append(here, 1)
    assert not here.exists(ALICE) and not there.exists(ALICE)
    append(there, 1)
    assert bodies_in(here) == [message(1)]


def test_nobody_reads_what_is_committed_and_not_published(fleet, here, monkeypatch):
    """Neither in the process that commits nor in another one of the node."""
    append(here, 1)
    neighbour = fleet.node("here")
    assert uids(neighbour) == [1]
    begun, refuse = threading.Event(), threading.Event()

    def late(*_: object) -> int:
        begun.set()
        assert refuse.wait(30)
        raise Away("refused")

    seen: list[list[int]] = []
    failed: list[MailboxLocked] = []

    def write() -> None:
        try:
            append(here, 2)
        except MailboxLocked as error:
            failed.append(error)

    monkeypatch.setattr(Journal, "swap", late)
    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(30)
    readers = [
        threading.Thread(target=lambda store=store: seen.append(uids(store))) for store in (here, neighbour)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(0.2)
    assert seen == [], "they wait until it is known whether the commit counts"
    refuse.set()
    for thread in (*readers, writer):
        thread.join(30)
    assert seen == [[1], [1]] and len(failed) == 1
    neighbour.close()


@pytest.mark.parametrize("counts", [True, False], ids=["after it", "before it"])
def test_a_process_that_is_killed_around_the_statement_leaves_what_postgresql_says(
    fleet, here, monkeypatch, counts
):
    append(here, 1)
    swap = Journal.swap

    def killed(*arguments: Any) -> int:
        if counts:
            swap(*arguments)
        raise MailboxLocked("as if by SIGKILL")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "swap", killed)
        patch.setattr(here.home, "abandon", lambda _: None)
        with pytest.raises(MailboxLocked):
            append(here, 2)
    assert here.home.cached(ALICE).state(1).phase is Phase.COMMITTING
    expected = [1, 2] if counts else [1]
    assert uids(here) == uids(fleet.node("here")) == expected
    append(here, 3)
    assert uids(fleet.node("there")) == [*expected, len(expected) + 1]
    assert list(NativeCare(here).verify(ALICE)) == []


def test_a_copy_that_was_only_half_written_is_made_anew(here):
    append(here, 1, 2)
    cached = here.home.cached(ALICE)
    with cached.gate(closed=True, timeout=1) as gate:
        gate.state = gate.state._replace(phase=Phase.WRITING)
    cached.image.path.write_bytes(b"half")
    assert uids(here) == [1, 2]


def test_messages_are_read_where_they_are_and_need_not_be_brought(here, there):
    append(here, 1, 2, 3)
    with there.read(ALICE):
        pass
    there.home.drop_packs(there.find(ALICE), ())
    assert bodies_in(there) == [message(1), message(2), message(3)]
    assert not list(there.home.cached(ALICE).packs.iterdir())


def test_a_change_of_nothing_is_not_published(here):
    append(here, 1)
    head = here.home.journal.head(ALICE)
    with here.write(ALICE) as writer:
        assert writer.mailbox(INBOX) is not None
    assert here.home.journal.head(ALICE) == head


def test_lines_that_are_in_the_action_log_wait_on_no_other_node(fleet, there):
    log = Log()
    here = fleet.node("here", log=log)
    append(here, 1)
    append(here, 2)
    assert ("APPEND", INBOX) in log.take()
    assert list(NativeCare(there).verify(ALICE)) == []
    append(there, 3)
    here.close()


def test_the_care_of_the_store_goes_through_the_home(here, there):
    append(here, 1, 2)
    near, far = NativeCare(here), NativeCare(there)
    assert list(far.verify(ALICE)) == list(far.problems()) == []
    figures = far.stats(ALICE)
    assert figures is not None and figures.messages == 2
    with here.write(ALICE) as writer:
        writer.expunge(INBOX, [1])
    assert far.expire(ALICE, -1).messages == 1
    assert bodies_in(here) == [message(2)]
    assert near.reconstruct(ALICE).messages == 1
    assert bodies_in(there) == [message(2)] and list(far.verify(ALICE)) == []
    append(there, 5)
    assert bodies_in(here) == [message(2), message(5)]
    assert far.sweep() == [] and far.staging().is_dir()


def test_summaries_go_by_heads_and_no_index_is_opened_twice_for_them(here, there, monkeypatch):
    append(here, 1)
    assert [known.owner for known in there.living()] == [ALICE]
    there.summaries.flush()
    with monkeypatch.context() as patch:
        patch.setattr(there.home, "glance", lambda *_, **__: pytest.fail("it is known"))
        assert [known.summary.messages for known in there.living()] == [1]
    append(here, 2)
    assert [known.summary.messages for known in there.living()] == [2]


def test_who_is_deleted_and_expired_is_gone_on_every_node(here, there):
    append(here, 1)
    with here.write(ALICE) as writer:
        writer.apply_unuser()
    there._clock.now += 400 * 86400
    NativeCare(there).expire(ALICE, 0)
    assert there.home.journal.head(ALICE) is None
    assert here.home.everybody() == [] and here.directory_of(ALICE) is None
    with pytest.raises(MailboxNonexistent), here.write(ALICE, create=False) as writer:
        writer.create(INBOX)
    append(here, 5)
    assert bodies_in(there) == [message(5)]


def test_who_is_given_up_may_be_made_anew_and_who_is_lost_is_named(here, there):
    append(here, 1)
    server = there.home.journal._servers.of(ALICE)
    server.tell("UPDATE journal SET data = 'CSJ1 and nothing that makes sense behind it......'")
    care = NativeCare(there)
    assert care.is_unusable(ALICE)
    assert len(care.give_up(ALICE)) == 1
    assert not there.exists(ALICE) and not here.exists(ALICE)
    append(there, 1)
    server.tell("DELETE FROM owners")
    with pytest.raises(StoreCorrupt, match="lost"), here.read(ALICE):
        pass


def run_group(store: NativeStore, *changes: Any) -> list[BaseException | None]:
    """What a session makes of changes that come together."""
    jobs = [QueuedVerb(lambda scope, change=change: scope.change(ALICE, change)) for change in changes]
    return [one.error for final in GroupExecutor(store, 5).execute(jobs) for one in final]


def test_a_group_is_run_once_more_on_what_another_node_has_committed_meanwhile(here, there):
    append(here, 1)
    faster = iter([3])

    def change(writer: Any) -> None:
        writer.append(INBOX, [(message(2), 1, "")])
        for number in faster:
            append(there, number)

    def another(writer: Any) -> None:
        writer.append(INBOX, [(message(4), 1, "")])

    assert run_group(here, change, another) == [None, None]
    assert bodies_in(there) == [message(1), message(3), message(2), message(4)]


def test_a_group_that_comes_too_late_twice_is_locked(here, there):
    append(here, 1)
    numbers = itertools.count(10)

    def change(writer: Any) -> None:
        writer.append(INBOX, [(message(2), 1, "")])
        append(there, next(numbers))

    (error,) = run_group(here, change)
    assert isinstance(error, MailboxLocked)
    assert bodies_in(here) == [message(1), message(10), message(11)]
