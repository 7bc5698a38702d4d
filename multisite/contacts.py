"""When packets of each sibling were last applied here, in a small file for whoever watches; and how often one
has to come.

Nothing depends on it. It says that a line between two sites is alive, also where packets bring nothing new.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.commands import reason
from cyrus_sync.common.config import Config
from cyrus_sync.common.files import write_over

FILE = "contacts.json"

_log = logging.getLogger(__name__)


SHOW_EVERY = 7 * 86400
"""Seconds after which a packet without operations says what a replica has got meanwhile, at most."""


def show_every(config: Config) -> int:
    """Seconds after which an export that has nothing to tell shows what this replica has: often enough for
    the others to trim their logs."""
    return min(SHOW_EVERY, config.duration("multisite_keep") // 4)


class Contact(NamedTuple):
    """A sibling's last packet was applied here at `imported`, and written there at `made`. Unix seconds."""

    imported: int
    made: int


def read_contacts(directory: Path) -> dict[str, Contact]:
    """By replica id. Nothing where there is no file that can be read."""
    try:
        found = json.loads((directory / FILE).read_text(encoding="utf-8"))
        return {str(replica): Contact(int(when), int(made)) for replica, (when, made) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def note_contact(directory: Path, replica: str, contact: Contact) -> None:
    """A packet of this replica has been applied. Never raises: it is applied whatever becomes of the note."""
    known = read_contacts(directory)
    before = known.get(replica, contact)
    known[replica] = Contact(max(before.imported, contact.imported), max(before.made, contact.made))
    try:
        write_over(directory / FILE, json.dumps(known, sort_keys=True).encode(), 0o600)
    except OSError as error:
        _log.warning("cannot note when packets came: %s", reason(error))
