"""What commands keep below configdirectory besides the store: for its owner alone, however old it is.

Newer files are made private. What an older release left readable for others would only become so when it is
next written; so daemons look at their start, and ``mailstore repair`` does.
"""

from __future__ import annotations

from cyrus_sync.common.config.config import Config
from cyrus_sync.common.files import tighten_all

KEPT = ("imports", "multisite", "sync")
"""Directories that hold names of users, or more: what imports brought, a family's log and keys, action logs
with their quarantines."""


def tighten_kept(config: Config) -> int:
    """Take them from all but their owner; how many files and directories were open to others."""
    return sum(tighten_all(config.configdirectory / name) for name in KEPT)
