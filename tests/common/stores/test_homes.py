"""A store on a home of copies: the contract of stores holds, and so does what a home promises."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cyrus_sync.common.errors import MailboxNonexistent, StoreCorrupt, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.stores.native.care.keeper import NativeCare
from cyrus_sync.common.stores.native.homes import Grown, Hold, OwnerDirectory
from cyrus_sync.common.stores.native.local_home import LocalHome
from cyrus_sync.common.stores.native.store import NativeStore
from tests.common.stores.conformance import StoreConformance
from tests.common.stores.conformance_nodes import NodesConformance, append, uids
from tests.common.stores.copying_home import CopyingHome, Vault
from tests.common.stores.tools import (
    ALICE,
    INBOX,
    Clock,
    Log,
    bodies_in,
    layout_in,
    message,
)


class TestStoreOfCopies(StoreConformance):
    def make(self, path: Path, log: Log, clock: Clock) -> MailStore:
        home = CopyingHome(Vault(path / "vault"), path / "cache")
        return NativeStore(home, action_log=log, clock=clock)


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault")


@pytest.fixture
def here(vault: Vault, tmp_path: Path):
    store = NativeStore(CopyingHome(vault, tmp_path / "here"), clock=Clock())
    yield store
    store.close()


@pytest.fixture
def there(vault: Vault, tmp_path: Path):
    store = NativeStore(CopyingHome(vault, tmp_path / "there"), clock=Clock())
    yield store
    store.close()


class TestTwoNodes(NodesConformance):
    pass


def test_a_reader_that_goes_on_while_another_node_commits_keeps_its_snapshot(here, there):
    append(here, 1)
    with here.read(ALICE) as reader:
        append(there, 2)
        assert uids(here) == [1, 2]
        assert reader.mailbox(INBOX).last_uid == 1


def test_a_commit_that_could_not_be_published_is_forgotten(here, vault, monkeypatch):
    append(here, 1)

    def unreachable(*_: object) -> str:
        raise StoreError("the vault is not to be reached")

    with monkeypatch.context() as patch:
        patch.setattr(vault, "swap", unreachable)
        with pytest.raises(StoreError, match="not to be reached"):
            append(here, 2)
        assert bodies_in(here) == [message(1)]
    append(here, 3)
    assert bodies_in(here) == [message(1), message(3)] and uids(here) == [1, 2]


def test_a_new_user_who_could_not_be_published_is_not_there(here, there, vault, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(vault, "swap", lambda *_: (_ for _ in ()).throw(StoreError("away")))
        with pytest.raises(StoreError):
            append(here, 1)
    assert not here.exists(ALICE) and not there.exists(ALICE)
    append(there, 1)
    assert bodies_in(here) == [message(1)]


def test_nobody_reads_what_is_committed_and_not_published(here, vault, monkeypatch):
    append(here, 1)
    swap, begun, refuse = vault.swap, threading.Event(), threading.Event()

    def late(*_: object) -> str:
        begun.set()
        assert refuse.wait(30)
        raise StoreError("refused")

    monkeypatch.setattr(vault, "swap", late)
    seen: list[list[int]] = []
    failed: list[StoreError] = []

    def write() -> None:
        try:
            append(here, 2)
        except StoreError as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    assert begun.wait(30)
    reader = threading.Thread(target=lambda: seen.append(uids(here)))
    reader.start()
    reader.join(0.2)
    assert seen == [], "it waits until it is known whether the commit counts"
    refuse.set()
    reader.join(30)
    writer.join(30)
    assert seen == [[1]] and len(failed) == 1
    monkeypatch.setattr(vault, "swap", swap)


def test_packs_are_read_by_range_where_they_are(here, there, vault):
    append(here, 1, 2, 3)
    vault.ranges.clear()
    assert bodies_in(there) == [message(1), message(2), message(3)]
    assert len(vault.ranges) == 1, "neighbours are read together"
    directory = there.directory_of(ALICE)
    assert directory is not None and not list(directory.glob("pack-*"))


def test_a_change_of_nothing_is_not_published(here, vault):
    append(here, 1)
    head = vault.head(ALICE)
    with here.write(ALICE) as writer:
        assert writer.mailbox(INBOX) is not None
    assert vault.head(ALICE) == head


def test_the_care_of_the_store_goes_through_the_home(here, there, vault):
    append(here, 1, 2)
    near, far = NativeCare(here), NativeCare(there)
    assert list(far.verify(ALICE)) == list(far.problems()) == []
    figures = far.stats(ALICE)
    assert figures is not None and figures.messages == 2
    with here.write(ALICE) as writer:
        writer.expunge(INBOX, [1])
    assert far.expire(ALICE, -1).messages == 1
    assert bodies_in(here) == [message(2)]
    assert [path.name for path in vault.place(ALICE).glob("pack-*")] == ["pack-000002.zst"]
    assert near.reconstruct(ALICE).messages == 1
    assert bodies_in(there) == [message(2)] and list(far.verify(ALICE)) == []
    assert far.sweep() == [] and far.staging().is_dir()


def test_who_is_deleted_and_expired_is_gone_on_every_node(here, there, vault):
    append(here, 1)
    with here.write(ALICE) as writer:
        writer.apply_unuser()
    there._clock.now += 400 * 86400
    NativeCare(there).expire(ALICE, 0)
    assert vault.head(ALICE) is None
    assert here.home.everybody() == [] and here.directory_of(ALICE) is None
    with pytest.raises(MailboxNonexistent), here.write(ALICE, create=False) as writer:
        writer.create(INBOX)


def test_who_is_damaged_is_given_up_and_who_is_lost_is_named(here, there, vault):
    append(here, 1)
    head = vault.head(ALICE)
    (vault.place(ALICE) / f"{head}.sqlite").write_bytes(b"no index at all" * 100)
    care = NativeCare(there)
    assert care.is_unusable(ALICE)
    assert [path.exists() for path in care.give_up(ALICE)] == [True]
    assert not there.exists(ALICE)
    append(there, 1)
    vault.remove(ALICE)
    with pytest.raises(StoreCorrupt, match="lost"), here.read(ALICE):
        pass


# -- directories of this machine


def test_a_writer_who_waited_while_another_index_came_works_on_that(tmp_path, monkeypatch):
    """Whoever makes an index anew holds the same lock as a writer."""
    home, another = LocalHome(layout_in(tmp_path)), LocalHome(layout_in(tmp_path))
    one, two = NativeStore(home, clock=Clock()), NativeStore(another, clock=Clock())
    append(one, 1)
    append(two, 2)
    hold, asked = another.hold, threading.Event()
    waiting = threading.Thread(target=append, args=(two, 3))
    publish = home.publish

    def tell_and_hold(owner: Owner, timeout: float, known: OwnerDirectory | None) -> Hold | None:
        asked.set()
        return hold(owner, timeout, known)

    def publish_while_somebody_waits(held: Hold, commit: Callable[[], Grown | None]) -> None:
        if not asked.is_set():
            waiting.start()
            assert asked.wait(30)
        publish(held, commit)

    monkeypatch.setattr(another, "hold", tell_and_hold)
    with monkeypatch.context() as patch:
        patch.setattr(home, "publish", publish_while_somebody_waits)
        NativeCare(one).reconstruct(ALICE)
    waiting.join(30)
    assert uids(one) == uids(two) == [1, 2, 3]
    one.close()
    two.close()
