"""A user's ``counters``: one small file of numbers, which Cyrus writes where conversations are counted.

Replication speaks of one of them, the modseq of the last change of rights (RACLMODSEQ).
"""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.stores import disk

_RACL = 88
_FIRST_VERSION = 4
"""That has this number. All end in a CRC of what is before it."""


def read_raclmodseq(path: Path) -> int:
    """0 where there is none, or where it is being written. Raises `StoreError` where the file cannot be
    read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StoreError(disk.why(error, str(path))) from error
    if len(data) < _RACL + 8 + 4 or int.from_bytes(data[4:8], "big") < _FIRST_VERSION:
        return 0
    if crc32(data[:-4]) != int.from_bytes(data[-4:], "big"):
        return 0
    return int.from_bytes(data[_RACL : _RACL + 8], "big")
