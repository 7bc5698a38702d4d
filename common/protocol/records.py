"""Message records and their annotations: what a dlist value says, and printing them.

A record that is not valid is a `ProtocolError`, as Cyrus calls a bad record list. Virtual annotations
(conversation id, save date, createdmodseq) become the record's fields and back. Reading long lists at speed
is the business of `common.protocol.record_reader`, which must agree with `decode_record`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from cyrus_sync.common.errors import BadParameters, ProtocolError
from cyrus_sync.common.model import NULL_GUID, SYSTEM_FLAGS, Annotation, Record
from cyrus_sync.common.protocol import dlist
from cyrus_sync.common.protocol.crc import CREATEDMODSEQ, SAVEDATE, THRID, VIRTUAL_ENTRIES
from cyrus_sync.common.protocol.dlist import Value
from cyrus_sync.common.protocol.fields import Fields, date, listed, number, octets, text

_64_BITS = 2**64 - 1
"""Dates are printed without sign, those before 1970 too."""

_CACHED_FLAG_SETS = 4096

_EXPUNGED = "\\Expunged"
_SYSTEM = {name.lower(): name for name in SYSTEM_FLAGS}
_BEFORE_EXPUNGED = frozenset(SYSTEM_FLAGS[: SYSTEM_FLAGS.index(_EXPUNGED)])
_KEYWORD = re.compile(r"[!#-$&-'+-\[\]-z|-~]{1,1023}")
"""An IMAP atom. ``]`` is let through: it harms nobody, and refusing it would block a whole mailbox."""


# -- flags


def normal_flags(words: Sequence[str]) -> tuple[str, bool]:
    """(flags text of a `Record`, expunged): system flags in order and spelling, then keywords as they came.

    Unknown system flags are dropped, as are repetitions. Raises `ProtocolError` for what is no keyword.
    """
    system: set[str] = set()
    keywords: dict[str, str] = {}
    for word in words:
        if word.startswith("\\"):
            name = _SYSTEM.get(word.lower())
            if name:
                system.add(name)
        elif _KEYWORD.fullmatch(word):
            keywords.setdefault(word.lower(), word)
        else:
            raise ProtocolError("a flag is not a keyword")
    ordered = [name for name in SYSTEM_FLAGS if name in system and name != _EXPUNGED]
    return " ".join([*ordered, *keywords.values()]), _EXPUNGED in system


class _ReadFlags(dict[str, tuple[str, bool]]):
    """`normal_flags` by the text between the parentheses."""

    def __missing__(self, wire: str) -> tuple[str, bool]:
        found = normal_flags(wire.split())
        if len(self) >= _CACHED_FLAG_SETS:
            self.clear()
        self[wire] = found
        return found


class _WireFlags(dict[tuple[str, bool], str]):
    """What stands between the parentheses, by (flags, expunged). A keyword NIL is quoted: a real server
    that reads it bare takes it for nil, and crashes."""

    def __missing__(self, flags: tuple[str, bool]) -> str:
        words = flags[0].split()
        if flags[1]:
            words.insert(sum(word in _BEFORE_EXPUNGED for word in words), _EXPUNGED)
        found = " ".join('"NIL"' if word == "NIL" else word for word in words)
        if len(self) >= _CACHED_FLAG_SETS:
            self.clear()
        self[flags] = found
        return found


read_flags = _ReadFlags()
_wire_flags = _WireFlags()


def decode_flag_list(value: Value, what: str) -> list[str]:
    """The words of a list of flags. An unquoted keyword NIL cannot be told from nil, and is one here."""
    words = []
    for item in listed(value, what):
        if item is not None and not isinstance(item, bytes):
            raise BadParameters(f"{what} holds something else than flags")
        words.append("NIL" if item is None else item.decode("latin-1"))
    return words


# -- one record, whatever its shape


def decode_record(value: Value) -> Record:
    """The record that a kvlist describes. Raises `ProtocolError`."""
    try:
        fields = Fields(value, "RECORD")
        flags, expunged = normal_flags(decode_flag_list(fields.raw(b"FLAGS"), "FLAGS"))
        thrid, savedate, createdmodseq, annotations = _decode_message_annotations(
            fields.listed(b"ANNOTATIONS", [])
        )
        record = Record(
            uid=fields.n32(b"UID"),
            modseq=fields.n64(b"MODSEQ"),
            last_updated=fields.date(b"LAST_UPDATED"),
            flags=flags,
            expunged=expunged,
            internaldate=fields.date(b"INTERNALDATE"),
            size=fields.n32(b"SIZE"),
            guid=fields.guid(b"GUID"),
            thrid=thrid,
            savedate=savedate,
            createdmodseq=createdmodseq,
            annotations=annotations,
        )
    except BadParameters as error:
        raise ProtocolError(error.message) from None
    if not record.uid:
        raise ProtocolError("UID is 0")
    if not expunged and (not record.size or record.guid == NULL_GUID):
        raise ProtocolError(f"record {record.uid} has no message")
    return record


def decode_annotations(value: Value) -> tuple[Annotation, ...]:
    """An ANNOTATIONS list, sorted by (entry, userid); empty values, which are none, are left out.

    Lenient as real peers need it: no MODSEQ reads as 0, a NIL USERID as "". Of entries for the same
    userid the first counts. Raises BadParameters.
    """
    annotations = []
    for item in listed(value, "ANNOTATIONS"):
        fields = Fields(item, "ANNOTATIONS")
        entry, userid = text(fields.raw(b"ENTRY"), "ENTRY"), fields.text(b"USERID", "")
        content = octets(fields.raw(b"VALUE"), "VALUE")
        if not entry.startswith("/"):
            raise BadParameters("ENTRY is not the name of an annotation")
        annotations.append(Annotation(entry, userid, fields.n64(b"MODSEQ", 0), content))
    return in_order(annotations)


def in_order(annotations: Iterable[Annotation]) -> tuple[Annotation, ...]:
    """Sorted by (entry, userid); the first of two for the same, and none that is empty."""
    found: dict[tuple[str, str], Annotation] = {}
    for annotation in annotations:
        if annotation.value:
            found.setdefault(annotation[:2], annotation)
    return tuple(found[key] for key in sorted(found))


def encode_annotations(annotations: Sequence[Annotation]) -> list[dict[str, Any]]:
    """The dlist value of `annotations`."""
    return [
        {"ENTRY": entry, "USERID": userid, "MODSEQ": modseq, "VALUE": value}
        for entry, userid, modseq, value in annotations
    ]


def _decode_message_annotations(value: Value) -> tuple[int, int, int, tuple[Annotation, ...]]:
    thrid = savedate = createdmodseq = 0
    real = []
    for annotation in decode_annotations(value):
        if annotation.userid or annotation.entry not in VIRTUAL_ENTRIES:
            real.append(annotation)
        elif annotation.entry == THRID:
            thrid = _hex64(annotation.value)
        elif annotation.entry == SAVEDATE:
            savedate = date(annotation.value, "savedate")
        else:
            createdmodseq = number(annotation.value, 2**63 - 1, "createdmodseq")
    return thrid, savedate, createdmodseq, tuple(real)


def _hex64(value: bytes) -> int:
    if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", value):
        raise BadParameters("thrid is not a conversation id")
    return int(value, 16)


# -- printing


def encode_records(records: Sequence[Record], server: bool) -> bytes:
    """The items of a RECORD list, one space between them."""
    wire = _wire_flags
    return " ".join(
        [
            f"%(UID {uid} MODSEQ {modseq} LAST_UPDATED {last_updated & _64_BITS}"
            f" FLAGS ({wire[flags, expunged]}) INTERNALDATE {internaldate & _64_BITS}"
            f" SIZE {size} GUID {guid.hex()}"
            f"{_annotations(thrid, savedate, createdmodseq, annotations, server)})"
            for (
                uid,
                modseq,
                last_updated,
                flags,
                expunged,
                internaldate,
                size,
                guid,
                thrid,
                savedate,
                createdmodseq,
                annotations,
            ) in records
        ]
    ).encode("latin-1")


def _annotations(
    thrid: int, savedate: int, createdmodseq: int, annotations: tuple[Annotation, ...], server: bool
) -> str:
    """The ANNOTATIONS key with a blank before it, or nothing. Octets stand as latin-1."""
    if not annotations and not thrid and savedate > 0 and createdmodseq:
        return (
            f' ANNOTATIONS (%(ENTRY {SAVEDATE} USERID "" MODSEQ 0 VALUE {savedate})'
            f' %(ENTRY {CREATEDMODSEQ} USERID "" MODSEQ 0 VALUE {createdmodseq}))'
        )
    items = [dlist.encode(item, server).decode("latin-1") for item in encode_annotations(annotations)]
    if thrid:
        items.append(f'%(ENTRY {THRID} USERID "" MODSEQ 0 VALUE {thrid:016x})')
    if savedate:
        items.append(f'%(ENTRY {SAVEDATE} USERID "" MODSEQ 0 VALUE {savedate & _64_BITS})')
    if createdmodseq:
        items.append(f'%(ENTRY {CREATEDMODSEQ} USERID "" MODSEQ 0 VALUE {createdmodseq})')
    return f" ANNOTATIONS ({' '.join(items)})" if items else ""
