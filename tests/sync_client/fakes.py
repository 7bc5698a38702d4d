"""Fakes of the seams that write down what was called, like a transcript."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from cyrus_sync.common.errors import CannotConnect, ConnectionLost
from cyrus_sync.common.synclog.lines import LogLine
from cyrus_sync.sync_client.merge import WorkPlan, merge
from cyrus_sync.sync_client.run import Outcome
from cyrus_sync.sync_client.sources import Batch

Events = list[Any]


class FakeEngine:
    """Every verb is an event. What `answers` has for it happens: an error is raised, a Deferred awaited."""

    def __init__(self, events: Events, answers: dict[str, Any]) -> None:
        self._events = events
        self._answers = answers

    async def _do(self, *what: str) -> None:
        text = " ".join(word or '""' for word in what)
        self._events.append(text)
        answer = self._answers.get(text)
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else None
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Deferred):
            await answer

    async def user(self, userid: str) -> None:
        await self._do("USER", userid)

    async def meta(self, userid: str) -> None:
        await self._do("META", userid)

    async def mailboxes(self, names: Sequence[str]) -> None:
        await self._do("MAILBOXES", *names)

    async def quota(self, root: str) -> None:
        await self._do("QUOTA", root)

    async def annotation(self, mailbox: str) -> None:
        await self._do("ANNOTATION", mailbox)

    async def seen(self, userid: str, uniqueid: str) -> None:
        await self._do("SEEN", userid, uniqueid)

    async def sub(self, userid: str, mailbox: str) -> None:
        await self._do("SUB", userid, mailbox)

    async def unmailbox(self, name: str) -> None:
        await self._do("UNMAILBOX", name)

    async def unuser(self, userid: str) -> None:
        await self._do("UNUSER", userid)


class FakeConnection:
    """One connection; `lose` ends it from the other side."""

    def __init__(self, events: Events, answers: dict[str, Any]) -> None:
        self.events = events
        self.answers = answers
        self.engine = FakeEngine(events, answers)
        self._lost: Callable[[Exception], None] | None = None
        self.told: list[tuple[object, ...]] = []
        """What was said to wait: how much, and whose."""

    def _answer(self, what: str) -> Deferred[None]:
        self.events.append(what)
        answer = self.answers.get(what)
        if isinstance(answer, Exception):
            return fail(answer)
        return answer if isinstance(answer, Deferred) else succeed(None)

    def restart(self) -> Deferred[None]:
        return self._answer("restart")

    def noop(self) -> Deferred[None]:
        return self._answer("noop")

    def tell(self, waiting: int, owners: Sequence[str]) -> None:
        self.told.append((waiting, *owners))

    def on_lost(self, lost: Callable[[Exception], None]) -> None:
        self._lost = lost

    def lose(self, error: Exception | None = None) -> None:
        assert self._lost is not None
        self._lost(error or ConnectionLost())

    def close(self) -> Deferred[None]:
        return self._answer("close")


class FakeConnector:
    """`attempts` says how each attempt ends: an error, a Deferred, or (nothing left) a connection."""

    server = "replica.example"

    def __init__(self, events: Events, answers: dict[str, Any] | None = None, *attempts: Any) -> None:
        self.events = events
        self.answers = answers if answers is not None else {}
        self.attempts = list(attempts)
        self.connections: list[FakeConnection] = []

    @property
    def connection(self) -> FakeConnection:
        return self.connections[-1]

    def make(self) -> FakeConnection:
        self.connections.append(FakeConnection(self.events, self.answers))
        return self.connections[-1]

    def connect(self) -> Deferred[Any]:
        self.events.append("connect")
        answer = self.attempts.pop(0) if self.attempts else None
        if isinstance(answer, Exception):
            return fail(answer)
        return answer if isinstance(answer, Deferred) else succeed(self.make())


def refused() -> CannotConnect:
    return CannotConnect("Connection refused")


class FakeSource:
    """Work that tests put in as lines; what comes back is merged with what is new."""

    def __init__(self, events: Events, *lines: str) -> None:
        self.events = events
        self.lines = list(lines)
        self.outcomes: list[Outcome] = []
        self.set_aside = 0
        self.conclude_error: Exception | None = None
        self.take_error: Exception | None = None

    def pending(self) -> bool:
        return bool(self.lines)

    def since(self) -> float | None:
        return None

    def refresh(self) -> None:
        """Nothing to notice."""

    def take(self) -> Batch | None:
        if self.take_error is not None:
            raise self.take_error
        if not self.lines:
            return None
        self.events.append(f"take {len(self.lines)}")
        taken, self.lines = self.lines, []
        return Batch(plan_of(*taken))

    def conclude(self, batch: Batch, outcome: Outcome) -> None:
        if self.conclude_error is not None:
            error, self.conclude_error = self.conclude_error, None
            self.lines += [" ".join(line) for line in batch.plan.lines()]
            raise error
        self.outcomes.append(outcome)
        undone = outcome.remaining + outcome.deferred + [failure.item for failure in outcome.failed]
        self.lines += [" ".join(line) for item in undone for line in item.lines()]
        self.events.append(f"conclude {outcome.done}")


class FakeWatch:
    def __init__(self) -> None:
        self.changed: Callable[[], None] = lambda: None
        self.running = False

    def start(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.running = True

    def stop(self) -> None:
        self.running = False


def blocking(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Runs it here and now."""
    try:
        return succeed(function(*args))
    except Exception as error:
        return fail(error)


def plan_of(*lines: str) -> WorkPlan:
    return merge([LogLine(kind, tuple(args)) for kind, *args in (line.split() for line in lines)])


def advance(clock: Clock, seconds: float, step: float = 0.5) -> None:
    """Let time pass in small steps, as it does."""
    end = clock.seconds() + seconds
    while clock.seconds() < end - 1e-9:
        clock.advance(min(step, end - clock.seconds()))
