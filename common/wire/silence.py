"""`Silence`: notices that a peer has given no sign of life for too long.

A sign of life comes with every piece of data; setting a timer for each would cost more than the data.
The timer is set once and looks, when it rings, how long ago the last sign was.
"""

from __future__ import annotations

from collections.abc import Callable

from cyrus_sync.common.wire.clock import Clock, Timer


class Silence:
    """Calls `expired` after `seconds` without `sign`. While `excused` says so, silence does not count."""

    def __init__(self, clock: Clock, expired: Callable[[], None], excused: Callable[[], bool]) -> None:
        self.seconds: float | None = None
        self._clock = clock
        self._expired = expired
        self._excused = excused
        self._last = 0.0
        self._timer: Timer | None = None

    def sign(self) -> None:
        """The peer lives."""
        self._last = self._clock.seconds()

    def start(self, seconds: float | None) -> None:
        """Begin to wait anew; None: stop."""
        self.stop()
        self.seconds = seconds
        self.sign()
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
            self.sign()
        left = self._last + self.seconds - self._clock.seconds()
        if left > 0:
            self._timer = self._clock.callLater(left, self._look)
        else:
            self._expired()
