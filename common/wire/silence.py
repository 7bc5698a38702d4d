"""`Silence`: notices that a peer has given no sign of life for too long, or only drips.

A sign of life comes with every piece of data; setting a timer for each would cost more than the data.
The timer is set once and looks, when it rings, how long ago the last sign was.
"""

from __future__ import annotations

from collections.abc import Callable

from cyrus_sync.common.reactor import Clock, Timer

DRIPPING = 4
"""So many times the seconds of a silence may pass without `progress`, and a second for each `RATE` octets."""

RATE = 1024


class Silence:
    """Calls `expired` after `seconds` without `sign`, or, with `progress_due`, when signs come and no
    progress. While `excused` says so, time does not count."""

    def __init__(self, clock: Clock, expired: Callable[[], None], excused: Callable[[], bool]) -> None:
        self.seconds: float | None = None
        self.progress_due = False
        self._since = 0.0
        """When there was progress."""
        self._octets = 0
        """That have come since."""
        self._clock = clock
        self._expired = expired
        self._excused = excused
        self._last = 0.0
        self._timer: Timer | None = None

    @property
    def dripping(self) -> bool:
        """Whether there has been no progress for too long, whatever has come."""
        if self.seconds is None or not self.progress_due:
            return False
        return self._clock.seconds() - self._since >= DRIPPING * self.seconds + self._octets / RATE

    def sign(self, octets: int = 0) -> None:
        """The peer lives; so many octets have come of it."""
        self._last = self._clock.seconds()
        self._octets += octets

    def progress(self) -> None:
        """The peer has come to the end of something."""
        self._last = self._since = self._clock.seconds()
        self._octets = 0

    def start(self, seconds: float | None, *, progress_due: bool = False) -> None:
        """Begin to wait anew; None: stop."""
        self.stop()
        self.seconds = seconds
        self.progress_due = progress_due
        self.progress()
        if seconds is not None:
            self._timer = self._clock.callLater(seconds, self._look)

    def stop(self) -> None:
        """Wait no more."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        self._timer = None
        if self.seconds is None:
            return
        if self._excused():
            self.progress()
        left = self._last + self.seconds - self._clock.seconds()
        if left > 0 and not self.dripping:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._expired()
