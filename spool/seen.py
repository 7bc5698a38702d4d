"""What a user has seen in mailboxes that are not his: a database of his own, ``seen``.

The key is the mailbox's unique id, the value ``1 <lastread> <lastuid> <lastchange> <uid sequence>``.
"""

from __future__ import annotations

import re
from pathlib import Path

from cyrus_sync.common.model import Seen
from cyrus_sync.spool.db import Database
from cyrus_sync.spool.trouble import SpoolDamaged

_VALUE = re.compile(rb"1 +(-?\d{1,20}) +(-?\d{1,20}) +(-?\d{1,20})(?: +([0-9:,*]*))? *")
_MAX_UID = 2**32 - 1


def read_seen(database: Database) -> list[Seen]:
    """Every record, in the order of unique ids. Raises `SpoolDamaged`."""
    found = [_record(key, value, database.path) for key, value in database.items()]
    return sorted(found, key=lambda seen: seen.uniqueid)


def read_seen_of(database: Database, uniqueid: str) -> Seen | None:
    """That of one mailbox."""
    key = uniqueid.encode()
    value = database.get(key)
    return None if value is None else _record(key, value, database.path)


def _record(key: bytes, value: bytes, path: Path) -> Seen:
    found = _VALUE.fullmatch(value)
    try:
        uniqueid = key.decode("ascii")
    except UnicodeDecodeError:
        found = None
    if not found:
        raise SpoolDamaged(path, 0, f"the record of {key!r} cannot be read: {value[:80]!r}")
    lastread, lastuid, lastchange = (max(0, int(number)) for number in found.groups()[:3])
    uids = (found[4] or b"").decode()
    return Seen(uniqueid, lastread, min(lastuid, _MAX_UID), lastchange, uids)
