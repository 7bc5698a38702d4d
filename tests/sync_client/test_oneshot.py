"""One-shot runs: each item once, the others go on, patience has an end."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from cyrus_sync.common.errors import (
    AuthenticationFailed,
    CompressionRefused,
    ConnectionLost,
    MailboxLocked,
    QuietLogout,
    RemoteDenied,
    SyncChecksum,
    TLSFailed,
)
from cyrus_sync.sync_client.engine.errors import FoldersFailed
from cyrus_sync.sync_client.facts import NotGranted
from cyrus_sync.sync_client.oneshot import OneShot, everybody_items, mailbox_items, meta_items, user_items
from tests.sync_client.fakes import FakeConnector, advance, refused


class Rig:
    def __init__(
        self, items: list, *attempts: Any, answers: dict[str, Any] | None = None, **more: Any
    ) -> None:
        self.events: list[str] = []
        self.clock = Clock()
        self.connector = FakeConnector(self.events, answers, *attempts)
        self.said: list[str] = []
        self.failures: list[str] = []
        self.shot = OneShot(
            clock=self.clock,
            connector=self.connector,
            items=items,
            report=lambda item, error, _following: self.failures.append(f"{item}: {error}"),
            say=self.said.append,
            random=lambda: 0.0,
            **more,
        )
        self.ended: list[int] = []
        Deferred.fromCoroutine(self.shot.go()).addCallback(self.ended.append)


def test_users_are_done_each_and_all_is_well():
    rig = Rig(user_items(["alice", "bob", "alice"]))
    assert rig.events == ["connect", "USER alice", "USER bob", "close"] and rig.ended == [0]


def test_meta_of_each():
    assert Rig(meta_items(["alice", "bob"])).events == ["connect", "META alice", "META bob", "close"]


def test_mailboxes_are_all_in_one_request():
    rig = Rig(mailbox_items(["user.bob", "user.alice.Work", "user.bob"]))
    assert rig.events == ["connect", "MAILBOXES user.bob user.alice.Work", "close"]


def test_everybody_is_each_shared_mailbox_singly_and_each_user():
    rig = Rig(everybody_items(["alice"], ["news", "news.x"]))
    assert rig.events == ["connect", "MAILBOXES news", "MAILBOXES news.x", "USER alice", "close"]


def test_nothing_to_do_is_done_without_a_connection():
    rig = Rig([])
    assert rig.events == [] and rig.ended == [0]


def test_a_failing_user_is_reported_and_the_others_go_on():
    rig = Rig(user_items(["a", "b", "c"]), answers={"USER b": SyncChecksum()})
    assert rig.events == ["connect", "USER a", "USER b", "USER c", "close"]
    assert rig.failures == ["USER b: Checksum Failure"] and rig.ended == [1]


def test_nothing_is_promoted():
    rig = Rig(mailbox_items(["user.a", "user.b"]), answers={"MAILBOXES user.a user.b": RemoteDenied()})
    assert rig.events == ["connect", "MAILBOXES user.a user.b", "close"] and rig.ended == [1]


def test_a_server_that_refuses_many_is_asked_for_each():
    names = [f"u{i}" for i in range(20)]
    rig = Rig(user_items(names), answers={f"USER {name}": RemoteDenied() for name in names})
    assert len(rig.failures) == 20 and rig.ended == [1]


@pytest.mark.parametrize("error", [MailboxLocked(), FoldersFailed([("user.a", MailboxLocked())])])
@pytest.mark.parametrize(("skip", "status"), [(True, 0), (False, 1)])
def test_who_is_locked_is_skipped_without_blame_only_with_all_users(error, skip, status):
    rig = Rig(user_items(["a", "b"]), answers={"USER a": error}, skip_locked=skip)
    assert rig.ended == [status] and "USER b" in rig.events


def test_after_a_broken_connection_the_rest_is_done_on_a_new_one():
    rig = Rig(user_items(["a", "b", "c"]), answers={"USER b": [ConnectionLost()]}, width=1)
    assert rig.events == ["connect", "USER a", "USER b", "close", "connect", "USER c", "close"]
    assert rig.failures == ["USER b: connection lost"] and rig.ended == [1]


def test_if_several_were_under_way_they_are_tried_one_by_one_to_find_the_culprit():
    wait: Deferred[None] = Deferred()
    answers: dict[str, Any] = {"USER a": [wait], "USER b": [ConnectionLost(), ConnectionLost()]}
    rig = Rig(user_items(["a", "b", "c"]), answers=answers, width=2)
    wait.errback(ConnectionLost())
    assert rig.events == [
        *("connect", "USER a", "USER b", "close"),
        *("connect", "USER c", "USER a", "USER b", "close"),
    ]
    assert rig.ended == [1]


def test_a_server_that_breaks_every_connection_brings_the_run_to_an_end():
    rig = Rig(
        user_items(["a", "b"]), answers={"USER a": ConnectionLost(), "USER b": ConnectionLost()}, width=1
    )
    assert rig.ended == [1]
    assert rig.events.count("connect") == 2


def test_a_server_that_says_bye_every_time_is_not_asked_without_end():
    rig = Rig(user_items(["a"]), answers={"USER a": QuietLogout()}, width=1)
    advance(rig.clock, 2000, step=5)
    assert rig.ended == [1]
    assert rig.events.count("connect") <= 8


@pytest.mark.covers("Exit statuses", "sync_client 1")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "58")
def test_without_o_it_goes_on_trying_for_1000_seconds():
    rig = Rig(user_items(["a"]), *[refused() for _ in range(20)])
    advance(rig.clock, 990, step=5)
    assert rig.ended == []
    advance(rig.clock, 20, step=5)
    assert rig.ended == [1]
    assert rig.events.count("connect") == 8
    assert rig.said[0] == (
        "Can not connect to server 'replica.example', retrying in 15 seconds (Connection refused)"
    )
    assert rig.said[-1] == "Can not connect to server 'replica.example' (Connection refused)"


@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "58")
def test_with_o_it_tries_once():
    rig = Rig(user_items(["a"]), refused(), patience=0)
    assert rig.ended == [1] and rig.events == ["connect"]


def test_a_server_that_comes_back_in_time_is_found():
    rig = Rig(user_items(["a"]), refused(), refused())
    advance(rig.clock, 100)
    assert rig.ended == [0] and rig.events == ["connect"] * 3 + ["USER a", "close"]


@pytest.mark.parametrize("error", [AuthenticationFailed(), TLSFailed(), CompressionRefused(), NotGranted()])
def test_a_refusal_that_will_be_the_same_next_time_ends_it_at_once(error):
    rig = Rig(user_items(["a"]), error)
    assert rig.ended == [1] and rig.events == ["connect"]


def test_a_signal_lets_the_item_under_way_end():
    wait: Deferred[None] = Deferred()
    rig = Rig(user_items(["a", "b"]), answers={"USER a": wait}, width=1)
    rig.shot.stop()
    assert rig.ended == []
    wait.callback(None)
    assert rig.ended == [75] and "USER b" not in rig.events


def test_a_signal_ends_the_wait_for_a_connection():
    rig = Rig(user_items(["a"]), refused())
    rig.shot.stop()
    assert rig.ended == [75]


def test_a_signal_ends_an_attempt_to_connect():
    rig = Rig(user_items(["a"]), Deferred())
    rig.shot.stop()
    assert rig.ended == [75]
