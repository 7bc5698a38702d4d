"""What of a backup is not needed any more.

Kept is every backup of the last so many seconds, and the newest one before: any moment of that time can be
had. The newest one of all is always kept, and so is everything that a kept manifest names. A manifest that
cannot be read might need anything: its owner is left alone.

A backup may be running, here or on another machine, and builds on the newest manifest that it has seen. So a
manifest goes only when the next one has been there for `GRACE` (longer than `sending.LONGEST`), and an object
that nobody names only when it is as old; both by the clock of the object store. Whoever begins after that
builds on something else, and names are never used twice. Manifests go first: killed in between, this leaves
objects that nobody needs, and the next one finds them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from cyrus_sync.mailstore.backup.kept import Kept, as_of
from cyrus_sync.mailstore.backup.names import INDEXES, PACKS, ManifestName

GRACE = timedelta(days=1)


class Needless(NamedTuple):
    """Keys below the owner's folder, in the order in which they are to go, and octets of all of them."""

    manifests: list[str]
    objects: list[str]
    octets: int
    kept: int
    """Complete backups that stay."""


def needless(kept: Kept, *, before: int, now: datetime) -> Needless:
    """What may go. `before`: moments since then (Unix seconds) can be restored. `now`: of the store's clock.
    Raises `ObjectDamaged` and `ObjectMissing` for a manifest that is to be kept."""
    complete = kept.complete()
    oldest = as_of(complete, before) or (complete[0] if complete else None)
    going = [] if oldest is None else [name for name in kept.manifests if _may_go(kept, name, oldest, now)]
    gone = {name.key for name in going}
    staying = [name for name in kept.manifests if name.key not in gone]
    needed = {piece.key for name in staying for piece in kept.read(name).pieces()}
    objects = [
        key
        for key, there in kept.there.items()
        if key.startswith((f"{PACKS}/", f"{INDEXES}/")) and key not in needed and now - there.modified > GRACE
    ]
    if oldest is None:
        objects = []  # Nothing was ever finished; what there is may be all that is left.
    octets = sum(kept.there[key].size for key in (*gone, *objects))
    return Needless([name.key for name in going], objects, octets, sum(name.complete for name in staying))


def _may_go(kept: Kept, name: ManifestName, oldest: ManifestName, now: datetime) -> bool:
    """Whether a manifest is not wanted, and has not been the newest one for long."""
    place = kept.manifests.index(name)
    if place + 1 == len(kept.manifests) or (name.complete and name >= oldest):
        return False
    if name.complete and name == kept.complete()[-1]:
        return False
    return now - kept.there[kept.manifests[place + 1].key].modified > GRACE


def remove(kept: Kept, found: Needless) -> None:
    """Delete it."""
    for keys in (found.manifests, found.objects):
        kept.objects.delete(f"{kept.folder}/{key}" for key in keys)
