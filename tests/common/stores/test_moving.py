"""An owner goes to another partition while others read and write; a crash leaves him whole at one place."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path

import pytest

from cyrus_sync.common.errors import MailboxLocked, PartitionUnknown, StoreError
from cyrus_sync.common.stores.care import Moved
from cyrus_sync.common.stores.native import moves, moving
from cyrus_sync.common.stores.native.care.keeper import NativeCare
from cyrus_sync.common.stores.native.locks import Gone
from cyrus_sync.common.stores.native.partitions import MARKER
from cyrus_sync.common.stores.native.reader import Reader
from cyrus_sync.common.stores.native.store import NativeStore
from tests.common.stores.tools import ALICE, INBOX, Log, all_records, mailbox_in, message, native_store
from tests.forking import fork

WORK = "user.alice.Work"


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture(params=["another disk", "the same disk"])
def store(
    tmp_path: Path, log: Log, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[NativeStore]:
    if request.param == "another disk":
        monkeypatch.setattr(moving, "link", _to_another_disk)
    opened = native_store(tmp_path, log=log)
    with opened.write(ALICE) as writer:
        writer.create(INBOX)
        writer.create(WORK)
        writer.append(INBOX, [(message(number), 1, "") for number in range(20)])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / MARKER).touch()
    log.take()
    yield opened
    opened.close()


def _to_another_disk(source: Path, target: Path) -> None:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), str(source), None, str(target))


def move(store: NativeStore, partition: str = "other", told: Callable[[int], object] = id) -> Moved | None:
    return NativeCare(store).move(ALICE, partition, told)


def deliver(store: NativeStore, number: int) -> None:
    with store.write(ALICE) as writer:
        writer.append(INBOX, [(message(number), 1, "")])


def content(reader: Reader) -> list[bytes]:
    guids = [one.guid for one in all_records(reader)]
    bodies = {body.guid: body.data for batch in reader.bodies(guids) for body in batch}
    return [bytes(bodies[guid]) for guid in guids]  # type: ignore[arg-type]


def held(store: NativeStore) -> list[bytes]:
    with store.read(ALICE) as reader:
        return content(reader)


def places(path: Path) -> list[str]:
    """All directories in which something of a user is."""
    return sorted(str(one.relative_to(path)) for one in path.glob("*/users/*/*"))


def problems(store: NativeStore) -> list[str]:
    care = NativeCare(store)
    return [str(one) for one in (*care.verify(ALICE), *care.problems())]


def test_everything_goes_to_the_other_partition_and_replication_is_told(
    store: NativeStore, tmp_path: Path, log: Log
) -> None:
    before, octets = held(store), list[int]()
    assert move(store, told=octets.append)
    assert places(tmp_path) == ["other/users/52/alice"]
    assert held(store) == before and problems(store) == [] and sum(octets) > 4096
    assert {mailbox_in(store, name).partition for name in (INBOX, WORK)} == {"other"}
    assert log.take() == [("MAILBOX", INBOX), ("MAILBOX", WORK)]
    assert not move(store) and log.take() == []
    assert move(store, "default") and places(tmp_path) == ["default/users/52/alice"]
    deliver(store, 77)
    assert held(store) == [*before, message(77)]


def test_between_partitions_of_one_disk_packs_are_not_copied_and_appended_to_as_ever(
    store: NativeStore, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    pack = next(tmp_path.glob("default/users/*/alice/pack-*.zst"))
    inode, size = pack.stat().st_ino, pack.stat().st_size
    moved = move(store)
    (pack,) = tmp_path.glob("*/users/*/alice/pack-*.zst")
    same = "the same disk" in request.node.name
    assert moved is not None and moved.linked == (size if same else 0)
    assert (pack.stat().st_ino == inode) is same and pack.stat().st_nlink == 1
    deliver(store, 77)
    assert pack.stat().st_size > size and held(store)[-1] == message(77) and problems(store) == []


def test_a_pack_that_becomes_another_file_meanwhile_comes_with_what_is_appended_to_that(
    store: NativeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = held(store)
    others: list[Path] = []

    def link(source: Path, target: Path) -> None:
        os.link(source, target)
        if not others:
            others.append(source.with_name("again"))
            shutil.copyfile(source, others[0])  # as after `mailstore tier` and `tier --back`
            others[0].replace(source)
            store.open.forget(ALICE)
            deliver(store, 77)

    monkeypatch.setattr(moving, "link", link)
    assert move(store) and others
    assert held(store) == [*before, message(77)] and problems(store) == []


def test_what_somebody_is_about_to_write_there_is_not_copied(store: NativeStore, tmp_path: Path) -> None:
    here = tmp_path / "default" / "users" / "52" / "alice"
    unfinished = (".ms_tmp_0123", ".pack-000001.far.77.new")
    for name in (*unfinished, "pack-000009.far"):
        (here / name).write_bytes(b"octets")
    assert move(store)
    found = {path.name for path in (tmp_path / "other" / "users" / "52" / "alice").iterdir()}
    assert "pack-000009.far" in found and found.isdisjoint(unfinished)


def test_who_replicates_a_partition_has_the_files_there_too(store: NativeStore, tmp_path: Path) -> None:
    """Cyrus tells a replica of it by a rename to the same name, mailbox by mailbox."""
    store.rename(WORK, WORK, partition="other", log=False)
    assert places(tmp_path) == ["default/users/52/alice"] and mailbox_in(store, WORK).partition == "other"
    store.rename(INBOX, INBOX, partition="other", log=False)
    assert places(tmp_path) == ["other/users/52/alice"] and problems(store) == []


def test_a_reader_of_before_reads_on_and_others_notice(store: NativeStore, tmp_path: Path) -> None:
    before, first, second = held(store), native_store(tmp_path), native_store(tmp_path)
    with first.read(ALICE) as reader, second.read(ALICE) as another:
        guids = [one.guid for one in all_records(reader)]
        assert move(store)
        assert content(reader) == before
        with store.write(ALICE) as writer:
            writer.expunge(INBOX, range(1, 11))
        NativeCare(store).expire(ALICE, -1)  # the packs are written anew, where they are now
        found = [one.guid for batch in another.bodies(guids[10:]) for one in batch]
        assert sorted(found) == sorted(guids[10:])
    deliver(first, 77)
    assert held(first) == held(second) == held(store) == [*before[10:], message(77)]
    first.close()
    second.close()


def test_deliveries_and_readers_go_on_meanwhile(store: NativeStore, tmp_path: Path) -> None:
    before, elsewhere = held(store), native_store(tmp_path, log=Log())
    stop, delivered, troubles = threading.Event(), list[int](), list[BaseException]()

    def work() -> None:
        try:
            while not stop.is_set():
                deliver(elsewhere, 100 + len(delivered))
                delivered.append(100 + len(delivered))
                assert len(held(elsewhere)) == len(before) + len(delivered)
        except BaseException as error:
            troubles.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for turn in range(12):
            seen = len(delivered)
            assert move(store, ("other", "default")[turn % 2])
            while len(delivered) < seen + 2 and worker.is_alive():
                stop.wait(0.001)
    finally:
        stop.set()
        worker.join()
    assert not troubles, troubles
    assert held(store) == [*before, *map(message, delivered)]
    assert places(tmp_path) == ["default/users/52/alice"] and problems(store) == []
    elsewhere.close()


def test_who_writes_at_the_end_of_it_waits_or_is_told_that_the_owner_is_locked(
    store: NativeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, told = native_store(tmp_path), list[str]()
    settle = moves.Arrival.settle

    def settle_slowly(self: moves.Arrival, old: Path) -> None:
        with pytest.raises(MailboxLocked), elsewhere.write(ALICE, timeout=0):
            pass
        told.append("locked")
        settle(self, old)

    monkeypatch.setattr(moves.Arrival, "settle", settle_slowly)
    assert move(store) and told == ["locked"]
    deliver(elsewhere, 77)
    elsewhere.close()


@pytest.mark.parametrize("store", ["another disk"], indirect=True)
def test_nobody_is_moved_twice_at_a_time(store: NativeStore, tmp_path: Path) -> None:
    other, asked = native_store(tmp_path), list[int]()

    def told(octets: int) -> None:
        asked.append(octets)
        if len(asked) > 1:
            return  # he has moved
        with pytest.raises(MailboxLocked, match="being moved"):
            move(other)
        assert list(NativeCare(other).clear_moves()) == [] and problems(other) == []

    assert move(store, told=told) and len(asked) == 2
    other.close()


@pytest.mark.parametrize(
    ("partition", "error", "text"),
    [
        ("nowhere", PartitionUnknown, "nowhere"),
        ("other", StoreError, r"other.*has no file \.cyrus-sync-partition: is it mounted.*touch"),
    ],
)
def test_where_nobody_can_go_nothing_is_begun(
    store: NativeStore, tmp_path: Path, partition: str, error: type[Exception], text: str
) -> None:
    (tmp_path / "other" / MARKER).unlink()
    with pytest.raises(error, match=text):
        move(store, partition)
    assert places(tmp_path) == ["default/users/52/alice"] and not any((tmp_path / "other").iterdir())


def test_a_partition_without_enough_room_is_refused_before_anything_is_copied(
    store: NativeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full, stat = os.statvfs(tmp_path), Path.stat
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((*full[:4], 1, *full[5:])))
    with pytest.raises(StoreError, match=r"has room for 4,096 octets, and ([0-9,]+) are to come") as one_disk:
        move(store)

    def elsewhere(path: Path, **options: bool) -> os.stat_result:
        found = stat(path, **options)
        return os.stat_result((*found[:2], -1, *found[3:])) if path == tmp_path / "other" else found

    monkeypatch.setattr(Path, "stat", elsewhere)
    with pytest.raises(
        StoreError, match=r"has room for 4,096 octets, and ([0-9,]+) are to come"
    ) as two_disks:
        move(store)
    needed = [
        int(str(one.value).split("and ")[1].split()[0].replace(",", "")) for one in (one_disk, two_disks)
    ]
    assert needed[0] < needed[1], "the packs need room on another disk only"
    assert places(tmp_path) == ["default/users/52/alice"]


@pytest.mark.parametrize("store", ["another disk"], indirect=True)
def test_where_packs_can_have_no_second_names_on_one_disk_they_need_room(
    store: NativeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home,) = (tmp_path / "default/users").glob("*/alice")
    index = (home / "index.sqlite").stat().st_size
    stat = os.statvfs(tmp_path)
    monkeypatch.setattr(
        os, "statvfs", lambda path: os.statvfs_result((stat[0], 1, *stat[2:4], index, *stat[5:]))
    )
    with pytest.raises(StoreError, match=f"has room for {index:,} octets"):
        move(store)
    assert places(tmp_path) == ["default/users/52/alice"] and problems(store) == []


@pytest.mark.parametrize("store", ["another disk"], indirect=True)
def test_a_disk_that_fills_up_under_way_leaves_nothing_there(store: NativeStore, tmp_path: Path) -> None:
    def told(octets: int) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    with pytest.raises(StoreError, match="no room"):
        move(store, told=told)
    assert places(tmp_path) == ["default/users/52/alice"] and problems(store) == []


def test_what_is_there_already_is_not_overwritten(store: NativeStore, tmp_path: Path) -> None:
    stranger = tmp_path / "other" / "users" / "52" / "alice" / "pack-000001.zst"
    stranger.parent.mkdir(parents=True)
    stranger.write_bytes(b"older mail")
    with pytest.raises(StoreError, match="in the way"):
        move(store)
    assert stranger.read_bytes() == b"older mail" and problems(store) == []


def moved_away(path: Path, name: str) -> Path:
    """What a move has left whose other half was on a disk that is gone."""
    left = path / "default" / "users" / "52" / f".moved-{name}"
    left.mkdir(parents=True)
    (left / "pack-000001.zst").write_bytes(b"mail")
    return left


def test_what_moves_of_others_have_left_is_no_part_of_a_move(store: NativeStore, tmp_path: Path) -> None:
    assert move(store)
    foreign, stuck = tmp_path / "default" / "users" / "52" / ".moving-bob", moved_away(tmp_path, "carol")
    foreign.mkdir()
    assert not move(store) and foreign.exists() and stuck.exists()
    own = tmp_path / "default" / "users" / "52" / ".moved-alice"
    own.mkdir()
    assert move(store) and not own.exists()


def test_what_cannot_be_cleared_keeps_nothing_else(store: NativeStore, tmp_path: Path) -> None:
    stuck = [moved_away(tmp_path, name) for name in ("aaron", "carol")]
    foreign = stuck[0].with_name(".moving-bob")
    foreign.mkdir()
    gone = list[Path]()
    with pytest.raises(StoreError, match=r"moved-aaron.*not there; \.moved-carol.*not there"):
        for path in NativeCare(store).clear_moves():
            gone.append(path)
    assert gone == [foreign] and all(one.exists() for one in stuck)


@pytest.mark.parametrize("error", [Gone, FileNotFoundError])
def test_a_move_that_comes_to_its_end_just_now_is_no_trouble(
    store: NativeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    left = tmp_path / "default" / "users" / "52" / ".moving-bob"
    left.mkdir()

    class Vanishing:
        def __init__(self, path: Path, timeout: float) -> None:
            raise error

    with monkeypatch.context() as patched:
        patched.setattr(store.home.moves, "_alone", nullcontext)  # type: ignore[attr-defined]
        patched.setattr(moves, "FileLock", Vanishing)
        assert list(NativeCare(store).clear_moves()) == []
    assert list(NativeCare(store).clear_moves()) == [left]


# -- killed

_INSIDE = {"os.remove", "os.rmdir"}
"""What is named within an open directory, too."""
_ACTS = {*_INSIDE, "os.rename", "os.mkdir", "open", "os.utime", "shutil.rmtree", "sqlite3.connect"}


def dies_at(path: Path, number: int) -> bool:
    """Whether a move was killed at its `number`-th act on the disk."""

    def job() -> int:
        store, count = native_store(path, log=Log()), 0

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if event in _ACTS and (str(path) in str(arguments[0]) or event in _INSIDE):
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)

        store.find(ALICE)
        sys.addaudithook(hook)
        move(store)
        return 0

    return os.waitstatus_to_exitcode(os.waitpid(fork(job), 0)[1]) != 0


def test_a_move_that_was_killed_anywhere_leaves_the_owner_whole_and_is_ended_by_another(
    store: NativeStore, tmp_path: Path
) -> None:
    before, seen, between = held(store), set[str](), 0
    store.close()
    for number in range(1, 200):
        if not dies_at(tmp_path, number):
            break
        again = native_store(tmp_path, log=Log(), readonly=bool(number % 2))
        assert list(again.owners()) == [ALICE] and again.userids() == ["alice"]
        if again.home.layout.find(ALICE) is None:
            between += 1
            again.close()
            with closing(native_store(tmp_path, readonly=True)) as reading:
                now = places(tmp_path)
                with pytest.raises(StoreError, match="between two partitions"):
                    held(reading)
                assert places(tmp_path) == now, "who only reads changes nothing"
            again = native_store(tmp_path, log=Log())
        assert held(again) == before
        here = [one for one in places(tmp_path) if "/." not in one]
        seen.update(one for one in places(tmp_path) if "/." in one)
        assert len(here) == 1
        again.close()
        again = native_store(tmp_path, log=Log())
        care = NativeCare(again)
        if number % 3 == 0:  # what is left over is named, and cleared up by expire
            left = [one for one in places(tmp_path) if "/." in one]
            assert len(problems(again)) == len(left)
            assert len(list(care.clear_moves())) == len(left) and held(again) == before
            assert places(tmp_path) == here
        move(again)
        assert places(tmp_path) == ["other/users/52/alice"]
        assert held(again) == before and problems(again) == []
        assert mailbox_in(again).partition == "other"
        assert move(again, "default")
        again.close()
    assert number > 25 and between > 0
    assert seen == {"other/users/52/.moving-alice", "default/users/52/.moved-alice"}


@pytest.mark.parametrize("readonly", [False, True])
def test_while_the_owner_is_between_two_places_he_is_waited_for(
    store: NativeStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readonly: bool
) -> None:
    before, elsewhere, found = held(store), native_store(tmp_path, readonly=readonly), list[list[bytes]]()
    assert held(elsewhere) == before
    sync = moves.sync_directory
    threads = [threading.Thread(target=lambda: found.append(held(elsewhere))) for _ in range(2)]

    def sync_late(directory: Path) -> None:
        sync(directory)
        if any(directory.glob(".moved-*")) and not threads[0].ident:
            assert elsewhere.userids() == ["alice"]
            for thread in threads:
                thread.start()

    monkeypatch.setattr(moves, "sync_directory", sync_late)
    assert move(store)
    for thread in threads:
        thread.join()
    assert found == [before, before]
    elsewhere.close()
