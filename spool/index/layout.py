"""Where each version of cyrus.index keeps what. All integers are big-endian.

A header and a record end with the CRC-32 of what stands before it. Version 18 and 19 moved fields of the
header, 20 made all times nanoseconds. Version 11 was never released; those below 12 have no checksums.
"""

from __future__ import annotations

from typing import NamedTuple

from cyrus_sync.common.classes import dataclass


class Column(NamedTuple):
    """One field: where it begins, and its letter in `struct`. A time of version 20 has the letter ``T``: 64
    bits of nanoseconds since 1970."""

    offset: int
    code: str


def _u32(**offsets: int) -> dict[str, Column]:
    return {name: Column(at, "I") for name, at in offsets.items()}


def _u64(**offsets: int) -> dict[str, Column]:
    return {name: Column(at, "Q") for name, at in offsets.items()}


def _ns(**offsets: int) -> dict[str, Column]:
    return {name: Column(at, "T") for name, at in offsets.items()}


_COMMON = _u32(generation=0, format=4, minor_version=8, start_offset=12, record_size=16, num_records=20)

_TO_19 = {
    **_COMMON,
    **_u32(
        last_appenddate=24,
        last_uid=28,
        pop3_last_login=40,
        uidvalidity=44,
        deleted=48,
        answered=52,
        flagged=56,
    ),
    **_u32(
        first_expunged=88,
        last_repack_time=92,
        header_file_crc=96,
        sync_crc=100,
        recentuid=104,
        recenttime=108,
    ),
    **_u64(quota_used=32),
}
_H12 = {**_TO_19, **_u32(options=60, leaked_cache=64, exists=84), **_u64(highestmodseq=68, deletedmodseq=76)}
_OF_13 = _u32(pop3_show_after=112, annotation_quota_used=116, sync_crc_annot=120)
_H13 = {**_H12, **_OF_13}
_H14 = {**_H13, **_u32(unseen=124)}
_H16 = {**_H14, **_u64(createdmodseq=128)}
_H17 = {**_H16, **_u32(changes_epoch=136)}
_H18 = {**_H17, **_u64(deleted_bytes=140, expunged_bytes=148)}
_H19 = {
    **_TO_19,
    **_OF_13,
    **_u32(exists=60, options=64, leaked_cache=68, unseen=124, changes_epoch=152),
    **_u64(highestmodseq=72, deletedmodseq=80, createdmodseq=128, deleted_bytes=136, expunged_bytes=144),
}
_H20 = {
    **_COMMON,
    **_u32(
        deleted=48,
        answered=52,
        flagged=56,
        exists=60,
        options=64,
        leaked_cache=68,
        last_uid=88,
        uidvalidity=92,
    ),
    **_u32(header_file_crc=96, sync_crc=100, sync_crc_annot=120, unseen=124, recentuid=184),
    **_u64(quota_used=32, highestmodseq=72, deletedmodseq=80, createdmodseq=128),
    **_u64(deleted_bytes=136, expunged_bytes=144, annotation_quota_used=152),
    **_ns(last_appenddate=24, pop3_last_login=40, recenttime=104, pop3_show_after=112),
    **_ns(changes_epoch=160, first_expunged=168, last_repack_time=176),
}

_R12 = {
    **_u32(uid=0, internaldate=4, size=12, last_updated=28, flags=32),
    "keywords": Column(36, "16s"),
    "guid": Column(60, "20s"),
    **_u64(modseq=80),
}
_R13 = {**_R12, **_u64(thrid=88)}
_R15 = {**_R13, **_u32(savedate=52)}
_R16 = {**_R15, **_u64(createdmodseq=96)}
_R20 = {
    **_u32(uid=0, flags=36),
    **_ns(internaldate=8, last_updated=112, savedate=120),
    **_u64(size=24, modseq=80, thrid=88, createdmodseq=96, basethrid=128),
    "keywords": Column(40, "16s"),
    "guid": Column(60, "20s"),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """One version's. Sizes in bytes, CRC included."""

    version: int
    header_size: int
    record_size: int
    header: dict[str, Column]
    record: dict[str, Column]

    def has(self, column: str) -> bool:
        """Whether a record keeps this itself."""
        return column in self.record


LAYOUTS = {
    layout.version: layout
    for layout in (
        Layout(12, 128, 96, _H12, _R12),
        Layout(13, 128, 104, _H13, _R13),
        Layout(14, 160, 104, _H14, _R13),
        Layout(15, 160, 104, _H14, _R15),
        Layout(16, 160, 112, _H16, _R16),
        Layout(17, 160, 112, _H17, _R16),
        Layout(18, 160, 112, _H18, _R16),
        Layout(19, 160, 112, _H19, _R16),
        Layout(20, 192, 144, _H20, _R20),
    )
}
OLDEST, NEWEST = min(LAYOUTS), max(LAYOUTS)
LONGEST_HEADER = max(layout.header_size for layout in LAYOUTS.values())

STRIDES = {version: {layout.record_size} for version, layout in LAYOUTS.items()} | {19: {112, 144}}
"""How far apart records may stand. A beta of 3.13 left files of version 19 with the room of version 20
between its records."""


def unpacking(columns: dict[str, Column], names: tuple[str, ...], size: int) -> str:
    """The format by which `struct` takes the columns `names`, in order of their offsets, from `size`
    bytes."""
    pieces, at = [">"], 0
    for name in names:
        offset, code = columns[name]
        assert offset >= at, name
        letter = "Q" if code == "T" else code
        pieces.append(f"{offset - at}x{letter}")
        at = offset + (int(letter[:-1]) if letter.endswith("s") else {"I": 4, "Q": 8}[letter])
    pieces.append(f"{size - at}x")
    return "".join(pieces)
