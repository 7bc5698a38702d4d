"""A partition whose disk is not mounted is not taken for an empty one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.care.verify import verify_store
from cyrus_sync.common.stores.native.partitions import MARKER, PartitionAway, Partitions
from cyrus_sync.common.stores.native.store import NativeStore
from tests.common.stores.tools import ALICE, BOB, native_store

MOUNT = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[NativeStore]:
    opened = native_store(tmp_path)
    yield opened
    opened.close()


def create(store: NativeStore, name: str = "user.alice", partition: str = "") -> None:
    with store.write(ALICE if name == "user.alice" else BOB) as writer:
        writer.create(name, partition=partition)


def test_nothing_is_made_before_somebody_is_stored(store: NativeStore, tmp_path: Path) -> None:
    store.home.check()
    with store.read(ALICE) as reader:
        assert reader.mailboxes() == []
    assert list(tmp_path.iterdir()) == []


def test_a_partition_is_marked_with_its_first_owner(store: NativeStore, tmp_path: Path) -> None:
    create(store)
    assert (tmp_path / "default" / MARKER).is_file() and not (tmp_path / "other").exists()
    create(store, "user.bob", "other")
    assert (tmp_path / "other" / MARKER).is_file()
    assert list(verify_store(store)) == []


def test_a_partition_that_gets_its_first_owner_while_it_is_looked_for_is_there(
    store: NativeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Partitions._known

    def meanwhile(self: Partitions) -> list[str]:
        monkeypatch.undo()
        create(store)
        return known(self)

    monkeypatch.setattr(Partitions, "_known", meanwhile)
    store.home.check()


@pytest.mark.parametrize("what", ["everything in it", "the directory itself"])
def test_a_partition_that_has_lost_its_marker_is_away(store: NativeStore, tmp_path: Path, what: str) -> None:
    create(store)
    create(store, "user.bob", "other")
    shutil.rmtree(tmp_path / "other")
    if what == "everything in it":
        (tmp_path / "other").mkdir()
    with pytest.raises(PartitionAway, match=r"partition other: .*/other .*is it mounted"):
        store.home.check()
    with pytest.raises(StoreError, match="partition other"), store.read(BOB):
        pass
    with pytest.raises(StoreError, match="partition other"):
        create(store, "user.bob")
    with store.write(ALICE) as writer:
        writer.create("user.alice.Work")
    assert [problem.kind for problem in verify_store(store)] == ["partition"]
    assert not (tmp_path / "other" / "users").exists() and set(store.owners()) == {ALICE, BOB}


def test_nobody_is_made_while_he_may_be_on_a_partition_that_is_away(
    store: NativeStore, tmp_path: Path
) -> None:
    create(store, "user.alice", "other")
    shutil.rmtree(tmp_path / "other")
    with pytest.raises(PartitionAway):
        create(store, "user.bob")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / MARKER).touch()
    create(store, "user.bob")


def test_a_store_from_before_the_markers_gets_them_when_it_is_written_to(tmp_path: Path) -> None:
    store = native_store(tmp_path)
    create(store)
    create(store, "user.bob", "other")
    store.close()
    as_before_markers(tmp_path)
    store = native_store(tmp_path)
    store.home.check()
    assert not (tmp_path / "default" / MARKER).exists()
    with store.write(BOB) as writer:
        writer.create("user.bob.Work")
    assert (tmp_path / "default" / MARKER).exists() and (tmp_path / "other" / MARKER).exists()
    store.close()


def as_before_markers(path: Path) -> None:
    (path / "conf" / "partitions.json").unlink()
    for partition in ("default", "other"):
        (path / partition / MARKER).unlink(missing_ok=True)


def test_a_store_from_before_the_markers_that_has_vanished_is_noticed(tmp_path: Path) -> None:
    store = native_store(tmp_path)
    create(store)
    store.close()
    as_before_markers(tmp_path)
    shutil.rmtree(tmp_path / "default")
    store = native_store(tmp_path)
    with pytest.raises(PartitionAway, match="partition default"):
        store.home.check()
    with pytest.raises(PartitionAway):
        create(store, "user.bob")
    store.close()


def test_a_marker_that_is_missing_is_not_made_again_by_itself(tmp_path: Path) -> None:
    """What stands there may be an old copy underneath the place where the disk should be mounted."""
    store = native_store(tmp_path)
    create(store)
    store.close()
    (tmp_path / "default" / MARKER).unlink()
    store = native_store(tmp_path)
    with pytest.raises(PartitionAway):
        store.home.check()
    (tmp_path / "default" / MARKER).touch()
    store.home.check()
    store.close()


@MOUNT
def test_a_partition_that_is_unmounted_while_a_store_is_open_gets_nothing(tmp_path: Path) -> None:
    disk, store = tmp_path / "default", native_store(tmp_path)
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=True)
    try:
        create(store)
        assert store.exists(ALICE)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
    try:
        with pytest.raises(PartitionAway, match=f"{disk} has no file {MARKER}"):
            create(store, "user.alice")
        with pytest.raises(PartitionAway), store.read(ALICE):
            pass
        with pytest.raises(PartitionAway):
            create(store, "user.bob")
        assert list(disk.iterdir()) == []
    finally:
        store.close()


def test_who_is_made_while_somebody_looks_is_not_taken_for_lost(
    store: NativeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between not finding an index and looking at what is left, another process makes the user."""
    other, find = native_store(tmp_path), store.home.find

    def found_and_made_then(owner: Owner, known: object = None) -> object:
        found = find(owner)
        monkeypatch.undo()
        create(other)
        return found

    monkeypatch.setattr(store.home, "find", found_and_made_then)
    with store.read(ALICE) as reader:
        assert [state.name for state in reader.mailboxes()] == ["user.alice"]
    other.close()


def test_one_who_is_being_made_on_a_partition_is_not_made_on_another(
    store: NativeStore, tmp_path: Path
) -> None:
    """Both would be shown, and only one of them found: the other's mail would be lost."""
    with closing(native_store(tmp_path)) as other, closing(store.home.make(ALICE, "default")) as hold:
        with pytest.raises(MailboxLocked):
            other.home.make(ALICE, "other")
        store.home.abandon(hold)
    create(store, partition="other")
    with store.read(ALICE) as reader:
        assert [state.partition for state in reader.mailboxes()] == ["other"]
