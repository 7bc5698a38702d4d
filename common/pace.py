"""So much a second and no more: the pace of work that runs beside everything else.

>>> clock = iter([0.0, 0.0, 0.0, 10.0])
>>> pace = Pace(100, lambda: next(clock))
>>> pace.take(50), pace.take(100), pace.take(100)
(0.0, 0.5, 0.0)
"""

from __future__ import annotations

from collections.abc import Callable


class Pace:
    """At most `per_second` on the average; what one second allows may be had at once. 0 = no bound."""

    def __init__(self, per_second: float, seconds: Callable[[], float]) -> None:
        self._per_second = per_second
        self._seconds = seconds
        self._at = seconds() if per_second else 0.0
        self._free = per_second

    def take(self, amount: float) -> float:
        """Take `amount`; for how many seconds to wait before going on."""
        if not self._per_second:
            return 0.0
        now = self._seconds()
        self._free = min(self._per_second, self._free + (now - self._at) * self._per_second)
        self._at = now
        self._free -= amount
        return max(0.0, -self._free / self._per_second)
