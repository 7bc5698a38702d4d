"""`sync_bandwidth`: how fast a client sends, by the time of day.

A word is a rate in octets a second (``500k``; 0 = no bound), or one for a part of the day:
``08:00-18:00=500k``. The first that fits the local time counts, then the rate that has no time.

>>> limit = Bandwidth.parse(["2m", "08:00-18:00=500k"])
>>> limit.rate(time.struct_time((2026, 11, 30, 9, 30, 0, 0, 334, 0)))
512000
>>> limit.rate(time.struct_time((2026, 11, 30, 19, 0, 0, 0, 334, 0)))
2097152
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, Self

from twisted.internet.defer import Deferred, succeed

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.config import values
from cyrus_sync.common.reactor import Clock, pause

GRAIN_SECONDS = 0.05
"""What is sent at once takes so long at the rate that is allowed, so that nothing else waits for more."""

_LEAST_GRAIN = 1024
_OF_DAY = re.compile(r"(\d\d):(\d\d)-(\d\d):(\d\d)=(.+)")


class _Span(NamedTuple):
    """Minutes of the day; `end` may be before `begin`, across midnight."""

    begin: int
    end: int
    rate: int

    def has(self, minute: int) -> bool:
        if self.begin <= self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Octets a second, 0 = no bound."""

    usual: int = 0
    spans: tuple[_Span, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.usual or self.spans)

    @property
    def least(self) -> int:
        """The lowest rate of any time, 0 if there never is a bound."""
        rates = [rate for rate in (self.usual, *(span.rate for span in self.spans)) if rate]
        return min(rates, default=0)

    @classmethod
    def parse(cls, words: Iterable[str]) -> Self:
        """Raises ValueError."""
        usual: int | None = None
        spans = []
        for word in words:
            found = _OF_DAY.fullmatch(word)
            if found is None and usual is not None:
                raise ValueError(f"'{word}': there is a rate for the rest of the day already")
            if found is None:
                usual = values.size(word, "b")
                continue
            hours_minutes = [int(text) for text in found.groups()[:4]]
            begin, end = (60 * hours_minutes[n] + hours_minutes[n + 1] for n in (0, 2))
            if begin >= 24 * 60 or end > 24 * 60 or max(hours_minutes[1::2]) > 59:
                raise ValueError(f"'{word}' is no time of the day")
            spans.append(_Span(begin, end, values.size(found[5], "b")))
        return cls(usual or 0, tuple(spans))

    def rate(self, now: time.struct_time) -> int:
        """What is allowed at that local time."""
        minute = 60 * now.tm_hour + now.tm_min
        return next((span.rate for span in self.spans if span.has(minute)), self.usual)


class Limiter:
    """Lets octets out of one connection as fast as is allowed. What does not wait counts for what does."""

    def __init__(
        self,
        bandwidth: Bandwidth,
        clock: Clock,
        local: Callable[[], time.struct_time] = time.localtime,
    ) -> None:
        self._bandwidth = bandwidth
        self._clock = clock
        self._local = local
        self._free_at = 0.0
        self._rate = 0
        self._looked = float("-inf")

    def rate(self) -> int:
        """Octets a second, as they are allowed now; 0 = no bound."""
        now = self._clock.seconds()
        if now - self._looked >= 1:
            self._looked, self._rate = now, self._bandwidth.rate(self._local())
        return self._rate

    def grain(self) -> int:
        """Octets that should be sent at once, at most; 0 = any number."""
        rate = self.rate()
        return max(_LEAST_GRAIN, int(rate * GRAIN_SECONDS)) if rate else 0

    def spend(self, octets: int) -> None:
        """Something small is sent without waiting."""
        rate = self.rate()
        if rate:
            self._free_at = max(self._free_at, self._clock.seconds()) + octets / rate

    def turn(self, octets: int) -> Deferred[None]:
        """Fires when so many may be sent."""
        wait = self._free_at - self._clock.seconds()
        self.spend(octets)
        return pause(self._clock, wait) if wait > 0 else succeed(None)
