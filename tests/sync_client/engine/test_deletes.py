"""Deletions on the replica need a tombstone here, whatever the way they are asked for."""

from __future__ import annotations

from typing import Any

import pytest

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.engine.errors import FoldersFailed
from tests.sync_client.engine.world import ALICE, INBOX, World, content, deliver, finish, names, write

A, B = "user.alice.a", "user.alice.b"


def two(world: World) -> None:
    with write(world.master) as writer:
        writer.create(A)
        writer.create(B)
    deliver(world.master, A, "in a")
    world.sync()


def delete(world: World, *boxes: str, delayed: bool = False) -> None:
    for box in boxes:
        with write(world.master) as writer:
            writer.delete(box, delayed=delayed)


def test_a_mailbox_deleted_here_is_deleted_there(alice: World) -> None:
    two(alice)
    delete(alice, A)
    assert alice.sync() == [("GET USER", "alice"), ("UNMAILBOX", A)]
    assert content(alice.replica) == content(alice.master)
    assert f"UNMAILBOX {A}" in alice.lines


def test_a_mailbox_of_the_replica_that_was_never_here_is_left_alone(alice: World) -> None:
    with write(alice.replica) as writer:
        writer.create(A)
    deliver(alice.replica, A, "one", "two")
    for _ in range(2):
        assert alice.sync() == [("GET USER", "alice"), ("GET FULLMAILBOX", A)]
    assert names(alice.replica) == [INBOX, A]
    assert len(alice.remarks) == 2, "it is told every time"
    assert f"only the replica has {A}" in alice.remarks[0] and "with 2 messages" in alice.remarks[0]
    assert f"sync_client -S THIS-HOST -m {A}" in alice.remarks[0], "what to type"


def test_of_a_single_mailbox_that_rolling_asks_for_it_is_only_a_notice(alice: World) -> None:
    with write(alice.replica) as writer:
        writer.create(A)
    alice.mailboxes(A)
    assert alice.remarks == [] and f"only the replica has {A}" in alice.notices[0]
    alice.mailboxes(A, strict=True)
    assert f"only the replica has {A}" in alice.remarks[0], "somebody has typed it"


def test_force_does_not_delete_it_either(alice: World) -> None:
    with write(alice.replica) as writer:
        writer.create(A)
    alice.sync(no_copyback=True)
    assert names(alice.replica) == [INBOX, A]


def test_a_delayed_delete_is_a_rename(alice: World) -> None:
    two(alice)
    delete(alice, A, delayed=True)
    events = alice.sync()
    assert [event[0] for event in events if event[0] in ("RENAME", "UNMAILBOX")] == ["RENAME"]
    assert content(alice.replica) == content(alice.master)


def test_a_mailbox_deleted_here_and_written_there_since_is_left_alone(alice: World) -> None:
    two(alice)
    delete(alice, A)
    for _ in range(9):
        deliver(alice.replica, A, "news for the replica")
    assert alice.sync() == [("GET USER", "alice"), ("GET FULLMAILBOX", A)]
    assert A in names(alice.replica)
    assert "changed on the replica since" in alice.remarks[0]


def test_a_deleted_name_given_to_another_mailbox_makes_room_first(alice: World) -> None:
    two(alice)
    delete(alice, A)
    alice.master.rename(B, A, log=True)
    events = alice.sync()
    assert [event[0] for event in events[:3]] == ["GET USER", "UNMAILBOX", "RENAME"]
    assert content(alice.replica) == content(alice.master)


@pytest.mark.covers("Lines of the action log", "UNMAILBOX")
def test_unmailbox_deletes_what_was_deleted_here(alice: World) -> None:
    two(alice)
    delete(alice, A)
    alice.connect()
    finish(alice.engine().unmailbox(A))
    assert alice.line.events == [("GET MAILBOXES", A), ("UNMAILBOX", A)]
    finish(alice.engine().unmailbox(A))
    assert alice.line.events[-1] == ("GET MAILBOXES", A)


def test_unmailbox_spares_a_mailbox_that_is_there_again(alice: World) -> None:
    two(alice)
    delete(alice, A)
    with write(alice.master) as writer:
        writer.create(A)
    alice.connect()
    finish(alice.engine().unmailbox(A))
    assert alice.line.events == []


def test_unmailbox_spares_a_mailbox_that_lives_on_under_another_name(alice: World) -> None:
    two(alice)
    alice.master.rename(A, "user.alice.c", log=True)
    alice.connect()
    finish(alice.engine().unmailbox(A))
    assert alice.line.events == [("GET MAILBOXES", A)]
    assert "lives here as user.alice.c" in alice.notices[0]


def test_unmailbox_spares_a_mailbox_of_the_same_name_but_another_id(alice: World) -> None:
    two(alice)
    delete(alice, A)
    with write(alice.replica) as writer:
        writer.apply_unmailbox(A)
        writer.create(A)
    alice.connect()
    finish(alice.engine().unmailbox(A))
    assert "was never deleted here" in alice.notices[0]
    assert A in names(alice.replica)


@pytest.mark.covers("Lines of the action log", "UNUSER")
def test_unuser_removes_a_user_who_is_gone_here(alice: World) -> None:
    two(alice)
    delete(alice, A, B, INBOX)
    alice.connect()
    finish(alice.engine().unuser("alice"))
    assert alice.line.events == [("GET USER", "alice"), ("UNUSER", "alice")]
    assert names(alice.replica) == []


def test_unuser_spares_a_user_who_is_here_again_and_takes_what_he_had_before(alice: World) -> None:
    two(alice)
    with write(alice.master) as writer:
        writer.set_quota(INBOX, {"STORAGE": 9})
        writer.subscribe(A)
    alice.sync()
    delete(alice, A, B, INBOX)
    with write(alice.master) as writer:
        writer.create(INBOX)
    alice.connect()
    finish(alice.engine().unuser("alice"))
    assert ("UNUSER", "alice") not in alice.line.events
    assert content(alice.replica) == content(alice.master)
    with alice.replica.read(ALICE) as reader:
        assert not reader.quotas() and not reader.meta(with_sieve=False).subscriptions


def test_unuser_renames_what_has_become_another_users_first(alice: World) -> None:
    two(alice)
    for name in (INBOX, A, B):
        alice.master.rename(name, name.replace("alice", "alicia"), log=True)
    alice.connect()
    finish(alice.engine().unuser("alice"))
    assert names(alice.replica) == []
    assert names(alice.replica, "alicia") == [name.replace("alice", "alicia") for name in (INBOX, A, B)]
    assert not [event for event in alice.line.events if event[0] == "MESSAGE"]


def test_unuser_waits_where_the_rename_is_refused(alice: World) -> None:
    alice.master.rename(INBOX, "user.alicia", log=True)
    with alice.replica.write(Owner("user", "alicia")) as writer:
        writer.create("user.alicia")
        writer.append("user.alicia", [(b"Subject: in the way\r\n\r\n", 1, "")])
    alice.connect()
    with pytest.raises(FoldersFailed):
        finish(alice.engine().unuser("alice"))
    assert names(alice.replica) == [INBOX]


def test_a_rename_between_users_that_the_replica_did_by_half_is_ended(
    alice: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the commits of the two users, the replica has the mailbox twice."""
    two(alice)
    for name in (INBOX, A, B):
        alice.master.rename(name, name.replace("alice", "alicia"), log=True)
    publish = alice.replica.home.publish

    def half(hold: Any, commit: Any) -> None:
        if hold.directory.owner == ALICE:
            raise StoreError("killed")
        publish(hold, commit)

    with monkeypatch.context() as patch:
        patch.setattr(alice.replica.home, "publish", half)
        for name in (INBOX, A, B):
            with pytest.raises(StoreError):
                alice.replica.rename(name, name.replace("alice", "alicia"), log=False)
    assert names(alice.replica) == [INBOX, A, B]
    alice.mailboxes(INBOX, "user.alicia")
    assert names(alice.replica) == [A, B]
    alice.connect()
    finish(alice.engine().unuser("alice"))
    assert names(alice.replica) == []
    assert names(alice.replica, "alicia") == [name.replace("alice", "alicia") for name in (INBOX, A, B)]


def test_unuser_keeps_mailboxes_that_were_never_here(alice: World) -> None:
    two(alice)
    with write(alice.replica) as writer:
        writer.create("user.alice.own")
    delete(alice, A, B, INBOX)
    alice.connect()
    finish(alice.engine().unuser("alice"))
    assert ("UNUSER", "alice") not in alice.line.events
    assert "user.alice.own" in names(alice.replica)
    assert A not in names(alice.replica)
