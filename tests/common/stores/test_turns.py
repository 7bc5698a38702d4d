"""Short calls take turns in one thread; one that is held up holds up nobody else."""

from __future__ import annotations

import threading

import pytest
from twisted.internet.defer import DeferredList

from cyrus_sync.common.stores import turns
from cyrus_sync.common.stores.turns import Turns
from tests.deadlines import scaled


def test_short_calls_run_in_order_in_few_threads_and_errors_come_back(reactor, call, monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE", 3600)
    monkeypatch.setattr(turns, "SLOW", 3600)
    runner = Turns(reactor)
    ran: list[int] = []
    where: set[int] = set()

    def work(number: int) -> int:
        ran.append(number)
        where.add(threading.get_ident())
        return number if number != 7 else 1 // 0

    done = call(lambda: DeferredList([runner.run(work, n) for n in range(100)], consumeErrors=True))
    assert ran == list(range(100)) and len(where) == 1
    assert threading.get_ident() not in where and call(threading.get_ident) not in where
    assert [value for good, value in done if good] == [n for n in range(100) if n != 7]
    with pytest.raises(ZeroDivisionError):
        call(runner.run, work, 7)
    runner.close()
    runner.close()


def test_a_call_that_is_held_up_holds_up_nobody_else_and_threads_are_bounded(reactor, call):
    runner = Turns(reactor, 3)
    release = threading.Event()
    held: list[int] = []

    def wait() -> None:
        held.append(threading.get_ident())
        assert release.wait(scaled(30))

    results = call(lambda: [runner.run(wait) for _ in range(2)])
    assert call(runner.run, lambda: "done") == "done"
    more = call(lambda: [runner.run(wait) for _ in range(5)])
    late = call(lambda: [runner.run(lambda: "late")])[0]
    release.set()
    call(lambda: DeferredList([*results, *more]))
    assert call(lambda: late) == "late"
    assert len(held) == 7 and len(set(held)) <= 3
    runner.close()


def test_where_calls_wait_for_disks_several_run_at_once(reactor, call, monkeypatch):
    monkeypatch.setattr(turns, "PATIENCE", 3600)
    monkeypatch.setattr(turns, "SLOW", 0.001)
    runner = Turns(reactor)
    together = threading.Barrier(4)

    def slow() -> None:
        threading.Event().wait(0.2)

    for _ in range(4):
        call(runner.run, slow)
    call(lambda: DeferredList([runner.run(together.wait, scaled(30)) for _ in range(4)]))
    runner.close()
