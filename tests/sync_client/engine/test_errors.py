"""What fails says where, and what does not depend on it is done."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import pytest

from cyrus_sync.common.errors import (
    ConnectionLost,
    MailboxLocked,
    ProtocolError,
    RemoteDenied,
    StoreCorrupt,
    SyncBadSieve,
    SyncChanged,
    SyncChecksum,
)
from cyrus_sync.common.model import Seen
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.engine.concurrency import as_sync_error
from cyrus_sync.sync_client.engine.errors import EngineFault, FoldersFailed, UsersFailed
from tests.sync_client.engine.lines import BrokenLine, Line, RefusingLine
from tests.sync_client.engine.world import INBOX, World, content, deliver, finish, guid_of, state, write

A, B = "user.alice.a", "user.alice.b"


def three(world: World) -> None:
    with write(world.master) as writer:
        writer.create(A)
        writer.create(B)
    world.sync()
    for box in (INBOX, A, B):
        deliver(world.master, box, f"new in {box}")


def refusing(world: World, error: type[Exception], *start: Any, times: int = 99) -> RefusingLine:
    left = [times]

    def refuse(event: tuple[Any, ...]) -> Exception | None:
        if event[: len(start)] == start and left[0]:
            left[0] -= 1
            return error()
        return None

    return RefusingLine(world.store_replica(), refuse)


def test_one_failing_mailbox_does_not_stop_the_others(alice: World) -> None:
    three(alice)
    with pytest.raises(FoldersFailed) as caught:
        finish(alice.engine(refusing(alice, RemoteDenied, "MAILBOX", A)).user("alice"))
    [(name, error)] = caught.value.failures
    assert name == A
    assert error.address == {
        "user": "alice",
        "mailbox": A,
        "uniqueid": state(alice.master, A).uniqueid,
        "command": "MAILBOX",
    }
    for box in (INBOX, B):
        assert state(alice.replica, box) == state(alice.master, box)
    alice.sync()
    assert content(alice.replica) == content(alice.master)


def test_a_refused_upload_is_the_reason_that_is_told(alice: World) -> None:
    deliver(alice.master, INBOX, "x")
    line = refusing(alice, RemoteDenied, "MESSAGE")
    with pytest.raises(FoldersFailed) as caught:
        finish(alice.engine(line).user("alice"))
    assert caught.value.failures[0][1].address["command"] == "MESSAGE"
    finish(alice.engine().user("alice"))
    assert content(alice.replica) == content(alice.master)


def test_what_was_refused_is_sent_again_on_the_same_connection(alice: World) -> None:
    deliver(alice.master, INBOX, "x")
    engine = alice.engine(refusing(alice, RemoteDenied, "MESSAGE", times=1))
    with pytest.raises(FoldersFailed):
        finish(engine.user("alice"))
    finish(engine.user("alice"))
    assert content(alice.replica) == content(alice.master)


@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY XFRAME")
def test_messages_whose_frames_are_refused_are_sent_unfolded(alice: World) -> None:
    deliver(alice.master, INBOX, "x")
    line = refusing(alice, ProtocolError, "MESSAGE", times=1)
    finish(alice.engine(line).user("alice"))
    assert [event[0] for event in line.events].count("MESSAGE") == 2
    assert content(alice.replica) == content(alice.master)


def test_a_frame_that_is_damaged_here_is_found_out_and_named(alice: World) -> None:
    deliver(alice.master, INBOX, "x")
    (pack,) = (alice.directory / "master").rglob("pack-*.zst")
    octets = bytearray(pack.read_bytes())
    octets[-6] ^= 1
    pack.write_bytes(octets)
    with pytest.raises(FoldersFailed) as caught:
        finish(alice.engine(Line(alice.store_replica())).user("alice"))
    error = caught.value.failures[0][1]
    assert isinstance(error, StoreCorrupt)
    assert error.address["guid"] == guid_of("x").hex()


def test_a_lost_connection_is_told_as_such(alice: World) -> None:
    three(alice)
    for at in range(6):
        with pytest.raises(ConnectionLost):
            finish(alice.engine(BrokenLine(alice.store_replica(), at, False)).user("alice"))


@pytest.mark.covers("Codes after NO", "IMAP_SYNC_CHECKSUM")
def test_a_checksum_failure_is_tried_without_since_then_settled_then_given_up(alice: World) -> None:
    deliver(alice.master, INBOX, "x")
    line = refusing(alice, SyncChecksum, "MAILBOX")
    with pytest.raises(FoldersFailed) as caught:
        finish(alice.engine(line).user("alice"))
    assert isinstance(caught.value.failures[0][1], SyncChecksum)
    steps = [
        event[:3] for event in line.events if event[0] in ("GET MAILBOXES", "MAILBOX", "GET FULLMAILBOX")
    ]
    assert steps == [
        ("MAILBOX", INBOX, "SINCE"),
        ("GET MAILBOXES", INBOX),
        ("MAILBOX", INBOX, "ALL"),
        ("GET FULLMAILBOX", INBOX),
        ("MAILBOX", INBOX, "ALL"),
    ]


@pytest.mark.covers("Codes after NO", "IMAP_SYNC_CHANGED")
def test_a_state_that_changed_meanwhile_is_asked_for_once_more(alice: World) -> None:
    deliver(alice.master, INBOX, "x")
    line = refusing(alice, SyncChanged, "MAILBOX", times=1)
    finish(alice.engine(line).user("alice"))
    assert [e[0] for e in line.events].count("GET MAILBOXES") == 1
    assert content(alice.replica) == content(alice.master)
    deliver(alice.master, INBOX, "y")
    with pytest.raises(FoldersFailed):
        finish(alice.engine(refusing(alice, SyncChanged, "MAILBOX")).user("alice"))


def test_refused_seen_state_and_a_refused_script_do_not_fail_a_user_but_are_told_of(alice: World) -> None:
    alice.sieve_mailbox = False
    with write(alice.master) as writer:
        writer.set_seen(Seen("id", 1, 1, 1, "1"))
    finish(alice.engine(refusing(alice, RemoteDenied, "SEEN")).user("alice"))
    assert "was refused" in alice.notices[-1]
    with pytest.raises(RemoteDenied):
        finish(alice.engine(refusing(alice, RemoteDenied, "SEEN")).meta("alice"))
    with write(alice.master) as writer:
        writer.put_script("main", b"keep;\r\n")
        writer.activate_script("main")
        writer.put_script("other", b"stop;\r\n")
    finish(alice.engine(refusing(alice, SyncBadSieve, "SIEVE")).user("alice"))
    assert len(alice.remarks) == 2 and "the Sieve script main is left out" in alice.remarks[0]


def test_a_message_that_the_master_has_lost_fails_its_mailbox_before_anything_is_sent(alice: World) -> None:
    three(alice)
    line = alice.connect()
    engine = alice.engine()
    real = alice.master.read

    class Blind:
        def __init__(self, reader: Any) -> None:
            self.reader = reader

        def __getattr__(self, name: str) -> Any:
            return getattr(self.reader, name)

        def readable(self, uniqueid: str, messages: Any, *, verify: bool = False) -> set[bytes]:
            return set()

        def new_guids(self, uniqueid: str, above_uid: int) -> Any:
            return iter(())

    @contextmanager
    def read(owner: Owner) -> Any:
        with real(owner) as reader:
            yield Blind(reader)

    alice.master.read = read  # type: ignore[method-assign]
    with pytest.raises(FoldersFailed) as caught:
        finish(engine.user("alice"))
    assert all(isinstance(error, StoreCorrupt) for _, error in caught.value.failures)
    assert "is not stored" in str(caught.value)
    assert not any(event[0] == "MAILBOX" for event in line.events)


def test_all_users_goes_on_past_whoever_fails_and_takes_shared_mailboxes_singly(world: World) -> None:
    for userid in ("alice", "bob", "carol"):
        with write(world.master, userid) as writer:
            writer.create(f"user.{userid}")
    with world.master.write(Owner("shared", "info")) as shared:
        shared.create("info")
        shared.create("info.sub")
    line = refusing(world, RemoteDenied, "MAILBOX", "user.bob")
    with pytest.raises(UsersFailed) as caught:
        finish(world.engine(line).all_users())
    assert [name for name, _ in caught.value.failures] == ["bob"]
    assert ("GET MAILBOXES", "info") in line.events
    assert ("GET MAILBOXES", "info.sub") in line.events
    for userid in ("alice", "carol"):
        assert content(world.replica, userid) == content(world.master, userid)
    with world.replica.read(Owner("shared", "info")) as reader:
        assert [box.name for box in reader.mailboxes()] == ["info", "info.sub"]


def test_all_users_can_be_limited_and_goes_on_after_a_lost_connection(world: World) -> None:
    for userid in ("alice", "bob", "bert"):
        with write(world.master, userid) as writer:
            writer.create(f"user.{userid}")
    done: set[str] = set()
    with pytest.raises(ConnectionLost):
        broken = BrokenLine(world.store_replica(), 2, False)
        finish(world.engine(broken, concurrency=1).all_users("user.b", done))
    assert done == {"user:bert"}
    world.connect()
    finish(world.engine().all_users("b", done))
    assert [event[1] for event in world.line.events if event[0] == "GET USER"] == ["bob"]
    assert done == {"user:bert", "user:bob"}


def test_an_error_that_nobody_foresaw_costs_one_mailbox(alice: World) -> None:
    three(alice)
    with pytest.raises(FoldersFailed) as caught:
        finish(alice.engine(refusing(alice, TypeError, "MAILBOX", A)).user("alice"))
    [(name, error)] = caught.value.failures
    assert (name, type(error)) == (A, EngineFault)
    assert error.exit_status == 70
    assert state(alice.replica, B) == state(alice.master, B)


def test_an_error_that_nobody_foresaw_costs_one_user(alice: World) -> None:
    with write(alice.master, "bob") as writer:
        writer.create("user.bob")
    with pytest.raises(UsersFailed) as caught:
        finish(alice.engine(refusing(alice, ZeroDivisionError, "GET USER", "alice")).all_users())
    assert [(name, type(error)) for name, error in caught.value.failures] == [("alice", EngineFault)]
    assert content(alice.replica, "bob") == content(alice.master, "bob")


def test_nobody_is_asked_about_after_the_line_is_broken(world: World) -> None:
    for number in range(30):
        with write(world.master, f"u{number}") as writer:
            writer.create(f"user.u{number}")
    line = BrokenLine(world.store_replica(), 3, False)
    with pytest.raises(ConnectionLost):
        finish(world.engine(line, concurrency=4).all_users())
    assert len(line.events) < 12


def test_several_named_users_all_get_their_turn(alice: World) -> None:
    with write(alice.master, "bob") as writer:
        writer.create("user.bob")
    line = refusing(alice, MailboxLocked, "GET USER", "alice")
    with pytest.raises(UsersFailed) as caught:
        finish(alice.engine(line).users(["alice", "bob"]))
    assert isinstance(caught.value.failures[0][1], MailboxLocked)
    assert content(alice.replica, "bob") == content(alice.master, "bob")


def test_an_error_of_the_system_is_told_in_words_and_with_its_path() -> None:
    error = OSError(28, "No space left on device", "/conf/multisite/oplog.db")
    said = as_sync_error(error).message
    assert said.endswith("OSError: /conf/multisite/oplog.db: No space left on device")
