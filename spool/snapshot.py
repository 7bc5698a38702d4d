"""One mailbox at one moment, while its daemons go on writing.

Copy and verify: the index is copied without a lock, then its header and annotations are read, then it is
looked at whether anything was written meanwhile. What was copied is taken only if every checksum in it is
right and both sync CRCs, summed up anew, are those that Cyrus stored. After some tries that a writer
spoilt, `cyrus.index` is locked, shared, for as long as the copying takes, which is milliseconds; what is
wrong then is damage. No other lock is taken, nothing is written, and a message is looked for when it is
read."""

from __future__ import annotations

import bisect
import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.model import Record
from cyrus_sync.common.protocol.crc import ANNOT_SEED
from cyrus_sync.common.stores import disk
from cyrus_sync.spool.annotations import has_checksums, message_annotations
from cyrus_sync.spool.copies import Copy, copy_of
from cyrus_sync.spool.header import MAX_SIZE, MailboxHeader, parse_header
from cyrus_sync.spool.index.header import IndexHeader, parse_index_header
from cyrus_sync.spool.index.layout import LONGEST_HEADER
from cyrus_sync.spool.index.records import Annotations, Place, RecordReader, Sums
from cyrus_sync.spool.index.verified import Keys, Verified
from cyrus_sync.spool.locks import LockBusy, shared
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.trouble import Gone, SpoolDamaged

Items = Callable[[bytes, Path], Iterable[tuple[bytes, bytes]]]
"""The entries of a database, by its content and its path."""

WINDOW = 512
"""Records that are checked at once."""

TRIES = 3
"""How often a mailbox is read without a lock before its index is locked."""

PATIENCE = 10.0
"""Seconds that we wait for that lock."""

_PAUSE = 0.002
_MOST_DRIFTS = 10_000
_verified = Verified()
_drifts: dict[MailboxFiles, Drift] = {}
"""Of mailboxes whose stored sync CRCs were found wrong under a lock."""


class Drift(NamedTuple):
    """How both sync CRCs that Cyrus stored differ (XOR) from what the records sum up to.

    0 means that they agree. Cyrus adds every change to them and never looks at the whole, so a difference
    stays until ``reconstruct``; 3.2, for one, leaves one wherever it forgets a keyword."""

    basic: int = 0
    annot: int = 0


class _Copied(NamedTuple):
    """What was read of a mailbox, not yet believed."""

    head: bytes
    records: Copy
    header: bytes
    annotations: bytes


def take(files: MailboxFiles, owner: str, items: Items, *, patience: float = PATIENCE) -> Snapshot:
    """The mailbox in `files` as it is now. `owner` is the userid that it belongs to, "" for a shared one.

    Raises `Gone` where there is none (any more), `SpoolDamaged` for what is wrong in it however often it is
    read, `MailboxLocked` if its index is locked for longer than `patience` seconds, `StoreError` for what
    the disk, or its permissions, do not allow."""
    try:
        for attempt in range(TRIES):
            if attempt:
                time.sleep(_PAUSE * 2**attempt)
            with contextlib.suppress(SpoolDamaged):
                return _verify(files, owner, items, _copy(files), _drifts.get(files, Drift()))
        return _verify(files, owner, items, _copy_locked(files, patience), None)
    except LockBusy as busy:
        raise MailboxLocked(f"Mailbox locked: {files.index}: {busy}") from None
    except OSError as error:
        raise StoreError(disk.why(error, str(files.index))) from error


def _copy(files: MailboxFiles) -> _Copied:
    """Read everything, and see that nothing was written while we did."""
    with _opened(files.index) as index:
        before = _signature(files.annotations)
        copied = _read(files, index)
        again = os.pread(index, LONGEST_HEADER, 0)
        if again != copied.head or not _is_still(files.index, index):
            raise _spoilt(copied, files.index, "it was written while it was read")
        if _signature(files.annotations) != before:
            raise _spoilt(copied, files.annotations, "it was written while it was read")
        return copied


def _copy_locked(files: MailboxFiles, patience: float) -> _Copied:
    """Read everything while nobody may write."""
    end = time.monotonic() + patience
    while True:
        with _opened(files.index) as index, shared(index, max(0.0, end - time.monotonic())):
            if _is_still(files.index, index):
                return _read(files, index)
        if time.monotonic() >= end:
            raise LockBusy("it is replaced again and again")


def _spoilt(copied: _Copied, path: Path, what: str) -> SpoolDamaged:
    copied.records.close()
    return SpoolDamaged(path, 0, what)


def _read(files: MailboxFiles, index: int) -> _Copied:
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
        return _Copied(head, copy, _content(files.header, MAX_SIZE), _annotations(files.annotations))
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
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise SpoolDamaged(path, 0, "not there, and the index of its mailbox is") from None
    if len(data) > most:
        raise SpoolDamaged(path, most, "too large to be one")
    return data


def _annotations(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


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


def _verify(files: MailboxFiles, owner: str, items: Items, copied: _Copied, drift: Drift | None) -> Snapshot:
    """Believe what was copied. `drift`: which one the stored sync CRCs may have besides none; None, where
    nobody could write meanwhile, is any. Raises `SpoolDamaged`."""
    try:
        index = parse_index_header(copied.records.read(0, LONGEST_HEADER), files.index)
        header = parse_header(copied.header, files.header)
        if header.crc != index.header_file_crc:
            what = f"its CRC is {header.crc:#010x}, and {index.header_file_crc:#010x} in the index"
            raise SpoolDamaged(files.header, 0, what, index.minor_version)
        annotations: Annotations = {}
        if copied.annotations:
            annotations = message_annotations(
                items(copied.annotations, files.annotations), files.annotations, owner
            )
        snapshot = Snapshot(files, index, header, annotations, copied.records)
        snapshot.verify()
        if snapshot.drift != Drift() and snapshot.drift != drift:
            if drift is not None or (snapshot.drift.annot and not has_checksums(copied.annotations)):
                raise SpoolDamaged(files.index, 0, snapshot.complaint, index.minor_version)
            _remember(files, snapshot.drift)
        return snapshot
    except BaseException:
        copied.records.close()
        raise


def _remember(files: MailboxFiles, drift: Drift) -> None:
    if len(_drifts) >= _MOST_DRIFTS:
        _drifts.clear()
    _drifts[files] = drift


@dataclass(slots=True)
class Window:
    """Some records that stand together. `first` is the number of the first."""

    first: int
    count: int
    sums: Sums


class Snapshot:
    """A mailbox that was verified. `close` it when it is no longer wanted; not for several threads at
    once."""

    def __init__(
        self,
        files: MailboxFiles,
        index: IndexHeader,
        header: MailboxHeader,
        annotations: Annotations,
        copy: Copy,
    ) -> None:
        self.files = files
        self.index = index
        """The counters."""
        self.header = header
        """Uniqueid, quota root, keywords."""
        self.annotations = annotations
        """Of messages, expunged ones too."""
        self.crcs = (0, ANNOT_SEED)
        """Both sync CRCs, as releases up to 3.12 count them."""
        self.drift = Drift()
        """How those that are stored differ."""
        self._copy = copy
        self._reader = RecordReader(index, header.keywords, files.index)
        self._windows: list[Window] = []

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._copy.close()

    # -- verifying

    def verify(self) -> None:
        """Check every record and the counters, and sum up both sync CRCs. Raises `SpoolDamaged`."""
        keys = Keys(self.index.minor_version, self.index.record_size, self.header.keywords)
        annotated = sorted(self.annotations)
        basic, annot, wide, last, live = 0, 0, 0, 0, 0
        for first in range(0, self.index.num_records, WINDOW):
            count = min(WINDOW, self.index.num_records - first)
            data = self._data(first, count)
            key = keys.key(data)
            sums = _verified.get(key)
            if sums is None:
                sums = self._reader.sums(data, first)
                _verified.put(key, sums)
            self._check_counters(first, sums, last)
            self._windows.append(Window(first, count, sums))
            last = sums.last_uid or last
            live += sums.live
            basic ^= sums.basic
            wide ^= sums.wide
            if _any_between(annotated, sums.first_uid, sums.last_uid):
                annot ^= self._reader.annot_sum(data, first, self.annotations)
            else:
                annot ^= sums.annot
        self._compare_crcs(basic, annot, wide)
        if live != self.index.exists:
            self._damaged(0, f"{live} records are live, and {self.index.exists} by its header")

    def _check_counters(self, first: int, sums: Sums, last: int) -> None:
        offset = self.index.start_offset + first * self.index.record_size
        if sums.first_uid and sums.first_uid <= last:
            self._damaged(offset, "its UIDs do not rise")
        if sums.last_uid > self.index.last_uid:
            self._damaged(offset, f"it has a UID above its last one, {self.index.last_uid}")
        if sums.modseq > self.index.highestmodseq:
            self._damaged(offset, f"it has a modseq above its highest, {self.index.highestmodseq}")

    def _compare_crcs(self, basic: int, annot: int, wide: int) -> None:
        self.crcs = (basic, annot ^ ANNOT_SEED)
        as_counted = {annot ^ start ^ ids for start in (ANNOT_SEED, 0) for ids in (0, wide)}
        stored = self.index.sync_crc_annot
        agrees = stored in as_counted or not self.index.has_annotation_crc
        self.drift = Drift(basic ^ self.index.sync_crc, 0 if agrees else annot ^ ANNOT_SEED ^ stored)

    @property
    def complaint(self) -> str:
        """What is wrong with the sync CRCs that are stored, "" if nothing is."""
        if self.drift == Drift():
            return ""
        ours = f"{self.crcs[0]} and {self.crcs[1]}"
        stored = f"{self.index.sync_crc} and {self.index.sync_crc_annot}"
        return f"its sync CRCs are {stored}, and its records sum up to {ours} (reconstruct mends that)"

    def _damaged(self, offset: int, what: str) -> None:
        raise SpoolDamaged(self.files.index, offset, what, self.index.minor_version)

    # -- reading

    def _data(self, first: int, count: int) -> bytes:
        size = self.index.record_size
        return self._copy.read(self.index.start_offset + first * size, count * size)

    def records(self, since_modseq: int = 0, above_uid: int = 0, batch: int = 2000) -> Records:
        """Records with modseq > `since_modseq` and uid > `above_uid`, ascending by UID."""
        return Records(self, since_modseq, above_uid, batch)

    def batches(self, since_modseq: int, above_uid: int, batch: int) -> Iterator[Sequence[Record]]:
        """The batches of `records`, once."""
        waiting: list[Record] = []
        for window in self._windows:
            if window.sums.last_uid <= above_uid or window.sums.modseq <= since_modseq:
                continue
            data = self._data(window.first, window.count)
            waiting += self._reader.records(data, window.first, self.annotations, since_modseq, above_uid)
            while len(waiting) >= batch:
                yield waiting[:batch]
                waiting = waiting[batch:]
        if waiting:
            yield waiting

    def places(self, above_uid: int = 0) -> Iterator[list[Place]]:
        """Where messages above `above_uid` are that still have a file, ascending by UID."""
        for window in self._windows:
            if window.sums.last_uid > above_uid:
                found = self._reader.places(self._data(window.first, window.count))
                yield [place for place in found if place.uid > above_uid]


def _any_between(ascending: Sequence[int], first: int, last: int) -> bool:
    return bisect.bisect_right(ascending, last) > bisect.bisect_left(ascending, first)


class Records:
    """Records in batches; may be iterated more than once (`common.model.RecordSource`)."""

    def __init__(self, snapshot: Snapshot, since_modseq: int, above_uid: int, batch: int) -> None:
        self._snapshot = snapshot
        self._arguments = since_modseq, above_uid, batch

    def __iter__(self) -> Iterator[Sequence[Record]]:
        return self._snapshot.batches(*self._arguments)
