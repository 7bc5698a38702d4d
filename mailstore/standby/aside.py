"""What the store has no longer is put aside, and removed for good only after a time.

A folder goes into ``cyrus-sync-deleted`` of its tree, which Dovecot does not see, as it begins with no dot;
the tree of a user who is gone is called ``NAME.deleted-<when>``. What users wrote at a standby that is given
up is in ``NAME.written-<when>``: nobody removes that.
"""

from __future__ import annotations

import glob
import shutil
from pathlib import Path

from cyrus_sync.common.files import sync_directory
from cyrus_sync.mailstore.standby.disk import Ways

_DELETED = "cyrus-sync-deleted"


def tree_aside(root: Path, why: str, now: float) -> Path:
    """Where a tree goes, or parts of it."""
    return root.with_name(f"{root.name}.{why}-{int(now)}")


def put_folder_aside(root: Path, directory: str, now: float) -> None:
    """The store has this folder no longer."""
    place = root / _DELETED
    Ways.of(root).make(place)
    (root / directory).rename(place / f"{int(now)}{directory}")
    sync_directory(root)


def put_tree_aside(root: Path, now: float) -> None:
    """The store has no mail of the owner any more."""
    root.rename(tree_aside(root, "deleted", now))
    sync_directory(root.parent)


def purge(root: Path, now: float, keep: float) -> None:
    """Remove what was deleted more than `keep` seconds ago."""
    inside = root / _DELETED
    for entry in list(inside.iterdir()) if inside.is_dir() else ():
        _remove_old(entry, entry.name.partition(".")[0], now - keep)
    for entry in root.parent.glob(f"{glob.escape(root.name)}.deleted-*"):
        _remove_old(entry, entry.name.rpartition("-")[2], now - keep)


def _remove_old(entry: Path, when: str, before: float) -> None:
    if when.isdecimal() and int(when) < before:
        shutil.rmtree(entry)
