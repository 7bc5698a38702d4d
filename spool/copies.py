"""Private copies of files that others change: small ones in memory, large ones in a file without a name."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path
from typing import Protocol

from cyrus_sync.spool.db import Data

IN_MEMORY = 4 * 1024 * 1024
"""Octets up to which a copy is kept in memory."""

_AT_ONCE = 64 * 1024 * 1024


class Copy(Protocol):
    """What was copied."""

    size: int

    def read(self, offset: int, length: int) -> bytes: ...

    def close(self) -> None: ...


class _InMemory:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def close(self) -> None:
        self._data = b""


class _InFile:
    def __init__(self, descriptor: int, size: int) -> None:
        self._file = os.fdopen(descriptor, "rb", buffering=0)
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, offset)

    def close(self) -> None:
        self._file.close()


def copy_of(source: int, size: int) -> Copy:
    """The first `size` octets of an open file, or as many as it has."""
    if size <= IN_MEMORY:
        return _InMemory(_all(source, size))
    target, name = tempfile.mkstemp(prefix="cyrus-sync-")
    try:
        Path(name).unlink()
        return _InFile(target, _transfer(source, target, size))
    except BaseException:
        os.close(target)
        raise


def mapped_copy_of(source: int, size: int) -> Data:
    """The same as octets; those of a large file are mapped."""
    if size <= IN_MEMORY:
        return _all(source, size)
    target, name = tempfile.mkstemp(prefix="cyrus-sync-")
    try:
        Path(name).unlink()
        there = _transfer(source, target, size)
        return mmap.mmap(target, there, prot=mmap.PROT_READ) if there else b""
    finally:
        os.close(target)


def _all(source: int, size: int) -> bytes:
    pieces, at = [], 0
    while at < size and (piece := os.pread(source, size - at, at)):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


def _transfer(source: int, target: int, size: int) -> int:
    """Copy within the kernel; how much was there."""
    at = 0
    while at < size:
        moved = os.sendfile(target, source, at, min(size - at, _AT_ONCE))
        if not moved:
            break
        at += moved
    return at
