"""flock(2) with a time limit, between threads and between processes.

A lock belongs to the open file: two threads of one process that open it exclude one another as two processes
do, and it ends with whoever has it. Waiting is asking again and again, for flock knows no time limit.
"""

from __future__ import annotations

import fcntl
import threading
import time
from dataclasses import field

from cyrus_sync.common.classes import dataclass

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02


@dataclass(slots=True)
class Waits:
    """Locks of this process that were not had at once, and what waiting for them took (seconds)."""

    count: int = 0
    seconds: float = 0.0
    given_up: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seconds: float, *, had: bool) -> None:
        """From any thread."""
        with self._lock:
            self.count += 1
            self.seconds += seconds
            self.given_up += not had


WAITS = Waits()
"""For `common.metrics`."""


def lock_within(descriptor: int, seconds: float) -> bool:
    """Lock an open file exclusively; False if it is not had within `seconds` (0 = ask once). Blocks."""
    begun = time.monotonic()
    deadline = begun + seconds
    pause = _FIRST_PAUSE
    waited = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                if seconds > 0:
                    WAITS.add(time.monotonic() - begun, had=False)
                return False
            waited = True
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)
        else:
            if waited:
                WAITS.add(time.monotonic() - begun, had=True)
            return True
