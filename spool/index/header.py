"""The header of cyrus.index: the counters of a mailbox, and both of its sync CRCs as they are stored."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from zlib import crc32

from cyrus_sync.common.classes import dataclass
from cyrus_sync.spool.index.layout import LAYOUTS, NEWEST, OLDEST, STRIDES, Layout, unpacking
from cyrus_sync.spool.trouble import WITHOUT_FILES, SpoolDamaged

_VERSION_END = 12
_SECOND = 1_000_000_000

POP3_NEW_UIDL = 1 << 0
SHARED_SEEN = 1 << 2
DUPLICATE_DELIVERY = 1 << 3
HAS_ALARMS = 1 << 4
NEEDS_UNLINK = 1 << 29
NEEDS_REPACK = 1 << 30
DELETED = 1 << 31

_LETTERS = {POP3_NEW_UIDL: "P", SHARED_SEEN: "S", DUPLICATE_DELIVERY: "D", HAS_ALARMS: "A"}


@dataclass(frozen=True, slots=True)
class IndexHeader:
    """All fields; what a version does not have is 0. Times in Unix seconds, sizes in bytes.

    `num_records` counts expunged records too, `exists` does not.
    """

    generation: int
    format: int
    minor_version: int
    start_offset: int
    record_size: int
    num_records: int
    last_appenddate: int
    last_uid: int
    quota_used: int
    pop3_last_login: int
    uidvalidity: int
    deleted: int
    answered: int
    flagged: int
    options: int
    leaked_cache: int
    highestmodseq: int
    deletedmodseq: int
    exists: int
    first_expunged: int
    last_repack_time: int
    header_file_crc: int
    sync_crc: int
    recentuid: int
    recenttime: int
    pop3_show_after: int = 0
    annotation_quota_used: int = 0
    sync_crc_annot: int = 0
    unseen: int = 0
    createdmodseq: int = 0
    changes_epoch: int = 0
    deleted_bytes: int = 0
    expunged_bytes: int = 0

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.minor_version]

    @property
    def size(self) -> int:
        """Of the file, at least."""
        return self.start_offset + self.num_records * self.record_size

    @property
    def option_letters(self) -> str:
        """OPTIONS as the protocol has them."""
        return "".join(letter for bit, letter in _LETTERS.items() if self.options & bit)

    @property
    def is_deleted(self) -> bool:
        """The mailbox is deleted, and only waits for its files to be removed."""
        return bool(self.options & DELETED)

    @property
    def has_annotation_crc(self) -> bool:
        return "sync_crc_annot" in self.layout.header


def parse_index_header(data: bytes | memoryview, path: Path) -> IndexHeader:
    """The header at the beginning of `data`. Raises `SpoolDamaged`, for a version that nobody knows too."""
    if len(data) < _VERSION_END:
        raise SpoolDamaged(path, len(data), "is too short to be an index")
    version = int.from_bytes(data[8:_VERSION_END], "big")
    layout = LAYOUTS.get(version)
    if layout is None:
        raise SpoolDamaged(
            path,
            8,
            f"this version is not known (those from {OLDEST} to {NEWEST} are; {WITHOUT_FILES})",
            version,
        )
    size = layout.header_size
    if len(data) < size:
        raise SpoolDamaged(path, len(data), f"its header has {size} octets in this version", version)
    if crc32(data[: size - 4]) != int.from_bytes(data[size - 4 : size], "big"):
        raise SpoolDamaged(path, 0, "its header's checksum is wrong", version)
    shape, names, times = _shape(version)
    values: dict[str, int] = dict(zip(names, shape.unpack_from(data), strict=True))
    for name in times:
        values[name] //= _SECOND
    if values["exists"] == 0:
        values["options"] |= POP3_NEW_UIDL
    values["highestmodseq"] = values["highestmodseq"] or 1
    header = IndexHeader(**values)
    if header.format or header.start_offset != size or header.record_size not in STRIDES[version]:
        what = f"{header.record_size} octets a record from {header.start_offset} on, format {header.format}"
        raise SpoolDamaged(path, 4, f"not as this version has them: {what}", version)
    return header


@cache
def _shape(version: int) -> tuple[struct.Struct, tuple[str, ...], tuple[str, ...]]:
    """How to unpack a header, which fields come, in this order, and which of them are nanoseconds."""
    layout = LAYOUTS[version]
    names = tuple(sorted(layout.header, key=lambda name: layout.header[name].offset))
    times = tuple(name for name in names if layout.header[name].code == "T")
    return struct.Struct(unpacking(layout.header, names, layout.header_size)), names, times
