"""The rolling client as a table: (state, event) → (next state, what to do). No I/O, no clock.

Everything that decides *what comes next* in rolling mode is in `TABLE`; `sync_client.rolling` carries the
actions out and turns what happens into events. The drawing is ``docs/state-machines/rolling.dot``.

Two rules can be read off the table and are checked by its test: no event of the outside world leads to
`STOPPED` other than `STOP`; and every way to `CONNECTING` after a failure goes through `BACKING_OFF`, so
that nothing spins. An event that a state does not name means nothing to it.
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    NEW = "starting"
    CONNECTING = "connecting"
    BACKING_OFF = "waiting to reconnect"
    IDLE = "waiting for changes"
    SETTLING = "collecting changes"
    RUNNING = "replicating"
    RENEWING = "renewing the connection"
    FINISHING = "finishing what is running"
    CLOSING = "closing the connection"
    STOPPED = "stopped"


class Event(enum.Enum):
    START = enum.auto()
    CONNECTED = enum.auto()
    CONNECT_FAILED = enum.auto()
    LOST = enum.auto()
    """The connection ended while nothing was running on it."""
    WORK = enum.auto()
    """The log was written to, or a user that was set aside is due."""
    DUE = enum.auto()
    """The timer of the present state ran out."""
    RUN_DONE = enum.auto()
    RUN_BROKEN = enum.auto()
    """The run could not go on: connection lost, BYE, or nothing but refusals."""
    SESSION_OLD = enum.auto()
    """The connection is older than ``-t``."""
    CLOSED = enum.auto()
    HURRY = enum.auto()
    """SIGHUP: do not wait out a back-off."""
    STOP = enum.auto()
    """The shutdown file, a signal, or the end of a run with ``-1`` or ``-f``."""


class Action(enum.Enum):
    NOTHING = enum.auto()
    CONNECT = enum.auto()
    GREET = enum.auto()
    """A new connection: start keeping it alive, look for work."""
    BACK_OFF = enum.auto()
    """Drop what is left of the connection; wait, longer each time."""
    SETTLE = enum.auto()
    """Wait a moment for more lines, and for the least time between two runs."""
    RUN = enum.auto()
    LOOK = enum.auto()
    """A run is over: is there more?"""
    RENEW = enum.auto()
    """RESTART, EXIT, disconnect."""
    CLOSE = enum.auto()
    """EXIT, disconnect."""
    INTERRUPT = enum.auto()
    """Let the run end after the items that are under way."""
    END = enum.auto()


Step = tuple[State, Action]

TABLE: dict[tuple[State, Event], Step] = {
    (State.NEW, Event.START): (State.CONNECTING, Action.CONNECT),
    (State.NEW, Event.STOP): (State.STOPPED, Action.END),
    (State.CONNECTING, Event.CONNECTED): (State.IDLE, Action.GREET),
    (State.CONNECTING, Event.CONNECT_FAILED): (State.BACKING_OFF, Action.BACK_OFF),
    (State.CONNECTING, Event.STOP): (State.STOPPED, Action.END),
    (State.BACKING_OFF, Event.DUE): (State.CONNECTING, Action.CONNECT),
    (State.BACKING_OFF, Event.HURRY): (State.CONNECTING, Action.CONNECT),
    (State.BACKING_OFF, Event.STOP): (State.STOPPED, Action.END),
    (State.IDLE, Event.WORK): (State.SETTLING, Action.SETTLE),
    (State.IDLE, Event.LOST): (State.BACKING_OFF, Action.BACK_OFF),
    (State.IDLE, Event.SESSION_OLD): (State.RENEWING, Action.RENEW),
    (State.IDLE, Event.STOP): (State.CLOSING, Action.CLOSE),
    (State.SETTLING, Event.DUE): (State.RUNNING, Action.RUN),
    (State.SETTLING, Event.LOST): (State.BACKING_OFF, Action.BACK_OFF),
    (State.SETTLING, Event.SESSION_OLD): (State.RENEWING, Action.RENEW),
    (State.SETTLING, Event.STOP): (State.CLOSING, Action.CLOSE),
    (State.RUNNING, Event.RUN_DONE): (State.IDLE, Action.LOOK),
    (State.RUNNING, Event.RUN_BROKEN): (State.BACKING_OFF, Action.BACK_OFF),
    (State.RUNNING, Event.STOP): (State.FINISHING, Action.INTERRUPT),
    (State.RENEWING, Event.CLOSED): (State.CONNECTING, Action.CONNECT),
    (State.RENEWING, Event.STOP): (State.CLOSING, Action.NOTHING),
    (State.FINISHING, Event.RUN_DONE): (State.CLOSING, Action.CLOSE),
    (State.FINISHING, Event.RUN_BROKEN): (State.CLOSING, Action.CLOSE),
    (State.CLOSING, Event.CLOSED): (State.STOPPED, Action.END),
}


def step(state: State, event: Event) -> Step:
    """What `event` means in `state`; an event that means nothing there changes nothing."""
    return TABLE.get((state, event), (state, Action.NOTHING))
