"""A user's subscriptions: a database of his own, ``sub``, with the names of mailboxes as keys.

Up to 3.4 these are internal names. Since 3.6 the database says its version, and a key is ``N`` and the
database name, in which ``INBOX`` stands for the user's own. By a mistake of version 2 it may stand for the
beginning of another's too: of ``matthew`` in the subscriptions of ``matt``.
"""

from __future__ import annotations

from cyrus_sync.common.names import BadName, check_mailbox_name, inbox_of
from cyrus_sync.spool.db import Database
from cyrus_sync.spool.names import LEVEL, database_name, internal_name
from cyrus_sync.spool.trouble import WITHOUT_FILES, SpoolDamaged

_VERSION = f"{LEVEL}VER{LEVEL}".encode()
_KNOWN = (b"2", b"3")
_NAME, _INBOX = b"N", b"NINBOX"


def read_subscriptions(database: Database, userid: str) -> list[str]:
    """The internal names of the mailboxes that `userid` has subscribed to, sorted. A name that no mailbox can
    have is left out, as it is by Cyrus's own list. Raises `SpoolDamaged` for a version that nobody knows."""
    version = database.get(_VERSION)
    if version is not None and version not in _KNOWN:
        what = f"subscriptions of a version that is not known ({WITHOUT_FILES})"
        raise SpoolDamaged(database.path, 0, what, version.decode("latin-1"))
    found = []
    for key, _ in database.items():
        if key == _VERSION:
            continue
        try:
            name = key.decode() if version is None else _name(key, userid)
            found.append(check_mailbox_name(name))
        except (UnicodeDecodeError, BadName):
            continue
    return sorted(set(found))


def _name(key: bytes, userid: str) -> str:
    if key.startswith(_INBOX):
        return internal_name(database_name(inbox_of(userid)) + key.removeprefix(_INBOX))
    return internal_name(key.removeprefix(_NAME)) if key.startswith(_NAME) else ""
