"""Where the mail of this store was backed up to, and when all of it was: a note for each place.

A disk that is not mounted looks like an empty directory, and a bucket with another prefix like an empty one.
A backup into either would say that all is well, and nobody would see that it is the first one, on the wrong
disk. So a place that had backups is refused once it has none.

The notes are ``<configdirectory>/backup/<digest>.json``: an object with ``place`` (string), ``first`` and
``everybody`` (Unix seconds; when the first backup was made there, and when everybody was backed up last; null
for never).
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import ObjectsUnavailable
from cyrus_sync.common.files import make_directories, write_over
from cyrus_sync.mailstore.backup.kept import folders
from cyrus_sync.mailstore.moments import shown
from cyrus_sync.objects.store import ObjectStore


class Place(NamedTuple):
    """A place as its note knows it. A note that cannot be read counts as none."""

    path: Path
    place: str
    first: float | None = None
    everybody: float | None = None

    def check(self, objects: ObjectStore) -> None:
        """Raises `ObjectsUnavailable` where there were backups and are none."""
        if self.first is not None and next(folders(objects), None) is None:
            raise ObjectsUnavailable(
                f"{self.place}: backups were made since {shown(int(self.first))}, and there is none now: "
                f"is it mounted? To begin anew, remove {self.path}"
            )

    def backed_up(self, now: float, *, everybody: bool) -> None:
        """Something of the store, or all of it, is there since `now`. Raises OSError."""
        note = {
            "place": self.place,
            "first": self.first or now,
            "everybody": now if everybody else self.everybody,
        }
        make_directories(self.path.parent)
        write_over(self.path, json.dumps(note, sort_keys=True).encode() + b"\n")


def place_of(configdirectory: Path, objects: ObjectStore) -> Place:
    """What is known of the place of `objects`."""
    name = sha256(objects.place.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    path = configdirectory / "backup" / f"{name}.json"
    return _read(path) or Place(path, objects.place)


def places(configdirectory: Path) -> list[Place]:
    """All that are known."""
    found = map(_read, sorted((configdirectory / "backup").glob("*.json")))
    return [place for place in found if place is not None]


def _read(path: Path) -> Place | None:
    try:
        note = json.loads(path.read_bytes())
        times = [None if note[key] is None else float(note[key]) for key in ("first", "everybody")]
        return Place(path, str(note["place"]), *times)
    except (OSError, ValueError, KeyError, TypeError):
        return None
