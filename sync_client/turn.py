"""`Turn`: whether new work waits for a run that takes long, which then ends where it can.

What is under way is finished in parts (a mailbox of a first synchronisation after the part that is being
sent), the rest goes back to the log, and the next run does what is new before it goes on. So a flag waits for
a part, not for fifty gigabytes. Ending and beginning runs costs time too: a run has at least ten times that
for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from cyrus_sync.common.classes import dataclass

LEAST_SECONDS = 0.3
"""What a run has for itself in any case."""

_TIMES = 10.0

PART_BYTES = 4 << 20
"""Octets of new messages in a part, in rolling mode: a moment's worth on most lines."""

PART_SECONDS = 0.25
"""What a part may take where `sync_bandwidth` says how fast it goes."""

_LEAST_PART = 64 << 10


def part_bytes(rate: int) -> int:
    """Octets of new messages in a part, at so many octets a second (0 = not known)."""
    return min(PART_BYTES, max(_LEAST_PART, int(rate * PART_SECONDS))) if rate else PART_BYTES


@dataclass(slots=True)
class Turn:
    """Of one rolling client."""

    wanted: bool = False
    """Whether the present run is to end as soon as it can."""
    overhead: float = 0.0
    """Seconds for taking work from the log and putting back what is left, the last time."""
    times: float = _TIMES
    """So much longer than that a run has for itself."""
    asked: list[Callable[[], None]] = field(default_factory=list)
    """Called once each when the present run is to end, for what waits meanwhile."""

    def begin(self) -> None:
        """A run begins."""
        self.wanted = False
        self.asked.clear()

    def ask(self) -> None:
        """End as soon as you can."""
        self.wanted = True
        waiting, self.asked = self.asked, []
        for wake in waiting:
            wake()

    def is_wanted(self) -> bool:
        return self.wanted

    @property
    def slice(self) -> float:
        """Seconds that a run has for itself."""
        return max(LEAST_SECONDS, self.times * self.overhead)
