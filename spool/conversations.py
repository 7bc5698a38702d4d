"""A user's ``conversations``: of all that Cyrus keeps there, replication speaks of one number a mailbox, the
modseq of the last change of a conversation that has a message in it (XCONVMODSEQ).

The key is ``F`` and the mailbox's unique id, up to 3.4 (and wherever nobody has built the database anew) its
name; the value ``0 (<modseq> <conversations> <unseen> <messages> <unseen>)``.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.names import is_deleted
from cyrus_sync.spool.db import Database, Empty
from cyrus_sync.spool.entries import Entry

_log = logging.getLogger(__name__)

_MAILBOX = b"F"
_SUBMISSION = "s"
"""The letter of mailboxes that are never counted."""

_STATUS = re.compile(rb"0 \((\d{1,20})[ )]")


class ConversationCounts:
    """What the database at `path` says of mailboxes. What cannot be read is not known: nobody's mail waits
    for it. `opened`: how it is opened."""

    def __init__(self, path: Path, opened: Callable[[Path], Database]) -> None:
        self._database: Database = Empty(path)
        try:
            self._database = opened(path)
        except StoreError as error:
            self._give_up(error)

    def modseq(self, entry: Entry) -> int:
        """0 where it is not counted, or not known."""
        if is_deleted(entry.name) or _SUBMISSION in entry.mbtype:
            return 0
        try:
            value = self._database.get(_MAILBOX + entry.uniqueid.encode())
            if value is None:
                value = self._database.get(_MAILBOX + entry.name.encode())
        except StoreError as error:
            self._give_up(error)
            return 0
        found = _STATUS.match(value) if value is not None else None
        return int(found[1]) if found else 0

    def close(self) -> None:
        self._database.close()

    def _give_up(self, error: StoreError) -> None:
        _log.warning("conversations are left out: %s", error)
        self._database.close()
        self._database = Empty(self._database.path)
