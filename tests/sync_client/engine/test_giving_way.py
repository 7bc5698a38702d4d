"""A first synchronisation that takes long lets others pass, and goes on from where it was."""

from __future__ import annotations

import pytest

from cyrus_sync.sync_client.engine.errors import GaveWay
from tests.sync_client.engine.world import INBOX, World, content, deliver, finish, state, write


def filled(world: World, mailboxes: int, messages: int) -> None:
    with write(world.master) as writer:
        writer.create(INBOX)
        for number in range(1, mailboxes):
            writer.create(f"{INBOX}.{number}")
    for number in range(mailboxes):
        name = f"{INBOX}.{number}" if number else INBOX
        for text in range(messages):
            deliver(world.master, name, f"{number} {text}")


def test_a_large_mailbox_ends_after_the_part_under_way_and_the_next_run_goes_on(world: World) -> None:
    filled(world, 1, 10)
    for uids in ((1, 2), (3, 4), (5, 6), (7, 8)):
        with pytest.raises(GaveWay):
            world.sync(batchsize=2, give_way=lambda: True)
        assert state(world.replica, INBOX).last_uid == uids[-1]
        sent = [event[3] for event in world.line.events if event[0] == "MAILBOX"]
        assert sent == [uids]
    world.sync(batchsize=2)
    assert content(world.replica) == content(world.master)


def test_of_many_mailboxes_no_more_are_put_on_the_line(world: World) -> None:
    filled(world, 5, 1)
    with pytest.raises(GaveWay):
        world.sync(give_way=lambda: True)
    assert len([event for event in world.line.events if event[0] == "MAILBOX"]) == 1
    for _ in range(10):
        try:
            world.sync(give_way=lambda: True)
        except GaveWay:
            continue
        break
    assert content(world.replica) == content(world.master)


def test_what_has_no_parts_is_done_whoever_waits(alice: World) -> None:
    deliver(alice.master, INBOX, "three")
    alice.mailboxes(INBOX, give_way=lambda: True)
    finish(alice.engine(give_way=lambda: True).quota(INBOX))
    assert content(alice.replica) == content(alice.master)
