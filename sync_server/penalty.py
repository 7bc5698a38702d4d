"""Slow answers for a client that runs against the same wall again and again.

A rolling client of Cyrus reconnects and repeats its work without any pause after a NO: hundreds of
connections a second. The second identical failure is answered at once (clients do retry once with good
reason), the next ones later and later. Nobody else waits: only this answer of this connection is late.

>>> penalty.failed(("192.0.2.7", "APPLY MAILBOX", "user.alice", b"NO IMAP_SYNC_CHECKSUM"))
0.0
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

FREE = 2
"""Identical failures that are answered at once."""

FIRST_DELAY = 0.5
LONGEST_DELAY = 15.0
FORGET_AFTER = 120.0
"""Seconds without the failure after which it counts as new."""

REMEMBERED = 2000
"""Different failures that are remembered; the oldest go first."""


class Penalty:
    """Counts identical failures over all connections. `now` gives seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._seen: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()

    def failed(self, key: Hashable) -> float:
        """Count a failure; the seconds that its answer should wait."""
        now = self._now()
        count, last = self._seen.pop(key, (0, now))
        if now - last > FORGET_AFTER:
            count = 0
        count += 1
        delay = 0.0 if count <= FREE else min(FIRST_DELAY * 2 ** min(count - FREE - 1, 16), LONGEST_DELAY)
        self._seen[key] = (count, now + delay)
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return delay

    def __len__(self) -> int:
        return len(self._seen)
