"""Looking through directories in which daemons are at work: what goes away meanwhile is passed over."""

from __future__ import annotations

import os
from pathlib import Path


def files_below(root: Path) -> dict[Path, os.stat_result]:
    """The files below a directory, links too, in order. (`Path.rglob` raises where a directory is gone by the
    time it is read, up to Python 3.12; and `stat` where a file is.)"""
    found: dict[Path, os.stat_result] = {}
    for directory, below, names in os.walk(root):
        links = [name for name in below if Path(directory, name).is_symlink()]
        for path in (Path(directory, name) for name in (*names, *links)):
            try:
                found[path] = path.lstat()
            except FileNotFoundError:
                continue
    return dict(sorted(found.items()))
