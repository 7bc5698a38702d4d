"""Is this another server's mail? A real Cyrus's spool under our configuration reads as an empty store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import assert_never

from cyrus_sync.common.config import Config
from cyrus_sync.spool.config import list_of_mailboxes
from cyrus_sync.spool.whose import Mail, whose_mail

_LOOKS = 2000
"""Directories that are looked into, at most."""


def cyrus_spool(cfg: Config) -> Path | None:
    """A file by which a real Cyrus is known: its list of mailboxes, or the header of one."""
    for name in ("mailboxes.db", "db/mailboxes.db"):
        path = cfg.configdirectory / name
        if path.exists():
            return path
    looks = 0
    for top in cfg.partitions.values():
        for place, _, files in os.walk(top):
            if "cyrus.header" in files:
                return Path(place) / "cyrus.header"
            looks += 1
            if looks >= _LOOKS:
                return None
    return None


def foreign_mail(found: Path) -> str:
    """What to say of mail that the configuration leaves out."""
    return f"{found} belongs to a real Cyrus IMAP server: with sync_source: cyrus its mail is read"


def nobody_here(cfg: Config, prefix: str) -> str:
    """Why ``-A`` finds nothing to do."""
    match whose_mail(cfg):
        case Mail.SERVER:
            return f"no users whose name begins with '{prefix}' at {cfg.string('cyrus_csync')}"
        case Mail.SPOOL:
            places = [list_of_mailboxes(cfg)]
        case Mail.STORE:
            if (found := cyrus_spool(cfg)) is not None:
                return f"no users here: {foreign_mail(found)}"
            places = list(cfg.partitions.values())
        case other:
            assert_never(other)
    where = ", ".join(str(path) for path in places)
    if prefix:
        return f"no users here, and no shared mailboxes, whose name begins with '{prefix}'"
    return f"no users here: there is no mail in {where}"
