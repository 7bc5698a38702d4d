"""What is forgotten, what can be brought back until then, and what becomes of the packs."""

from __future__ import annotations

import pytest

from cyrus_sync.common.errors import CyrusSyncError, MailboxMoved, MailboxNonexistent
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.native.care.expire import KEEP_TOMBSTONES, Expired, expire
from cyrus_sync.common.stores.native.care.removed import removed_boxes, undelete
from cyrus_sync.common.stores.native.care.stats import stats
from cyrus_sync.common.stores.native.care.verify import verify
from cyrus_sync.common.stores.native.packs import PackFiles
from tests.common.stores.tools import (
    ALICE,
    INBOX,
    START,
    Clock,
    Log,
    Stage,
    all_records,
    apply,
    bodies_in,
    guid_of,
    mailbox_in,
    message,
    native_store,
    record_of,
    records_in,
    text_of,
    update_of,
)

DAY = 86400


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def log():
    return Log()


@pytest.fixture
def store(tmp_path, clock, log):
    """A user with ten messages, of which some were expunged at different times."""
    store = native_store(tmp_path, clock=clock, log=log)
    with store.write(ALICE) as writer:
        writer.create(INBOX)
        writer.create(INBOX + ".x")
        writer.append(INBOX, [(message(n, 1000), 1, "") for n in range(10)])
    yield store
    assert list(verify(store, ALICE)) == []
    store.close()


def expunge(store, *uids: int) -> None:
    with store.write(ALICE) as writer:
        writer.expunge(INBOX, uids)


def test_expunged_records_go_when_their_time_is_over(store, clock):
    with store.write(ALICE) as writer:
        writer.annotate(INBOX, "/comment", "", b"x", uid=1)
    expunge(store, 1, 2)
    modseq = mailbox_in(store).highestmodseq
    clock.now += DAY
    expunge(store, 3)
    clock.now += DAY
    done = expire(store, ALICE, DAY + 5)
    assert (done.records, done.messages, done.mailboxes) == (2, 2, 0)
    state = mailbox_in(store)
    assert [record.uid for record in records_in(store)] == [3, 4, 5, 6, 7, 8, 9, 10]
    assert (state.deletedmodseq, state.last_uid) == (modseq, 10)
    assert len(bodies_in(store)) == 7
    assert expire(store, ALICE, DAY + 5) == Expired()


def test_a_pack_that_is_mostly_waste_is_written_anew(store, clock):
    directory = store.directory_of(ALICE)
    expunge(store, 1, 2)
    clock.now += 10
    assert expire(store, ALICE, 5, compact=True).packs == 0
    expunge(store, 3, 4, 5)
    clock.now += 10
    before = stats(store, ALICE)
    assert expire(store, ALICE, 5, compact=False).packs == 0
    done = expire(store, ALICE, 5)
    after = stats(store, ALICE)
    assert done.packs == 1
    assert done.bytes == before.pack_bytes - after.pack_bytes > 0
    assert after.pack_bytes == after.live_pack_bytes
    assert [path.name for path in directory.glob("pack-*")] == ["pack-000002.zst"]
    assert bodies_in(store) == [message(n, 1000) for n in range(5, 10)]


def test_a_reader_from_before_finds_its_messages_in_the_new_pack(store, clock):
    expunge(store, *range(1, 10))
    clock.now += 10
    with store.read(ALICE) as reader:
        last = all_records(reader)[-1]
        assert expire(store, ALICE, 5).packs == 1
        assert text_of(reader.body(last.guid)) == message(9, 1000)
        assert reader.body(guid_of(message(0, 1000))) is None


def test_a_large_message_that_is_being_read_survives_compaction(store, clock):
    big = message(77, 2_000_000)
    with store.write(ALICE) as writer:
        writer.append(INBOX, [(b"Subject: x\r\n\r\n" + bytes(range(256)) * 8000, 1, ""), (big, 1, "")])
    expunge(store, *range(1, 12))
    clock.now += 10
    with store.read(ALICE) as reader:
        body = reader.body(guid_of(big))
        assert expire(store, ALICE, 5).packs == 1
        assert text_of(body) == big


def test_pack_numbers_are_never_used_twice(store, clock):
    expunge(store, *range(1, 11))
    clock.now += 10
    assert expire(store, ALICE, 5).packs == 1
    directory = store.directory_of(ALICE)
    assert list(directory.glob("pack-*")) == []
    with store.write(ALICE) as writer:
        writer.append(INBOX, [(message(50), 1, "")])
    assert [path.name for path in directory.glob("pack-*")] == ["pack-000002.zst"]


def test_files_that_nobody_knows_are_removed(store, clock):
    directory = store.directory_of(ALICE)
    (directory / "pack-000009.zst").write_bytes(b"left by somebody who died")
    expire(store, ALICE, 5)
    assert [path.name for path in directory.glob("pack-*")] == ["pack-000001.zst"]


def test_deleted_mailboxes_can_be_had_back_until_their_time_is_over(store, clock, log):
    was = mailbox_in(store)
    with store.write(ALICE) as writer:
        writer.apply_unmailbox(INBOX)
    clock.now += DAY
    assert expire(store, ALICE, DAY + 5) == Expired()
    log.clear()
    with store.transaction(ALICE) as transaction:
        (removed,) = removed_boxes(transaction)
        assert (removed.state.name, removed.deleted_at, removed.messages) == (INBOX, START, 10)
        with pytest.raises(CyrusSyncError):
            undelete(transaction, removed.id, "user.bob")
        with pytest.raises(CyrusSyncError):
            undelete(transaction, removed.id, INBOX + ".x")
        with pytest.raises(MailboxNonexistent):
            undelete(transaction, removed.id + 99, INBOX)
        back = undelete(transaction, removed.id, INBOX)
    assert log == [("MAILBOX", INBOX)]
    assert (back.uniqueid, back.sync_crc) == (was.uniqueid, was.sync_crc)
    assert back.foldermodseq == back.highestmodseq > was.highestmodseq
    assert len(bodies_in(store)) == 10
    assert store.owner_of_uniqueid(was.uniqueid) == ALICE
    with store.read(ALICE) as reader:
        assert reader.tombstones() == []
    with store.write(ALICE) as writer:
        writer.apply_unmailbox(INBOX)
    clock.now += 2 * DAY
    done = expire(store, ALICE, DAY)
    assert (done.mailboxes, done.messages) == (1, 10)
    with store.transaction(ALICE) as transaction:
        assert removed_boxes(transaction) == []


def test_a_mailbox_that_came_back_from_the_master_is_not_brought_back_twice(store):
    records = [record_of(message(1), 1)]
    apply(store, update_of(INBOX + ".z", records), Stage(message(1)))
    with store.write(ALICE) as writer:
        writer.apply_unmailbox(INBOX + ".z")
    apply(store, update_of(INBOX + ".z", records))
    with store.transaction(ALICE) as transaction:
        (removed,) = removed_boxes(transaction)
        with pytest.raises(MailboxMoved):
            undelete(transaction, removed.id, INBOX + ".zz")


def test_what_delayed_delete_set_aside_is_deleted_when_it_is_old(store, clock, log):
    with store.write(ALICE) as writer:
        writer.delete(INBOX + ".x")
    aside = f"DELETED.user.alice.x.{START:08X}"
    log.clear()
    clock.now += DAY
    assert expire(store, ALICE, DAY + 5).mailboxes == 0
    assert expire(store, ALICE, DAY - 5).mailboxes == 1
    assert log == [("UNMAILBOX", aside), ("MAILBOX", aside)]
    with store.read(ALICE) as reader:
        assert [state.name for state in reader.mailboxes()] == [INBOX]
        assert aside in [stone.name for stone in reader.tombstones()]


def test_an_owner_of_whom_nothing_is_left_goes_after_his_tombstones(tmp_path, clock):
    store = native_store(tmp_path, clock=clock)
    bob = Owner("user", "bob")
    apply(store, update_of("user.bob", [record_of(message(1), 1)]), Stage(message(1)))
    with store.write(bob) as writer:
        writer.apply_unuser()
    clock.now += DAY
    expire(store, bob, 5)
    directory = store.directory_of(bob)
    assert directory is not None
    clock.now += KEEP_TOMBSTONES
    expire(store, bob, 5)
    assert store.directory_of(bob) is None
    assert list(directory.parent.iterdir()) == []
    assert expire(store, bob, 5) == Expired()
    apply(store, update_of("user.bob", [record_of(message(1), 1)]), Stage(message(1)))
    assert bodies_in(store, "user.bob") == [message(1)]
    store.close()


def test_the_server_s_annotations_survive(tmp_path, clock):
    store = native_store(tmp_path, clock=clock)
    with store.write(SERVER) as writer:
        writer.annotate("", "/comment", "", b"x")
    expire(store, SERVER, 0)
    with store.read(SERVER) as reader:
        assert len(reader.annotations("")) == 1
    store.close()


def test_stats_count_messages_and_bytes(store, clock):
    with store.write(ALICE) as writer:
        writer.copy(INBOX, [1], INBOX + ".x")
        writer.expunge(INBOX, [2])
        writer.delete(INBOX + ".x", delayed=False)
    found = stats(store, ALICE)
    assert (found.mailboxes, found.messages, found.expunged, found.stored) == (1, 9, 1, 10)
    assert (found.bytes, found.stored_bytes, found.removed_mailboxes, found.packs) == (9000, 10000, 1, 1)
    assert found.directory == store.directory_of(ALICE)
    assert 0 < found.live_pack_bytes == found.pack_bytes < found.index_bytes
    assert stats(store, Owner("user", "nobody")) is None


def test_open_packs_are_bounded(store):
    packs = PackFiles(store.directory_of(ALICE))
    for number in range(2, 30):
        (store.directory_of(ALICE) / f"pack-{number:06d}.zst").write_bytes(b"")
        packs.size(number)
    assert len(packs._open) <= 2
    packs.close()
