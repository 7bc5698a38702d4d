"""The rolling loop: carries out what `sync_client.machine` decides.

Timers, the connection and the run are actions of the table; what they meet comes back as events. The
rules it guards: nothing but STOP ends it; between the starts of two runs lie at least `delay` seconds,
but after a quiet time a change goes out at once, and with it what comes while much is on its way; what a run
could not do is with the source again before the next run begins.

A clock ticks once a second for whatever is not urgent: the shutdown file, an edited quarantine, a retry
that is due, the age of the connection, keeping it alive, and the log itself where inotify fails us.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Iterable
from dataclasses import field
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import (
    EX_FAILURE,
    EX_OK,
    EX_TEMPFAIL,
    CyrusSyncError,
    PeerError,
    QuietLogout,
)
from cyrus_sync.common.progress import minutely
from cyrus_sync.common.reactor import Clock, Timer
from cyrus_sync.sync_client.backoff import Backoff
from cyrus_sync.sync_client.connection import Connector, EngineConnection
from cyrus_sync.sync_client.facts import Facts, NotGranted, Settings, reason_of
from cyrus_sync.sync_client.machine import Action, Event, RollingState, step
from cyrus_sync.sync_client.measures import Measures
from cyrus_sync.sync_client.promote import OwnerOfUniqueid
from cyrus_sync.sync_client.run import Outcome, Rank, ReportFailure, Run, by_kind, say_nothing, waits
from cyrus_sync.sync_client.sources import Batch, Source
from cyrus_sync.sync_client.turn import Turn
from cyrus_sync.sync_client.uplink import Uplink
from cyrus_sync.sync_client.watch import NoWatch, Watch
from cyrus_sync.sync_client.work import Item

_log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two looks at everything that is not urgent."""

GATHER_SECONDS = 0.01
"""Seconds from the first line after a quiet time to the run: daemons write their lines in pairs."""

MANY = 500
"""Items of a run from which on it is asked first whom both ends have alike: after a time without a
connection, or when a run is done again, that may be most of them."""

BUSY = 0.05
"""A run that has taken so much of `delay` goes on with what comes in the next moment, which lasts as long
as it took: a burst begins with one line, and the rest of it need not wait."""

BUSY_AFTER_QUIET = 0.01
"""The same for a run that came after a quiet time; but what comes is gathered for `BUSY` of `delay` first.
Where mail is delivered slowly the first run of a burst has a few messages only."""

OPEN = 0.9
"""So much of `delay` may be gone, from its start, when a run goes on."""

TROUBLE_PAUSE = 1.0
"""Least seconds between two runs if the last one left something undone, whatever `delay` says."""


_NO_CONNECTION = "Can not connect to"


class Observer(Protocol):
    """Hears what an administrator may want to see."""

    def changed(self, rolling: Rolling) -> None: ...


_ACTIONS = {
    Action.CONNECT: "_connect",
    Action.GREET: "_greet",
    Action.BACK_OFF: "_back_off",
    Action.GATHER: "_gather",
    Action.RUN: "_start_run",
    Action.LOOK: "_look",
    Action.RENEW: "_renew",
    Action.CLOSE: "_close",
    Action.INTERRUPT: "_interrupt",
    Action.END: "_end",
}
"""The method of `Rolling` that carries an action out."""

Blocking = Callable[..., Deferred[Any]]
"""``blocking(function, *args)`` runs it off the reactor."""


def _waiting(items: Iterable[Item]) -> tuple[int, list[str]]:
    """Of how many owners something waits, and their names."""
    owners = list(dict.fromkeys(str(item.owner) for item in items))
    return len(owners), owners


@dataclass(slots=True)
class Rolling:
    """One rolling client. `run` once."""

    clock: Clock
    connector: Connector
    source: Source
    settings: Settings
    blocking: Blocking
    watch: Watch = field(default_factory=NoWatch)
    observer: Observer | None = None
    owner_of_uniqueid: OwnerOfUniqueid = lambda _id: None
    report: ReportFailure = say_nothing
    say: Callable[[str], None] = _log.error
    random: Callable[[], float] = random.random
    state: RollingState = RollingState.NEW
    facts: Facts = field(default_factory=Facts)
    measures: Measures = field(default_factory=Measures)
    exit_status: int = EX_OK
    turn: Turn = field(default_factory=Turn)
    rank: Rank = by_kind
    can_wait: Callable[[Item], bool] = waits
    _uplink: Uplink = field(init=False)
    _timer: Timer | None = None
    _ticker: Any = None
    _run: Run | None = None
    _last_start: float = float("-inf")
    _began: float = float("-inf")
    """When the present run began; it may go on with another one, which began at `_last_start`."""
    _open_until: float = float("-inf")
    """What comes until then goes with the run that has just ended."""
    _resume: float = float("-inf")
    """When it goes on, at the earliest."""
    _goes_on: bool = False
    _after_quiet: bool = False
    """The present run, or the one with which it goes on, had nothing before it for `delay` or longer."""
    _pause: float = 0
    _careful: bool = False
    _asking: bool = False
    """The present run will be asked to give way."""
    _trouble: str = _NO_CONNECTION
    _backoff: Backoff = field(init=False)
    _ended: Deferred[int] = field(default_factory=Deferred)

    def __post_init__(self) -> None:
        self._backoff = Backoff(self.settings.maxwait, self.random)
        self._uplink = Uplink(self.clock, self.connector, self.facts, self._connection_lost)

    # -- from outside

    def run(self) -> Deferred[int]:
        """Start; fires with the exit status when it has stopped."""
        self.facts.started = self.clock.seconds()
        self._ticker = LoopingCall(self._tick)
        self._ticker.clock = self.clock
        self.watch.start(self._log_written)
        if self.settings.once and not self.source.pending():
            self._feed(Event.STOP)
        else:
            self._feed(Event.START)
            self._ticker.start(TICK, now=True)
        return self._ended

    def stop(self, exit_status: int = EX_TEMPFAIL) -> None:
        """Stop after the items under way, with that status. A signal asks for this."""
        if self.state not in (RollingState.CLOSING, RollingState.STOPPED):
            self.exit_status = exit_status
            self._feed(Event.STOP)

    def reconfigure(self, settings: Settings) -> None:
        """Go by these from now on."""
        self.settings = settings
        self._backoff.maxwait = settings.maxwait

    def hurry(self) -> None:
        """Try to connect now, if it waits."""
        self._backoff.succeeded()
        self._feed(Event.HURRY)

    @property
    def queue(self) -> int:
        """Items of the present run that are not finished."""
        return self._run.queue if self._run else 0

    # -- the machine

    def _feed(self, event: Event) -> None:
        before = self.state
        self.state, action = step(before, event)
        if self.state is not before:
            self._cancel_timer()
            _log.debug("%s: %s -> %s", event.name, before.value, self.state.value)
        if action is not Action.NOTHING:
            getattr(self, _ACTIONS[action])()
        if self.observer is not None and self.state is not before:
            self.observer.changed(self)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _later(self, seconds: float) -> None:
        self._timer = self.clock.callLater(max(0.0, seconds), self._feed, Event.DUE)

    # -- what comes in

    def _log_written(self) -> None:
        self._note_work()
        self._feed(Event.WORK)
        run = self._run
        if (
            run is not None
            and self.state is RollingState.RUNNING
            and not (self.settings.once or self._asking)
        ):
            self._asking = True
            left = self._began + self.turn.slice - self.clock.seconds()
            self.clock.callLater(max(0.0, left), self._ask_to_give_way, run)

    def _ask_to_give_way(self, run: Run) -> None:
        self._asking = False
        if run is self._run and self.state is RollingState.RUNNING:
            self.turn.ask()
            run.give_way()

    def _note_work(self) -> None:
        if self.facts.oldest_change is None:
            now = self.clock.seconds()
            self.facts.oldest_change = min(now, self.source.since() or now)

    def _tick(self) -> None:
        try:
            self._look_around()
        except Exception:  # a stopped clock would be worse than anything it can meet
            _log.exception("unexpected failure")
        if self.observer is not None:
            self.observer.changed(self)

    def _look_around(self) -> None:
        if self.state not in (RollingState.RUNNING, RollingState.FINISHING) and self._shutdown_file_found():
            return
        if self.state in (RollingState.IDLE, RollingState.BACKING_OFF, RollingState.CONNECTING):
            self.source.refresh()
            if self.source.pending():
                self._note_work()
        if self.state is RollingState.IDLE:
            if self._too_old():
                self._feed(Event.SESSION_OLD)
            elif self.source.pending():
                self._feed(Event.WORK)
            else:
                self._uplink.keep_alive(self.settings.keepalive)
        elif self.state is RollingState.GATHERING and self._too_old():
            self._feed(Event.SESSION_OLD)

    def _shutdown_file_found(self) -> bool:
        path = self.settings.shutdown_file
        if path is None or not path.exists():
            return False
        path.unlink(missing_ok=True)
        _log.info("shutdown file %s found and removed, stopping", path)
        self.stop(EX_OK)
        return True

    def _too_old(self) -> bool:
        return self._uplink.is_older_than(self.settings.timeout)

    # -- connecting

    def _connect(self) -> None:
        self._uplink.connect(self._connected, self._not_connected)

    def _connected(self) -> None:
        self.measures.connected += 1
        self._feed(Event.CONNECTED)

    def _not_connected(self, error: Exception) -> None:
        self.measures.not_connected += 1
        if self.settings.connect_once or (isinstance(error, NotGranted) and self.facts.runs == 0):
            self.say(f"Can not connect to server '{self.connector.server}' ({reason_of(error)})")
            self.stop(EX_FAILURE)
        else:
            self._feed(Event.CONNECT_FAILED)

    def _back_off(self) -> None:
        """Wait before the next attempt: a moment if the connection had done some work, else longer each
        time."""
        self._uplink.close()
        if self._uplink.proved:
            self._uplink.proved = False
            self._backoff.succeeded()
            self._later(TROUBLE_PAUSE)
            return
        wait = self._backoff.next() or 1
        why = (
            f" ({self.facts.last_error})" if self.facts.last_error and not self.facts.last_error_over else ""
        )
        self.say(f"{self._trouble} server '{self.connector.server}', retrying in {wait} seconds{why}")
        self._trouble = _NO_CONNECTION
        self._later(wait - self._backoff.early)

    def _connection_lost(self, error: Exception) -> None:
        if self.settings.connect_once and isinstance(error, QuietLogout) and self._run is None:
            self.stop(EX_OK)
        else:
            self._feed(Event.LOST)

    def _greet(self) -> None:
        self._tell_what_is_left()
        if self.source.pending():
            self._note_work()
            self._feed(Event.WORK)

    def _renew(self) -> None:
        _log.debug("renewing the connection to %s", self.connector.server)
        self._uplink.proved = False
        self._uplink.close(restart=True).addBoth(lambda _result: self._feed(Event.CLOSED))

    def _close(self) -> None:
        self._uplink.close().addBoth(lambda _result: self._feed(Event.CLOSED))

    # -- running

    def _gather(self) -> None:
        spacing = max(self.settings.delay, self._pause)
        now = self.clock.seconds()
        self._goes_on = now <= self._open_until
        if self._goes_on:
            due = self._resume
        else:
            due = self._last_start + spacing
            self._after_quiet = due <= now
        self._later(max(GATHER_SECONDS, due - now))

    def _start_run(self) -> None:
        Deferred.fromCoroutine(self._one_run()).addCallbacks(self._feed, self._run_crashed)

    async def _one_run(self) -> Event:
        taken = self.clock.seconds()
        try:
            batch = await self.blocking(self.source.take)
        except (CyrusSyncError, OSError) as error:
            return self._stuck(error)
        if batch is None:
            if self.source.pending():  # somebody else has claimed it: come back later
                self._last_start, self._pause = taken, TROUBLE_PAUSE
            else:
                self.facts.oldest_change = None
            return Event.RUN_DONE
        self._began = taken
        if not self._goes_on:
            self._last_start = taken
        taking = self.clock.seconds() - taken
        outcome = await self._work(batch, taken)
        ended = self.clock.seconds()
        try:
            await self.blocking(self.source.conclude, batch, outcome)
        except (CyrusSyncError, OSError) as error:
            return self._stuck(error)
        self.turn.overhead = taking + self.clock.seconds() - ended
        self._open_until = self._open_end(taken) if outcome.complete else float("-inf")
        self._tell_what_is_left(outcome)
        return self._weigh(outcome, taken)

    def _open_end(self, taken: float) -> float:
        """Until when a run that began at `taken`, and has just ended, goes on with what comes."""
        now, delay = self.clock.seconds(), self.settings.delay
        took, busy = now - taken, BUSY * delay
        if took < (BUSY_AFTER_QUIET * delay if self._after_quiet else busy):
            return float("-inf")
        self._resume = now if took >= busy else now + busy
        return min(now + max(took, busy), self._last_start + OPEN * delay)

    def _tell_what_is_left(self, outcome: Outcome | None = None) -> None:
        """The replica knows by it, should this end be gone, whether it has everything."""
        if self._uplink.connection is not None:
            left = [] if outcome is None else [*outcome.remaining, *outcome.deferred]
            left += [] if outcome is None else [failure.item for failure in outcome.failed]
            count, owners = _waiting(left)
            self._uplink.connection.tell(count + bool(self.source.pending()) + self.source.set_aside, owners)

    async def _work(self, batch: Batch, taken: float) -> Outcome:
        connection = self._uplink.connection
        assert connection is not None
        if batch.reprocessing:
            _log.info("Reprocessing the left-over run file of an interrupted run")
        self.turn.begin()
        self.facts.last_run = taken
        self.facts.runs += 1
        agreeing = await self._agreeing(connection) if len(batch.plan.items) >= MANY else ()
        meter = minutely("replicating", _log.info, total=len(batch.plan.items), unit="items")
        self._run = run = Run(
            batch.plan,
            connection,
            width=1 if self._careful else self.settings.width,
            rank=self.rank,
            can_wait=self.can_wait,
            owner_of_uniqueid=self.owner_of_uniqueid,
            known=batch.retried,
            report=self.report,
            agreeing=agreeing,
            finished=meter.advance,
        )
        if self.state is RollingState.FINISHING:
            run.interrupt()
        connection.tell(*_waiting(batch.plan.items))
        try:
            return await run.go()
        finally:
            self._run = None
            self._uplink.used()

    async def _agreeing(self, connection: EngineConnection) -> Collection[str]:
        """Whom both ends have alike. What asks for them was done before: the log is read again, or daemons
        have named what they did not change."""
        try:
            return await connection.engine.agreeing()
        except PeerError:
            return ()  # the connection is gone, as the first item will find

    def _weigh(self, outcome: Outcome, taken: float) -> Event:
        """What the run means for what comes next."""
        self.measures.run(outcome, taken, self.facts.oldest_change, self.clock.seconds())
        self.facts.items += outcome.done
        self.facts.failures += len(outcome.failed)
        if outcome.failed:
            failure = outcome.failed[-1]
            self.facts.trouble(f"{failure.item}: {failure.error}", self.clock.seconds())
        if outcome.gave_way and not (outcome.failed or outcome.deferred or outcome.broken):
            self._pause, self._last_start = 0, float("-inf")  # what it gave way to is due at once
        else:
            self._pause = 0 if outcome.complete else TROUBLE_PAUSE
        self._careful = bool(outcome.suspects) or outcome.explained
        if outcome.done or outcome.explained:
            self._uplink.proved = True
        if outcome.broken is not None:
            self.facts.trouble(reason_of(outcome.broken), self.clock.seconds(), connection=not outcome.failed)
            self._trouble = "Can not go on with"
            if self.settings.connect_once and isinstance(outcome.broken, QuietLogout):
                self.stop(EX_OK)
            return Event.RUN_BROKEN
        self._uplink.proved = True
        self._backoff.succeeded()
        if outcome.complete:
            self.facts.last_success = taken
            if not self.source.set_aside:
                self.facts.mended(self.clock.seconds())
            self.facts.oldest_change = taken if self.source.pending() else None
        if self.settings.once and self.exit_status == EX_OK and not outcome.complete:
            self.exit_status = outcome.exit_status
        return Event.RUN_DONE

    def _stuck(self, error: Exception) -> Event:
        """The log cannot be read or written: nothing to do but wait, the work stays where it is."""
        _log.error("%s", error)
        self.facts.trouble(str(error), self.clock.seconds())
        self._uplink.proved = False
        self._trouble = "Can not work for"
        self._pause = TROUBLE_PAUSE
        return Event.RUN_BROKEN

    def _run_crashed(self, failure: Any) -> None:
        _log.error("unexpected failure of a run: %s", failure.getTraceback())
        self.facts.trouble(repr(failure.value), self.clock.seconds())
        self._uplink.proved = False
        self._trouble = "Can not work for"
        self._pause = TROUBLE_PAUSE
        self._feed(Event.RUN_BROKEN)

    def _look(self) -> None:
        """The end of a cycle."""
        if self.settings.once:
            self.stop(self.exit_status)
        elif self._shutdown_file_found():
            return
        elif self._uplink.error is not None:
            self._feed(Event.LOST)
        elif self._too_old():
            self._feed(Event.SESSION_OLD)
        elif self.source.pending():
            self._feed(Event.WORK)

    def _interrupt(self) -> None:
        if self._run is not None:
            self._run.interrupt()

    def _end(self) -> None:
        self._uplink.give_up()
        if self._ticker.running:
            self._ticker.stop()
        self.watch.stop()
        self._ended.callback(self.exit_status)
