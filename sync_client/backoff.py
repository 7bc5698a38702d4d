"""How long to wait before the next attempt to connect. Pure: the random source is handed in.

Waits are 15, 30, 60, … seconds, doubling up to `maxwait`, as the C client's: monitors know them. So that many
clients of one server do not come back in step, each begins `Backoff.early`, a part of a second that
is drawn once in a series: no wait of a series is shorter than the one before. A connection that did some work
starts the series anew.

>>> waits = Backoff(maxwait=1200, random=lambda: 0.0)
>>> [waits.next() for _ in range(8)]
[15, 30, 60, 120, 240, 480, 960, 1200]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from cyrus_sync.common.classes import dataclass

FIRST_WAIT = 15
"""Seconds before the second attempt."""

ONE_SHOT_PATIENCE = 1000
"""Seconds during which a one-shot run goes on trying."""


@dataclass(slots=True)
class Backoff:
    """`maxwait` is in seconds, 0 or less for no limit; `random` gives a float in [0, 1).

    `patience` is the sum of waits after which `next` gives None, None itself to go on for ever.
    """

    maxwait: int
    random: Callable[[], float]
    patience: int | None = None
    early: float = field(default=0.0, init=False)
    """Seconds, less than one, by which each wait of this series is shortened."""
    _wait: int = field(default=0, init=False)
    _waited: int = field(default=0, init=False)

    def next(self) -> int | None:
        """Whole seconds to wait before the next attempt; None when patience is at its end."""
        if not self._wait:
            self.early = self.random()
        self._wait = self._wait * 2 if self._wait else FIRST_WAIT
        if self.maxwait > 0:
            self._wait = min(self._wait, self.maxwait)
        wait = self._wait
        if self.patience is not None:
            wait = min(wait, self.patience - self._waited)
            if wait <= 0:
                return None
        self._waited += wait
        return wait

    def succeeded(self) -> None:
        """The connection proved good: the next failure waits briefly again."""
        self._wait = self._waited = 0
