"""How long tests wait for what others do: longer on a machine with much to do.

A deadline is there to end a test that hangs; no behaviour is judged by it. It scales with what runs beside
the tests, looked at anew while one waits. ``DEADLINES=4`` in the environment sets the scale by hand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LEAST, MOST = 2.0, 30.0


def load() -> float:
    """Processes that want a processor, for each processor; at least 1."""
    text = Path("/proc/loadavg").read_text().split()
    running = float(text[3].partition("/")[0])
    return max(1.0, max(float(text[0]), running) / len(os.sched_getaffinity(0)))


def scale() -> float:
    """How many times as long as on a quiet machine is not too long."""
    given = os.environ.get("DEADLINES")
    return float(given) if given else min(MOST, LEAST * load())


def scaled(seconds: float) -> float:
    """`seconds` of a quiet machine as a deadline on this one, now."""
    return seconds * scale()


def until(condition: Callable[[], Any], what: str, seconds: float = 20.0, every: float = 0.01) -> Any:
    """The first true value of `condition`; AssertionError naming `what` after (scaled) `seconds`."""
    began = time.monotonic()
    while not (value := condition()):
        waited = time.monotonic() - began
        if waited > seconds and waited > scaled(seconds):
            raise AssertionError(f"not within {waited:.0f} s: {what}")
        time.sleep(every)
    return value


def at_rest(look: Callable[[], object], what: str, seconds: float = 20.0, quiet: float = 0.3) -> None:
    """Wait until `look` has given the same for `quiet` (scaled) seconds."""
    seen, since = look(), time.monotonic()

    def still() -> bool:
        nonlocal seen, since
        now = look()
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > scaled(quiet)

    until(still, what, seconds + quiet)
