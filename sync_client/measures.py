"""What a rolling client counts for `sync_client.figures`, beside the `Facts` that `status` shows."""

from __future__ import annotations

from collections import Counter
from dataclasses import field

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import REPLY_ERRORS, ConnectionLost
from cyrus_sync.common.metrics.codes import OTHER, code_of
from cyrus_sync.common.metrics.tallies import LONG, Histogram
from cyrus_sync.sync_client.engine.errors import ItemsFailed
from cyrus_sync.sync_client.run import Outcome

FORESEEN = (*REPLY_ERRORS, ConnectionLost.__name__, OTHER)
"""Codes that are told before they happen, so that their first time is seen as a change."""


@dataclass(slots=True)
class Measures:
    """All of it belongs to the reactor's thread."""

    replies: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Replies of the replica, by command (``APPLY MAILBOX``) and code (``OK``)."""
    failures: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(FORESEEN, 0)))
    """Items that were given up, by code."""
    runs: Histogram = field(default_factory=lambda: Histogram(LONG))
    """Seconds of a run."""
    latency: Histogram = field(default_factory=lambda: Histogram(LONG))
    """Seconds from the oldest change that a run found until all of it was on the replica."""
    connected: int = 0
    """Connections that were made, and tries that failed."""
    not_connected: int = 0

    def run(self, outcome: Outcome, taken: float, oldest: float | None, now: float) -> None:
        """A run that began at `taken` has ended; `oldest` is when its first change was made, None where that
        is not known. Times in Unix seconds."""
        self.runs.observe(max(0.0, now - taken))
        if outcome.complete:
            self.latency.observe(max(0.0, now - (taken if oldest is None else oldest)))
        for failure in outcome.failed:
            self._failed(failure.error)
        if outcome.broken is not None:
            self._failed(outcome.broken)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, ItemsFailed) and error.failures:
            for _, one in error.failures:
                self._failed(one)
        else:
            self.failures[code_of(error)] += 1
