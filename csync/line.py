"""`Line`: a connection to a csync server for code that waits, in threads.

`WireReplica` belongs to the reactor's thread and answers by Deferreds. Whoever reads or changes a master is
called in a thread and blocks; a `Line` stands between the two. It connects when it is first needed, and anew
where the connection was lost while nobody waited; a server that was away is not asked again at once, so that
a hundred mailboxes that need it do not wait one after the other.

All that goes wrong with the connection itself is a `LineDown`, never a `PeerError`: to the engine that would
be the replica's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyrus_sync.common.errors import CannotConnect, ConnectionLost, PeerError, ReplyError, StoreError
from cyrus_sync.common.protocol.commands import USERS
from cyrus_sync.common.reactor import Reactor, Timer
from cyrus_sync.common.threads import Threads
from cyrus_sync.common.wire.client import ClientSettings, connect
from cyrus_sync.common.wire.replica import WireReplica

T = TypeVar("T")

WANTED = frozenset({"SIEVE-MAILBOX", USERS})
"""Scripts are messages where the server has them so, and one of ours lists its users."""

QUIET = 60.0
"""Seconds after which a connection that nobody uses is closed."""

SILENCE = 15.0
"""Seconds for which a server that could not be reached, or did not let us in, is not tried again."""

Work = Callable[[WireReplica], "Deferred[T] | Coroutine[Any, Any, T]"]


class LineDown(StoreError):
    """The master's csync server cannot be reached, does not let us in, or has hung up."""

    text = "the master's csync server is not to be had"


class Line:
    """One connection at a time. Safe between threads, but not for the reactor's own, which would wait for
    itself.

    `threads` read what is sent; they must be others than those that wait here.
    """

    def __init__(
        self,
        reactor: Reactor,
        settings: ClientSettings,
        threads: Threads,
        wanted: frozenset[str] = WANTED,
    ) -> None:
        self.settings = settings
        self._wanted = wanted
        self._reactor = reactor
        self._threads = threads
        self._turn = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: set[Future[Any]] = set()
        self._closed = False
        self._watched = False
        # What follows is the reactor's.
        self._replica: WireReplica | None = None
        self._awaiting: list[Deferred[WireReplica]] = []
        """Who waits for the connection that is being made."""
        self._failed: tuple[float, LineDown] | None = None
        self._using = 0
        self._idle: Timer | None = None

    @property
    def server(self) -> str:
        return self.settings.server

    def call(self, work: Work[T], on: WireReplica | None = None) -> T:
        """Have `work` done on the connection, beside what others do there, and wait for it. Raises
        `LineDown`, and every `ReplyError` as it is. `on`: the connection that it has to be still."""
        return self._wait(lambda: self._do(work, on))

    @contextmanager
    def alone(self) -> Iterator[Session]:
        """A connection that stays the same, for one at a time: what is staged on it lasts until the end."""
        with self._turn:
            session = Session(self, self.call(_itself))
            try:
                yield session
            finally:
                session.forget()

    def forget(self, replica: WireReplica) -> None:
        """Have the server forget what was staged on this connection; nobody waits for that."""

        def restart() -> None:
            if self._replica is replica:
                replica.restart().addErrback(lambda _: None)

        self._reactor.callFromThread(restart)

    def close(self) -> None:
        """End the connection; who waits fails with `LineDown`. May be called from any thread."""
        with self._guard:
            self._closed = True
            waiting = list(self._waiting)
        for result in waiting:
            _fail(result, LineDown(f"cyrus_csync ({self.server}): we are stopping"))
        if self._watched:
            self._reactor.callFromThread(self._hang_up)

    # -- from a thread to the reactor

    def _wait(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        result: Future[T] = Future()
        with self._guard:
            if self._closed:
                raise LineDown(f"cyrus_csync ({self.server}): we are stopping")
            self._waiting.add(result)
        try:
            self._reactor.callFromThread(self._begin, begin, result)
            return result.result()
        finally:
            with self._guard:
                self._waiting.discard(result)

    def _begin(self, begin: Callable[[], Coroutine[Any, Any, T]], result: Future[T]) -> None:
        if not self._watched:
            self._watched = True
            self._reactor.addSystemEventTrigger("before", "shutdown", self.close)
        self._using += 1
        self._stop_idling()
        done = Deferred.fromCoroutine(begin())
        done.addBoth(self._used)
        done.addCallbacks(lambda value: _give(result, value), lambda failure: _fail(result, failure.value))

    def _used(self, outcome: Any) -> Any:
        self._using -= 1
        if not self._using and self._replica is not None:
            self._idle = self._reactor.callLater(QUIET, self._hang_up)
        return outcome

    def _stop_idling(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None and idle.active():
            idle.cancel()

    # -- in the reactor

    async def _do(self, work: Work[T], pinned: WireReplica | None = None) -> T:
        replica = pinned or await self._connected()
        if pinned is not None and pinned is not self._replica:
            raise LineDown(f"cyrus_csync ({self.server}) has hung up")
        try:
            return await work(replica)
        except ReplyError:
            raise
        except PeerError as error:
            raise LineDown(f"cyrus_csync ({self.server}): {error.message}").at(**error.address) from None

    async def _connected(self) -> WireReplica:
        if self._replica is not None:
            return self._replica
        if self._failed is not None:
            since, error = self._failed
            if self._reactor.seconds() - since < SILENCE:
                raise LineDown(error.message).at(**error.address)
        made: Deferred[WireReplica] = Deferred()
        self._awaiting.append(made)
        if len(self._awaiting) == 1:
            Deferred.fromCoroutine(self._connect()).addBoth(self._tried)
        return await made

    def _tried(self, outcome: WireReplica | Failure) -> None:
        awaiting, self._awaiting = self._awaiting, []
        if isinstance(outcome, Failure) and isinstance(outcome.value, LineDown):
            self._failed = self._reactor.seconds(), outcome.value
        for made in awaiting:
            made.callback(outcome)

    async def _connect(self) -> WireReplica:
        try:
            connection = await connect(self._reactor, self.settings)
            try:
                replica = await WireReplica.start(
                    connection, self._wanted, self._threads, timeout=self.settings.idle_timeout
                )
            except BaseException:
                connection.proto.abort()
                raise
        except PeerError as error:
            raise LineDown(f"cyrus_csync ({self.server}): {_hint(error)}").at(**error.address) from None
        self._failed = None
        if self._closed:
            connection.proto.abort()
            raise LineDown(f"cyrus_csync ({self.server}): we are stopping")
        self._replica = replica
        replica.on_lost(lambda _: self._lost(replica))
        return replica

    def _lost(self, replica: WireReplica) -> None:
        if self._replica is replica:
            self._replica = None

    def _hang_up(self) -> None:
        self._stop_idling()
        replica, self._replica = self._replica, None
        if replica is None:
            return
        if self._closed:
            replica.proto.abort()
        else:
            replica.close()


class Session:
    """What `Line.alone` gives. Every call fails with `LineDown` once the connection is lost."""

    def __init__(self, line: Line, replica: WireReplica) -> None:
        self._line = line
        self._replica = replica

    def call(self, work: Work[T]) -> T:
        return self._line.call(work, self._replica)

    def forget(self) -> None:
        """Drop what is staged."""
        self._line.forget(self._replica)


async def _itself(replica: WireReplica) -> WireReplica:
    return replica


def _give(result: Future[T], value: T) -> None:
    with suppress(InvalidStateError):  # it was given up
        result.set_result(value)


def _fail(result: Future[Any], error: BaseException) -> None:
    with suppress(InvalidStateError):
        result.set_exception(error)


def _hint(error: PeerError) -> str:
    if isinstance(error, ReplyError):
        return f"{error.message} (is cyrus_csync_authname among its admins?)"
    if isinstance(error, ConnectionLost):
        return f"the connection was lost: {error.message}"
    before, there, reason = error.message.partition("': ")
    return (
        f"not to be reached: {reason}" if there and before.startswith(CannotConnect.text) else error.message
    )
