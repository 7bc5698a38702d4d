"""What becomes of an item that failed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.errors import (
    InvalidUser,
    MailboxLocked,
    MailboxMoved,
    RemoteDenied,
    StoreError,
    SyncChecksum,
)
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.synclog.lines import LogLine
from cyrus_sync.sync_client.engine.errors import FoldersFailed
from cyrus_sync.sync_client.merge import merge
from cyrus_sync.sync_client.promote import Deferred, GivenUp, Promoted, promote
from cyrus_sync.sync_client.work import Item, Kind


def item_of(kind: str, *args: str) -> Item:
    (item,) = merge([LogLine(kind, args)]).items
    return item


def promoted(item: Item, error: Exception, **more) -> list[str]:
    decision = promote(item, error, **more)
    assert isinstance(decision, Promoted), decision
    return [str(bigger) for bigger in decision.items]


ALL = [
    item_of("MAILBOX", "user.al.x"),
    item_of("QUOTA", "user.al"),
    item_of("ANNOTATION", "user.al"),
    item_of("SEEN", "al", "id1"),
    item_of("SUB", "al", "user.al.x"),
    item_of("META", "al"),
    item_of("USER", "al"),
    item_of("UNMAILBOX", "user.al.x"),
    item_of("UNUSER", "al"),
]


@pytest.mark.covers("Codes after NO", "IMAP_MAILBOX_LOCKED")
@pytest.mark.parametrize("item", ALL, ids=str)
def test_whatever_is_locked_is_deferred_unchanged(item):
    assert promote(item, MailboxLocked()) == Deferred(item)


@pytest.mark.covers("Codes after NO", "IMAP_MAILBOX_MOVED")
@pytest.mark.parametrize(
    "error", [SyncChecksum(), MailboxMoved(), RemoteDenied("x"), StoreError(), ValueError()]
)
def test_a_mailbox_becomes_its_owner(error):
    assert promoted(item_of("MAILBOX", "user.al.x"), error) == ["USER al"]


def test_a_group_becomes_every_owner_in_it():
    assert promoted(item_of("DOUBLEMAILBOX", "user.al.x", "user.bob"), SyncChecksum()) == [
        "USER al",
        "USER bob",
    ]


def test_shared_mailboxes_are_tried_singly_before_they_are_given_up():
    group = Item(Kind.MAILBOXES, Owner("shared", "news"), ("news.a", "news.b"))
    assert promoted(group, SyncChecksum()) == ["MAILBOX news.a", "MAILBOX news.b"]
    single = Item(Kind.MAILBOXES, Owner("shared", "news"), ("news.a",))
    assert promote(single, SyncChecksum()) == GivenUp(single)


@pytest.mark.parametrize("kind", ["QUOTA", "ANNOTATION"])
def test_quota_and_annotation_become_the_user_who_owns_them(kind):
    assert promoted(item_of(kind, "user.al.Work"), RemoteDenied()) == ["USER al"]


def test_quota_of_a_shared_mailbox_and_the_servers_annotations_have_nothing_bigger():
    shared = item_of("QUOTA", "news")
    assert promote(shared, RemoteDenied()) == GivenUp(shared)
    server = item_of("ANNOTATION", "")
    assert server.owner == SERVER
    assert promote(server, RemoteDenied()) == GivenUp(server)


def test_seen_becomes_meta_or_the_user_if_the_mailbox_is_his_own():
    seen = item_of("SEEN", "al", "id1")
    assert promoted(seen, RemoteDenied()) == ["META al"]
    assert promoted(seen, RemoteDenied(), owner_of_uniqueid=lambda _: Owner("user", "al")) == ["USER al"]
    assert promoted(seen, RemoteDenied(), owner_of_uniqueid=lambda _: Owner("user", "bob")) == ["META al"]


def test_sub_becomes_meta_and_meta_becomes_user():
    assert promoted(item_of("SUB", "al", "user.al.x"), RemoteDenied()) == ["META al"]
    assert promoted(item_of("META", "al"), RemoteDenied()) == ["USER al"]


@pytest.mark.covers("Codes after NO", "IMAP_INVALID_USER")
def test_meta_of_an_unknown_user_is_given_up():
    item = item_of("META", "al")
    assert promote(item, InvalidUser()) == GivenUp(item)


@pytest.mark.parametrize("kind", ["USER", "UNUSER"])
def test_for_a_whole_user_there_is_nothing_bigger(kind):
    item = item_of(kind, "al")
    assert promote(item, SyncChecksum()) == GivenUp(item)


def test_only_the_mailboxes_that_failed_count():
    group = Item(Kind.MAILBOXES, Owner("shared", "news"), ("news.a", "news.b", "news.c"))
    error = FoldersFailed([("news.b", SyncChecksum())])
    assert promote(group, error) == GivenUp(group._replace(args=("news.b",)))


def test_a_group_whose_failures_are_all_locks_is_deferred_as_far_as_it_failed():
    group = Item(Kind.MAILBOXES, Owner("user", "al"), ("user.al", "user.al.x"))
    error = FoldersFailed([("user.al.x", MailboxLocked())])
    assert promote(group, error) == Deferred(group._replace(args=("user.al.x",)))


@given(
    st.sampled_from(ALL), st.lists(st.sampled_from([SyncChecksum(), InvalidUser(), StoreError()]), max_size=9)
)
def test_promotion_comes_to_an_end_and_every_step_is_bigger(item, errors):
    steps = 0
    for error in errors:
        decision = promote(item, error)
        if not isinstance(decision, Promoted):
            break
        assert all(bigger.kind > item.kind for bigger in decision.items)
        item = decision.items[0]
        steps += 1
    assert steps <= 3
