"""Is this another server's mail? A real Cyrus's spool under our configuration reads as an empty store."""

from __future__ import annotations

import os
from pathlib import Path

from cyrus_sync.common.config import Config
from cyrus_sync.spool.config import list_of_mailboxes, reads_spool
from cyrus_sync.sync_client.masters import asks_server

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
    if asks_server(cfg):
        return f"no users whose name begins with '{prefix}' at {cfg.string('cyrus_csync')}"
    spool = reads_spool(cfg)
    if not spool and (found := cyrus_spool(cfg)) is not None:
        return f"no users here: {foreign_mail(found)}"
    places = [list_of_mailboxes(cfg)] if spool else list(cfg.partitions.values())
    where = ", ".join(str(path) for path in places)
    if prefix:
        return f"no users here, and no shared mailboxes, whose name begins with '{prefix}'"
    return f"no users here: there is no mail in {where}"
