"""Blocking work off the reactor: a bounded pool of threads, and queues that keep order within it.

`ThreadRunner.run` is for single calls. An `OrderedQueue` belongs to one connection. What is submitted to it
runs in order, never two jobs at a time. Jobs that have queued up meanwhile run in one hop to a thread, so a
burst of commands costs one hop, and with an executor that groups them one sync.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from cyrus_sync.common.reactor import Reactor

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")
JobT = TypeVar("JobT")

DEFAULT_THREADS = 8
MOST_IN_A_HOP = 64
QUEUE_BOUND = 256
"""Jobs queued above which `OrderedQueue.ready` waits."""


class ThreadRunner:
    """A pool of at most `size` threads that ends with the reactor."""

    def __init__(self, reactor: Reactor, size: int = DEFAULT_THREADS, name: str = "store") -> None:
        self.reactor = reactor
        self._pool = ThreadPool(0, size, name)
        self._trigger: Any = None
        self._stopped = False
        self._ahead: ThreadPoolExecutor | None = None

    def run(self, function: Callable[..., T], *arguments: Any, **keywords: Any) -> Deferred[T]:
        """Call `function` in a thread; its result, or its exception, in the reactor's thread."""
        self._start()
        reactor: Any = self.reactor
        result: Deferred[T] = deferToThreadPool(reactor, self._pool, function, *arguments, **keywords)
        return result

    def ahead(self, function: Callable[..., T], *arguments: Any) -> Callable[[], T]:
        """Have `function`, which waits for nobody, called in a thread that does only such work. What is
        returned gives another thread the result: it waits for it, or calls `function` itself where nobody
        has come to that yet."""
        if self._ahead is None:
            from concurrent.futures import ThreadPoolExecutor  # few need it

            self._ahead = ThreadPoolExecutor(1, "ahead")
        begun = self._ahead.submit(function, *arguments)
        return lambda: function(*arguments) if begun.cancel() else begun.result()

    def _start(self) -> None:
        if not self._pool.started and not self._stopped:
            self._trigger = self.reactor.addSystemEventTrigger("during", "shutdown", self._pool.stop)
            self._pool.start()

    def close(self) -> None:
        """End the threads when they have finished what they are doing; blocks until then."""
        self._stopped = True
        if self._trigger is not None:
            self.reactor.removeSystemEventTrigger(self._trigger)
            self._trigger = None
        if self._pool.started:
            self._pool.stop()
        if self._ahead is not None:
            self._ahead.shutdown(cancel_futures=True)


class Outcome(Generic[JobT]):
    """A job and what became of it: `result`, or `error` if that is not None."""

    __slots__ = ("error", "job", "result")

    def __init__(self, job: JobT, result: Any = None, error: BaseException | None = None) -> None:
        self.job = job
        self.result = result
        self.error = error


Executor = Callable[[Sequence[JobT]], Iterator[Sequence[Outcome[JobT]]]]
"""Runs jobs in order, in a thread. Every list that it yields is final: those Deferreds may fire. It
must yield an outcome for every job, in order, and not raise."""


class OrderedQueue(Generic[JobT]):
    """Jobs that run in order, several in one thread hop. All methods belong to the reactor's thread."""

    def __init__(self, runner: ThreadRunner, execute: Executor[JobT], bound: int = QUEUE_BOUND) -> None:
        self._runner = runner
        self._execute = execute
        self._bound = bound
        self._waiting: deque[tuple[JobT, Deferred[Any]]] = deque()
        self._running: deque[Deferred[Any]] = deque()
        self._busy = False
        self._ready: list[Deferred[None]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running)

    def submit(self, job: JobT) -> Deferred[Any]:
        """Queue a job; the Deferreds of all jobs fire in the order of the calls."""
        result: Deferred[Any] = Deferred()
        self._waiting.append((job, result))
        if not self._busy:
            self._busy = True
            # Not at once: what the caller submits in the same turn of the reactor goes along.
            self._runner.reactor.callLater(0, self._hop)
        return result

    def ready(self) -> Deferred[None]:
        """Fires when fewer jobs are queued than the bound."""
        if len(self) < self._bound:
            return succeed(None)
        waiter: Deferred[None] = Deferred()
        self._ready.append(waiter)
        return waiter

    def _hop(self) -> None:
        jobs: list[JobT] = []
        while self._waiting and len(jobs) < MOST_IN_A_HOP:
            job, result = self._waiting.popleft()
            jobs.append(job)
            self._running.append(result)
        self._runner.run(self._work, jobs).addBoth(self._done)

    def _work(self, jobs: Sequence[JobT]) -> None:
        """In a thread."""
        for outcomes in self._execute(jobs):
            self._runner.reactor.callFromThread(self._fire, outcomes)

    def _fire(self, outcomes: Sequence[Outcome[JobT]]) -> None:
        for outcome in outcomes:
            result = self._running.popleft()
            if outcome.error is None:
                result.callback(outcome.result)
            else:
                result.errback(Failure(outcome.error, type(outcome.error), outcome.error.__traceback__))
        self._wake()

    def _wake(self) -> None:
        if len(self) < self._bound:
            waiters, self._ready = self._ready, []
            for waiter in waiters:
                waiter.callback(None)

    def _done(self, result: Any) -> None:
        """After a hop: what has no outcome (the executor failed) fails now; then the next hop."""
        if isinstance(result, Failure):
            while self._running:
                self._running.popleft().errback(Failure(result.value, result.type, result.tb))
            self._wake()
        if self._waiting:
            self._hop()
        else:
            self._busy = False


def one_by_one(jobs: Sequence[Callable[[], Any]]) -> Iterator[list[Outcome[Callable[[], Any]]]]:
    """The plain executor: each job is a function to call."""
    for job in jobs:
        try:
            yield [Outcome(job, job())]
        except Exception as error:
            yield [Outcome(job, error=error)]
