"""A whole user is brought over, and nothing is sent where nothing has changed."""

from __future__ import annotations

import pytest

from cyrus_sync.common.model import Seen
from tests.sync_client.engine.world import ALICE, INBOX, World, content, deliver, names, state, write


def same(world: World, userid: str = "alice") -> None:
    assert content(world.replica, userid) == content(world.master, userid)


def test_the_first_sync_sends_every_mailbox_behind_its_messages_and_asks_once(world: World) -> None:
    with write(world.master) as writer:
        writer.create(INBOX)
        writer.create("user.alice.empty")
        writer.create("user.alice.lists")
    deliver(world.master, INBOX, "one", "two")
    deliver(world.master, "user.alice.lists", "three")
    assert world.sync() == [
        ("GET USER", "alice"),
        ("MESSAGE", 2),
        ("MAILBOX", INBOX, "ALL", (1, 2)),
        ("MAILBOX", "user.alice.empty", "ALL", ()),
        ("MESSAGE", 1),
        ("MAILBOX", "user.alice.lists", "ALL", (1,)),
    ]
    same(world)


@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "56")
def test_nothing_is_applied_where_nothing_has_changed(alice: World) -> None:
    assert alice.sync() == [("GET USER", "alice")]


@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "56")
def test_one_flag_is_one_delta(alice: World) -> None:
    with write(alice.master) as writer:
        writer.set_flags(INBOX, [1], add=["\\Flagged", "$Label"])
    assert alice.sync() == [("GET USER", "alice"), ("MAILBOX", INBOX, "SINCE", (1,))]
    same(alice)
    assert alice.sync() == [("GET USER", "alice")]


def test_a_new_message_is_reserved_before_it_is_sent(alice: World) -> None:
    deliver(alice.master, INBOX, "three")
    assert alice.sync() == [
        ("GET USER", "alice"),
        ("RESERVE", "default", (INBOX,), 1),
        ("MESSAGE", 1),
        ("MAILBOX", INBOX, "SINCE", (3,)),
    ]
    same(alice)


def test_a_message_that_the_replica_has_is_not_sent_again(alice: World) -> None:
    with write(alice.master) as writer:
        writer.create("user.alice.copies")
        writer.copy(INBOX, [1, 2], "user.alice.copies")
    assert alice.sync() == [
        ("GET USER", "alice"),
        ("RESERVE", "default", (INBOX,), 2),
        ("MAILBOX", "user.alice.copies", "ALL", (1, 2)),
    ]
    same(alice)


def test_an_expunge_is_a_delta(alice: World) -> None:
    with write(alice.master) as writer:
        writer.expunge(INBOX, [1])
    assert alice.sync() == [("GET USER", "alice"), ("MAILBOX", INBOX, "SINCE", (1,))]
    same(alice)


def test_quota_subscriptions_and_seen_follow_the_mailboxes(alice: World) -> None:
    with write(alice.master) as writer:
        writer.set_quota(INBOX, {"STORAGE": 1000})
        writer.subscribe(INBOX)
        writer.set_seen(Seen("someid", 1, 2, 3, "1:2"))
    events = alice.sync()
    assert events[0] == ("GET USER", "alice")
    assert events[-3:] == [
        ("QUOTA", INBOX),
        ("SUB", "alice", INBOX),
        ("SEEN", "alice", "someid"),
    ]
    same(alice)
    with write(alice.master) as writer:
        writer.set_quota(INBOX, None)
        writer.subscribe(INBOX, False)
    events = alice.sync()
    assert ("UNQUOTA", INBOX) in events
    assert ("UNSUB", "alice", INBOX) in events
    same(alice)


def test_mailbox_annotations_and_acl_are_header_changes(alice: World) -> None:
    with write(alice.master) as writer:
        writer.annotate(INBOX, "/comment", "", b"hello")
        writer.set_acl(INBOX, "bob", "lrs")
    events = alice.sync()
    assert events == [("GET USER", "alice"), ("MAILBOX", INBOX, "SINCE", ())]
    same(alice)


def test_message_annotations_travel_with_their_record(alice: World) -> None:
    with write(alice.master) as writer:
        writer.annotate(INBOX, "/comment", "alice", b"caf\xc3\xa9", uid=2)
    assert alice.sync()[1:] == [("MAILBOX", INBOX, "SINCE", (2,))]
    same(alice)


def test_a_user_without_inbox_here_is_left_alone_there(alice: World) -> None:
    with write(alice.replica, "bob") as writer:
        writer.create("user.bob")
    assert alice.sync("bob") == [("GET USER", "bob"), ("GET FULLMAILBOX", "user.bob")]
    assert "only the replica has the user bob, with 1 mailbox and 0 messages" in alice.remarks[0]
    assert alice.lines[-1] == "Does not exist locally bob"
    assert names(alice.replica, "bob") == ["user.bob"]


@pytest.mark.covers("Capabilities", "SIEVE-MAILBOX")
def test_scripts_travel_as_a_mailbox_where_that_was_agreed(alice: World) -> None:
    with write(alice.master) as writer:
        writer.put_script("main", b"keep;\r\n")
        writer.activate_script("main")
    events = alice.sync()
    assert [event[:2] for event in events if event[0] == "MAILBOX"] == [("MAILBOX", "user.alice.#sieve")]
    same(alice)


def test_scripts_travel_by_commands_where_it_was_not(alice: World) -> None:
    alice.sieve_mailbox = False
    with write(alice.master) as writer:
        writer.put_script("main", b"keep;\r\n")
        writer.put_script("other", b"discard;\r\n")
        writer.activate_script("main")
    assert alice.sync() == [
        ("GET USER", "alice"),
        ("SIEVE", "alice", "main.script"),
        ("SIEVE", "alice", "other.script"),
        ("ACTIVATE_SIEVE", "alice", "main.bc"),
    ]
    assert alice.sync() == [("GET USER", "alice")]
    with write(alice.master) as writer:
        writer.put_script("main", b"stop;\r\n")
        writer.delete_script("other")
        writer.activate_script(None)
    assert alice.sync() == [
        ("GET USER", "alice"),
        ("SIEVE", "alice", "main.script"),
        ("UNSIEVE", "alice", "other.script"),
        ("UNACTIVATE_SIEVE", "alice"),
    ]
    assert alice.sync() == [("GET USER", "alice")]


@pytest.mark.covers("sync_client: options", "-v")
def test_verbose_lines_are_those_of_the_manual(alice: World) -> None:
    alice.lines.clear()
    with write(alice.master) as writer:
        writer.create("user.alice.a")
        writer.set_quota(INBOX, {"STORAGE": 5})
        writer.subscribe(INBOX)
    alice.sync()
    assert sorted(alice.lines) == [
        "MAILBOX user.alice.a",
        f"QUOTA {INBOX}",
        f"SUB alice {INBOX}",
        "USER alice",
    ]


@pytest.mark.covers("sync_client: options", "-L")
def test_local_only_uses_the_local_verbs(alice: World) -> None:
    alice.lines.clear()
    deliver(alice.master, INBOX, "x")
    assert alice.sync(local_only=True)[-1][0] == "LOCAL_MAILBOX"
    assert alice.lines == ["USER alice", f"LOCAL_MAILBOX {INBOX}"]


@pytest.mark.covers("sync_client: options", "-p")
def test_a_destination_partition_moves_and_fills_mailboxes_there(alice: World) -> None:
    deliver(alice.master, INBOX, "x")
    events = alice.sync(partition="ssd")
    assert ("RENAME", INBOX, INBOX) in events
    assert state(alice.replica, INBOX).partition == "ssd"
    assert alice.sync(partition="ssd") == [("GET USER", "alice")]


@pytest.mark.parametrize("counter", ["uidvalidity", "foldermodseq", "raclmodseq"])
def test_higher_counters_of_the_replica_are_adopted_here(alice: World, counter: str) -> None:
    box = state(alice.master, INBOX)
    higher = getattr(box, counter) + 1000
    with alice.replica.write(ALICE) as writer:
        writer.raise_counters(box.uniqueid, **{counter: higher})
    alice.sync()
    assert getattr(state(alice.master, INBOX), counter) == higher
    same(alice)
