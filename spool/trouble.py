"""What can be wrong with a spool: damage, a mailbox that is gone, files that are not for us."""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.errors import StoreCorrupt, StoreError
from cyrus_sync.common.stores import disk

WITHOUT_FILES = "sync_source: csync needs no knowledge of files"
"""What to do about a format that is not known: said with every complaint of one."""


class SpoolDamaged(StoreCorrupt):
    """A file of the spool holds what no Cyrus that we know writes, or what its checksum does not confirm.

    It concerns one mailbox, or one database, alone. While nobody is kept from writing, a write that was seen
    in the middle looks the same: then read again, and under a lock at last. `offset` is in bytes from the
    beginning of `file`; `version` is that of the format, as far as the file tells it.
    """

    text = "spool damaged"

    def __init__(self, file: Path, offset: int, what: str, version: int | str = "") -> None:
        known = f" (version {version})" if version != "" else ""
        super().__init__(f"{file}, offset {offset}{known}: {what}")
        self.file = file
        self.offset = offset
        self.version = version
        self.what = what


class Gone(Exception):
    """The mailbox, or a file that makes it one, is not there (any more)."""


def cannot_read(path: Path, error: Exception) -> StoreError:
    """What to raise where the operating system refuses."""
    if isinstance(error, PermissionError):
        return StoreError(f"{disk.why(error, str(path))}: run this as the user that Cyrus runs as")
    return StoreError(f"{path}: cannot be read: {error}")
