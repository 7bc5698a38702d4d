"""Records of cyrus.index by windows of some hundreds at once: checked, and made `Record` values of.

One pass of `struct.iter_unpack`, columns instead of rows, and what can be done in C is done there: a record
takes about a microsecond, and as much again for its part of both sync CRCs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from cyrus_sync.common.model import NULL_GUID, Annotation, Record
from cyrus_sync.common.protocol.crc import VIRTUAL_PREFIX, mailbox_crcs, wide_ids
from cyrus_sync.spool.index.flags import ARCHIVED, EXPUNGED, UNLINKED, UnknownFlag, flag_texts
from cyrus_sync.spool.index.header import IndexHeader
from cyrus_sync.spool.index.layout import LAYOUTS, unpacking
from cyrus_sync.spool.trouble import SpoolDamaged

NSEC, BASETHRID = VIRTUAL_PREFIX + "internaldate.nsec", VIRTUAL_PREFIX + "basethrid"
"""What a record of version 20 keeps itself and the protocol sends as annotations."""

_NAMES = (
    "uid", "internaldate", "size", "last_updated", "flags", "keywords", "savedate", "guid", "modseq", "thrid",
    "createdmodseq", "basethrid",
)  # fmt: skip
_SECOND = 1_000_000_000
_CRC = 4
_record = partial(tuple.__new__, Record)

Annotations = Mapping[int, tuple[Annotation, ...]]
"""Of messages, by UID."""


class Sums(NamedTuple):
    """A window's part of both sync CRCs (`wide` is what Cyrus 3.13 adds to the second)."""

    basic: int
    annot: int
    wide: int


class Bounds(NamedTuple):
    """What a window spans: the first and the last UID (0 if it has none), the highest modseq, and the number
    of live records."""

    first_uid: int
    last_uid: int
    modseq: int
    live: int


class Place(NamedTuple):
    """Where a message is."""

    uid: int
    guid: bytes
    size: int
    archived: bool


class Columns(NamedTuple):
    """Some records, a column for each field; those that a version does not have are zeros."""

    uid: Sequence[int]
    internaldate: Sequence[int]
    size: Sequence[int]
    last_updated: Sequence[int]
    flags: Sequence[int]
    keywords: Sequence[bytes]
    savedate: Sequence[int]
    guid: Sequence[bytes]
    modseq: Sequence[int]
    thrid: Sequence[int]
    createdmodseq: Sequence[int]
    basethrid: Sequence[int]


class RecordReader:
    """Reads windows of one index: whole records, one after another, as they stand in the file `path`.

    `first` is always the number of a window's first record. Raises `SpoolDamaged`.
    """

    def __init__(self, header: IndexHeader, keywords: tuple[str | None, ...], path: Path) -> None:
        self._header = header
        self._path = path
        self._version = header.minor_version
        self._size = header.record_size
        self._texts = flag_texts(keywords)

    def bounds(self, window: bytes, first: int) -> Bounds:
        """Check every record of `window`, and that they stand in order."""
        self._check(window, first)
        if not window:
            return Bounds(0, 0, 0, 0)
        shape = _spanning(self._version, self._size)
        uids, flags, guids, modseqs = zip(*shape.iter_unpack(window), strict=True)
        if 0 in uids:
            uids = tuple(uid for uid in uids if uid)
        if not all(map(int.__lt__, uids, uids[1:])):
            raise SpoolDamaged(self._path, self._offset(first), "its UIDs do not rise", self._version)
        if NULL_GUID in guids:
            self._demand_guids(window, first)
        return Bounds(
            uids[0] if uids else 0,
            uids[-1] if uids else 0,
            max(modseqs),
            sum(map(EXPUNGED.__gt__, flags)),
        )

    def _demand_guids(self, window: bytes, first: int) -> None:
        columns = self._columns(window)
        for uid, guid, flags in zip(columns.uid, columns.guid, columns.flags, strict=True):
            if uid and guid == NULL_GUID and flags < EXPUNGED:
                what = f"the message {uid} has no GUID, as before Cyrus 2.3: it cannot be replicated"
                raise SpoolDamaged(self._path, self._offset(first), what, self._version)

    def sums(self, window: bytes, first: int) -> Sums:
        """Sum up the records of `window`, which were checked."""
        records = self._records(self._columns(window), {}, first)
        basic, annot = mailbox_crcs(records, (0, 0))
        return Sums(basic, annot, wide_ids(records))

    def records(
        self, window: bytes, first: int, annotations: Annotations, since_modseq: int = 0, above_uid: int = 0
    ) -> list[Record]:
        """Those with a higher modseq and UID, ascending by UID."""
        columns = self._columns(window)
        if since_modseq > 0 or (columns.uid and min(columns.uid) <= above_uid):
            wanted = [
                modseq > since_modseq and uid > above_uid
                for modseq, uid in zip(columns.modseq, columns.uid, strict=True)
            ]
            rows = [row for row, taken in zip(zip(*columns, strict=True), wanted, strict=True) if taken]
            columns = Columns(*zip(*rows, strict=True)) if rows else _NONE
        return self._records(columns, annotations, first)

    def places(self, window: bytes) -> list[Place]:
        """The messages of which there still is a file."""
        columns = self._columns(window)
        return [
            Place(uid, guid, size, bool(flags & ARCHIVED))
            for uid, guid, size, flags in zip(
                columns.uid, columns.guid, columns.size, columns.flags, strict=True
            )
            if uid and not flags & UNLINKED
        ]

    def annot_sum(self, window: bytes, first: int, annotations: Annotations) -> int:
        """The window's part of the second sync CRC, where some of its messages have annotations."""
        return mailbox_crcs(self._records(self._columns(window), annotations, first), (0, 0))[1]

    def _offset(self, record: int) -> int:
        return self._header.start_offset + record * self._size

    def _check(self, window: bytes, first: int) -> None:
        """Compare the checksum of every record."""
        if not window:
            return
        content, stored = zip(*_checking(self._version, self._size).iter_unpack(window), strict=True)
        if tuple(map(crc32, content)) != stored:
            wrong = next(i for i, crc in enumerate(map(crc32, content)) if crc != stored[i])
            raise SpoolDamaged(
                self._path, self._offset(first + wrong), "a record's checksum is wrong", self._version
            )

    def _columns(self, window: bytes) -> Columns:
        if not window:
            return _NONE
        shape, order = _shape(self._version, self._size)
        found = dict(zip(order, zip(*shape.iter_unpack(window), strict=True), strict=True))
        count = len(window) // self._size
        columns: list[Any] = [found[name] if name in found else (0,) * count for name in _NAMES]
        return Columns(*columns)

    def _records(self, columns: Columns, annotations: Annotations, first: int) -> list[Record]:
        try:
            texts = list(map(self._texts.__getitem__, zip(columns.flags, columns.keywords, strict=True)))
        except UnknownFlag as flag:
            what = f"a record has a flag that is not known: {flag}"
            raise SpoolDamaged(self._path, self._offset(first), what, self._version) from None
        internaldate, updated, saved = columns.internaldate, columns.last_updated, columns.savedate
        own: Iterator[Any] = repeat(())
        if LAYOUTS[self._version].has("basethrid"):
            own = iter([_own(*pair) for pair in zip(internaldate, columns.basethrid, strict=True)])
            internaldate, updated, saved = (
                [when // _SECOND for when in times] for times in (internaldate, updated, saved)
            )
        expunged = [flags >= EXPUNGED for flags in columns.flags]
        rows: Iterator[tuple[Any, ...]] = zip(
            columns.uid, columns.modseq, updated, texts, expunged, internaldate, columns.size, columns.guid,
            columns.thrid, saved, columns.createdmodseq, own, strict=False,
        )  # fmt: skip
        records: list[Record] = list(map(_record, rows))
        if 0 in columns.uid:
            records = [record for record in records if record.uid]
        if annotations:
            records = [
                self._annotated(record, annotations[record.uid]) if record.uid in annotations else record
                for record in records
            ]
        return records

    def _annotated(self, record: Record, annotations: tuple[Annotation, ...]) -> Record:
        """`record` with what the database says of it. An index that has no field for one of the protocol's
        virtual annotations may have it there, as an annotation like others."""
        if not record.annotations and all(one.entry not in _VIRTUAL for one in annotations):
            return _record((*record[:-1], annotations))
        layout = LAYOUTS[self._version]
        fields: dict[str, Any] = {}
        kept = list(record.annotations)
        for annotation in annotations:
            column = _VIRTUAL.get(annotation.entry)
            if column is None or annotation.userid:
                kept.append(annotation)
            elif layout.has(column):
                continue
            elif column in _NUMBERS and (found := _number(annotation.value, _NUMBERS[column])) is not None:
                fields[column] = found
            else:
                kept.append(annotation)
        return record._replace(annotations=tuple(sorted(kept, key=_by_entry)), **fields)


_NONE = Columns(*((),) * len(_NAMES))
_VIRTUAL = {
    VIRTUAL_PREFIX + "thrid": "thrid",
    VIRTUAL_PREFIX + "savedate": "savedate",
    VIRTUAL_PREFIX + "createdmodseq": "createdmodseq",
    BASETHRID: "basethrid",
    NSEC: "basethrid",
}
"""The column that a version keeps it in, or has come with."""
_NUMBERS = {"thrid": 16, "savedate": 10, "createdmodseq": 10}


def _by_entry(annotation: Annotation) -> tuple[str, str]:
    return annotation.entry, annotation.userid


def _number(text: bytes, base: int) -> int | None:
    """What `text` says in digits of `base`, None if it is no number of at most 64 bits."""
    if not text.isalnum():
        return None
    try:
        number = int(text, base)
    except ValueError:
        return None
    return number if number < 1 << 64 else None


def _own(internaldate: int, basethrid: int) -> tuple[Annotation, ...]:
    """What version 20 adds to a message's annotations; `internaldate` in nanoseconds."""
    nanoseconds = internaldate % _SECOND
    if not nanoseconds and not basethrid:
        return ()
    found = []
    if basethrid:
        found.append(Annotation(BASETHRID, "", 0, b"%016x" % basethrid))
    if nanoseconds:
        found.append(Annotation(NSEC, "", 0, b"%d" % nanoseconds))
    return tuple(found)


@cache
def _shape(version: int, stride: int) -> tuple[struct.Struct, tuple[str, ...]]:
    """How to unpack records that stand `stride` octets apart, and which fields come, in this order."""
    columns = LAYOUTS[version].record
    order = tuple(sorted((name for name in _NAMES if name in columns), key=lambda name: columns[name].offset))
    return struct.Struct(unpacking(columns, order, stride)), order


@cache
def _spanning(version: int, stride: int) -> struct.Struct:
    """How to unpack what `Bounds` is made of: UID, flags, GUID, modseq."""
    return struct.Struct(unpacking(LAYOUTS[version].record, ("uid", "flags", "guid", "modseq"), stride))


@cache
def _checking(version: int, stride: int) -> struct.Struct:
    """How to part records into what is summed and the sum."""
    size = LAYOUTS[version].record_size
    return struct.Struct(f">{size - _CRC}sI{stride - size}x")
