"""`Rest`: a server that keeps everybody waiting is left alone, until it answers who asks in the background.

A server that is down refuses at once, and costs nothing. One that cannot be reached, or was stopped, costs
whoever asks a whole time limit. So after the first such wait nobody waits any more: reads go on with what the
node has, and changes are refused, until a probe that runs beside has been answered.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

PAUSE = 1.0
"""Seconds between an attempt that failed and the next one."""


class Rest:
    """Of one server. Safe for several threads."""

    def __init__(self, probe: Callable[[], bool]) -> None:
        """`probe` says whether the server answers again. It may take its time."""
        self._probe = probe
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._reason = ""

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
        threading.Thread(target=self._watch, name="postgresql-probe", daemon=True).start()

    def _watch(self) -> None:
        while not self._ended.is_set() and not self._probe():
            self._ended.wait(PAUSE)
        with self._lock:
            self._reason = ""

    def close(self) -> None:
        """Nobody asks any more."""
        self._ended.set()
