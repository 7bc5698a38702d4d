"""`Rest`: a server that keeps everybody waiting is left alone, until it answers who asks in the background.

A server that is down refuses at once, and costs nothing. One that cannot be reached, or was stopped, costs
whoever asks a whole time limit. So after the first such wait nobody waits any more: reads go on with what the
node has, and changes are refused, until a probe that runs beside has been answered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

PAUSE = 1.0
"""Seconds between an attempt that failed and the next one."""

SAID_AGAIN = 300.0
"""Seconds for which trouble with asking is not said again, as long as it is of one kind."""


class Rest:
    """Of one server. Safe for several threads."""

    def __init__(self, probe: Callable[[], bool], *, clock: Callable[[], float] = time.monotonic) -> None:
        """`probe` says whether the server answers again. It may take its time. If it raises, it does not."""
        self._probe = probe
        self._clock = clock
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._reason = ""
        self._said, self._quiet_until = "", 0.0
        """The kind of trouble that was said last; only the probe's thread looks at it."""

    @property
    def reason(self) -> str:
        """Why the server is left alone; "" where it is not."""
        return self._reason

    def begin(self, reason: str) -> None:
        """It has kept somebody waiting."""
        with self._lock:
            if self._reason or self._ended.is_set():
                return
            self._reason = reason
        try:
            threading.Thread(target=self._watch, name="postgresql-probe", daemon=True).start()
        except (RuntimeError, MemoryError) as error:  # too many threads: nobody would ever end the rest
            log.warning("a database that does not answer is asked by everybody: %s", error)
            self._end()

    def _watch(self) -> None:
        try:
            while not self._ended.is_set() and not self._answers():
                self._ended.wait(PAUSE)
        finally:
            self._end()

    def _answers(self) -> bool:
        try:
            return self._probe()
        except Exception as error:
            self._say(type(error).__name__, error)
            return False

    def _say(self, kind: str, error: Exception) -> None:
        now = self._clock()
        if kind != self._said or now >= self._quiet_until:
            self._said, self._quiet_until = kind, now + SAID_AGAIN
            log.warning("cannot see whether a database answers again: %s: %s", kind, error)

    def _end(self) -> None:
        with self._lock:
            self._reason = ""

    def close(self) -> None:
        """Nobody asks any more."""
        self._ended.set()
