"""An owner as he is at one moment, and made again from that: on directories, and on a home of copies."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cyrus_sync.common.errors import CyrusSyncError, ObjectsUnavailable, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import PackPieces, Photograph
from cyrus_sync.common.stores.native.care.keeper import NativeCare
from cyrus_sync.common.stores.native.store import NativeStore
from tests.common.stores.copying_home import CopyingHome, Vault
from tests.common.stores.tools import ALICE, INBOX, Log, bodies_in, message, native_store, records_in
from tests.deadlines import until

BOARD = Owner("shared", "board")


def filled(store: NativeStore, *numbers: int) -> NativeStore:
    with store.write(ALICE) as writer:
        if writer.mailbox(INBOX) is None:
            writer.create(INBOX)
        for number in numbers:
            writer.append(INBOX, [(message(number), 1, "")])
    return store


@pytest.fixture(params=["directories", "copies"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NativeStore]:
    """Where an owner is put back."""
    if request.param == "directories":
        store = native_store(tmp_path / "new", log=Log())
    else:
        store = NativeStore(CopyingHome(Vault(tmp_path / "vault"), tmp_path / "cache"), action_log=Log())
    yield store
    store.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[NativeStore]:
    store = filled(native_store(tmp_path / "old"), 1, 2)
    yield store
    store.close()


def taken(photograph: Photograph | None) -> dict[int, PackPieces]:
    assert photograph is not None
    whole = {
        number: photograph.packs.read(number, 0, length) for number, length in photograph.lengths.items()
    }
    return {number: lambda data=data: iter([data[:5], data[5:]]) for number, data in whole.items()}  # type: ignore[misc]


def test_it_is_of_one_moment_whatever_comes_afterwards(store: NativeStore, tmp_path: Path) -> None:
    care = NativeCare(store)
    with care.photograph(ALICE, tmp_path / "index") as photograph:
        filled(store, 3)
        assert photograph is not None
        assert sum(photograph.lengths.values()) < store.home.packs(store.find(ALICE)).size(1)  # type: ignore[arg-type]
    with closing(sqlite3.connect(tmp_path / "index")) as copy:
        assert copy.execute("SELECT count(*) FROM messages").fetchone() == (2,)
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert not (tmp_path / "index-wal").exists()


def test_who_is_put_back_is_as_he_was(store: NativeStore, empty: NativeStore, tmp_path: Path) -> None:
    before = records_in(store, INBOX), bodies_in(store, INBOX)
    with NativeCare(store).photograph(ALICE, tmp_path / "index") as photograph:
        NativeCare(empty).put_back(ALICE, tmp_path / "index", taken(photograph), "")
    assert (records_in(empty, INBOX), bodies_in(empty, INBOX)) == before
    assert empty.home.registry.held_by(ALICE) == store.home.registry.held_by(ALICE)
    assert not list(NativeCare(empty).verify(ALICE))
    filled(empty, 3)
    assert len(records_in(empty, INBOX)) == 3


def test_what_a_replica_is_told_of_it(store: NativeStore, tmp_path: Path) -> None:
    log = Log()
    other = native_store(tmp_path / "other", log=log)
    with store.write(BOARD) as writer:
        writer.create("board")
    for owner, lines in ((ALICE, [("USER", "alice")]), (BOARD, [("MAILBOX", "board")])):
        with NativeCare(store).photograph(owner, tmp_path / str(owner)) as photograph:
            NativeCare(other).put_back(owner, tmp_path / str(owner), taken(photograph), "")
        assert log == lines
        log.clear()
    other.close()


def test_pieces_that_fail_leave_nobody(store: NativeStore, empty: NativeStore, tmp_path: Path) -> None:
    def fails() -> Iterator[bytes]:
        yield b"a little"
        raise ObjectsUnavailable("gone away")

    care = NativeCare(empty)
    with NativeCare(store).photograph(ALICE, tmp_path / "index") as photograph:
        packs = taken(photograph)
        with pytest.raises(ObjectsUnavailable):
            care.put_back(ALICE, tmp_path / "index", {1: fails}, "")
        assert not care.is_stored(ALICE)
        assert care.everybody() == []
        with pytest.raises(StoreError, match="another owner"):
            care.put_back(BOARD, tmp_path / "index", packs, "")
        care.put_back(ALICE, tmp_path / "index", packs, "")
        with pytest.raises(CyrusSyncError):
            care.put_back(ALICE, tmp_path / "index", packs, "")


def test_a_stamp_is_another_one_after_a_change(store: NativeStore) -> None:
    care = NativeCare(store)
    before = until(lambda: care.stamp(ALICE), "the stamp has settled")
    assert care.stamp(ALICE) == before
    filled(store, 3)
    assert until(lambda: care.stamp(ALICE), "the stamp has settled") != before
    assert care.stamp(Owner("user", "nobody")) == ""


def test_of_somebody_who_is_not_stored_there_is_none(store: NativeStore, tmp_path: Path) -> None:
    with NativeCare(store).photograph(Owner("user", "nobody"), tmp_path / "index") as photograph:
        assert photograph is None
