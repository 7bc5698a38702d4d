"""The two CRCs by which both ends of a replication agree on a mailbox ("Sync CRCs").

Each is the XOR of one CRC-32 per live record (basic) or message annotation (annotations), so a change of one
record is ``crc ^= record_crc(old) ^ record_crc(new)``. The basic one starts at 0, the other at `ANNOT_SEED`.
An expunged record counts 0. On the wire, 0 means "not known" and is not compared (`crcs_match`).

Up to Cyrus 3.12 a conversation id is counted without its leading zeros, on the development branch (3.13) with
all 16 digits. We count as the former do; `wide_ids` is what makes one sum of the other.

>>> record_crc(Record(1, 5, 1700000000, "", False, 1600000000, 17,
...                   bytes.fromhex("cd081e01676d96c437b3d729301bebdaf4c14102")))
2155384394
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from cyrus_sync.common.model import Annotation, Record

ANNOT_SEED = 12345678
"""Where the annotation CRC starts since Cyrus 3.2 (0 before)."""

VIRTUAL_PREFIX = "/vendor/cmu/cyrus-imapd/"
THRID, SAVEDATE, CREATEDMODSEQ = (VIRTUAL_PREFIX + name for name in ("thrid", "savedate", "createdmodseq"))
VIRTUAL_ENTRIES = frozenset((THRID, SAVEDATE, CREATEDMODSEQ))
"""Fields of a record that travel, and are counted, as annotations."""

_CACHED_FLAG_SETS = 4096


class _FlagSets(dict[str, int]):
    """XOR of the CRCs of the lower-cased names in a flags text, computed once a text."""

    def __missing__(self, flags: str) -> int:
        crc = 0
        for name in flags.split():
            crc ^= crc32(name.lower().encode("ascii"))
        if len(self) >= _CACHED_FLAG_SETS:
            self.clear()
        self[flags] = crc
        return crc


_flag_sets = _FlagSets()


def flags_crc(flags: str) -> int:
    """What `flags` (space separated, without ``\\Expunged``) contribute."""
    return _flag_sets[flags]


def record_crc(record: Record) -> int:
    """The record's part of SYNC_CRC."""
    uid, modseq, last_updated, flags, expunged, internaldate, _, guid, *_ = record
    if expunged:
        return 0
    return crc32(
        f"{uid} {modseq} {last_updated} ({_flag_sets[flags]}) {internaldate} {guid.hex()}".encode("ascii")
    )


def annot_crc(record: Record) -> int:
    """The record's part of SYNC_CRC_ANNOT: its annotations and the fields that travel as such."""
    return 0 if record.expunged else _annot_crc(record.uid, *record[8:])


def _annot_crc(
    uid: int, thrid: int, savedate: int, createdmodseq: int, annotations: tuple[Annotation, ...]
) -> int:
    crc = 0
    if savedate:
        crc = crc32(f"{uid} /vendor/cmu/cyrus-imapd/savedate  {savedate}".encode("ascii"))
    if createdmodseq:
        crc ^= crc32(f"{uid} /vendor/cmu/cyrus-imapd/createdmodseq  {createdmodseq}".encode("ascii"))
    if thrid:
        crc ^= crc32(f"{uid} /vendor/cmu/cyrus-imapd/thrid  {thrid:x}".encode("ascii"))
    for entry, userid, _, value in annotations:
        if value and entry not in VIRTUAL_ENTRIES:
            crc ^= crc32(value, crc32(f"{uid} {entry} {userid} ".encode()))
    return crc


def wide_ids(records: Iterable[Record]) -> int:
    """The XOR between an annotation CRC as we count it and as Cyrus 3.13 does."""
    crc = 0
    for record in records:
        if record.thrid and not record.expunged and not record.thrid >> 60:
            head = f"{record.uid} {THRID}  "
            crc ^= crc32(f"{head}{record.thrid:x}".encode()) ^ crc32(f"{head}{record.thrid:016x}".encode())
    return crc


def mailbox_crcs(records: Iterable[Record], start: tuple[int, int] = (0, ANNOT_SEED)) -> tuple[int, int]:
    """(SYNC_CRC, SYNC_CRC_ANNOT) of all `records`, or of further ones after `start`."""
    basic, annot = start
    flag_sets = _flag_sets
    for record in records:
        (
            uid,
            modseq,
            last_updated,
            flags,
            expunged,
            internaldate,
            _,
            guid,
            thrid,
            savedate,
            createdmodseq,
            annotations,
        ) = record
        if expunged:
            continue
        basic ^= crc32(
            f"{uid} {modseq} {last_updated} ({flag_sets[flags]}) {internaldate} {guid.hex()}".encode("ascii")
        )
        if savedate or createdmodseq or thrid or annotations:
            annot ^= _annot_crc(uid, thrid, savedate, createdmodseq, annotations)
    return basic, annot


def crcs_match(ours: tuple[int, int | None], theirs: tuple[int, int | None]) -> bool:
    """Whether two (basic, annot) pairs agree; 0 and None are wildcards."""
    return not any(a and b and a != b for a, b in zip(ours, theirs, strict=True))
