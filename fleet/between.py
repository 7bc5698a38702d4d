"""What an owner's directory is called on his way from a partition of this machine into the fleet, or back::

    alice                  he is here, and nobody is asked
    .leaving-alice         he is about to go into the fleet: PostgreSQL says whether he is still here
    .coming-alice          he is about to be here: PostgreSQL says whether he is yet
    .fetching-alice        a copy in the making, which is nobody
    .in-fleet-TIME-alice   what he was before he went, or a copy that was made in vain; for people

A directory of the second or third kind is complete and synced before it is called so. `Between` finds them,
and gives these names.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cyrus_sync.common.files import sync_directory
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.stores.native.layout import INDEX, KINDS, Layout, decode_name, remains
from cyrus_sync.fleet.cache import immutable

LEAVING, COMING, FETCHING = ".leaving-", ".coming-", ".fetching-"
_ASIDE = ".in-fleet-"
_STAMP = "%Y%m%dT%H%M%S.%f-"
_STAMP_LENGTH = len("20261201T033000.000000-")
OF_HEAD = "of-head"
"""A file in a directory that is coming: the head that the fleet's row had."""


class Between:
    """The directories of a `Layout`'s owners who are on their way."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def find(self, owner: Owner) -> Path | None:
        """Where an owner is who is leaving or coming."""
        for place in self._layout.places(owner):
            for prefix in (LEAVING, COMING):
                path = place.with_name(prefix + place.name)
                if (path / INDEX).exists():
                    return path
        return None

    def everybody(self) -> Iterator[Owner]:
        """Whoever is leaving or coming."""
        if self.find(SERVER) is not None:
            yield SERVER
        for kind in KINDS:
            for top in self._layout.partitions.values():
                for prefix in (LEAVING, COMING):
                    for path in sorted((top / KINDS[kind]).glob(f"*/{prefix}*")):
                        name = decode_name(path.name.removeprefix(prefix)) or _name_in(path)
                        if name:
                            yield Owner(kind, name)

    def leave(self, place: Path) -> Path:
        """An owner who is held begins to leave; where he is now. Raises OSError."""
        return _rename(place, place.with_name(LEAVING + place.name))

    def be_here(self, path: Path) -> Path:
        """An owner who was leaving or coming is here. Raises OSError."""
        place = place_of(path)
        (path / OF_HEAD).unlink(missing_ok=True)
        if place.is_dir() and not remains(place) and not (place / INDEX).exists():
            shutil.rmtree(place)  # what somebody had begun to make there long ago
        return _rename(path, place)

    def set_aside(self, path: Path) -> Path:
        """The owner is in the fleet, and what is here is not he. Raises OSError."""
        place = place_of(path)
        stamp = datetime.now().astimezone().strftime(_STAMP)
        return _rename(path, place.with_name(f"{_ASIDE}{stamp}{place.name}"[:255]))

    def aside(self, owner: Owner) -> Path | None:
        """What an owner was when he went last."""
        found = [
            path
            for place in self._layout.places(owner)
            for path in place.parent.glob(f"{_ASIDE}*")
            if path.name[len(_ASIDE) + _STAMP_LENGTH :] == place.name
        ]
        return max(found, key=lambda path: path.name, default=None)


def is_leaving(path: Path) -> bool:
    """Whether a directory that `Between` has found is of one who goes, and not of one who comes."""
    return path.name.startswith(LEAVING)


def head_of(path: Path) -> int:
    """Of which head a copy is that is coming; 0 where it does not say."""
    try:
        return int((path / OF_HEAD).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def place_of(path: Path) -> Path:
    """Where one has his place who is on his way; any other path as it is."""
    for prefix in (LEAVING, COMING, FETCHING):
        if path.name.startswith(prefix):
            return path.with_name(path.name.removeprefix(prefix))
    return path


def _rename(path: Path, target: Path) -> Path:
    path.rename(target)
    sync_directory(target.parent)
    return target


def _name_in(path: Path) -> str:
    """As the index says."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(immutable(path / INDEX)) as connection:
        row = connection.execute("SELECT name FROM owner").fetchone()
        return str(row[0]) if row else ""
    return ""
