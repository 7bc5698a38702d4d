"""What this process has asked of far packs: for `common.metrics`."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import field

from cyrus_sync.common.classes import dataclass

HIT, MISS = "hit", "miss"
AWAY, DAMAGED, MISSING, CACHE = "away", "damaged", "missing", "cache"
"""Why blocks were not had: the object store does not answer; it has something else; it has nothing; the copy
on this machine is damaged (it is fetched anew)."""

WHERE = (HIT, MISS)
FAILURES = (AWAY, DAMAGED, MISSING, CACHE)

REPORT = "store/tier.json"
"""Below configdirectory: what the last `mailstore tier -A` found."""


@dataclass(slots=True)
class FarFigures:
    """Blocks of far packs, from any thread."""

    blocks: Counter[str] = field(default_factory=Counter)
    """By `HIT` and `MISS` of this machine's cache."""
    failures: Counter[str] = field(default_factory=Counter)
    fetched: int = 0
    """Octets that came from the object store."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def had(self, where: str, blocks: int, octets: int = 0) -> None:
        with self._lock:
            self.blocks[where] += blocks
            self.fetched += octets

    def failed(self, why: str) -> None:
        with self._lock:
            self.failures[why] += 1


FAR = FarFigures()
