"""flock(2) with a time limit, between threads and between processes.

A lock belongs to the open file: two threads of one process that open it exclude one another as two processes
do, and it ends with whoever has it. Waiting is asking again and again, for flock knows no time limit.
"""

from __future__ import annotations

import fcntl
import time

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02


def lock_within(descriptor: int, seconds: float) -> bool:
    """Lock an open file exclusively; False if it is not had within `seconds` (0 = ask once). Blocks."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_PAUSE)
