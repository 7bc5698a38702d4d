"""Copying the files of a mailbox: without a lock while nothing is written, else under a short one."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.stores import disk
from cyrus_sync.spool.copies import Copy, copy_of, mapped_copy_of
from cyrus_sync.spool.db import Data
from cyrus_sync.spool.header import MAX_SIZE, MailboxHeader, parse_header
from cyrus_sync.spool.index.header import IndexHeader, parse_index_header
from cyrus_sync.spool.index.layout import LONGEST_HEADER
from cyrus_sync.spool.locks import LockBusy, shared
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.trouble import Gone, SpoolDamaged

T = TypeVar("T")

TRIES = 3
"""How often a mailbox is read without a lock before its index is locked."""

PATIENCE = 10.0
"""Seconds that we wait for that lock."""

_PAUSE = 0.002
_PIECE = 64 * 1024


class Copied(NamedTuple):
    """What was read of a mailbox. Nothing was written meanwhile, as far as that can be told without looking
    into it."""

    head: bytes
    records: Copy
    """The whole index."""
    header: bytes
    annotations: Data
    """The whole database; a large one in a file without a name that is mapped."""


@dataclass(frozen=True, slots=True)
class Peek:
    """The counters of a mailbox, and what its cyrus.header says, of one moment."""

    index: IndexHeader
    header: MailboxHeader


def peek(files: MailboxFiles, *, patience: float = PATIENCE) -> Peek:
    """Look at a mailbox without its records. Raises as `common.master` has it, and `Gone`."""

    def look(descriptor: int) -> Peek:
        index = parse_index_header(os.pread(descriptor, LONGEST_HEADER, 0), files.index)
        if index.is_deleted:
            raise Gone(f"{files.index}: the mailbox is deleted")
        header = parse_header(_content(files.header, MAX_SIZE), files.header)
        check_belonging(files, index, header)
        return Peek(index, header)

    def freely() -> Peek:
        with _opened(files.index) as descriptor:
            return look(descriptor)

    return patiently(files, freely, lambda: locked(files, patience, look))


def check_belonging(files: MailboxFiles, index: IndexHeader, header: MailboxHeader) -> None:
    """Raise `SpoolDamaged` unless `index` was written with this `header` beside it."""
    if header.crc != index.header_file_crc:
        what = f"its CRC is {header.crc:#010x}, and {index.header_file_crc:#010x} in the index"
        raise SpoolDamaged(files.header, 0, what, index.minor_version)


def patiently(files: MailboxFiles, freely: Callable[[], T], under_lock: Callable[[], T]) -> T:
    """What `freely` gives if it finds nothing wrong in one of `TRIES` times, else what `under_lock` does.

    Raises `Gone`, `SpoolDamaged`, `MailboxLocked`, and `StoreError` for what the disk, or its permissions,
    do not allow.
    """
    try:
        for attempt in range(TRIES):
            if attempt:
                time.sleep(_PAUSE * 2**attempt)
            with contextlib.suppress(SpoolDamaged):
                return freely()
        return under_lock()
    except LockBusy as busy:
        raise MailboxLocked(f"Mailbox locked: {files.index}: {busy}") from None
    except SpoolDamaged as damage:
        if not files.index.exists():
            raise Gone(f"{files.index}: not there any more") from damage
        raise
    except OSError as error:
        raise StoreError(disk.why(error, str(files.index))) from error


def locked(files: MailboxFiles, patience: float, work: Callable[[int], T]) -> T:
    """Do `work` with the open index while nobody may write to it. Raises `LockBusy`."""
    end = time.monotonic() + patience
    while True:
        with _opened(files.index) as descriptor, shared(descriptor, max(0.0, end - time.monotonic())):
            if _is_still(files.index, descriptor):
                return work(descriptor)
        if time.monotonic() >= end:
            raise LockBusy("it is replaced again and again")


def copy(files: MailboxFiles) -> Copied:
    """Read everything, and see that nothing was written while we did. Raises `SpoolDamaged` if something
    was."""
    with _opened(files.index) as index:
        before = _signature(files.annotations)
        copied = read(files, index)
        again = os.pread(index, LONGEST_HEADER, 0)
        if again != copied.head or not _is_still(files.index, index):
            raise _spoilt(copied, files.index)
        if _signature(files.annotations) != before:
            raise _spoilt(copied, files.annotations)
        return copied


def _spoilt(copied: Copied, path: Path) -> SpoolDamaged:
    copied.records.close()
    return SpoolDamaged(path, 0, "it was written while it was read")


def read(files: MailboxFiles, index: int) -> Copied:
    """Read everything. `index` is the open cyrus.index."""
    head = os.pread(index, LONGEST_HEADER, 0)
    header = parse_index_header(head, files.index)
    if header.is_deleted:
        raise Gone(f"{files.index}: the mailbox is deleted")
    there = os.fstat(index).st_size
    if there < header.size:
        what = f"it ends before record {header.num_records}"
        raise SpoolDamaged(files.index, there, what, header.minor_version)
    copy = copy_of(index, header.size)
    try:
        if copy.size < header.size:
            raise SpoolDamaged(files.index, copy.size, "it became shorter", header.minor_version)
        return Copied(head, copy, _content(files.header, MAX_SIZE), _annotations(files.annotations))
    except BaseException:
        copy.close()
        raise


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise Gone(f"{path}: not there") from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _content(path: Path, most: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SpoolDamaged(path, 0, "not there, and the index of its mailbox is") from None
    try:
        data = b""
        while len(data) <= most and (more := os.read(descriptor, min(_PIECE, most + 1 - len(data)))):
            data += more
            if len(more) < _PIECE:
                break
    except OSError as error:
        raise StoreError(disk.why(error, str(path))) from error
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise SpoolDamaged(path, most, "too large to be one")
    return data


def _annotations(path: Path) -> Data:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return mapped_copy_of(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _is_still(path: Path, descriptor: int) -> bool:
    """Whether the open file is the one at `path`: a repack puts another there."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)
