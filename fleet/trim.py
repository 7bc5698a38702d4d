"""Keeping a node's cache within its size: who was not asked for the longest time goes first."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.common.stores.native.layout import KINDS
from cyrus_sync.fleet.cache import CachedOwner


class Kept(NamedTuple):
    """An owner in the cache."""

    path: Path
    used: float
    """Unix seconds, about."""
    octets: int


def everything(cache: Path) -> Iterator[Kept]:
    """Everybody who is in the cache, in no order."""
    for kind in KINDS.values():
        for path in (cache / kind).glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                used = (path / "state").stat().st_mtime
                yield Kept(path, used, _octets(path))


def _octets(directory: Path) -> int:
    """What the files below take on the disk."""
    found = 0
    for top, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found += (Path(top) / name).stat().st_blocks * 512
    return found


def trim(cache: Path, most: int) -> tuple[int, int]:
    """Remove owners until at most so many octets are left; how many went, and how many octets. Who is in use
    is left alone."""
    kept = sorted(everything(cache), key=lambda one: one.used)
    surplus = sum(one.octets for one in kept) - most
    count = octets = 0
    for one in kept:
        if octets >= surplus:
            break
        if _remove(one.path):
            count += 1
            octets += one.octets
    return count, octets


def _remove(path: Path) -> bool:
    cached = CachedOwner(path)
    try:
        with cached.lock(0), cached.gate(closed=True, timeout=0) as gate:
            gate.clear()
            shutil.rmtree(path, ignore_errors=True)
    except (MailboxLocked, OSError):
        return False
    return True
