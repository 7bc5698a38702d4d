"""Answers leave in the order of the commands, few at a time."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from cyrus_sync.common.errors import ConnectionLost
from cyrus_sync.sync_server.outbox import MAX_COST, Outbox


class Line:
    """A connection that remembers its writes; `held` is a peer that does not read."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.held: Deferred[None] | None = None

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def drained(self) -> Deferred[None]:
        return self.held if self.held is not None else succeed(None)


@pytest.fixture
def line() -> Line:
    return Line()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def outbox(line: Line, clock: Clock) -> Outbox:
    return Outbox(line, lambda f: clock.callLater(0, f))


def test_answers_leave_in_the_order_of_the_commands(outbox: Outbox, line: Line, clock: Clock) -> None:
    first, second = outbox.open(), outbox.open()
    second.finish(b"2")
    clock.advance(0)
    assert line.writes == []
    first.finish(b"1")
    clock.advance(0)
    assert line.writes == [b"12"]


def test_what_gets_ready_in_one_turn_is_one_write(outbox: Outbox, line: Line, clock: Clock) -> None:
    for number in range(50):
        outbox.open().finish(b"%d," % number)
    clock.advance(0)
    assert line.writes == [b"".join(b"%d," % number for number in range(50))]


def test_a_streamed_answer_waits_for_its_turn(outbox: Outbox, line: Line, clock: Clock) -> None:
    first, second = outbox.open(), outbox.open()
    turns: list[str] = []
    second.turn().addCallback(lambda _: turns.append("second"))
    clock.advance(0)
    assert turns == []
    first.finish(b"1")
    clock.advance(0)
    assert turns == ["second"] and line.writes == [b"1"]
    second.send(b"2a")
    second.finish(b"2b")
    clock.advance(0)
    assert line.writes == [b"1", b"2a", b"2b"]


def test_sending_waits_until_the_peer_has_read(outbox: Outbox, line: Line, clock: Clock) -> None:
    line.held = Deferred()
    slot = outbox.open()
    sent: list[str] = []
    slot.send(b"piece").addCallback(lambda _: sent.append("read"))
    assert sent == [] and outbox.full
    line.held.callback(None)
    assert sent == ["read"] and not outbox.full


def test_no_more_commands_while_too_many_are_under_way(outbox: Outbox, clock: Clock) -> None:
    slots = [outbox.open() for _ in range(MAX_COST)]
    room = outbox.room()
    assert room is not None and not room.called
    slots[0].finish(b"")
    clock.advance(0)
    assert room.called and outbox.room() is None


def test_a_command_with_a_long_answer_counts_for_several(outbox: Outbox) -> None:
    for _ in range(MAX_COST // 16):
        outbox.open(cost=16)
    assert outbox.full


def test_idle_means_every_answer_is_written(outbox: Outbox, clock: Clock) -> None:
    assert outbox.idle().called
    slot = outbox.open()
    idle = outbox.idle()
    clock.advance(0)
    assert not idle.called
    slot.finish(b"x")
    clock.advance(0)
    assert idle.called


def test_a_lost_connection_wakes_everybody_and_writes_nothing(
    outbox: Outbox, line: Line, clock: Clock
) -> None:
    first, second = outbox.open(), outbox.open()
    failures: list[type] = []
    second.turn().addErrback(lambda failure: failures.append(failure.type))
    idle = outbox.idle()
    outbox.close()
    assert failures == [ConnectionLost] and idle.called
    first.finish(b"late")
    clock.advance(0)
    assert line.writes == []
    with pytest.raises(ConnectionLost):
        first.send(b"late")


def test_who_wants_its_turn_when_the_connection_is_gone_learns_it(outbox: Outbox) -> None:
    slot = outbox.open()
    outbox.close()
    failed: list[Failure] = []
    slot.turn().addErrback(failed.append)
    assert failed[0].check(ConnectionLost)
