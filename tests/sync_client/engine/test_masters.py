"""The engine needs nothing of its master but what `common.master` says: here one that is no store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from cyrus_sync.common.errors import (
    EX_FAILURE,
    EX_OK,
    MailboxLocked,
    SettlementRefused,
    SnapshotLost,
    StoreCorrupt,
    SyncChanged,
)
from cyrus_sync.common.master import Master, Settlement
from cyrus_sync.common.model import Quota, Seen, Tombstone, UserMeta
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.engine import Engine, FoldersFailed
from cyrus_sync.sync_client.engine.withheld import Withheld
from cyrus_sync.sync_client.oneshot import OneShot, mailbox_items, user_items
from tests.common.stores.test_face import ROOT, imports, modules
from tests.sync_client.engine.lines import InlineThreads
from tests.sync_client.engine.memory import MemoryMaster, ReadOnlyMaster
from tests.sync_client.engine.world import (
    INBOX,
    World,
    deliver,
    finish,
    guid_of,
    live,
    names,
    records,
    state,
    write,
)

WORK = "user.alice.Work"


class Pair:
    """A master in memory, a replica that is a store, an engine between them."""

    def __init__(self, world: World, master: MemoryMaster) -> None:
        self.world = world
        self.master = master
        self.inbox = master.create(INBOX, "id-inbox")
        self.work = master.create(WORK, "id-work")
        self.inbox.deliver("one", "two")
        self.work.deliver("three")

    def engine(self, **options: Any) -> Engine:
        master: Master = self.master
        return Engine(master, self.world.connect(), InlineThreads(), replace(self.world.options, **options))

    def sync(self, **options: Any) -> list[tuple[Any, ...]]:
        finish(self.engine(**options).user("alice"))
        return self.world.line.events

    def quiet(self) -> bool:
        """Both sides are the same, and a run finds that."""
        for box in self.master.boxes.values():
            here = {r.uid: r.guid for r in box.records.values() if not r.expunged}
            assert live(self.world.replica, box.state.name) == here
        return self.sync() == [("GET USER", "alice")]


@pytest.fixture
def pair(world: World) -> Pair:
    """A master that takes changes, replicated once."""
    made = Pair(world, MemoryMaster())
    made.sync()
    return made


@pytest.fixture
def readonly(world: World) -> Pair:
    """One that takes none, replicated once."""
    made = Pair(world, ReadOnlyMaster())
    made.sync()
    return made


ON_ANY_STORE = ("healing.", "threads.", "turns.", "disk")
"""Modules of the store's room that know of no store."""
PULLING = ("sync_client/pulling.py", "sync_client/pull_rolling.py", "sync_client/pull_log.py")
"""Mail of an IMAP server comes *into* our store."""


def test_what_the_client_knows_of_a_store_is_how_it_is_opened() -> None:
    room = "cyrus_sync.common.stores."
    knowing = {
        str(path.relative_to(ROOT))
        for path in modules(below=ROOT / "sync_client")
        for name in imports(path)
        if name.startswith(room) and not name.removeprefix(room).startswith(ON_ANY_STORE)
    }
    assert knowing == {"sync_client/masters.py", *PULLING}


# -- without a conflict


def test_a_first_run_and_updates_bring_everything_over(pair: Pair) -> None:
    assert pair.quiet()
    pair.inbox.deliver("four")
    pair.inbox.change(1, flags="\\Seen")
    pair.work.change(1, expunged=True)
    pair.master.meta = UserMeta(seen=(Seen("other", 1, 2, 3, "1:2"),), subscriptions=(WORK,))
    pair.master.quotas = [Quota(INBOX, {"STORAGE": 1000})]
    pair.sync()
    assert pair.quiet()
    assert records(pair.world.replica, INBOX)[0].flags == "\\Seen"
    with pair.world.replica.read(Owner("user", "alice")) as reader:
        assert reader.meta(with_sieve=True).subscriptions == (WORK,)
        assert reader.quotas()[0].limits == {"STORAGE": 1000}


def test_renames_and_deletions_follow_uniqueids_and_tombstones(pair: Pair) -> None:
    pair.master.boxes["user.alice.Old"] = box = pair.master.boxes.pop(WORK)
    box.state = replace(box.state, name="user.alice.Old", foldermodseq=9)
    pair.sync()
    assert names(pair.world.replica) == [INBOX, "user.alice.Old"]
    del pair.master.boxes["user.alice.Old"]
    pair.master.stones.append(Tombstone("user.alice.Old", "id-work", 1, 99))
    pair.sync()
    assert names(pair.world.replica) == [INBOX]


def test_a_mailbox_of_many_records_streams_in_batches(pair: Pair) -> None:
    pair.inbox.deliver(*(str(number) for number in range(50)))
    events = pair.sync(batchsize=7)
    assert sum(event[0] == "MAILBOX" for event in events) == 8
    assert pair.quiet()


# -- with one


def test_what_both_sides_changed_is_settled_on_the_master(pair: Pair) -> None:
    deliver(pair.world.replica, INBOX, "there")
    pair.work.change(1, flags="\\Flagged")
    pair.inbox.deliver("here")
    pair.sync()
    assert len(pair.inbox.records) == 5, "one each under a new UID, and the record of the master's old one"
    assert guid_of("there") in {record.guid for record in pair.inbox.records.values()}
    assert pair.quiet()


def test_a_settlement_that_came_too_late_is_made_again(pair: Pair) -> None:
    deliver(pair.world.replica, INBOX, "there")
    settle, changes = pair.master.settle, ["\\Flagged", "\\Seen"]

    def busy(owner: Owner, settlement: Settlement) -> Any:
        if changes:
            pair.inbox.change(1, flags=changes.pop())
            raise SyncChanged
        return settle(owner, settlement)

    pair.master.settle = busy  # type: ignore[method-assign]
    pair.sync()
    assert len(pair.master.settled) == 1
    assert pair.quiet()


def test_a_master_that_never_rests_fails_its_mailbox_and_no_other(pair: Pair) -> None:
    deliver(pair.world.replica, INBOX, "there")
    pair.work.deliver("more")

    def busy(owner: Owner, settlement: Settlement) -> Any:
        raise SyncChanged

    pair.master.settle = busy  # type: ignore[method-assign]
    with pytest.raises(FoldersFailed, match="kept changing") as caught:
        pair.sync()
    assert [name for name, _ in caught.value.failures] == [INBOX]
    assert len(live(pair.world.replica, WORK)) == 2
    assert guid_of("there") in live(pair.world.replica, INBOX).values()


# -- a master that takes no changes


def conflict(pair: Pair) -> None:
    deliver(pair.world.replica, INBOX, "only there")
    pair.inbox.deliver("only here")
    pair.work.deliver("more")


def test_a_conflict_is_reported_with_what_differs_and_what_to_configure(readonly: Pair) -> None:
    conflict(readonly)
    before = dict(readonly.inbox.records)
    with pytest.raises(FoldersFailed) as caught:
        readonly.sync()
    ((name, error),) = caught.value.failures
    assert (name, type(error)) == (INBOX, SettlementRefused)
    assert "1 message that only the replica has" in error.message
    assert error.message.endswith("this spool is only read: set cyrus_csync")
    assert error.address == {"user": "alice", "mailbox": INBOX, "uniqueid": "id-inbox", "command": "MAILBOX"}
    assert readonly.inbox.records == before
    verbs = {event[0] for event in readonly.world.line.events}
    assert verbs.isdisjoint({"GET FETCH", "EXPUNGE", "FORCE"})
    assert guid_of("only there") in live(readonly.world.replica, INBOX).values()
    assert len(live(readonly.world.replica, WORK)) == 2, "the others are done"


@pytest.mark.covers("Other errors", "SettlementRefused")
def test_a_refusal_of_the_master_itself_is_told_alike(pair: Pair) -> None:
    conflict(pair)

    def refuse(owner: Owner, settlement: Settlement) -> Any:
        raise SettlementRefused("its csync server refuses the password")

    pair.master.settle = refuse  # type: ignore[method-assign]
    with pytest.raises(FoldersFailed, match=r"only the replica has.*refuses the password"):
        pair.sync()


@pytest.mark.parametrize(
    ("items", "status"),
    [
        (user_items(["alice"]), EX_FAILURE),
        (mailbox_items([WORK, INBOX]), EX_FAILURE),
        (mailbox_items([WORK]), EX_OK),
    ],
)
def test_a_run_that_left_a_conflict_ends_with_1(readonly: Pair, items: list[Any], status: int) -> None:
    conflict(readonly)
    told: list[str] = []
    shot = OneShot(
        clock=Clock(),
        connector=Connected(readonly),
        items=items,
        report=lambda item, error, following: told.append(str(error)),
    )
    assert finish(shot.go()) == status
    assert len(live(readonly.world.replica, WORK)) == 2
    assert bool(told) == bool(status)


class Connected:
    """A connector whose connections are at once there."""

    server = "replica.example"

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self.engine = pair.engine()

    def connect(self) -> Deferred[Any]:
        self.engine = self._pair.engine()
        return succeed(self)

    def close(self) -> Deferred[None]:
        return succeed(None)


def test_a_replica_that_was_away_for_long_catches_up_without_a_change_of_the_master(readonly: Pair) -> None:
    """Its stale messages were cleaned up here, others were changed, new ones came."""
    readonly.inbox.change(1, expunged=True)
    readonly.inbox.change(2, flags="\\Answered")
    readonly.inbox.deliver("news")
    readonly.inbox.clean_up(1)
    events = readonly.sync()
    assert ("GET FULLMAILBOX", INBOX) in events
    assert ("EXPUNGE", INBOX, (1,)) in events
    assert readonly.quiet()


def test_bookkeeping_that_is_ahead_on_the_replica_is_left_alone(readonly: Pair) -> None:
    with write(readonly.world.replica) as writer:
        writer.raise_counters("id-inbox", foldermodseq=500, raclmodseq=501)
    assert readonly.quiet()
    readonly.inbox.deliver("news")
    readonly.sync()
    there = state(readonly.world.replica, INBOX)
    assert (there.foldermodseq, there.raclmodseq) == (500, 501)
    assert readonly.quiet()
    assert readonly.world.remarks == []


def test_a_higher_uidvalidity_of_the_replica_is_a_conflict(readonly: Pair) -> None:
    with write(readonly.world.replica) as writer:
        writer.raise_counters("id-inbox", uidvalidity=2000)
    with pytest.raises(FoldersFailed, match=r"UIDVALIDITY is 2000 there.*set cyrus_csync"):
        readonly.sync()
    assert state(readonly.world.replica, INBOX).uidvalidity == 2000


def test_a_higher_uidvalidity_of_the_replica_is_taken_by_a_master_that_can(pair: Pair) -> None:
    with write(pair.world.replica) as writer:
        writer.raise_counters("id-inbox", uidvalidity=2000)
    pair.sync()
    assert pair.inbox.state.uidvalidity == 2000
    assert pair.quiet()


def test_a_message_that_can_be_read_again_stays_withheld_and_is_told(readonly: Pair) -> None:
    withheld = Withheld(None)
    kept = readonly.inbox.files.copy()
    readonly.inbox.deliver("lost", "last")
    uid = readonly.inbox.state.last_uid - 1
    lost = readonly.inbox.files.pop(uid)
    readonly.sync(withheld=withheld)
    assert set(withheld.of("id-inbox")) == {uid}
    assert set(live(readonly.world.replica, INBOX)) == {*kept, uid + 1}
    readonly.inbox.files[uid] = lost
    readonly.sync(withheld=withheld)
    assert "set cyrus_csync" in readonly.world.remarks[-1]
    assert set(withheld.of("id-inbox")) == {uid}


# -- trouble with one mailbox


@pytest.mark.parametrize("error", [StoreCorrupt("cyrus.index: offset 12: version 99"), MailboxLocked()])
def test_a_mailbox_that_cannot_be_read_fails_alone(pair: Pair, error: Any) -> None:
    pair.inbox.deliver("news")
    pair.work.deliver("more")
    pair.master.troubles[WORK] = error
    for run in ("user", "mailboxes"):
        engine = pair.engine()
        with pytest.raises(FoldersFailed) as caught:
            finish(engine.user("alice") if run == "user" else engine.mailboxes([WORK, INBOX]))
        assert [name for name, _ in caught.value.failures] == [WORK]
        assert len(live(pair.world.replica, INBOX)) == 3, "the other is done"
    assert len(live(pair.world.replica, WORK)) == 1
    del pair.master.troubles[WORK]
    pair.sync()
    assert pair.quiet()


def test_an_inbox_that_cannot_be_read_does_not_hide_its_user(pair: Pair) -> None:
    pair.work.deliver("more")
    pair.master.troubles[INBOX] = StoreCorrupt("cyrus.index: offset 12")
    with pytest.raises(FoldersFailed) as caught:
        pair.sync()
    assert [name for name, _ in caught.value.failures] == [INBOX]
    assert len(live(pair.world.replica, WORK)) == 2
    assert INBOX in names(pair.world.replica)


@pytest.mark.covers("Other errors", "SnapshotLost")
def test_a_mailbox_that_changed_while_it_was_read_is_read_again(pair: Pair) -> None:
    pair.inbox.deliver("news")
    pair.master.troubles[INBOX] = [SnapshotLost(), SnapshotLost(), SnapshotLost()]
    pair.sync()
    assert pair.quiet()


def test_one_that_always_does_fails_alone(pair: Pair) -> None:
    pair.inbox.deliver("news")
    pair.work.deliver("more")
    pair.master.troubles[INBOX] = SnapshotLost()
    with pytest.raises(FoldersFailed, match="changed while it was read"):
        pair.sync()
    assert len(live(pair.world.replica, WORK)) == 2


def test_a_message_that_vanished_before_it_was_sent_is_left_out_with_its_record(pair: Pair) -> None:
    pair.inbox.deliver("gone", "stays")
    uid = pair.inbox.state.last_uid - 1
    del pair.inbox.files[uid]
    pair.sync(withheld=Withheld(None))
    assert set(live(pair.world.replica, INBOX)) == {1, 2, uid + 1}
    pair.inbox.change(uid, expunged=True)
    pair.sync(withheld=Withheld(None))
    assert set(live(pair.world.replica, INBOX)) == {1, 2, uid + 1}
