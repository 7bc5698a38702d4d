"""Stamps of indexes that are files: what changes whenever SQLite writes to one (`homes.Stamp`).

SQLite writes a commit to the log, and from there to the index, with write(2): the time of one of the two
changes, and as a rule a length. Times have the grain of the kernel's clock, so two changes in one tick may
look like one. A file that has been left alone for `GRAIN` is beyond that. `mark` sets a time with digits of
its own: the next write, however soon, sets one of the clock. The time at which rights were changed is in
the stamp, too: an index that cannot be read any more is asked, and says so.
"""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from cyrus_sync.common.stores.native.homes import Stamp
from cyrus_sync.common.stores.native.layout import INDEX

GRAIN = 100_000_000
"""Nanoseconds after which a change has another time: ten ticks of the slowest clock."""

_LOG = f"{INDEX}-wal"


def look_at(directory: Path) -> Stamp | None:
    """The stamp of the index in `directory`; None if there is none, or it cannot be seen."""
    octets = packs = 0
    index = log = None
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(INDEX):
                    about = entry.stat()
                    octets += about.st_size
                    if name == INDEX:
                        index = about
                    elif name == _LOG and about.st_size:
                        log = about
                elif name.startswith("pack-"):
                    packs += 1
    except OSError:
        return None
    if index is None:
        return None
    text = f"{index.st_dev}.{index.st_ino}.{index.st_size}.{index.st_mtime_ns}.{index.st_ctime_ns}"
    changed = index.st_mtime_ns
    if log is not None:
        text += f"+{log.st_ino}.{log.st_size}.{log.st_mtime_ns}"
        changed = max(changed, log.st_mtime_ns)
    age = time.time_ns() - changed
    return Stamp(directory, text, age > GRAIN, log is not None, octets, packs)


def mark(directory: Path) -> Stamp | None:
    """Give the index a time that no other state of it has. None where a log is in use. Raises OSError."""
    path = directory / INDEX
    about = path.stat()
    now = about.st_mtime_ns
    os.utime(path, ns=(about.st_atime_ns, now - now % 1_000_000 + secrets.randbelow(1_000_000)))
    found = look_at(directory)
    return None if found is None or found.logged else found._replace(settled=True)
