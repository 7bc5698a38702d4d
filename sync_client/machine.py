"""The rolling client as a table: (state, event) → (next state, what to do). No I/O, no clock.

Everything that decides *what comes next* in rolling mode is in `TABLE`; `sync_client.rolling` carries the
actions out and turns what happens into events. The drawing is ``docs/state-machines/rolling.dot``.

Two rules can be read off the table and are checked by its test: no event of the outside world leads to
`STOPPED` other than `STOP`; and every way to `CONNECTING` after a failure goes through `BACKING_OFF`, so
that nothing spins. An event that a state does not name means nothing to it.
"""

from __future__ import annotations

import enum


class RollingState(enum.Enum):
    NEW = "starting"
    CONNECTING = "connecting"
    BACKING_OFF = "waiting to reconnect"
    IDLE = "waiting for changes"
    GATHERING = "collecting changes"
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
    GATHER = enum.auto()
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


Step = tuple[RollingState, Action]

TABLE: dict[tuple[RollingState, Event], Step] = {
    (RollingState.NEW, Event.START): (RollingState.CONNECTING, Action.CONNECT),
    (RollingState.NEW, Event.STOP): (RollingState.STOPPED, Action.END),
    (RollingState.CONNECTING, Event.CONNECTED): (RollingState.IDLE, Action.GREET),
    (RollingState.CONNECTING, Event.CONNECT_FAILED): (RollingState.BACKING_OFF, Action.BACK_OFF),
    (RollingState.CONNECTING, Event.STOP): (RollingState.STOPPED, Action.END),
    (RollingState.BACKING_OFF, Event.DUE): (RollingState.CONNECTING, Action.CONNECT),
    (RollingState.BACKING_OFF, Event.HURRY): (RollingState.CONNECTING, Action.CONNECT),
    (RollingState.BACKING_OFF, Event.STOP): (RollingState.STOPPED, Action.END),
    (RollingState.IDLE, Event.WORK): (RollingState.GATHERING, Action.GATHER),
    (RollingState.IDLE, Event.LOST): (RollingState.BACKING_OFF, Action.BACK_OFF),
    (RollingState.IDLE, Event.SESSION_OLD): (RollingState.RENEWING, Action.RENEW),
    (RollingState.IDLE, Event.STOP): (RollingState.CLOSING, Action.CLOSE),
    (RollingState.GATHERING, Event.DUE): (RollingState.RUNNING, Action.RUN),
    (RollingState.GATHERING, Event.LOST): (RollingState.BACKING_OFF, Action.BACK_OFF),
    (RollingState.GATHERING, Event.SESSION_OLD): (RollingState.RENEWING, Action.RENEW),
    (RollingState.GATHERING, Event.STOP): (RollingState.CLOSING, Action.CLOSE),
    (RollingState.RUNNING, Event.RUN_DONE): (RollingState.IDLE, Action.LOOK),
    (RollingState.RUNNING, Event.RUN_BROKEN): (RollingState.BACKING_OFF, Action.BACK_OFF),
    (RollingState.RUNNING, Event.STOP): (RollingState.FINISHING, Action.INTERRUPT),
    (RollingState.RENEWING, Event.CLOSED): (RollingState.CONNECTING, Action.CONNECT),
    (RollingState.RENEWING, Event.STOP): (RollingState.CLOSING, Action.NOTHING),
    (RollingState.FINISHING, Event.RUN_DONE): (RollingState.CLOSING, Action.CLOSE),
    (RollingState.FINISHING, Event.RUN_BROKEN): (RollingState.CLOSING, Action.CLOSE),
    (RollingState.CLOSING, Event.CLOSED): (RollingState.STOPPED, Action.END),
}


def step(state: RollingState, event: Event) -> Step:
    """What `event` means in `state`; an event that means nothing there changes nothing."""
    return TABLE.get((state, event), (state, Action.NOTHING))
