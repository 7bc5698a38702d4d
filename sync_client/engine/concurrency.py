"""Doing several things at once without losing an error: gathering, collecting answers, budgets.

The engine sends verbs ahead of their answers. Every Deferred that it gets is either awaited or given
to one of these, so that no failure is ever dropped and none stops what does not depend on it.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from twisted.internet.defer import Deferred, DeferredList, ensureDeferred

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import CyrusSyncError, PeerError, ReplyError
from cyrus_sync.sync_client.engine.errors import EngineFault, ItemsFailed

T = TypeVar("T")

log = logging.getLogger(__name__)


class Failed(NamedTuple):
    """In place of a result: the error that there was."""

    error: BaseException


def is_fatal(error: BaseException) -> bool:
    """True if nothing more can be done on this connection: the peer is gone or out of step."""
    return isinstance(error, PeerError) and not isinstance(error, ReplyError)


def as_sync_error(error: BaseException) -> CyrusSyncError:
    """`error`, or an `EngineFault` for one that should not exist: it costs one item, not the run."""
    if isinstance(error, CyrusSyncError):
        return error
    if not isinstance(error, Exception):
        raise error
    log.error("unexpected error while replicating", exc_info=error)
    fault = EngineFault(f"{type(error).__name__}: {reason(error)}")
    fault.__cause__ = error
    return fault


def start(coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """Run `coroutine` until it first waits; the Deferred of its end."""
    return ensureDeferred(coroutine)


async def all_results(deferreds: Sequence[Deferred[T]]) -> list[T | Failed]:
    """The results of all, in order, failures included; waits for every one."""
    results: list[tuple[bool, Any]] = await DeferredList(list(deferreds), consumeErrors=True)
    return [value if good else Failed(value.value) for good, value in results]


async def all_of(deferreds: Sequence[Deferred[T]]) -> list[T]:
    """The results of all, in order. Waits for every one, then raises the first error, fatal ones first."""
    results = await all_results(deferreds)
    errors = [result.error for result in results if isinstance(result, Failed)]
    if errors:
        raise next(filter(is_fatal, errors), errors[0])
    return [result for result in results if not isinstance(result, Failed)]


async def map_bounded(
    function: Callable[[Any], Coroutine[Deferred[Any], Any, T]], items: Sequence[Any], limit: int
) -> list[T | Failed]:
    """``function(item)`` for every item, at most `limit` at once; results in order of the items.

    After a fatal error no further item is begun; it then stands for them too.
    """
    positions: dict[int, T | Failed] = {}
    upcoming = iter(enumerate(items))
    fatal: Failed | None = None

    async def work() -> None:
        nonlocal fatal
        for position, item in upcoming:
            if fatal is not None:
                positions[position] = fatal
                continue
            try:
                positions[position] = await function(item)
            except Exception as error:
                positions[position] = Failed(error)
                if is_fatal(error):
                    fatal = Failed(error)

    await all_of([ensureDeferred(work()) for _ in range(min(limit, len(items)))])
    return [positions[position] for position in range(len(items))]


def item_of(error: CyrusSyncError) -> str:
    """What an error is about, as a log line has it (``SUB user.alice.Work``)."""
    address = error.address
    words = (address.get(key, "") for key in ("command", "mailbox", "uniqueid", "entry"))
    return " ".join(word.removeprefix("APPLY ") for word in words if word) or "META"


class Answers:
    """Answers of verbs that were sent without waiting; each with the address for its error."""

    def __init__(self) -> None:
        self._pending: list[tuple[Deferred[Any], dict[str, str]]] = []

    def expect(self, answer: Deferred[Any], **address: str) -> None:
        """Remember `answer`; its error will say `address`."""
        self._pending.append((answer, address))

    async def errors(self) -> list[CyrusSyncError]:
        """Wait for all; the errors in order of sending. A fatal one is raised instead."""
        pending, self._pending = self._pending, []
        found: list[CyrusSyncError] = []
        for result, (_, address) in zip(
            await all_results([answer for answer, _ in pending]), pending, strict=True
        ):
            if not isinstance(result, Failed):
                continue
            error = as_sync_error(result.error).at(**address)
            if is_fatal(error):
                raise error
            found.append(error)
        return found

    async def check(self) -> None:
        """Wait for all and raise the error; several as one `ItemsFailed`, by command and name."""
        errors = await self.errors()
        if len(errors) > 1:
            raise ItemsFailed([(item_of(error), error) for error in errors])
        for error in errors:
            raise error


class Budget:
    """A bound on what is in flight: `take` an estimate, `change` it to what it was, `give` it back.

    One holder may overdraw it: how much there is to send is known only when it has been read.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self._waiting: deque[Deferred[None]] = deque()

    async def take(self, estimate: int) -> None:
        """Return with `estimate` taken, as soon as less than the limit is in use."""
        while self.used >= self.limit:
            turn: Deferred[None] = Deferred()
            self._waiting.append(turn)
            await turn
        self.used += estimate

    def change(self, by: int) -> None:
        """Correct the estimate."""
        self.used += by

    def give(self, amount: int) -> None:
        """Give back, and let those go on who wait."""
        self.used -= amount
        while self._waiting and self.used < self.limit:
            self._waiting.popleft().callback(None)


async def forgiving(awaitable: Awaitable[T], *errors: type[CyrusSyncError]) -> T | None:
    """The result, or None where it fails with one of `errors`."""
    try:
        return await awaitable
    except errors:
        return None
