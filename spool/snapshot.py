"""One mailbox at one moment, while its daemons go on writing.

Copy and verify: the index is copied without a lock, then its header and annotations are read, then it is
looked at whether anything was written meanwhile. What was copied is taken only if every checksum in it is
right, no record is ahead of the counters, and both sync CRCs, summed up anew, are those that Cyrus stored.
(Who wants only what has changed may leave the summing to the replica, which compares what it then has with
the sync CRCs that are sent to it.) After some tries that a writer
spoilt, `cyrus.index` is locked, shared, for as long as the copying takes, which is milliseconds; what is
wrong then is damage. No other lock is taken, nothing is written, and a message is looked for when it is
read.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.model import Record
from cyrus_sync.common.protocol.crc import ANNOT_SEED
from cyrus_sync.spool.annotations import has_checksums, message_annotations
from cyrus_sync.spool.copies import Copy
from cyrus_sync.spool.copying import PATIENCE, Copied, check_belonging, copy, locked, patiently, read
from cyrus_sync.spool.db import Data
from cyrus_sync.spool.header import MailboxHeader, parse_header
from cyrus_sync.spool.index.header import IndexHeader, parse_index_header
from cyrus_sync.spool.index.layout import LONGEST_HEADER
from cyrus_sync.spool.index.records import Annotations, Bounds, Place, RecordReader, Sums
from cyrus_sync.spool.index.verified import Keys, Verified
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.trouble import SpoolDamaged

Items = Callable[[Data, Path], Iterable[tuple[bytes, bytes]]]
"""The entries of a database, by its content and its path."""

WINDOW = 512
"""Records that are checked at once."""

_MOST_DRIFTS = 10_000
_checked = Verified[Bounds]()
_verified = Verified[Sums]()
_drifts: dict[MailboxFiles, Drift] = {}
"""Of mailboxes whose stored sync CRCs were found wrong under a lock."""


class Drift(NamedTuple):
    """How both sync CRCs that Cyrus stored differ (XOR) from what the records sum up to, and by how many
    its number of live messages.

    0 means that they agree. Cyrus adds every change to them and never looks at the whole, so a difference
    stays until ``reconstruct``; 3.2, for one, leaves one wherever it forgets a keyword.
    """

    basic: int = 0
    annot: int = 0
    live: int = 0


def take(
    files: MailboxFiles, owner: str, items: Items, *, summed: bool = True, patience: float = PATIENCE
) -> Snapshot:
    """The mailbox in `files` as it is now. `owner` is the userid that it belongs to, "" for a shared one.
    Unless it is `summed`, its sync CRCs are not compared, and `crcs` not known.

    Raises `Gone` where there is none (any more), `SpoolDamaged` for what is wrong in it however often it is
    read, `MailboxLocked` if its index is locked for longer than `patience` seconds, `StoreError` for what
    the disk, or its permissions, do not allow.
    """

    def freely() -> Snapshot:
        return _verify(files, owner, items, copy(files), _drifts.get(files, Drift()), summed=summed)

    def under_lock() -> Snapshot:
        copied = locked(files, patience, lambda index: read(files, index))
        return _verify(files, owner, items, copied, None, summed=summed)

    return patiently(files, freely, under_lock)


def _verify(
    files: MailboxFiles, owner: str, items: Items, copied: Copied, drift: Drift | None, *, summed: bool
) -> Snapshot:
    """Believe what was copied. `drift`: which one the stored sync CRCs may have besides none; None, where
    nobody could write meanwhile, is any. Raises `SpoolDamaged`."""
    try:
        index = parse_index_header(copied.records.read(0, LONGEST_HEADER), files.index)
        header = parse_header(copied.header, files.header)
        check_belonging(files, index, header)
        annotations: Annotations = {}
        if len(copied.annotations):
            annotations = message_annotations(
                items(copied.annotations, files.annotations), files.annotations, owner
            )
        snapshot = Snapshot(files, index, header, annotations, copied.records)
        snapshot.check()
        if summed:
            snapshot.sum_up()
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
    """Some records that stand together. `first` is the number of the first, `key` what they are known by."""

    first: int
    count: int
    bounds: Bounds
    key: bytes


class Snapshot:
    """A mailbox that was verified. `close` it when it is no longer wanted; not for several threads at
    once."""

    def __init__(
        self,
        files: MailboxFiles,
        index: IndexHeader,
        header: MailboxHeader,
        annotations: Annotations,
        whole: Copy,
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
        self.summed = False
        """Whether both are known."""
        self._copy = whole
        self._reader = RecordReader(index, header.keywords, files.index)
        self._windows: list[Window] = []

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._copy.close()

    # -- verifying

    def check(self) -> None:
        """Check every record and the counters. Raises `SpoolDamaged`."""
        keys = Keys(self.index.minor_version, self.index.record_size, self.header.keywords)
        last = 0
        for first in range(0, self.index.num_records, WINDOW):
            count = min(WINDOW, self.index.num_records - first)
            data = self._data(first, count)
            key = keys.key(data)
            bounds = _checked.get(key)
            if bounds is None:
                bounds = self._reader.bounds(data, first)
                _checked.put(key, bounds)
            self._check_counters(first, bounds, last)
            self._windows.append(Window(first, count, bounds, key))
            last = bounds.last_uid or last

    def sum_up(self) -> None:
        """Sum up both sync CRCs of what was checked, and compare them. Raises `SpoolDamaged`."""
        annotated = sorted(self.annotations)
        basic, annot, wide, live = 0, 0, 0, 0
        for window in self._windows:
            bounds = window.bounds
            sums = _verified.get(window.key)
            if sums is None:
                sums = self._reader.sums(self._data(window.first, window.count), window.first)
                _verified.put(window.key, sums)
            live += bounds.live
            basic ^= sums.basic
            wide ^= sums.wide
            if _any_between(annotated, bounds.first_uid, bounds.last_uid):
                data = self._data(window.first, window.count)
                annot ^= self._reader.annot_sum(data, window.first, self.annotations)
            else:
                annot ^= sums.annot
        self._compare(basic, annot, wide, live)
        self.summed = True

    def _check_counters(self, first: int, bounds: Bounds, last: int) -> None:
        offset = self.index.start_offset + first * self.index.record_size
        if bounds.first_uid and bounds.first_uid <= last:
            self._damaged(offset, "its UIDs do not rise")
        if bounds.last_uid > self.index.last_uid:
            self._damaged(offset, f"it has a UID above its last one, {self.index.last_uid}")
        if bounds.modseq > self.index.highestmodseq:
            self._damaged(offset, f"it has a modseq above its highest, {self.index.highestmodseq}")

    def _compare(self, basic: int, annot: int, wide: int, live: int) -> None:
        self.crcs = (basic, annot ^ ANNOT_SEED)
        as_counted = {annot ^ start ^ ids for start in (ANNOT_SEED, 0) for ids in (0, wide)}
        stored = self.index.sync_crc_annot
        agrees = stored in as_counted or not self.index.has_annotation_crc
        self.drift = Drift(
            basic ^ self.index.sync_crc,
            0 if agrees else annot ^ ANNOT_SEED ^ stored,
            live - self.index.exists,
        )

    @property
    def complaint(self) -> str:
        """What Cyrus has lost count of, "" if of nothing."""
        found = []
        if self.drift.basic or self.drift.annot:
            stored = f"{self.index.sync_crc} and {self.index.sync_crc_annot}"
            ours = f"{self.crcs[0]} and {self.crcs[1]}"
            found.append(f"its sync CRCs are {stored}, and its records sum up to {ours}")
        if self.drift.live:
            live = self.index.exists + self.drift.live
            found.append(f"it says it has {self.index.exists} messages, and has {live}")
        return f"{'; '.join(found)} (reconstruct mends that)" if found else ""

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
            if window.bounds.last_uid <= above_uid or window.bounds.modseq <= since_modseq:
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
            if window.bounds.last_uid > above_uid:
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
