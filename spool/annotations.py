"""cyrus.annotations: what people and programs noted at single messages. A database of the usual formats.

Key: scope NUL entry NUL userid NUL, where the scope is the UID in decimal here, and a mailbox in the
server's annotations.db. Value: the text's length in the first 4 octets of an ``unsigned long`` of the
machine, the text, NUL; then (written by most releases) a content type, NUL, another ``unsigned long``; then
(since 3.2) the modseq and an octet of flags.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.model import MAX_UID, Annotation
from cyrus_sync.spool.db import Data
from cyrus_sync.spool.many_notes import Noted, by_uid
from cyrus_sync.spool.trouble import SpoolDamaged

OWNER = "[.OwNeR.]"
"""Written since 3.6 in place of the owner's userid."""

_DELETED = 1
_LONG = 8
"""Octets of an ``unsigned long``; on the 32-bit machines of old it had `_SHORT`."""
_SHORT = 4
_ZEROS = bytes(_LONG - _SHORT)
_MODSEQ = 8

_TWOSKIP = b"\xa1\x02\x8b\x0dtwoskip file"
_TWOM = b"\xa1\x02\x8b\x0dtwomfile"
_TWOM_FLAGS, _TWOM_WITHOUT = 36, 1 << 27


class Note(NamedTuple):
    """One entry of an annotation database. `scope` as it stands in the key."""

    scope: str
    annotation: Annotation


def read_notes(items: Iterable[tuple[bytes, bytes]], path: Path, owner: str) -> Iterator[Note]:
    """The annotations among the `items` of the database `path`, those that were removed left out. `owner`:
    the userid that `OWNER` stands for. Raises `SpoolDamaged`."""
    for scope, annotation in _notes(items, path, owner):
        try:
            yield Note(scope.decode(), annotation)
        except UnicodeDecodeError:
            raise SpoolDamaged(path, 0, f"the scope {scope!r} is not text") from None


def message_annotations(items: Iterable[tuple[bytes, bytes]], path: Path, owner: str) -> Noted:
    """The annotations of messages by UID, each message's sorted by (entry, userid). Raises `SpoolDamaged`,
    and OSError where there are many and they find no room."""
    return by_uid(_by_message(items, path, owner))


def _by_message(
    items: Iterable[tuple[bytes, bytes]], path: Path, owner: str
) -> Iterator[tuple[int, Annotation]]:
    for scope, annotation in _notes(items, path, owner):
        uid = int(scope) if scope.isdigit() else 0
        if not 0 < uid <= MAX_UID:
            raise SpoolDamaged(path, 0, f"an annotation of {scope!r}, which is no UID")
        yield uid, annotation


def _notes(
    items: Iterable[tuple[bytes, bytes]], path: Path, owner: str
) -> Iterator[tuple[bytes, Annotation]]:
    """(scope, annotation) of each that was not removed."""
    known: dict[bytes, tuple[str, str] | None] = {}
    for key, value in items:
        scope, _, names = key.partition(b"\0")
        try:
            pair = known[names]
        except KeyError:
            pair = known[names] = _names(names, path, owner)
        if pair is None:
            continue
        modseq, text, removed = _value(value, path, key)
        if text and not removed:
            yield scope, Annotation(*pair, modseq, text)


def _names(text: bytes, path: Path, owner: str) -> tuple[str, str] | None:
    """Entry and userid. None for a key of a release that wrote no userid: no Cyrus looks at those."""
    parts = text.split(b"\0")
    if len(parts) < 2:
        return None
    try:
        entry, userid = parts[0].decode(), parts[1].decode()
    except UnicodeDecodeError:
        raise SpoolDamaged(path, 0, f"the key {text!r} is not text") from None
    return entry, owner if userid == OWNER else userid


def _value(value: bytes, path: Path, key: bytes) -> tuple[int, bytes, bool]:
    """(modseq, text, was it removed)."""
    length = int.from_bytes(value[:_SHORT], "big")
    begin = _LONG if value[_SHORT:_LONG] == _ZEROS else _SHORT
    end = begin + length
    if len(value) < _SHORT or end > len(value):
        raise SpoolDamaged(path, 0, f"the annotation {key!r} has {len(value)} octets, and says {length}")
    after_kind = value.find(b"\0", end + 1) + 1
    at = after_kind + begin if after_kind else len(value)
    modseq = int.from_bytes(value[at : at + _MODSEQ], "big") if len(value) >= at + _MODSEQ else 0
    flags = value[at + _MODSEQ] if len(value) > at + _MODSEQ else 0
    return modseq, value[begin:end], bool(flags & _DELETED)


def has_checksums(data: Data) -> bool:
    """Whether a database of this content notices by itself when it is damaged: flat and skiplist do not."""
    if data[: len(_TWOM)] == _TWOM:
        return not int.from_bytes(data[_TWOM_FLAGS : _TWOM_FLAGS + 4], "little") & _TWOM_WITHOUT
    return not len(data) or data[: len(_TWOSKIP)] == _TWOSKIP
