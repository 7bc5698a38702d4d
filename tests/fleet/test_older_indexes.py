"""An index of an older format: in the fleet, in a backup, in a store that moves in; and of a newer one, where
nodes have different releases."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.care.keeper import NativeCare
from cyrus_sync.common.stores.native.layout import INDEX
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.fleet.delta import encode_whole
from cyrus_sync.fleet.errors import Away
from cyrus_sync.fleet.journal import Journal, new_head
from cyrus_sync.fleet.settler import Settler
from cyrus_sync.objects.directory import DirectoryObjects
from tests.common.stores.conformance_nodes import append, uids
from tests.common.stores.test_format import downgraded
from tests.common.stores.tools import ALICE, bodies_in, message, native_store, records_in
from tests.fleet.nodes import Fleet
from tests.fleet.test_backup import back_up, bring, filled
from tests.fleet.test_command import Node
from tests.fleet.test_two_nodes import run_group


@pytest.fixture
def fleet(tmp_path: Path, database: str) -> Fleet:
    return Fleet(tmp_path, database)


@pytest.fixture
def here(fleet: Fleet) -> Iterator[NativeStore]:
    with closing(fleet.node("here")) as store:
        append(store, 1, 2)
        yield store


def become(store: NativeStore, statements: str, scratch: Path) -> None:
    """The owner's index becomes another one, as a node of another release would commit it."""
    store.find(ALICE)
    home = store.home
    scratch.mkdir()
    (scratch / INDEX).write_bytes(home.cached(ALICE).image.path.read_bytes())
    with closing(sqlite3.connect(scratch / INDEX, isolation_level=None)) as index:
        index.execute("PRAGMA journal_mode = DELETE")
        index.executescript(statements) if statements else downgraded(scratch)
        index.execute("PRAGMA journal_mode = WAL")
    home.journal.swap(ALICE, home.journal.head(ALICE), new_head(), [], encode_whole(scratch / INDEX))
    store.find(ALICE)
    assert format_of(store) != schema.VERSION


def format_of(store: NativeStore) -> int:
    return store.home.cached(ALICE).image.format


@pytest.mark.parametrize("settled", [False, True], ids=["in the journal", "in a base"])
def test_an_older_index_is_read_as_it_is_and_the_next_change_upgrades_it_for_all(
    fleet, here, tmp_path, settled
):
    """So a node of the older release goes on with whoever is only read."""
    become(here, "", tmp_path / "old")
    if settled:
        Settler(here.home.journal, fleet.objects).settle(ALICE)
    head = here.home.journal.head(ALICE)
    with closing(fleet.node("there")) as there:
        assert bodies_in(there) == [message(1), message(2)] and there.known_users()
        assert there.digests() == here.digests() and list(NativeCare(there).verify(ALICE)) == []
        assert there.home.journal.head(ALICE) == head and format_of(there) == 1
        with there.read(ALICE) as reader:
            append(here, 3)
            assert reader.mailbox("user.alice").last_uid == 2, "its snapshot is the older one"
        assert uids(there) == uids(here) == [1, 2, 3]
        assert format_of(there) == format_of(here) == schema.VERSION
        append(there, 4)
        assert bodies_in(here) == [message(number) for number in (1, 2, 3, 4)]
        assert list(NativeCare(there).verify(ALICE)) == []


def test_two_nodes_that_upgrade_one_owner_at_once_leave_one_index(fleet, here, tmp_path, monkeypatch):
    become(here, "", tmp_path / "old")
    swap, faster = Journal.swap, iter([3])
    with closing(fleet.node("there")) as there:

        def second(*arguments):
            for number in faster:
                append(there, number)
            return swap(*arguments)

        monkeypatch.setattr(Journal, "swap", second)
        assert run_group(here, lambda writer: writer.append("user.alice", [(message(4), 1, "")])) == [None]
        assert bodies_in(there) == [message(number) for number in (1, 2, 3, 4)]
        assert format_of(here) == schema.VERSION


def test_an_upgrade_that_could_not_be_published_did_not_happen(here, tmp_path, monkeypatch):
    become(here, "", tmp_path / "old")
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "swap", lambda *_: (_ for _ in ()).throw(Away("away")))
        with pytest.raises(MailboxLocked, match="away"):
            append(here, 3)
    assert format_of(here) == 1 and uids(here) == [1, 2]
    append(here, 3)
    assert format_of(here) == schema.VERSION and bodies_in(here) == [message(1), message(2), message(3)]


def test_an_index_of_a_newer_release_is_refused_by_name_and_left_alone(here, tmp_path):
    become(here, f"PRAGMA user_version = {schema.VERSION + 1}", tmp_path / "new")
    head = here.home.journal.head(ALICE)
    with pytest.raises(StoreError, match="newer than this program knows"):
        uids(here)
    with pytest.raises(StoreError, match="newer than this program knows"):
        append(here, 3)
    assert here.home.journal.head(ALICE) == head


def test_an_older_backup_comes_back_into_a_fleet_and_into_directories(fleet, tmp_path):
    plain = tmp_path / "plain"
    with closing(native_store(plain)) as store:
        filled(store, 1, 2, 3)
        directory = store.directory_of(ALICE)
        before = records_in(store)
    downgraded(directory)
    objects = DirectoryObjects(tmp_path / "backup")
    with closing(native_store(plain, readonly=True)) as store:
        assert back_up(store, objects, tmp_path)
    assert not directory.with_name("index.sqlite.v1").exists()
    with closing(fleet.node("here")) as here, closing(native_store(tmp_path / "other")) as local:
        for store in (here, local):
            assert bring(objects, store) == []
            assert records_in(store) == before and list(NativeCare(store).verify(ALICE)) == []
            append(store, 4)
        assert format_of(here) == schema.VERSION
        with closing(fleet.node("there")) as there:
            assert bodies_in(there) == bodies_in(local)


def test_an_older_index_that_moves_in_is_of_the_present_format_there(tmp_path, database):
    node = Node(tmp_path / "here", database, tmp_path / "objects", store="local")
    node.ok("create", "user/alice")
    node.deliver(1, 2)
    before = node.ok("dump", "--expunged", "alice").out
    (index,) = (node.path / "spool").rglob(INDEX)
    downgraded(index.parent)
    node = Node(tmp_path / "here", database, tmp_path / "objects", store="moving")
    node.ok("fleet", "move-in", "alice")
    node = Node(tmp_path / "here", database, tmp_path / "objects")
    assert node.ok("dump", "--expunged", "alice").out == before
    node.deliver(3)
    node.ok("verify")
