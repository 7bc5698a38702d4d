"""Nothing waits for an answer that it does not need: on a slow line a run costs a few round trips."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from cyrus_sync.common.names import Owner
from cyrus_sync.common.protocol.commands import HEAL
from cyrus_sync.common.stores.native.reader import Reader
from cyrus_sync.sync_client.engine import Engine
from tests.sync_client.engine.lines import SlowLine
from tests.sync_client.engine.world import INBOX, World, content, deliver, write

DELAY = 0.1


def timed(world: World, work: Any, **options: Any) -> tuple[float, SlowLine]:
    """Seconds that ``work(engine)`` takes over a line that answers after 100 ms."""
    clock = Clock()
    line = SlowLine(world.store_replica(), clock, DELAY)
    engine: Engine = world.engine(line, **options)
    ended: list[Any] = []
    ensureDeferred(work(engine)).addBoth(ended.append)
    while not ended:
        assert clock.getDelayedCalls(), "nothing is in flight and it is not over"
        clock.advance(DELAY / 10)
    if isinstance(ended[0], Failure):
        raise ended[0].value
    return clock.seconds(), line


@pytest.fixture
def many(world: World) -> World:
    """A user with many mailboxes, all in step, then one new message in each."""
    boxes = [f"user.alice.box{number:03}" for number in range(60)]
    with write(world.master) as writer:
        writer.create(INBOX)
        for box in boxes:
            writer.create(box)
            writer.append(box, [(b"Subject: x\r\n\r\n" + box.encode(), 1, "")])
    world.sync()
    with write(world.master) as writer:
        for box in boxes:
            writer.append(box, [(b"Subject: new\r\n\r\n" + box.encode(), 1, "")])
    return world


def test_a_change_in_each_of_many_mailboxes_costs_three_round_trips(many: World) -> None:
    seconds, line = timed(many, lambda engine: engine.user("alice"))
    assert sum(event[0] == "MAILBOX" for event in line.events) == 60
    assert seconds == pytest.approx(3 * DELAY, abs=DELAY / 4)
    assert content(many.replica) == content(many.master)


def test_mailboxes_by_name_cost_no_more(many: World) -> None:
    wanted = [f"user.alice.box{number:03}" for number in range(60)]
    seconds, _ = timed(many, lambda engine: engine.mailboxes(wanted))
    assert seconds == pytest.approx(3 * DELAY, abs=DELAY / 4)
    assert content(many.replica) == content(many.master)


def test_a_first_sync_costs_two_round_trips(world: World) -> None:
    with write(world.master) as writer:
        writer.create(INBOX)
        for number in range(20):
            writer.create(f"user.alice.{number}")
            writer.subscribe(f"user.alice.{number}")
    seconds, _ = timed(world, lambda engine: engine.user("alice"))
    assert seconds == pytest.approx(2 * DELAY, abs=DELAY / 4)


def test_many_users_are_asked_about_at_once(world: World) -> None:
    users = [f"user{number}" for number in range(30)]
    for userid in users:
        with world.master.write(Owner("user", userid)) as writer:
            writer.create(f"user.{userid}")
            writer.append(f"user.{userid}", [(b"Subject: x\r\n\r\n", 1, "")])
    seconds, _ = timed(world, lambda engine: engine.users(users))
    assert seconds == pytest.approx(2 * DELAY, abs=DELAY / 4)
    seconds, line = timed(world, lambda engine: engine.all_users())
    assert seconds == pytest.approx(DELAY, abs=DELAY / 4)
    assert len(line.events) == 30


def test_a_large_mailbox_does_not_hold_up_the_others(world: World) -> None:
    with write(world.master) as writer:
        writer.create(INBOX)
        writer.create("user.alice.small")
    for number in range(20):
        deliver(world.master, INBOX, f"number {number}")
    deliver(world.master, "user.alice.small", "little")
    _, line = timed(world, lambda engine: engine.user("alice"), batchsize=2)
    applied = [event[1] for event in line.events if event[0] == "MAILBOX"]
    assert applied[:2] == [INBOX, "user.alice.small"]
    assert applied.count(INBOX) == 10
    assert content(world.replica) == content(world.master)


def test_what_is_staged_stays_bounded_and_nothing_staged_is_forgotten_too_early(world: World) -> None:
    with write(world.master) as writer:
        writer.create(INBOX)
        for number in range(10):
            writer.create(f"user.alice.{number}")
    for number in range(10):
        deliver(world.master, f"user.alice.{number}", *(f"{number} {i}" for i in range(5)))
    _, line = timed(world, lambda engine: engine.user("alice"), stage_messages=8)
    staged = most = 0
    for event in line.events:
        if event[0] == "MESSAGE":
            staged += event[1]
        elif event[0] == "RESTART":
            staged = 0
        most = max(most, staged)
    assert most <= 13
    assert content(world.replica) == content(world.master)


def test_messages_reserved_for_later_mailboxes_survive_a_restart_in_between(many: World) -> None:
    _, line = timed(many, lambda engine: engine.user("alice"), stage_messages=7)
    assert sum(event[0] == "RESTART" for event in line.events) >= 5
    assert content(many.replica) == content(many.master)


def test_many_users_share_the_stage_without_losing_what_others_staged(world: World) -> None:
    users = [f"user{number}" for number in range(12)]
    for userid in users:
        with world.master.write(Owner("user", userid)) as writer:
            writer.create(f"user.{userid}")
            writer.append(f"user.{userid}", [(f"Subject: {userid}\r\n\r\n".encode(), 1, "")])
    timed(world, lambda engine: engine.users(users))
    for userid in users:
        with world.master.write(Owner("user", userid)) as writer:
            writer.append(f"user.{userid}", [(f"Subject: again {userid}\r\n\r\n".encode(), 1, "")])
    _, line = timed(world, lambda engine: engine.users(users), stage_messages=3, restart_after_group=True)
    assert any(event[0] == "RESTART" for event in line.events)
    for userid in users:
        assert content(world.replica, userid) == content(world.master, userid)


@pytest.mark.covers("Commands of the session", "RESTART")
def test_a_rolling_client_restarts_after_each_group(alice: World) -> None:
    deliver(alice.master, INBOX, "x")
    assert alice.mailboxes(INBOX, restart_after_group=True)[-1] == ("RESTART",)
    assert alice.sync(restart_after_group=True) == [("GET USER", "alice"), ("RESTART",)]


def test_damage_is_asked_for_behind_the_first_question_not_after_its_answer(many: World) -> None:
    clock = Clock()
    line = SlowLine(many.store_replica(), clock, DELAY)
    line.replica.capabilities |= {HEAL}
    ended: list[Any] = []
    ensureDeferred(many.engine(line).user("alice")).addBoth(ended.append)
    assert line.events == [("GET USER", "alice"), ("GET XDAMAGED", "")]
    while not ended:
        clock.advance(DELAY / 10)
    assert content(many.replica) == content(many.master)
    assert line.events.count(("GET XDAMAGED", "")) == 1


def test_where_only_flags_changed_no_message_is_looked_for(
    many: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    many.sync()
    with write(many.master) as writer:
        writer.set_flags("user.alice.box007", [1], add=["\\Flagged"])
    monkeypatch.setattr(Reader, "new_guids", lambda *_: pytest.fail("all its records are read for nothing"))
    assert [event[0] for event in many.sync()] == ["GET USER", "MAILBOX"]
    assert content(many.replica) == content(many.master)
