"""What the hot path counts: a number goes up, and that is all.

Both kinds belong to one thread; copies (`Histogram.copy`, ``dict(counter)``) may go to another.

>>> spent = Histogram((0.1, 1.0))
>>> for seconds in (0.05, 0.1, 5.0): spent.observe(seconds)
>>> list(spent.cumulated())
[(0.1, 2), (1.0, 2), (inf, 3)]
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence

BRIEF = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds: what a command takes."""

LONG = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)
"""Seconds: what a run takes, or a change until it is on the replica."""


class Histogram:
    """How often values fell between `bounds` (ascending; each belongs to what is below it), and their sum."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def cumulated(self) -> Iterator[tuple[float, int]]:
        """Of each bound, and of infinity, how many values were not above it."""
        so_far = 0
        for bound, count in zip((*self._bounds, math.inf), self._counts, strict=True):
            so_far += count
            yield bound, so_far

    @property
    def count(self) -> int:
        """Values seen."""
        return sum(self._counts)

    def copy(self) -> Histogram:
        """As it is now."""
        twin = Histogram(self._bounds)
        twin._counts = list(self._counts)
        twin.total = self.total
        return twin
