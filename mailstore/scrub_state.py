"""How far the scrub is, and what the last one found: a file that the next run, and monitoring, reads.

``<configdirectory>/verify.json``, replaced as a whole; times in Unix seconds, sizes in octets::

    {"version": 1,
     "now":  {"begun": …, "updated": …, "ended": null, "at": "user:alice", "after": "3:4711",
              "owners": 41000, "of": 100000, "messages": …, "octets": …, "problems": 2, "damaged": 1,
              "healed": 1, "failed": 0, "rate": 5242880, "running": true, "pid": 4711},
     "last": {the same, of the last one that came to its end; null before there is one}}

`owners` are done, `of` is how many there are. `problems` counts all that was found wrong, `damaged` the
messages among it, `healed` those that the peer has given; `failed` are owners who could not be checked. `at`
and `after` say where it goes on; `running` is false once a scrub has ended or was stopped (not if it was
killed: `updated` tells).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import make_directories, write_over
from cyrus_sync.common.stores import disk

VERSION = 1
FILE = "verify.json"
WRITE_EVERY = 5.0
"""Seconds between two writes: so much is read again after it was killed."""


@dataclass(slots=True)
class Scrub:
    """One of them."""

    begun: float = 0
    updated: float = 0
    ended: float | None = None
    at: str = ""
    after: str = ""
    owners: int = 0
    of: int = 0
    messages: int = 0
    octets: int = 0
    problems: int = 0
    damaged: int = 0
    healed: int = 0
    failed: int = 0
    rate: int = 0
    running: bool = False
    pid: int = 0

    @classmethod
    def of_json(cls, found: Any) -> Scrub:
        """ValueError, TypeError or KeyError for what is none."""
        known = {each.name: found[each.name] for each in fields(cls)}
        if not all(isinstance(value, int | float | str | None) for value in known.values()):
            raise TypeError("not a scrub")
        return cls(**known)


@dataclass(slots=True)
class ScrubState:
    """The file. Blocks on a disk."""

    path: Path
    seconds: Callable[[], float]
    now: Scrub = field(default_factory=Scrub)
    last: Scrub | None = None
    _written: float = 0

    def read(self) -> bool:
        """Whether a scrub was interrupted, with which to go on. A damaged file is as good as none."""
        try:
            found = json.loads(self.path.read_bytes())
            if found["version"] != VERSION:
                return False
            self.last = Scrub.of_json(found["last"]) if found["last"] else None
            self.now = Scrub.of_json(found["now"])
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return self.now.ended is None and bool(self.now.begun)

    def write(self, *, at_once: bool = False) -> None:
        """Raises `StoreError`."""
        now = self.seconds()
        if not at_once and now - self._written < WRITE_EVERY:
            return
        self._written = self.now.updated = now
        document = {
            "version": VERSION,
            "now": asdict(self.now),
            "last": asdict(self.last) if self.last else None,
        }
        try:
            make_directories(self.path.parent)
            write_over(self.path, (json.dumps(document, indent=1) + "\n").encode(), 0o640)
        except OSError as error:
            raise StoreError(disk.why(error, str(self.path))) from error
