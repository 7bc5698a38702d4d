"""Whom both ends have alike is found without asking for him; everybody else is done as ever."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import pytest

from cyrus_sync.common.model import Seen
from cyrus_sync.common.protocol.commands import DIGESTS
from cyrus_sync.common.stores.mailstore import MailWriter
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.sync_client.engine.withheld import Withheld
from tests.sync_client.engine.world import ALICE, INBOX, World, deliver, finish, state, write

CHANGES: dict[str, Callable[[MailWriter], object]] = {
    "message": lambda box: box.append(INBOX, [(b"Subject: x\r\n\r\nx\r\n", 1, "")]),
    "flag": lambda box: box.set_flags(INBOX, [1], add=["\\Flagged"]),
    "expunge": lambda box: box.expunge(INBOX, [1]),
    "folder": lambda box: box.create(INBOX + ".new"),
    "subscription": lambda box: box.subscribe(INBOX),
    "rights": lambda box: box.set_acl(INBOX, "carol", "lr"),
    "quota": lambda box: box.set_quota(INBOX, {"STORAGE": 1}),
    "seen": lambda box: box.set_seen(Seen("abcdefgh", 1, 2, 3, "1:2")),
    "note": lambda box: box.annotate(INBOX, "/comment", "", b"x"),
    "note of a message": lambda box: box.annotate(INBOX, "/comment", "", b"x", 2),
    "script": lambda box: box.put_script("hello", b"keep;\r\n"),
    "gone": lambda box: box.delete(INBOX, delayed=False),
}


def agreeing(world: World, **options: Any) -> Collection[str]:
    world.connect()
    world.line.replica.capabilities |= {DIGESTS}
    known = NativeMaster(world.master).known_users()
    digests = {userid: one.digest for userid, one in known.items()}
    return set(finish(world.engine(**options).agreeing(digests)))


def changes(events: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [event for event in events if not event[0].startswith("GET")]


def close(store: NativeStore) -> None:
    """As if another process came next."""
    store.open.close()


def test_who_is_alike_is_found_in_one_answer(alice: World) -> None:
    with write(alice.master, "bob") as writer:
        writer.create("user.bob")
    assert agreeing(alice) == {"alice"}
    assert alice.line.events == [("GET XDIGESTS",)]
    alice.sync("bob")
    assert agreeing(alice) == {"alice", "bob"}
    assert alice.lines[-1] == "AGREE 2 users"


@pytest.mark.parametrize("side", ["master", "replica"])
@pytest.mark.parametrize("name", CHANGES)
def test_every_change_on_either_side_is_noticed(alice: World, name: str, side: str) -> None:
    with write(getattr(alice, side)) as writer:
        CHANGES[name](writer)
    assert agreeing(alice) == set()


@pytest.mark.parametrize("name", [*CHANGES][:-1])
def test_when_it_has_been_replicated_both_agree_again(alice: World, name: str) -> None:
    with write(alice.master) as writer:
        CHANGES[name](writer)
    alice.sync()
    assert agreeing(alice) == {"alice"}
    assert changes(alice.sync()) == []


def test_an_intermediate_name_does_not_keep_them_apart(alice: World) -> None:
    with write(alice.master) as writer:
        writer.create(INBOX + ".a")
        writer.create(INBOX + ".a.b")
        writer.delete(INBOX + ".a", delayed=False)
    alice.sync()
    assert changes(alice.sync()) == []
    assert agreeing(alice) == {"alice"}


def test_who_has_a_message_that_is_withheld_or_damaged_is_done_as_ever(alice: World) -> None:
    withheld = Withheld(None)
    withheld.put(state(alice.master, INBOX).uniqueid, INBOX, {1: bytes(20)})
    assert agreeing(alice, withheld=withheld) == set()
    assert agreeing(alice) == {"alice"}
    for store in (alice.master, alice.replica):
        store.marks.of(ALICE).add(bytes(20))
        assert agreeing(alice) == set()
        store.marks.of(ALICE).difference_update([bytes(20)])


def test_who_is_set_aside_by_a_file_is_told_of_as_ever(alice: World) -> None:
    (alice.directory / "skipuser-alice").touch()
    assert agreeing(alice, skip_dir=alice.directory) == set()


def test_it_is_not_asked_where_it_was_not_agreed_or_mailboxes_may_have_to_move(alice: World) -> None:
    assert agreeing(alice, partition="ssd") == set()
    assert alice.line.events == []
    alice.sieve_mailbox = False
    assert agreeing(alice) == set()
    alice.sieve_mailbox = True
    alice.connect()
    assert finish(alice.engine().agreeing({"alice": bytes(16)})) == set()
    assert alice.line.events == []


def test_who_is_on_one_side_alone_does_not_agree(world: World) -> None:
    with write(world.master) as writer:
        writer.create(INBOX)
    with write(world.replica, "bob") as writer:
        writer.create("user.bob")
    assert agreeing(world) == set()


def test_a_mailbox_that_is_not_what_its_sums_say_is_looked_at(alice: World) -> None:
    deliver(alice.master, INBOX, "three")
    alice.sync()
    with alice.replica.transaction(ALICE) as transaction:
        transaction.db.execute("UPDATE mailboxes SET sync_crc = sync_crc + 1")
    close(alice.replica)
    assert agreeing(alice) == set()
