"""The object store is away, or has lost something: what that costs, and what it does not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cyrus_sync.common.errors import MessageUnavailable, StoreError
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.stores.native.care.keeper import NativeCare
from cyrus_sync.common.stores.native.farpack import BLOCK, read_far
from cyrus_sync.common.stores.native.local_home import LocalHome
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.queries import stage_stored, verify_stored
from cyrus_sync.common.stores.staging import Staging
from cyrus_sync.mailstore.targets.walk import readable as exported
from cyrus_sync.objects.directory import DirectoryObjects
from cyrus_sync.sync_client.engine.errors import FoldersFailed
from cyrus_sync.sync_client.engine.withheld import Withheld
from cyrus_sync.tiering.names import MARKER
from tests.common.stores.test_healing import directory
from tests.sync_client.engine.world import (
    ALICE,
    INBOX,
    World,
    deliver,
    guid_of,
    live,
    message,
    state,
    write,
)
from tests.tiering.far_store import Unsure, objects_at, reader_of, tiering_of

FOLDER = "user.alice.Work"


class FarWorld(World):
    """A master whose messages so far are far."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, withheld=Withheld(path / "withheld.json"))
        self.objects = Unsure(objects_at(path)._directory)
        with write(self.master) as writer:
            writer.create(INBOX)
            writer.create(FOLDER)
        deliver(self.master, INBOX, "one", "two")
        self.tier()
        deliver(self.master, INBOX, "near")
        deliver(self.master, FOLDER, "work")

    def tier(self) -> None:
        layout = self.master.home.layout
        with closing(tiering_of(layout, self.objects)) as tiering:
            tiering.carrier.send(ALICE, -(10**10))
        self.restart()

    def restart(self) -> None:
        """Nothing is open, or in memory, any more; the cache is empty."""
        layout = self.master.home.layout
        self.master.close()
        far = reader_of(self.directory / os.urandom(4).hex(), self.objects)
        self.master = NativeStore(LocalHome(layout, far=far), servername="test", clock=self.clock)

    @property
    def far_object(self) -> Path:
        (word,) = directory(self.master).glob("pack-*.far")
        return self.objects._directory / read_far(word).key


@pytest.fixture
def world(tmp_path: Path) -> Iterator[FarWorld]:
    world = FarWorld(tmp_path)
    yield world
    world.close()


def marked(world: FarWorld) -> set[bytes]:
    with world.master.read(ALICE) as reader:
        return reader.damaged_guids()


def texts(world: FarWorld) -> list[bytes]:
    with world.master.read(ALICE) as reader:
        guids = [guid_of(text) for text in ("one", "two", "near")]
        return [body.data for batch in reader.bodies(guids) for body in batch]


@pytest.mark.covers("Old mail in an object store: what is lost when", "2")
@pytest.mark.covers("Other errors", "MessageUnavailable")
def test_only_the_octets_are_missing_and_only_for_a_time(world):
    world.objects.away = True
    with world.master.read(ALICE) as reader:
        assert [state.name for state in reader.mailboxes()] == [INBOX, FOLDER]
        with pytest.raises(MessageUnavailable, match="no answer") as caught:
            reader.body(guid_of("one"))
        assert caught.value.address == {"guid": guid_of("one").hex()}
        assert reader.body(guid_of("near")).data == message("near")
        told: dict[bytes, StoreError] = {}
        found = list(reader.bodies([guid_of("two"), guid_of("near")], unreadable=told.__setitem__))
        assert [body.guid for batch in found for body in batch] == [guid_of("near")]
        assert list(told) == [guid_of("two")] and isinstance(told[guid_of("two")], MessageUnavailable)
    deliver(world.master, INBOX, "new")
    with write(world.master) as writer:
        writer.set_flags(INBOX, [1], add=["\\Seen"])
        writer.expunge(INBOX, [2])
        writer.unexpunge(INBOX, [2])
        writer.copy(INBOX, [1], FOLDER)
    assert marked(world) == set()
    world.objects.away = False
    world.restart()
    assert texts(world) == [message("one"), message("two"), message("near")]


def test_a_large_message_is_unavailable_and_not_damaged(world):
    large = os.urandom(3_000_000)
    with write(world.master) as writer:
        writer.append(INBOX, [(large, 1, "")])
        (guid,) = [
            r.guid for b in writer.records(writer.mailbox(INBOX).uniqueid) for r in b if r.size > 10**6
        ]
    world.tier()
    world.objects.away = True
    with world.master.read(ALICE) as reader:
        assert reader.unsound([guid]) == {guid}
        with pytest.raises(MessageUnavailable):
            b"".join(reader.body(guid).data)
    assert marked(world) == set()
    world.objects.away = False
    world.restart()
    with world.master.read(ALICE) as reader:
        assert b"".join(reader.body(guid).data) == large


def test_a_replication_goes_on_with_what_needs_no_far_message(world):
    world.sync()
    world.objects.away = True
    world.restart()
    deliver(world.master, INBOX, "new")
    with write(world.master) as writer:
        writer.set_flags(INBOX, [1], add=["\\Flagged"])
    world.sync()
    assert live(world.replica, INBOX) == live(world.master, INBOX)


def test_a_mailbox_that_needs_one_waits_for_it_and_its_uids_stay(world):
    world.sync()
    deliver(world.master, FOLDER, "old")
    world.tier()
    deliver(world.master, INBOX, "new")
    deliver(world.master, FOLDER, "newer")
    world.objects.away = True
    with pytest.raises(FoldersFailed) as caught:
        world.sync()
    (said,) = [str(error) for _, error in caught.value.failures]
    assert "no answer" in said and f"mailbox={FOLDER}" in said and "uid=2" in said
    assert live(world.replica, INBOX) == live(world.master, INBOX), "all others go over"
    assert not (world.directory / "withheld.json").exists() and marked(world) == set()
    world.objects.away = False
    world.restart()
    world.sync()
    assert live(world.replica, FOLDER) == live(world.master, FOLDER)
    assert state(world.replica, FOLDER).last_uid == 3


def test_what_is_sent_here_again_is_taken_though_ours_cannot_be_looked_at(world, tmp_path):
    world.objects.away = True
    with world.master.read(ALICE) as reader:
        with closing(Staging(tmp_path / "stage")) as staging:
            assert stage_stored(reader, staging, "", [guid_of("one"), guid_of("near")]) == [guid_of("one")]
        assert marked(world) == set()
        with pytest.raises(MessageUnavailable):
            verify_stored(reader, INBOX, reader.mailbox(INBOX).uniqueid, 1, 9)
        left_out: list[int] = []
        records = [record for batch in reader.records(reader.mailbox(INBOX).uniqueid) for record in batch]
        given = [r.uid for r, _ in exported(reader, records, lambda record, why: left_out.append(record.uid))]
        assert given == [3] and left_out == [1, 2]
    with write(world.master) as writer:
        raw = message("one")
        writer.heal(MessageBody("", guid_of("one"), len(raw), raw))
    with world.master.read(ALICE) as reader:
        assert reader.body(guid_of("one")).data == raw


# -- who looks after it


def test_verify_names_the_pack_and_takes_nothing_in_it_for_damaged(world):
    care = NativeCare(world.master)
    world.objects.away = True
    (problem,) = care.verify(ALICE)
    assert problem.kind == "unavailable" and problem.where == "pack-000001.zst"
    assert list(care.verify(ALICE, far=False)) == []
    (problem,) = care.verify_messages(ALICE, "", 10**9).problems
    assert problem.kind == "unavailable"
    assert care.verify_messages(ALICE, "", 10**9, far=False).messages == 2
    figures = care.stats(ALICE)
    assert figures.far_bytes == world.far_object.stat().st_size
    assert marked(world) == set()


@pytest.mark.covers("Old mail in an object store: what is lost when", "4")
def test_a_damaged_object_is_named_and_healed_from_the_peer(world):
    world.sync()
    world.far_object.write_bytes(bytes(world.far_object.stat().st_size))
    world.restart()
    problems = list(NativeCare(world.master).verify(ALICE))
    assert [problem.kind for problem in problems] == ["message", "message"]
    assert "octets from 0 to" in problems[0].text
    assert marked(world) == {guid_of("one"), guid_of("two")}
    world.sync()
    assert texts(world) == [message("one"), message("two"), message("near")] and marked(world) == set()
    assert list(NativeCare(world.master).verify(ALICE)) == []


def test_a_lost_object_is_named_and_healed_likewise(world):
    world.sync()
    world.far_object.unlink()
    world.restart()
    assert {problem.kind for problem in NativeCare(world.master).verify(ALICE)} == {"message"}
    world.sync()
    assert texts(world) == [message("one"), message("two"), message("near")]


@pytest.mark.covers("Old mail in an object store: what is lost when", "6")
def test_reconstruct_reads_far_packs_and_refuses_to_do_without(world):
    before = live(world.master, INBOX)
    care = NativeCare(world.master)
    world.objects.away = True
    with pytest.raises(StoreError, match="no answer"):
        care.reconstruct(ALICE)
    world.objects.away = False
    world.restart()
    care = NativeCare(world.master)
    done = care.reconstruct(ALICE)
    assert done.messages == 4 and not done.doubts and live(world.master, INBOX) == before
    index = directory(world.master) / "index.sqlite"
    world.master.open.forget(ALICE)
    index.unlink()
    done = care.reconstruct(ALICE)
    assert done.recovered == 4
    assert list(care.verify(ALICE)) == []


def test_reconstruct_keeps_what_is_sound_of_a_damaged_object(world):
    with write(world.master) as writer:
        writer.append(INBOX, [(os.urandom(3 * BLOCK), 1, "")])
    deliver(world.master, INBOX, "behind")
    world.tier()
    word = max(directory(world.master).glob("pack-*.far"))
    path = world.objects._directory / read_far(word).key
    with path.open("r+b") as file:
        file.seek(BLOCK + 10)
        file.write(bytes(10))
    world.restart()
    NativeCare(world.master).reconstruct(ALICE)
    with world.master.read(ALICE) as reader:
        assert reader.body(guid_of("behind")).data == message("behind")
    assert len(list(NativeCare(world.master).verify(ALICE))) == 1


def test_expire_writes_a_far_pack_anew_when_most_of_it_is_waste(world):
    with write(world.master) as writer:
        writer.append(INBOX, [(os.urandom(1000), 1, "") for _ in range(6)])
        uids = writer.live_uids(writer.mailbox(INBOX).uniqueid)[-6:]
    world.tier()
    care = NativeCare(world.master)
    with write(world.master) as writer:
        writer.expunge(INBOX, uids[:2])
    assert care.expire(ALICE, -1).packs == 0
    with write(world.master) as writer:
        writer.expunge(INBOX, uids[2:5])
    world.objects.away = True
    done = care.expire(ALICE, -1)
    assert done.messages == 3 and done.packs == 0 and "is not written anew now" in done.left[0]
    assert marked(world) == set()
    world.objects.away = False
    world.restart()
    done = NativeCare(world.master).expire(ALICE, -1)
    assert done.packs == 1 and not done.left
    assert list(NativeCare(world.master).verify(ALICE)) == []


def test_expire_does_not_open_a_user_for_waste_that_is_well_where_it_is(world):
    with write(world.master) as writer:
        writer.append(INBOX, [(os.urandom(1000), 1, "") for _ in range(6)])
        uids = writer.live_uids(writer.mailbox(INBOX).uniqueid)[-6:]
    world.tier()
    with write(world.master) as writer:
        writer.expunge(INBOX, uids[:2])
    world.clock.now += 10
    care = NativeCare(world.master)
    assert care.expire(ALICE, 5).messages == 2
    assert ALICE not in care.expirable(5), "a third of a far pack is waste"
    with write(world.master) as writer:
        writer.expunge(INBOX, uids[2:4])
    world.clock.now += 10
    care.expire(ALICE, 5, compact=False)
    assert ALICE in care.expirable(5) and ALICE not in care.expirable(5, compact=False)
    assert care.expire(ALICE, 5).packs == 1 and ALICE not in care.expirable(5)


def test_what_expire_needs_of_a_far_pack_is_fetched_while_nobody_is_held(world, monkeypatch):
    with write(world.master) as writer:
        writer.append(INBOX, [(os.urandom(100_000), 1, "") for _ in range(6)])
        uids = writer.live_uids(writer.mailbox(INBOX).uniqueid)[-6:]
    world.tier()
    with write(world.master) as writer:
        writer.expunge(INBOX, uids[1:5])
    fetched, snapshots, get = list[str](), list[bool](), world.objects.get_range

    def get_range(key, offset, length):
        with (
            closing(NativeStore(LocalHome(world.master.home.layout))) as other,
            other.write(ALICE, timeout=0),
        ):
            fetched.append(key)
        snapshots.append(_is_read(world.master))
        return get(key, offset, length)

    monkeypatch.setattr(world.objects, "get_range", get_range)
    done = NativeCare(world.master).expire(ALICE, -1)
    assert done.packs == 1 and not done.left and fetched and not any(snapshots)
    assert list(NativeCare(world.master).verify(ALICE)) == []


def _is_read(store: NativeStore) -> bool:
    """Whether anybody has a snapshot of the index: then its log cannot become shorter."""
    with closing(sqlite3.connect(directory(store) / "index.sqlite", timeout=0)) as connection:
        return bool(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])


def test_a_user_is_renamed_with_his_far_messages(world):
    NativeCare(world.master).rename_user("alice", "bert")
    assert live(world.master, "user.bert", "bert").keys() == {1, 2, 3}
    world.objects.away = True
    with world.master.read(ALICE._replace(name="bert")) as reader:
        assert reader.body(guid_of("one")).data == message("one"), "it is near now"


def test_a_photograph_is_of_far_packs_too(world, tmp_path):
    care = NativeCare(world.master)
    with care.photograph(ALICE, tmp_path / "copy.sqlite") as photograph:
        assert photograph is not None
        octets = {n: photograph.packs.read(n, 0, length) for n, length in photograph.lengths.items()}
        assert all(photograph.packs.identity(n) for n in octets)
    assert octets[1] == world.far_object.read_bytes()
    care.rename_user("alice", "away")
    with write(world.master) as writer:
        writer.apply_unuser()
    world.clock.now += 400 * 86400
    care.expire(ALICE, 0)
    care.put_back(ALICE, tmp_path / "copy.sqlite", {n: lambda d=d: [d] for n, d in octets.items()}, "")
    assert texts(world) == [message("one"), message("two"), message("near")]
    assert DirectoryObjects(world.objects._directory).get(MARKER)
