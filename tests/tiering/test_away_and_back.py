"""Packs go into the object store and come back: whole, whatever happens in between."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from cyrus_sync.common.errors import MessageUnavailable, ObjectsUnavailable, StoreError
from cyrus_sync.common.stores.native.care.keeper import NativeCare
from cyrus_sync.common.stores.native.farpack import read_far
from cyrus_sync.common.stores.native.moving import move_files
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.objects.directory import DirectoryObjects
from cyrus_sync.tiering.carrier import Tiered
from cyrus_sync.tiering.names import MARKER
from cyrus_sync.tiering.opening import Tiering
from tests.common.stores.conformance_nodes import append
from tests.common.stores.tools import ALICE, INBOX, bodies_in, guid_of, message
from tests.tiering.far_store import objects_at, store_at, tiering_at

DAY = 86400
ALL = -DAY
"""Older than tomorrow: every pack is."""


@pytest.fixture
def objects(tmp_path: Path) -> DirectoryObjects:
    return objects_at(tmp_path)


@pytest.fixture
def store(tmp_path: Path, objects: DirectoryObjects) -> Iterator[NativeStore]:
    store = store_at(tmp_path, objects)
    yield store
    store.close()


class Time:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def tiering(tmp_path: Path, objects: DirectoryObjects, time: Time) -> Iterator[Tiering]:
    tiering = tiering_at(tmp_path, objects, clock=time)
    yield tiering
    tiering.close()


def directory_of(store: NativeStore) -> Path:
    found = store.directory_of(ALICE)
    assert found is not None
    return found


def names(store: NativeStore) -> list[str]:
    return sorted(path.name for path in directory_of(store).iterdir() if path.name.startswith("pack"))


def sent(tiering: Tiering) -> Tiered:
    return tiering.carrier.send(ALICE, ALL)


def keys(objects: DirectoryObjects) -> set[str]:
    return {one.key for one in objects.listed()} - {MARKER}


def named(store: NativeStore) -> set[str]:
    return {read_far(path).key for path in directory_of(store).glob("*.far")}


# -- the way


def test_a_pack_goes_is_read_and_comes_back_the_same(store, tiering, objects):
    append(store, 1, 2)
    near = directory_of(store) / "pack-000001.zst"
    octets, modified = near.read_bytes(), int(near.stat().st_mtime)
    assert sent(tiering) == Tiered(1, len(octets), 0, len(octets))
    assert names(store) == ["pack-000001.far"] and objects.get(*keys(objects)) == octets
    assert bodies_in(store) == [message(1), message(2)]
    assert sent(tiering) == Tiered(0, 0, 0, len(octets)), "there is nothing more to do"
    assert tiering.carrier.bring_back(ALICE) == Tiered(1, len(octets), len(octets), 0)
    assert names(store) == ["pack-000001.zst"]
    assert near.read_bytes() == octets and int(near.stat().st_mtime) == modified
    assert bodies_in(store) == [message(1), message(2)]


def test_only_what_was_not_added_to_for_that_time_goes(store, tiering, time):
    append(store, 1)
    time.now = (directory_of(store) / "pack-000001.zst").stat().st_mtime + 6 * DAY
    assert tiering.carrier.send(ALICE, 7 * DAY).packs == 0
    time.now += DAY + 1
    dry = tiering.carrier.send(ALICE, 7 * DAY, dry_run=True)
    assert dry.packs == 1 and names(store) == ["pack-000001.zst"]
    assert tiering.carrier.send(ALICE, 7 * DAY).packs == 1


def test_what_comes_later_begins_a_new_pack(store, tiering):
    append(store, 1)
    sent(tiering)
    append(store, 2)
    assert names(store) == ["pack-000001.far", "pack-000002.zst"]
    with store.write(ALICE) as writer:
        with pytest.raises(ZeroDivisionError), writer.savepoint():
            writer.append(INBOX, [(message(3), 1, "")])
            raise ZeroDivisionError
        writer.append(INBOX, [(message(4), 1, "")])
    assert bodies_in(store) == [message(1), message(2), message(4)]


def test_what_is_rolled_back_behind_a_far_pack_leaves_that_alone(store, tiering):
    append(store, 1)
    sent(tiering)
    with store.write(ALICE) as writer:
        with pytest.raises(ZeroDivisionError), writer.savepoint():
            writer.append(INBOX, [(os.urandom(3_000_000), 1, "")])
            raise ZeroDivisionError
        writer.append(INBOX, [(message(3), 1, "")])
    assert names(store) == ["pack-000001.far", "pack-000002.zst"]
    assert bodies_in(store) == [message(1), message(3)]


def test_a_pack_that_grows_while_it_is_uploaded_stays(store, tiering, objects, monkeypatch):
    append(store, 1)
    put = objects.put

    def meanwhile(key, content, *, check=False):
        done = put(key, content, check=check)
        if key != MARKER:
            append(store, 2)
        return done

    monkeypatch.setattr(objects, "put", meanwhile)
    assert sent(tiering).packs == 0 and names(store) == ["pack-000001.zst"]
    assert keys(objects) == set(), "and its object is gone at once"
    assert bodies_in(store) == [message(1), message(2)]


def test_sieve_scripts_stay(store, tiering, objects, tmp_path):
    append(store, 1)
    with store.write(ALICE) as writer:
        writer.put_script("rules", b"keep;\r\n")
        writer.activate_script("rules")
    sent(tiering)
    assert names(store)[0] == "pack-000001.far"
    sent(tiering)  # what has been written for them goes, too, and they stay again
    (tmp_path / "objects").rename(tmp_path / "unmounted")
    with closing(store_at(tmp_path, objects)) as fresh, fresh.read(ALICE) as reader:
        assert [script.filename for script in reader.sieve_scripts()] == ["rules.script", "rules.bc"]
        with pytest.raises(MessageUnavailable):
            reader.body(guid_of(message(1)))


def test_an_older_copy_of_a_pack_that_was_put_back_is_replaced_by_the_whole_one(store, tiering, objects):
    append(store, 1)
    near = directory_of(store) / "pack-000001.zst"
    older = near.read_bytes()
    append(store, 2)
    sent(tiering)
    near.write_bytes(older)
    (kept,) = keys(objects)
    whole = objects.get(kept)
    objects.delete([kept])
    assert "pack-000001.zst" in tiering.carrier.bring_back(ALICE).left[0]
    assert sent(tiering).left[0].startswith(f"pack-000001.zst has {len(older)} octets, the index says")
    assert names(store) == ["pack-000001.far", "pack-000001.zst"], "neither is all there is"
    objects.put(kept, whole)
    assert tiering.carrier.bring_back(ALICE).packs == 1
    assert names(store) == ["pack-000001.zst"] and bodies_in(store) == [message(1), message(2)]


# -- objects that nobody needs


def test_an_object_goes_when_its_pack_has_been_needless_for_long_enough(store, tiering, objects, time):
    append(store, 1)
    sent(tiering)
    with store.write(ALICE) as writer:
        writer.expunge(INBOX, [1])
    NativeCare(store).expire(ALICE, -1)
    assert names(store) == [], "without a look at the object store"
    assert tiering.forget_needless(30 * DAY) == 0
    time.now += 29 * DAY
    assert tiering.forget_needless(30 * DAY) == 0 and len(keys(objects)) == 1
    time.now += 2 * DAY
    assert tiering.forget_needless(30 * DAY) == 1 and keys(objects) == set()


@pytest.mark.covers("Old mail in an object store: what is lost when", "7")
def test_what_a_directory_names_that_was_set_aside_or_put_back_is_kept(store, tiering, objects, time):
    append(store, 1)
    sent(tiering)
    directory = directory_of(store)
    store.open.forget(ALICE)
    directory.rename(directory.with_name(".damaged-alice"))
    for _ in range(2):
        assert tiering.forget_needless(0) == 0
        time.now += 40 * DAY
    directory.with_name(".damaged-alice").rename(directory)
    assert bodies_in(store) == [message(1)]


def test_nothing_is_deleted_where_it_cannot_be_told_who_is_there(store, tiering, objects, time, tmp_path):
    append(store, 1)
    sent(tiering)
    (directory_of(store) / "pack-000001.far").write_text("no such thing")
    assert [problem.kind for problem in NativeCare(store).verify(ALICE, far=False)] == ["pack"]
    with pytest.raises(StoreError, match="damaged"):
        tiering.forget_needless(0)
    (tmp_path / "default").rename(tmp_path / "unmounted")
    with pytest.raises(StoreError):
        tiering.forget_needless(0)
    assert len(keys(objects)) == 1


def test_a_pack_that_comes_back_while_all_are_looked_at_is_no_trouble(store, tiering, objects):
    append(store, 1)
    sent(tiering)
    (directory_of(store) / "pack-000002.far").symlink_to("gone")
    assert tiering.forget_needless(0) == 0 and len(keys(objects)) == 1


def test_what_cannot_be_looked_at_is_named(store, tiering):
    append(store, 1)
    far = directory_of(store) / "pack-000002.far"
    far.mkdir()
    with pytest.raises(StoreError) as caught:
        tiering.forget_needless(0)
    assert str(far) in str(caught.value) and "tier.sqlite" not in str(caught.value)


@pytest.mark.covers("Old mail in an object store: what is lost when", "3")
def test_an_empty_mount_point_is_not_taken_for_an_object_store(store, tiering, objects, tmp_path):
    append(store, 1)
    sent(tiering)
    append(store, 2)
    (tmp_path / "objects").rename(tmp_path / "unmounted")
    (tmp_path / "objects").mkdir()
    with pytest.raises(StoreError, match="is it mounted"):
        bodies_in(store)
    with (
        closing(tiering_at(tmp_path, objects)) as other,
        pytest.raises(ObjectsUnavailable, match="is it mounted"),
    ):
        sent(other)
    assert names(store) == ["pack-000001.far", "pack-000002.zst"] and list(objects.listed()) == []
    (tmp_path / "objects").rmdir()
    (tmp_path / "unmounted").rename(tmp_path / "objects")
    with closing(store_at(tmp_path, objects)) as fresh:
        assert bodies_in(fresh) == [message(1), message(2)] and not fresh.damaged_owners()


# -- killed


_ACTS = {"os.rename", "os.remove", "os.link", "os.truncate", "os.mkdir", "os.chmod", "shutil.rmtree"}


def dies_at(act: int, work: Callable[[], object]) -> bool:
    """Do it in a process that is killed before its act number `act` on files; whether it came that far."""
    child = os.fork()
    if not child:
        left = act

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal left
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
            if event in _ACTS or writes or event == "sqlite3.connect":
                left -= 1
                if left < 0:
                    os._exit(9)

        try:
            sys.addaudithook(count)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


@pytest.mark.covers("Old mail in an object store: what is lost when", "1")
def test_whoever_is_killed_at_any_act_loses_nothing_and_leaves_nothing(
    store, tiering, objects, time, tmp_path
):
    append(store, 1)

    def go(back: bool) -> None:
        own = tiering_at(tmp_path, objects)
        if back:
            own.carrier.bring_back(ALICE)
        else:
            sent(own)

    kills = 0
    for back in (False, True):
        act = 0
        while dies_at(act, partial(go, back)):
            act += 1
            kills += 1
            assert bodies_in(store) == [message(1)]
        assert names(store) == (["pack-000001.zst"] if back else ["pack-000001.far"])
        assert bodies_in(store) == [message(1)]
        left = {path.name for path in directory_of(store).iterdir()} - {"lock", *names(store)}
        assert {name for name in left if not name.startswith("index.sqlite")} == set()
        time.now += 3 * DAY
        tiering.forget_needless(0)
        time.now += 3 * DAY
        tiering.forget_needless(0)
        assert keys(objects) == named(store)
    assert kills > 20
    assert list(NativeCare(store).verify(ALICE)) == []


def test_a_user_is_moved_to_another_partition_with_the_word_of_his_far_packs(store, tiering, objects, time):
    append(store, 1)
    sent(tiering)
    append(store, 2)
    with store.read(ALICE) as reader:
        assert move_files(store, ALICE, "other", 10)
        assert reader.body(guid_of(message(1))).data == message(1), "a snapshot of before"
    assert directory_of(store).parents[2].name == "other"
    assert names(store) == ["pack-000001.far", "pack-000002.zst"]
    assert bodies_in(store) == [message(1), message(2)]
    for _ in range(2):
        time.now += 40 * DAY
        assert tiering.forget_needless(0) == 0
    assert keys(objects) == named(store)
