"""The small items of an action log: each sends what is true now, whatever the line said."""

from __future__ import annotations

import pytest
from twisted.internet.defer import fail

from cyrus_sync.common.errors import MailboxNonexistent, UnknownFailure
from cyrus_sync.common.model import MailboxAnnotation, Quota, Seen, SieveScript
from cyrus_sync.common.names import SERVER
from cyrus_sync.sync_client.engine.annotations import annotation_changes
from cyrus_sync.sync_client.engine.quotas import quota_changes
from cyrus_sync.sync_client.engine.sieve import SieveChanges, sieve_changes
from tests.sync_client.engine.world import ALICE, INBOX, World, content, deliver, finish, live, state, write


def run(world: World, work: str, *args: str) -> list[tuple[object, ...]]:
    world.connect()
    finish(getattr(world.engine(), work)(*args))
    return world.line.events


@pytest.mark.covers("Lines of the action log", "QUOTA")
def test_quota_is_sent_without_asking_and_removed_when_it_is_gone(alice: World) -> None:
    with write(alice.master) as writer:
        writer.set_quota(INBOX, {"STORAGE": 10, "MESSAGE": 3})
    assert run(alice, "quota", INBOX) == [("QUOTA", INBOX)]
    assert content(alice.replica)["quotas"] == {INBOX: {"STORAGE": 10, "MESSAGE": 3}}
    with write(alice.master) as writer:
        writer.set_quota(INBOX, None)
    assert run(alice, "quota", INBOX) == [("UNQUOTA", INBOX)]
    assert content(alice.replica)["quotas"] == {}


@pytest.mark.covers("Lines of the action log", "SUB")
def test_sub_sends_what_the_subscription_is_now(alice: World) -> None:
    assert run(alice, "sub", "alice", INBOX) == [("UNSUB", "alice", INBOX)]
    with write(alice.master) as writer:
        writer.subscribe(INBOX)
    assert run(alice, "sub", "alice", INBOX) == [("SUB", "alice", INBOX)]
    assert content(alice.replica)["subscriptions"] == (INBOX,)


@pytest.mark.covers("Lines of the action log", "SEEN")
def test_seen_sends_the_record_as_it_is_and_nothing_if_there_is_none(alice: World) -> None:
    assert run(alice, "seen", "alice", "nothing") == []
    record = Seen("id", 10, 2, 20, "1:2")
    with write(alice.master) as writer:
        writer.set_seen(record)
    assert run(alice, "seen", "alice", "id") == [("SEEN", "alice", "id")]
    assert content(alice.replica)["seen"] == (record,)


@pytest.mark.covers("Lines of the action log", "META")
def test_meta_brings_seen_subscriptions_and_scripts(alice: World) -> None:
    alice.sieve_mailbox = False
    with write(alice.master) as writer:
        writer.subscribe(INBOX)
        writer.set_seen(Seen("id", 10, 2, 20, "1:2"))
        writer.put_script("main", b"keep;\r\n")
    assert run(alice, "meta", "alice") == [
        ("GET META", "alice"),
        ("SEEN", "alice", "id"),
        ("SUB", "alice", INBOX),
        ("SIEVE", "alice", "main.script"),
    ]
    assert run(alice, "meta", "alice") == [("GET META", "alice")]


def test_meta_brings_the_scripts_that_are_messages_too(alice: World) -> None:
    assert run(alice, "meta", "alice") == [("GET META", "alice")], "nobody has scripts"
    with write(alice.master) as writer:
        writer.put_script("main", b"keep;\r\n")
        writer.activate_script("main")
    events = run(alice, "meta", "alice")
    assert ("GET META", "alice") in events
    assert [event[:2] for event in events if event[0] == "MAILBOX"] == [("MAILBOX", "user.alice.#sieve")]
    scripts = content(alice.replica)["scripts"]
    assert scripts and scripts == content(alice.master)["scripts"]
    again = run(alice, "meta", "alice")
    assert sorted(again) == [("GET MAILBOXES", "user.alice.#sieve"), ("GET META", "alice")]


@pytest.mark.covers("Lines of the action log", "ANNOTATION")
def test_server_annotations_are_merged(world: World) -> None:
    with world.master.write(SERVER) as writer:
        writer.annotate("", "/comment", "", b"here")
        writer.annotate("", "/motd", "", b"both")
    with world.replica.write(SERVER) as writer:
        writer.annotate("", "/motd", "", b"other")
        writer.annotate("", "/old", "", b"gone")
    events = run(world, "annotation", "")
    assert events == [
        ("GET ANNOTATION", ""),
        ("ANNOTATION", "", "/comment", ""),
        ("ANNOTATION", "", "/motd", ""),
        ("UNANNOTATION", "", "/old", ""),
    ]
    assert run(world, "annotation", "") == [("GET ANNOTATION", "")]


def test_a_replica_that_takes_no_annotations_of_the_server_is_no_failure(world: World) -> None:
    with world.master.write(SERVER) as writer:
        writer.annotate("", "/comment", "", b"here")
    line = world.connect()
    refused = MailboxNonexistent()
    line.annotation = lambda _: fail(refused)  # type: ignore[method-assign]
    finish(world.engine(line).annotation(""))
    assert world.notices == ["the replica's release takes no annotations of the server itself: left out"]
    refused = UnknownFailure()
    with pytest.raises(UnknownFailure):
        finish(world.engine(line).annotation(""))


def test_a_sieve_mailbox_without_that_agreement_is_done_by_commands(alice: World) -> None:
    alice.sieve_mailbox = False
    deliver(alice.master, INBOX, "x")
    with write(alice.master) as writer:
        writer.put_script("main", b"keep;\r\n")
    events = alice.mailboxes("user.alice.#sieve", INBOX)
    assert ("GET META", "alice") in events
    assert ("GET MAILBOXES", INBOX) in events
    assert ("SIEVE", "alice", "main.script") in events
    assert live(alice.replica, INBOX) == live(alice.master, INBOX)


def test_a_logged_name_that_nobody_has_is_no_error(alice: World) -> None:
    assert alice.mailboxes("user.alice.never") == [("GET MAILBOXES", "user.alice.never")]


def test_mailboxes_of_several_owners_go_in_one_request(alice: World) -> None:
    with write(alice.master, "bob") as writer:
        writer.create("user.bob")
    with alice.master.write(ALICE._replace(kind="shared", name="info")) as writer:
        writer.create("info")
    events = alice.mailboxes(INBOX, "user.bob", "info")
    assert events[0] == ("GET MAILBOXES", INBOX, "user.bob", "info")
    assert {event[1] for event in events[1:]} == {"user.bob", "info"}
    assert state(alice.replica, "user.bob", "bob") == state(alice.master, "user.bob", "bob")


def test_annotation_changes_are_in_order_of_entry_and_user() -> None:
    def note(entry: str, userid: str, value: bytes) -> MailboxAnnotation:
        return MailboxAnnotation("m", entry, userid, value)

    ours = [note("/b", "", b"1"), note("/a", "x", b"2"), note("/c", "", b"3")]
    theirs = [note("/c", "", b"3"), note("/b", "", b"0"), note("/a", "", b"9")]
    assert annotation_changes(ours, theirs) == [(theirs[2], False), (ours[1], True), (ours[0], True)]


def test_quota_names_old_and_new_mean_the_same() -> None:
    ours = [Quota("r", {"STORAGE": 1, "X-NUM-FOLDERS": 2, "X-ANNOTATION-STORAGE": 3})]
    theirs = [Quota("r", {"STORAGE": 1, "MAILBOX": 2, "ANNOTATION-STORAGE": 3}, modseq=9), Quota("gone", {})]
    assert quota_changes(ours, theirs) == ([], ["gone"])


A, OTHER = b"a" * 20, b"b" * 20


def test_scripts_are_compared_by_content_and_by_date_where_that_is_unknown() -> None:
    ours = [SieveScript("a.script", 10, A), SieveScript("b.script", 10, A), SieveScript("c.script", 10, A)]
    theirs = [SieveScript("a.script", 10, OTHER), SieveScript("b.script", 9), SieveScript("c.script", 10)]
    changes = sieve_changes(ours, theirs)
    assert [script.filename for script in changes.upload] == ["a.script", "b.script"]
    assert changes == SieveChanges(changes.upload, (), None, False)


def test_the_active_script_may_be_told_by_bytecode_or_by_flag() -> None:
    ours = [SieveScript("a.script", 1, A), SieveScript("a.bc", 1, active=True)]
    assert sieve_changes(ours, ours) == SieveChanges((), (), None, False)
    theirs = [SieveScript("a.script", 1, A), SieveScript("a.bc", 1, A), SieveScript("old.script", 1, A)]
    assert sieve_changes(ours, theirs) == SieveChanges((), ("old.script",), "a.bc", False)
    assert sieve_changes(ours[:1], ours) == SieveChanges((), (), None, True)
