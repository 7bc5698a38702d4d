"""A store as a replica: verbs in order, grouped under one sync, each with its own error."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from twisted.internet.defer import DeferredList

from cyrus_sync.common.errors import (
    BadParameters,
    MailboxLocked,
    MailboxMoved,
    MailboxNonexistent,
    PartitionUnknown,
    ProtocolError,
    ReplyError,
    StoreError,
    SyncChecksum,
)
from cyrus_sync.common.model import (
    MailboxAnnotation,
    MailboxState,
    MailboxUpdate,
    MessageBody,
    Quota,
    Seen,
    UserMeta,
    UserState,
)
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import staging
from cyrus_sync.common.stores.native import local_home
from cyrus_sync.common.stores.native.changing import Change
from cyrus_sync.common.stores.replica import StoreReplica
from cyrus_sync.common.stores.threads import ThreadRunner
from tests.common.stores.tools import (
    ALICE,
    INBOX,
    Stage,
    apply,
    bodies_in,
    guid_of,
    mailbox_in,
    message,
    native_store,
    record_of,
    records_in,
    state_of,
    text_of,
    update_of,
)
from tests.deadlines import scaled

BOTH = [message(1), message(2)]
RECORDS = [record_of(message(1), 1), record_of(message(2), 2)]


@pytest.fixture
def store(tmp_path):
    store = native_store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def runner(reactor):
    runner = ThreadRunner(reactor)
    yield runner
    runner.close()


@pytest.fixture
def replica(store, runner, tmp_path, call):
    replica = StoreReplica(
        store, runner, partitions=["default", "other"], staging_dir=tmp_path / "sync.",
        capabilities=frozenset({"SIEVE-MAILBOX"}), lock_timeout=0.2,
    )  # fmt: skip
    yield replica
    call(replica.close)


def bodies(*messages: bytes) -> list[list[MessageBody]]:
    return [[MessageBody("default", guid_of(raw), len(raw), raw) for raw in messages]]


@contextmanager
def counted_commits(monkeypatch):
    """For whom a transaction is begun."""
    count = []
    begin = Change.begin

    def counting(change, timeout):
        count.append(change._owner)
        return begin(change, timeout)

    monkeypatch.setattr(Change, "begin", counting)
    yield count


@pytest.mark.covers("GET, APPLY, RESTORE", "GET UNIQUEIDS", "APPLY MESSAGE")
def test_a_mailbox_is_uploaded_and_read_back(replica, call):
    assert call(replica.get_user, "alice") == UserState()
    assert call(replica.reserve, "default", [INBOX], [raw.guid for raw in RECORDS]) == [
        r.guid for r in RECORDS
    ]
    call(replica.message, bodies(*BOTH))
    call(replica.mailbox, update_of(INBOX, RECORDS))
    state = state_of(INBOX, RECORDS)
    assert call(replica.get_user, "alice") == UserState((state,), (), UserMeta())
    assert call(replica.get_mailboxes, [INBOX, "user.bob"]) == [state]
    assert call(replica.get_uniqueids, ["nothing", state.uniqueid]) == [state]
    full, records = call(replica.get_full_mailbox, INBOX)
    assert (full, [record for batch in records for record in batch]) == (state, RECORDS)
    body = call(replica.fetch, INBOX, "default", state.uniqueid, RECORDS[0].guid, 1)
    assert (text_of(body), body.partition) == (message(1), "default")


@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY RESERVE")
def test_messages_are_compressed_while_verbs_before_them_are_carried_out(replica, call, store, monkeypatch):
    """A MAILBOX that takes its time does not hold up the making of frames for the next; all come in order."""
    made, seen = threading.Event(), []
    compress = staging.compress_all
    monkeypatch.setattr(staging, "compress_all", lambda texts: (compress(texts), made.set())[0])

    def send():
        slow = replica.change(ALICE, lambda writer: seen.append(made.wait(scaled(10))))
        sent = replica.message(bodies(*BOTH))
        return DeferredList([slow, sent, replica.restart(), replica.message([[bodies(BOTH[0])[0][0]]])])

    assert all(done for done, _ in call(send))
    assert seen == [True]
    assert [guid_of(raw) in replica.staging for raw in BOTH] == [True, False]


def test_reserve_stages_what_another_owner_has(replica, call, store):
    apply(store, update_of("user.bob", RECORDS), Stage(*BOTH))
    wanted = [RECORDS[0].guid, guid_of(message(9)), RECORDS[1].guid]
    assert call(replica.reserve, "default", ["user.bob", "user.nobody"], wanted) == [guid_of(message(9))]
    call(replica.mailbox, update_of(INBOX, RECORDS))
    assert bodies_in(store) == BOTH


@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY RESERVE")
def test_reserve_does_not_stage_a_damaged_message_and_the_upload_replaces_it(replica, call, store):
    apply(store, update_of(INBOX, RECORDS), Stage(*BOTH))
    path = store.directory_of(ALICE) / "pack-000001.zst"
    data = path.read_bytes()
    path.write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
    guids = [record.guid for record in RECORDS]
    assert call(replica.reserve, "default", [INBOX], guids) == guids[:1]
    assert call(replica.fetch, INBOX, "default", "", guids[0], 1) is None
    call(replica.message, bodies(message(1)))
    call(replica.mailbox, update_of(INBOX + ".x", [record_of(message(1), 1)]))
    assert bodies_in(store) == BOTH


@pytest.mark.covers("Commands of the session", "RESTART")
def test_restart_forgets_what_was_staged(replica, call):
    call(replica.message, bodies(*BOTH))
    call(replica.restart)
    with pytest.raises(ProtocolError):
        call(replica.mailbox, update_of(INBOX, RECORDS))


def test_a_message_that_does_not_match_is_refused_when_it_is_used(replica, call, store):
    wrong = MessageBody("default", RECORDS[0].guid, RECORDS[0].size, b"x" * RECORDS[0].size)
    call(replica.message, [[wrong]])
    with pytest.raises(ProtocolError, match="does not match"):
        call(replica.mailbox, update_of(INBOX, RECORDS[:1]))
    assert not store.exists(ALICE)


def test_unknown_partitions_are_refused(replica, call):
    with pytest.raises(PartitionUnknown):
        call(replica.message, [[bodies(message(1))[0][0]._replace(partition="nowhere")]])
    with pytest.raises(PartitionUnknown):
        call(replica.reserve, "nowhere", [INBOX], [guid_of(message(1))])
    with pytest.raises(PartitionUnknown):
        call(replica.rename, INBOX, INBOX + ".x", "nowhere")
    with pytest.raises(PartitionUnknown):
        call(replica.mailbox, update_of(INBOX, [], partition="nowhere"))
    call(replica.noop)


def test_owners_who_are_new_come_to_disk_together(replica, call, store, monkeypatch):
    synced: list[Path] = []
    monkeypatch.setattr(local_home, "sync_disk", synced.append)
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(Path()))
    names = [f"user.u{number}" for number in range(20)]
    done = call(lambda: DeferredList([replica.mailbox(update_of(name, [])) for name in names]))
    assert [ok for ok, _ in done] == [True] * 20
    assert len(synced) < 60  # alone each of them has seven
    assert [owner.name for owner in store.owners()] == sorted(name.partition(".")[2] for name in names)


def test_changes_to_one_owner_in_a_row_share_one_commit(replica, call, store, monkeypatch):
    apply(store, update_of("user.bob", []))
    with counted_commits(monkeypatch) as commits:
        done = call(
            lambda: DeferredList(
                [
                    replica.message(bodies(*BOTH)),
                    replica.mailbox(update_of(INBOX, RECORDS)),
                    replica.reserve("default", [INBOX], [guid_of(message(1))]),
                    replica.mailbox(update_of(INBOX + ".x", [record_of(message(1), 1)])),
                    replica.sub("alice", INBOX),
                    replica.get_user("alice"),
                    replica.sub("bob", INBOX),
                    replica.sub("alice", INBOX + ".x"),
                ]
            )
        )
    assert [ok for ok, _ in done] == [True] * 8
    assert commits == [ALICE, Owner("user", "bob")]
    assert done[2][1] == []
    assert [state.name for state in done[5][1].mailboxes] == [INBOX, INBOX + ".x"]
    assert done[5][1].meta.subscriptions == (INBOX,)


def test_a_verb_that_fails_in_a_group_fails_alone(replica, call, store):
    apply(store, update_of(INBOX, RECORDS), Stage(*BOTH))
    crc = update_of(INBOX, [], RECORDS, sync_crc=1, highestmodseq=50)
    done = call(
        lambda: DeferredList(
            [
                replica.sub("alice", INBOX),
                replica.mailbox(update_of(INBOX, [record_of(message(9), 3)])),
                replica.mailbox(crc),
                replica.unmailbox(INBOX + ".none"),
                replica.sub("alice", INBOX + ".x"),
            ],
            consumeErrors=True,
        )
    )
    assert [ok for ok, _ in done] == [True, False, False, False, True]
    assert done[1][1].check(ProtocolError)
    assert done[2][1].check(SyncChecksum)
    assert done[3][1].check(MailboxNonexistent)
    assert mailbox_in(store).highestmodseq == 50
    assert records_in(store) == RECORDS
    with store.read(ALICE) as reader:
        assert reader.meta(with_sieve=False).subscriptions == (INBOX, INBOX + ".x")


def test_a_commit_that_fails_fails_every_change_in_its_group(replica, call, store, monkeypatch):
    apply(store, update_of(INBOX, RECORDS), Stage(*BOTH))

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    done = call(
        lambda: DeferredList(
            [
                replica.message(bodies(message(3))),
                replica.mailbox(
                    update_of(INBOX, [record_of(message(3), 3)], [*RECORDS, record_of(message(3), 3)])
                ),
                replica.sub("alice", INBOX),
            ],
            consumeErrors=True,
        )
    )
    assert [ok for ok, _ in done] == [True, False, False]
    assert all("no room left" in str(failure.value) for _, failure in done[1:])
    monkeypatch.undo()
    assert records_in(store) == RECORDS
    call(replica.mailbox, update_of(INBOX, [record_of(message(3), 3)], [*RECORDS, record_of(message(3), 3)]))
    assert bodies_in(store) == [*BOTH, message(3)]


def test_a_locked_owner_is_told_after_the_timeout(replica, call, store):
    apply(store, update_of(INBOX, []))
    with store.write(ALICE), pytest.raises(MailboxLocked):
        call(replica.sub, "alice", INBOX)
    call(replica.sub, "alice", INBOX)


def test_a_slow_owner_does_not_stall_another_connection(store, runner, tmp_path, call):
    apply(store, update_of(INBOX, []))
    one, two = (
        StoreReplica(store, runner, partitions=["default"], staging_dir=tmp_path / "sync.") for _ in range(2)
    )
    release = threading.Event()
    held = threading.Event()

    def hold():
        with store.write(ALICE):
            held.set()
            release.wait(scaled(10))

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(scaled(10))

    def both():
        slow = one.sub("alice", INBOX)
        quick = two.sub("bob", INBOX)
        quick.addCallback(lambda _: release.set())
        return DeferredList([slow, quick])

    assert call(both) == [(True, None), (True, None)]
    thread.join()


def test_surprises_are_errors_of_their_verb(replica, call):
    class Nasty:
        def __iter__(self):
            raise RuntimeError("surprise")

    with pytest.raises(StoreError, match="surprise"):
        call(replica.message, Nasty())
    call(replica.noop)


@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY FORCE")
def test_force_holds_for_the_session(replica, call, store):
    apply(store, update_of(INBOX, RECORDS), Stage(*BOTH))
    behind = MailboxUpdate(state_of(INBOX, RECORDS, highestmodseq=12, last_uid=2, uidvalidity=5))
    with pytest.raises(SyncChecksum):
        call(replica.mailbox, behind)
    call(replica.force)
    call(replica.mailbox, behind)
    call(replica.restart)
    call(replica.mailbox, behind)


@pytest.mark.covers("GET, APPLY, RESTORE", "GET FETCH_SIEVE")
def test_scripts_are_files_or_messages_as_agreed(replica, call, store):
    apply(store, update_of(INBOX, []))
    replica.capabilities = frozenset()
    call(replica.sieve, "alice", "main.script", 5, b"keep;")
    call(replica.activate_sieve, "alice", "main.bc")
    user = call(replica.get_user, "alice")
    assert [state.name for state in user.mailboxes] == [INBOX]
    assert [script.filename for script in user.meta.sieve] == ["main.script", "main.bc"]
    assert call(replica.get_meta, "alice").sieve == user.meta.sieve
    assert call(replica.fetch_sieve, "alice", "main.script") == b"keep;"
    with pytest.raises(MailboxNonexistent):
        call(replica.fetch_sieve, "alice", "other.script")
    assert call(replica.get_mailboxes, [INBOX + ".#sieve"]) == []
    with pytest.raises(BadParameters):
        call(replica.mailbox, update_of(INBOX + ".#sieve", [], mbtype="f"))
    replica.capabilities = frozenset({"SIEVE-MAILBOX"})
    user = call(replica.get_user, "alice")
    assert [state.name for state in user.mailboxes] == [INBOX, INBOX + ".#sieve"]
    assert user.meta.sieve == ()
    call(replica.unactivate_sieve, "alice")
    call(replica.unsieve, "alice", "main.script")
    with store.read(ALICE) as reader:
        assert reader.sieve_scripts() == []


@pytest.mark.covers("GET, APPLY, RESTORE", "GET USER", "GET QUOTA")
def test_get_user_tells_quota_roots_in_use_and_intermediates(replica, call, store):
    apply(store, update_of(INBOX, []))
    apply(
        store, MailboxUpdate(MailboxState("idx", INBOX + ".a", mbtype="i", highestmodseq=7, createdmodseq=3))
    )
    apply(store, update_of("DELETED.user.alice.z.00000001", []))
    call(replica.quota, Quota(INBOX, {"STORAGE": 5}, 1))
    call(replica.quota, Quota(INBOX + ".unused", {}, 2))
    user = call(replica.get_user, "alice")
    assert [state.name for state in user.mailboxes] == [INBOX, INBOX + ".a", "DELETED.user.alice.z.00000001"]
    between = user.mailboxes[1]
    assert between == MailboxState(
        "idx", INBOX + ".a", mbtype="ei", sync_crc_annot=0, createdmodseq=3, foldermodseq=7, quotaroot=INBOX
    )
    assert user.quotas == (Quota(INBOX, {"STORAGE": 5}, 1),)
    assert call(replica.get_quota, INBOX + ".unused") == Quota(INBOX + ".unused", {}, 2)
    assert call(replica.get_quota, INBOX + ".none") is None
    call(replica.unquota, INBOX)
    assert call(replica.get_quota, INBOX) is None


@pytest.mark.covers("GET, APPLY, RESTORE", "GET META")
def test_meta_is_hidden_without_a_real_mailbox(replica, call):
    seen = Seen("id", 1, 2, 3, "1")
    call(replica.seen, "bob", seen)
    call(replica.sub, "bob", INBOX)
    assert call(replica.get_user, "bob") == UserState()
    assert call(replica.get_meta, "bob") == UserMeta((seen,), (INBOX,))
    call(replica.unsub, "bob", INBOX)
    assert call(replica.get_meta, "bob") == UserMeta((seen,))


@pytest.mark.covers("GET, APPLY, RESTORE", "GET ANNOTATION")
def test_annotations_of_mailboxes_and_of_the_server(replica, call, store):
    apply(store, update_of(INBOX, []))
    for mailbox in (INBOX, ""):
        wanted = MailboxAnnotation(mailbox, "/comment", "", b"x")
        call(replica.annotation, wanted)
        assert call(replica.get_annotations, mailbox) == [wanted]
        call(replica.unannotation, mailbox, "/comment", "")
        assert call(replica.get_annotations, mailbox) == []


def test_renames_deletes_and_expunges(replica, call, store):
    apply(store, update_of(INBOX, RECORDS), Stage(*BOTH))
    apply(store, update_of(INBOX + ".x", []))
    call(replica.rename, INBOX + ".x", INBOX + ".y", "other", 99)
    assert mailbox_in(store, INBOX + ".y").partition == "other"
    call(replica.unmailbox, INBOX + ".y")
    call(replica.expunge, INBOX, "id-" + INBOX, [1])
    assert [record.expunged for record in records_in(store)] == [True, False]
    with pytest.raises(MailboxNonexistent):
        call(replica.fetch, INBOX, "default", "id-" + INBOX, guid_of(message(77)), 1)
    call(replica.unuser, "")
    call(replica.unuser, "alice")
    assert call(replica.get_user, "alice") == UserState()
    with pytest.raises(MailboxNonexistent):
        call(replica.get_full_mailbox, INBOX)


@pytest.mark.parametrize("userid", ["", "a/b", "../x", "a\0b", "x" * 1000], ids=range(5))
def test_bad_userids_are_refused(replica, call, userid, tmp_path):
    with pytest.raises(ReplyError):
        call(replica.sub, userid, INBOX)
    with pytest.raises(ReplyError):
        call(replica.get_user, userid)
    assert not (tmp_path / "default").exists()


@pytest.mark.covers("GET, APPLY, RESTORE", "GET MAILBOXES")
@pytest.mark.parametrize(
    "name", ["", ".", "..", "user.", "user.../../etc", "a\0b", "x" * 100_000, "\udcff", "!"], ids=range(9)
)
def test_odd_names_read_as_nothing(replica, call, name, tmp_path):
    for verb in (replica.get_mailboxes, replica.get_uniqueids):
        assert call(verb, [name]) == []
    with pytest.raises(ReplyError):
        call(replica.unmailbox, name)
    with pytest.raises(ReplyError):
        call(replica.mailbox, update_of(name, [], uniqueid="x"))
    assert not (tmp_path / "default").exists()


@pytest.mark.covers("GET, APPLY, RESTORE", "GET FULLMAILBOX")
def test_a_very_large_full_mailbox_is_one_snapshot_that_is_let_go(replica, call, store, monkeypatch):
    monkeypatch.setattr("cyrus_sync.common.stores.queries._IN_MEMORY", 1)
    apply(store, update_of(INBOX, RECORDS), Stage(*BOTH))
    state, records = call(replica.get_full_mailbox, INBOX)
    call(replica.expunge, INBOX, state.uniqueid, [1])
    for _ in range(2):
        assert [record for batch in records for record in batch] == RECORDS
    call(replica.restart)


def entry(name: str, uniqueid: str, modseq: int = 7) -> MailboxUpdate:
    """An intermediate, as a master tells of one."""
    return MailboxUpdate(MailboxState(uniqueid, name, mbtype="i", highestmodseq=modseq, createdmodseq=3))


def names_of(replica, call) -> list[str]:
    """What is there, told to a peer who is told of everything."""
    before, replica.capabilities = replica.capabilities, frozenset({"SIEVE-MAILBOX"})
    try:
        return [state.name for state in call(replica.get_user, "alice").mailboxes]
    finally:
        replica.capabilities = before


def test_a_peer_without_the_mailbox_of_scripts_is_told_of_no_intermediate(replica, call, store):
    apply(store, update_of(INBOX, []))
    call(replica.mailbox, entry(INBOX + ".a", "idx"))
    assert names_of(replica, call) == [INBOX, INBOX + ".a"]
    replica.capabilities = frozenset()
    assert [state.name for state in call(replica.get_user, "alice").mailboxes] == [INBOX]
    assert call(replica.get_mailboxes, [INBOX + ".a"]) == []
    assert call(replica.get_uniqueids, ["idx"]) == []


@pytest.mark.parametrize("gone", ["rename", "unmailbox"])
def test_for_such_a_peer_intermediates_with_nothing_below_them_go(replica, call, store, gone):
    replica.capabilities = frozenset()
    apply(store, update_of(INBOX, []))
    for name in ("a", "a.b", "other"):
        call(replica.mailbox, entry(f"{INBOX}.{name}", f"id-{name}"))
    for name in ("a.b.c", "a.x", "other.y"):
        apply(store, update_of(f"{INBOX}.{name}", []))

    def remove(name):
        if gone == "rename":
            call(replica.rename, name, f"DELETED.{name}.00000001", "default")
        else:
            call(replica.unmailbox, name)

    remove(INBOX + ".a.b.c")
    live = [name for name in names_of(replica, call) if name.startswith(INBOX)]
    assert live == [INBOX, INBOX + ".a", INBOX + ".a.x", INBOX + ".other", INBOX + ".other.y"]
    with store.read(ALICE) as reader:
        assert INBOX + ".a.b" in [tombstone.name for tombstone in reader.tombstones()]
    remove(INBOX + ".a.x")
    live = [name for name in names_of(replica, call) if name.startswith(INBOX)]
    assert live == [INBOX, INBOX + ".other", INBOX + ".other.y"]


def test_an_intermediate_that_is_told_of_before_its_name_is_free_comes_when_it_is(replica, call, store):
    replica.capabilities = frozenset()
    apply(store, update_of(INBOX, []))
    apply(store, update_of(INBOX + ".a", RECORDS), Stage(*BOTH))
    apply(store, update_of(INBOX + ".a.b", []))
    call(replica.mailbox, entry(INBOX + ".a", "between"))
    with store.read(ALICE) as reader:
        assert not reader.mailbox(INBOX + ".a").intermediate
    call(replica.rename, INBOX + ".a", "DELETED.user.alice.a.00000001", "default")
    with store.read(ALICE) as reader:
        assert reader.mailbox(INBOX + ".a").uniqueid == "between"
    replica.capabilities = frozenset({"SIEVE-MAILBOX"})
    apply(store, update_of(INBOX + ".z", RECORDS), Stage(*BOTH))
    with pytest.raises(MailboxMoved):
        call(replica.mailbox, entry(INBOX + ".z", "elsewhere"))


def test_what_an_intermediate_became_has_its_id_under_any_name(replica, call, store):
    apply(store, update_of(INBOX, []))
    for name in ("a", "b"):
        call(replica.mailbox, entry(f"{INBOX}.{name}", f"id-{name}"))
    call(replica.mailbox, replaced(update_of(INBOX + ".a", []), uniqueid="id-a"))
    call(replica.mailbox, replaced(update_of(INBOX + ".new", []), uniqueid="id-b"))
    assert names_of(replica, call) == [INBOX, INBOX + ".a", INBOX + ".new"]


def replaced(update: MailboxUpdate, **changes: str) -> MailboxUpdate:
    return replace(update, state=replace(update.state, **changes))
