"""SQLite's write-ahead log, read from outside: which pages commits have changed (SQLite's file format, 4).

The log alone is opened. SQLite locks the index and the ``-shm`` file by what POSIX calls advisory locks: a
process that opens and closes one of these by itself loses all the locks that it has on it. The log is never
locked.

A log goes on from its beginning when all of it has gone into the index; it has another *salt* then. Behind
the last commit there may be frames with the same salt: of a transaction that was rolled back. None of these
is a commit.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.fleet.delta import Change

_LOG_HEAD = struct.Struct(">IIIIQII")
_FRAME_HEAD = struct.Struct(">IIQII")


class Position(NamedTuple):
    """A place in a log: its salt, and how many frames stand before."""

    salt: int = 0
    frames: int = 0


def end_of(place: Position, page: int) -> int:
    """How many octets a log has in which nothing follows the place."""
    return _LOG_HEAD.size + place.frames * (_FRAME_HEAD.size + page)


def log_size(index: Path) -> int:
    """How many octets the log has; 0 where there is none."""
    try:
        return os.stat(f"{index}-wal").st_size  # noqa: PTH116 (at every commit)
    except FileNotFoundError:
        return 0


def read_log(index: Path, after: Position) -> tuple[Position, Change | None] | None:
    """The end of the last commit, and what was changed since the place `after` (`Position()`: there was no
    log then); no change where there was none. None where the log does not go on from there."""
    try:
        file = open(f"{index}-wal", "rb", buffering=0)  # noqa: PTH123, SIM115 (at every commit; closed below)
    except FileNotFoundError:
        return (after, None) if after == Position() else None
    with file:
        head = file.read(_LOG_HEAD.size)
        if len(head) < _LOG_HEAD.size:
            return (after, None) if after == Position() else None
        _, _, page, _, salt, _, _ = _LOG_HEAD.unpack(head)
        if after.salt != salt and after != Position():
            return None
        size = _FRAME_HEAD.size + page
        start = _LOG_HEAD.size + after.frames * size
        found = os.pread(file.fileno(), max(os.fstat(file.fileno()).st_size - start, 0), start)
    numbers, last, total = [], 0, 0
    for count, offset in enumerate(range(0, len(found) - size + 1, size), 1):
        number, committed, own, _, _ = _FRAME_HEAD.unpack_from(found, offset)
        if own != salt:
            break
        numbers.append(number)
        if committed:
            last, total = count, committed
    if not last:
        return Position(salt, after.frames) if after.frames else Position(), None
    offsets = {number: index * size + _FRAME_HEAD.size for index, number in enumerate(numbers[:last])}
    pages = {number: found[offset : offset + page] for number, offset in offsets.items() if number <= total}
    return Position(salt, after.frames + last), Change(page, total, pages)
