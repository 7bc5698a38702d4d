"""What a process of a node counts of its fleet, and what all processes of the node have counted together.

All labels are words of this module: no user, no mailbox. The sums of the node are in a file of its cache, to
which each process adds now and then: so that `mailstore fleet status`, which has seen nothing itself, can say
how often the cache had what was wanted.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cyrus_sync.common.metrics.tallies import BRIEF, Histogram

COMMITS = ("published", "overtaken", "failed")
"""What became of commits. *Overtaken*: another node was faster; a group of changes is made once more then."""

COPIES = ("current", "journal", "base")
"""What this node's copy of an owner was, when it was asked for: current; behind, and brought up to date along
the journal; not there or of no use, and made from the base (or the first commit)."""

READS = ("cache", "objects", "journal")
"""Where octets of packs were read."""

FAILURES = ("copy", "history", "lost")
"""This node's copy was of no use, and was made anew; PostgreSQL does not have commits any more that this node
has seen; an object or a row is lost that somebody needs."""

TALLIES = "tallies"
"""The file of the node, in its cache."""

_SECONDS = 1.0
"""Between two times that a process adds to the file."""

_OCTETS = 4096


class Spent(NamedTuple):
    """How often, and how many octets."""

    times: int = 0
    octets: int = 0


class Tallies:
    """Of one process. Safe for several threads."""

    def __init__(self, file: Path) -> None:
        """`file` is that of the node."""
        self._file = file
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._octets: Counter[str] = Counter()
        self._added: dict[str, Spent] = {}
        self._next = 0.0
        self._commit = Histogram(BRIEF)

    def count(self, what: str, octets: int = 0) -> None:
        """One more of `what`: ``commits published``, ``reads cache``."""
        with self._lock:
            self._counts[what] += 1
            if octets:
                self._octets[what] += octets
            due = time.monotonic() >= self._next
            if due:
                self._next = time.monotonic() + _SECONDS
        if due:
            self.add_up()

    def committed(self, seconds: float, octets: int) -> None:
        """A commit was published; `seconds` from the end of SQLite's until all readers of the node see it."""
        with self._lock:
            self._commit.observe(seconds)
        self.count("commits published", octets)

    def spent(self, what: str) -> Spent:
        with self._lock:
            return Spent(self._counts[what], self._octets[what])

    @property
    def commit_seconds(self) -> Histogram:
        with self._lock:
            return self._commit.copy()

    # -- of the node

    def add_up(self) -> None:
        """Add to the file what it does not have yet. Hints: what cannot be written is not counted."""
        with self._lock:
            now = {what: Spent(count, self._octets[what]) for what, count in self._counts.items()}
            before, self._added = self._added, now
        more = {}
        for what, (times, octets) in now.items():
            times_then, octets_then = before.get(what, Spent())
            if times > times_then:
                more[what] = Spent(times - times_then, octets - octets_then)
        if more:
            with contextlib.suppress(OSError):
                _add(self._file, more)

    def of_node(self) -> tuple[float, Mapping[str, Spent]]:
        """Since when (Unix seconds) all processes of this node have counted, and what; 0.0 for never."""
        self.add_up()
        with contextlib.suppress(OSError), self._file.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return _decoded(os.pread(file.fileno(), _OCTETS, 0))
        return 0.0, {}


def _add(path: Path, more: Mapping[str, Spent]) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        since, sums = _decoded(os.pread(descriptor, _OCTETS, 0))
        total = dict(sums)
        for what, one in more.items():
            old = total.get(what, Spent())
            total[what] = Spent(old.times + one.times, old.octets + one.octets)
        text = json.dumps({"since": since or time.time(), "counts": total})
        os.pwrite(descriptor, text.encode().ljust(_OCTETS), 0)
    finally:
        os.close(descriptor)


def _decoded(data: bytes) -> tuple[float, Mapping[str, Spent]]:
    """Nothing, where a power cut has left something else."""
    try:
        found: dict[str, Any] = json.loads(data)
        counts = {str(what): Spent(*map(int, one)) for what, one in found["counts"].items()}
        return float(found["since"]), counts
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0.0, {}
