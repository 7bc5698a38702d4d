"""A damaged message: found, remembered, never used again, and replaced when it comes by once more."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.common.stores.native.care.expire import expire
from cyrus_sync.common.stores.native.care.verify import verify
from cyrus_sync.common.stores.native.layout import pack_name
from cyrus_sync.common.stores.native.marks import MarkedOwners
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.replica import StoreReplica
from tests.sync_client.engine.lines import InlineThreads
from tests.sync_client.engine.world import ALICE, INBOX, Clock, deliver, finish, guid_of, make_store, message


@pytest.fixture
def store(tmp_path: Path) -> NativeStore:
    made = make_store(tmp_path, Clock())
    with made.write(ALICE) as writer:
        writer.create(INBOX)
    deliver(made, INBOX, "one", "two", "three")
    return made


def test_of_an_owner_whom_nobody_uses_nothing_is_kept(tmp_path: Path) -> None:
    marks = MarkedOwners(tmp_path)
    kept = marks.of(ALICE)
    kept.add(bytes(20))
    assert marks.of(ALICE) is kept
    gone = weakref.ref(kept)
    del kept
    gc.collect()
    assert gone() is None
    assert bytes(20) in marks.of(ALICE)


def directory(store: NativeStore, owner: Owner = ALICE) -> Path:
    found = store.directory_of(owner)
    assert found is not None
    return found


def spoil(store: NativeStore, text: str, owner: Owner = ALICE) -> None:
    """Flip a byte in the frame of a message."""
    with store.read(owner) as reader:
        pack, offset, length = reader.connection.execute(
            "SELECT pack, offset, length FROM messages WHERE guid = ?", (guid_of(text),)
        ).fetchone()
    with (directory(store, owner) / pack_name(pack)).open("r+b") as file:
        file.seek(offset + length - 6)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 0x41]))


def readable(store: NativeStore, owner: Owner = ALICE) -> set[str]:
    """Which of the messages can be read."""
    texts = ("one", "two", "three", "four")
    with store.read(owner) as reader:
        stored = reader.has_guids([guid_of(text) for text in texts])
        bad = reader.unsound(stored)
    return {text for text in texts if guid_of(text) in stored - bad}


def test_a_batch_with_a_damaged_message_gives_all_others(store: NativeStore) -> None:
    spoil(store, "two")
    left_out: list[bytes] = []
    with store.read(ALICE) as reader:
        guids = [guid_of(text) for text in ("one", "two", "three")]
        found = list(reader.bodies(guids, unreadable=lambda guid, _: left_out.append(guid)))
        bodies = [body for batch in found for body in batch]
    assert [body.data for body in bodies] == [message("one"), message("three")]
    assert left_out == [guid_of("two")]


def test_of_a_lost_pack_nothing_is_had_and_delivery_goes_on_in_a_new_one(store: NativeStore) -> None:
    pack = directory(store) / pack_name(1)
    kept = pack.read_bytes()
    pack.unlink()
    assert readable(store) == set()
    deliver(store, INBOX, "four")
    assert readable(store) == {"four"}
    assert not pack.exists() and (directory(store) / pack_name(2)).exists()
    pack.write_bytes(kept)
    assert readable(store) == {"one", "two", "three", "four"}, "a pack that comes back is as good as before"


def test_a_delivery_that_is_undone_leaves_a_short_pack_alone(store: NativeStore) -> None:
    pack = directory(store) / pack_name(1)
    pack.write_bytes(pack.read_bytes()[:-5])
    length = pack.stat().st_size
    with pytest.raises(ZeroDivisionError), store.write(ALICE) as writer:
        writer.append(INBOX, [(message("four"), 1, "")])
        raise ZeroDivisionError
    assert pack.stat().st_size == length
    deliver(store, INBOX, "four")
    assert readable(store) == {"one", "two", "four"}


def test_a_mark_is_seen_by_other_processes_and_goes_when_the_message_is_delivered_again(
    store: NativeStore, tmp_path: Path
) -> None:
    spoil(store, "two")
    other = make_store(tmp_path, Clock())
    assert [problem.kind for problem in verify(other, ALICE)] == ["message"]
    with store.read(ALICE) as reader:
        assert reader.damaged_guids() == {guid_of("two")}
    assert store.marks.owners() == [ALICE]
    deliver(store, INBOX, "two")
    assert readable(store) == {"one", "two", "three"}
    assert other.marks.owners() == [] and list(verify(other, ALICE)) == []


def test_a_bad_frame_is_replaced_though_nobody_has_found_it_yet(store: NativeStore) -> None:
    spoil(store, "two")
    deliver(store, INBOX, "two")
    assert readable(store) == {"one", "two", "three"}


def test_a_user_who_is_sent_anew_does_not_get_the_bad_frame_back(store: NativeStore, tmp_path: Path) -> None:
    """As after `sync_reset` and ``-u``: the mailbox is gone, the frames are there until they expire."""
    master = make_store(tmp_path / "master", Clock())
    with master.write(ALICE) as writer:
        writer.create(INBOX)
    deliver(master, INBOX, "one", "two", "three")
    spoil(store, "two")
    with store.write(ALICE) as writer:
        writer.apply_unmailbox(INBOX)
    from cyrus_sync.sync_client.engine import Engine, Options

    replica = StoreReplica(
        store,
        InlineThreads(),  # type: ignore[arg-type]
        partitions=("default",),
        staging_dir=tmp_path / "stage",
        capabilities=frozenset({"SIEVE-MAILBOX"}),
    )
    finish(Engine(NativeMaster(master), replica, InlineThreads(), Options()).user("alice"))
    assert readable(store) == {"one", "two", "three"}


def test_what_is_stored_anew_is_logged_so_that_a_replica_gets_it(store: NativeStore) -> None:
    spoil(store, "two")
    raw = message("two")
    with store.write(ALICE) as writer:
        writer.heal(MessageBody("", guid_of("two"), len(raw), raw))
        assert (False, ("MAILBOX", INBOX)) in writer.transaction._lines
    assert readable(store) == {"one", "two", "three"}


def test_expire_moves_what_is_there_of_a_short_pack_and_keeps_the_places_of_the_rest(
    store: NativeStore,
) -> None:
    pack = directory(store) / pack_name(1)
    kept = pack.read_bytes()
    pack.write_bytes(kept[:-5])
    with store.write(ALICE) as writer:
        writer.expunge(INBOX, [1])
        writer.transaction.around._store._clock.now += 10  # type: ignore[attr-defined]
    done = expire(store, ALICE, 0)
    assert done.messages == 1
    assert readable(store) == {"two"}
    pack.write_bytes(kept)
    assert readable(store) == {"two", "three"}, "the pack has come back"
    expire(store, ALICE, 0)
    assert not pack.exists() and readable(store) == {"two", "three"}


def test_a_mark_goes_when_the_message_can_be_read_again(store: NativeStore) -> None:
    pack = directory(store) / pack_name(1)
    kept = pack.read_bytes()
    for look in (lambda: readable(store), lambda: list(verify(store, ALICE))):
        pack.write_bytes(kept[:-5])
        look()
        assert store.damaged_owners() == [ALICE]
        pack.write_bytes(kept)
        look()
        assert store.damaged_owners() == []
