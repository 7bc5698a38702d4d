"""Queues keep order, run several jobs a hop, and tell their callers when to slow down."""

from __future__ import annotations

import threading

import pytest
from twisted.internet.defer import DeferredList

from cyrus_sync.common.stores.threads import MOST_IN_A_HOP, OrderedQueue, Outcome, ThreadRunner, one_by_one
from tests.deadlines import scaled


def test_a_call_runs_off_the_reactor_and_its_error_comes_back(reactor, call):
    runner = ThreadRunner(reactor)
    own = call(runner.run, threading.get_ident)
    assert own not in (threading.get_ident(), call(threading.get_ident))
    with pytest.raises(ZeroDivisionError):
        call(runner.run, lambda: 1 // 0)
    runner.close()
    runner.close()


def test_jobs_run_in_order_and_their_results_come_in_order(reactor, call):
    runner = ThreadRunner(reactor)
    queue = OrderedQueue(runner, one_by_one)
    ran, came = [], []

    def submit():
        results = [queue.submit(lambda n=n: ran.append(n) or n) for n in range(200)]
        for result in results:
            result.addCallback(came.append)
        return DeferredList(results)

    call(submit)
    assert ran == came == list(range(200))
    runner.close()


def test_what_is_queued_in_one_turn_shares_hops(reactor, call):
    runner = ThreadRunner(reactor)
    hops = []

    def execute(jobs):
        hops.append(len(jobs))
        yield [Outcome(job, job) for job in jobs]

    queue = OrderedQueue(runner, execute)
    call(lambda: DeferredList([queue.submit(n) for n in range(MOST_IN_A_HOP + 10)]))
    assert hops == [MOST_IN_A_HOP, 10]
    runner.close()


def test_a_failing_job_fails_alone(reactor, call):
    runner = ThreadRunner(reactor)
    queue = OrderedQueue(runner, one_by_one)
    jobs = [lambda: 1, lambda: {}["x"], lambda: 3]
    results = call(lambda: DeferredList([queue.submit(job) for job in jobs], consumeErrors=True))
    assert [done for done, _ in results] == [True, False, True]
    assert results[1][1].check(KeyError)
    runner.close()


def test_an_executor_that_breaks_fails_what_it_left(reactor, call):
    runner = ThreadRunner(reactor)

    def execute(jobs):
        yield [Outcome(jobs[0], "done")]
        raise OSError("broken")

    queue = OrderedQueue(runner, execute)
    results = call(lambda: DeferredList([queue.submit(n) for n in range(3)], consumeErrors=True))
    assert [done for done, _ in results] == [True, False, False]
    assert len(queue) == 0
    assert call(lambda: DeferredList([queue.submit(9)])) == [(True, "done")]
    runner.close()


def test_a_queue_asks_its_caller_to_wait(reactor, call):
    runner = ThreadRunner(reactor)
    go = threading.Event()
    queue = OrderedQueue(runner, one_by_one, bound=2)

    def fill():
        queue.submit(go.wait)
        assert queue.ready().called
        queue.submit(lambda: None)
        waiting = queue.ready()
        assert not waiting.called
        go.set()
        return waiting

    assert call(fill) is None
    runner.close()


def test_two_queues_run_side_by_side(reactor, call):
    runner = ThreadRunner(reactor, size=2)
    meet = threading.Barrier(2, timeout=scaled(10))
    queues = [OrderedQueue(runner, one_by_one) for _ in range(2)]
    results = call(lambda: DeferredList([queue.submit(meet.wait) for queue in queues]))
    assert sorted(place for _, place in results) == [0, 1]
    runner.close()


def test_what_is_begun_ahead_is_done_once_by_whoever_comes_first(reactor):
    """The thread that does such work is held up by the first; whoever asks for the second does it alone."""
    runner = ThreadRunner(reactor)
    begun, go, ran = threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        go.wait(scaled(10))
        ran.append("slow")
        return threading.get_ident()

    first, second = runner.ahead(slow), runner.ahead(lambda: ran.append("second") or threading.get_ident())
    failing = runner.ahead(lambda: 1 // 0)
    assert begun.wait(scaled(10))
    assert second() == threading.get_ident()
    go.set()
    assert first() != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        failing()
    assert ran == ["second", "slow"]
    runner.close()
