"""What SQLite, zstd and the disk report, as the errors that a store may raise."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import zstandard

from cyrus_sync.common.errors import CyrusSyncError, MailboxLocked, ProtocolError, StoreCorrupt, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import disk

_SQLITE_WORDS = {
    "readonly database": "it cannot be written: a read-only file system, or another user's file",
    "unable to open": "it cannot be opened: the partition is gone or not mounted, or permission is denied",
    "disk I/O": "the disk cannot be read or written",
}
"""What SQLite's own words mean to an administrator."""
_DAMAGE = (
    "malformed",
    "not a database",
    "disk image",
    "no such table",
    "no such column",
    "no such collation",
    "unsupported file format",
    "corrupt",
    "decode",
)


def is_damage(error: BaseException) -> bool:
    """Whether SQLite says that a file is not what it should be, or has read what is no text."""
    if isinstance(error, UnicodeDecodeError):
        return True
    return isinstance(error, sqlite3.DatabaseError) and any(word in str(error) for word in _DAMAGE)


def store_trouble(error: BaseException, owner: Owner) -> CyrusSyncError:
    """The `StoreError` (or `StoreCorrupt`, or `MailboxLocked`) that `error` amounts to for `owner`."""
    found: CyrusSyncError
    text = str(error)
    if isinstance(error, CyrusSyncError):
        return error.at(user=str(owner))
    if isinstance(error, OSError):
        found = StoreError(disk.why(error))
    elif isinstance(error, OverflowError):
        found = ProtocolError("number out of range")
    elif isinstance(error, UnicodeDecodeError):
        found = StoreCorrupt("index damaged: text that is no text")
    elif isinstance(error, UnicodeError):
        found = ProtocolError("text that is not valid Unicode")
    elif isinstance(error, zstandard.ZstdError):
        found = StoreCorrupt(f"message cannot be decompressed: {text}")
    elif isinstance(error, sqlite3.OperationalError) and "locked" in text:
        found = MailboxLocked()
    elif is_damage(error):
        found = StoreCorrupt(f"index damaged: {text}")
    elif isinstance(error, sqlite3.OperationalError) and "full" in text:
        found = StoreError(f"no room left: {text}")
    else:
        meaning = next((words for sign, words in _SQLITE_WORDS.items() if sign in text), "")
        found = StoreError(f"index: {meaning} ({text})" if meaning else f"index: {text}")
    return found.at(user=str(owner))


@contextmanager
def reporting(owner: Owner) -> Iterator[None]:
    """Let only our own errors out of the block."""
    try:
        yield
    except (sqlite3.Error, OSError, zstandard.ZstdError, OverflowError, UnicodeError) as error:
        raise store_trouble(error, owner) from error
    except CyrusSyncError as error:
        error.at(user=str(owner))
        raise
