"""Reading long RECORD lists at speed.

Two paths lead to the same records. Nearly all have the shape that Cyrus writes, and one compiled pattern
takes them a slab at a time; any other shape (other key order or quoting, literals, keys left out by old
peers) goes through the dlist parser and `decode_record`. The pattern only accepts what both agree on: what
could be out of range, invalid or ambiguous is left to the second path.
"""

from __future__ import annotations

import re
from functools import partial
from operator import itemgetter, lt

from cyrus_sync.common.errors import ProtocolError
from cyrus_sync.common.model import Annotation, Record
from cyrus_sync.common.protocol import dlist
from cyrus_sync.common.protocol.buffer import Buffer
from cyrus_sync.common.protocol.crc import CREATEDMODSEQ, SAVEDATE, THRID
from cyrus_sync.common.protocol.records import decode_record, in_order, read_flags

BATCH = 2000
"""Records handed over at once."""

_SLAB = 64 * 1024
_SMALL_SLAB = 2 * 1024

# Slabs are latin-1 text: there, numbers and hex digits convert fastest.
_BARE = r'[^\x00-\x20\x7f-\xff(){%*"\\]{1,1023}+'
_NEXT = r"(?: (?=%)|(?=\)))"


def _real(group: str) -> str:
    """One annotation that is not virtual; `group` opens each of its five groups."""
    return (
        rf"%\(ENTRY (?!(?:{THRID}|{SAVEDATE}|{CREATEDMODSEQ}) ){group}/{_BARE})"
        rf' USERID {group}""|(?!NIL ){_BARE})'
        rf" MODSEQ {group}[0-9]{{1,18}}+) VALUE "
        rf'(?:(?!NIL\)){group}{_BARE})|"{group}[^\x00"\\\r\n]{{0,1023}}+)")\)'
    )


def _virtual(entry: str, value: str) -> str:
    return rf'(?:%\(ENTRY {entry} USERID "" MODSEQ 0 VALUE ({value})\){_NEXT})?'


_ANNOTATION = re.compile(_real("("))
_RECORD = re.compile(
    r"%\(UID ([1-9][0-9]{0,8}+) MODSEQ ([0-9]{1,18}+) LAST_UPDATED ([0-9]{1,18}+)"
    r' FLAGS \(([^\x00-\x1f\x7f-\xff()"{%*]*+)\)'
    r" INTERNALDATE ([0-9]{1,18}+) SIZE ([1-9][0-9]{0,8}+) GUID (?!0{40})([0-9a-f]{40})"
    rf"(?: ANNOTATIONS \(((?:{_real('(?:')}{_NEXT})*)"
    rf"{_virtual(THRID, '[0-9a-f]{16}')}{_virtual(SAVEDATE, '[0-9]{1,18}+')}"
    rf"{_virtual(CREATEDMODSEQ, '[0-9]{1,18}+')}\))?\) ?|((?s:.+))"
)
"""A record, or, in the last group, all the rest of the slab."""

_PLAIN_START = re.compile(rb'%\(UID [^"{]*+(?:""[^"{]*+)*')

_uid_of = itemgetter(0)
_new_record = partial(tuple.__new__, Record)


def _split_slab(slab: str) -> tuple[list[tuple[str, ...]], int]:
    """The fields of the records at the beginning of `slab`; how many characters they were."""
    rows = _RECORD.findall(slab)
    rest = rows[-1][-1] if rows else ""
    if rest:
        rows.pop()
    return rows, len(slab) - len(rest)


def _build_records(rows: list[tuple[str, ...]]) -> list[Record]:
    flags_of, from_hex, new = read_flags, bytes.fromhex, _new_record
    return [
        new(
            (
                int(uid),
                int(modseq),
                int(last_updated),
                *flags_of[flags],
                int(internaldate),
                int(size),
                from_hex(guid),
                int(thrid, 16) if thrid else 0,
                int(savedate) if savedate else 0,
                int(createdmodseq) if createdmodseq else 0,
                _build_annotations(real) if real else (),
            )
        )
        for (
            uid,
            modseq,
            last_updated,
            flags,
            internaldate,
            size,
            guid,
            real,
            thrid,
            savedate,
            createdmodseq,
            _,
        ) in rows
    ]


def _build_annotations(run: str) -> tuple[Annotation, ...]:
    return in_order(
        Annotation(entry, "" if userid == '""' else userid, int(modseq), (bare or quoted).encode("latin-1"))
        for entry, userid, modseq, bare, quoted in _ANNOTATION.findall(run)
    )


class RecordReader:
    """Reads the items of a RECORD list, its closing parenthesis included, out of a buffer.

    `feed` returns when there is nothing more to read, or `BATCH` records wait in `records` (the caller takes
    them with `take`); `done` after the parenthesis. It raises `ProtocolError` for a bad record; that record
    is consumed then, so that the rest can be read past (`discard`). `dlist.ParseError`: not in step.
    """

    def __init__(self, limits: dlist.Limits) -> None:
        self.records: list[Record] = []
        self.done = False
        self.discard = False
        self.parser: dlist.Parser | None = None
        self._limits = limits
        self._last_uid = 0
        self._slab = _SLAB
        self._content = False

    @property
    def content(self) -> bool:
        """Whether a literal or a file literal has been read."""
        return self._content or (self.parser is not None and self.parser.content)

    @property
    def in_doubt(self) -> bool:
        """Whether the record that is being read has what may be the rest of a head that announced content."""
        return self.parser is not None and (self.parser.in_file_head or self.parser.braces)

    @property
    def full(self) -> bool:
        """True when the caller must take the records before more are read."""
        return len(self.records) >= BATCH

    def take(self) -> tuple[Record, ...]:
        """The records that wait."""
        taken = tuple(self.records)
        self.records = []
        return taken

    def feed(self, buffer: Buffer) -> None:
        while not self.done and not self.full:
            before = buffer.pos
            if self.parser is None and buffer.skip_space() and buffer.data.startswith(b"%(UID ", buffer.pos):
                self._read_fast(buffer)
            if buffer.pos == before and not self._read_any(buffer):
                return

    def _read_fast(self, buffer: Buffer) -> None:
        slab = buffer.data[buffer.pos : buffer.pos + self._slab].decode("latin-1")
        rows, consumed = _split_slab(slab)
        self._slab = min(_SLAB, self._slab * 2)
        if self.discard:
            buffer.pos += consumed
            return
        records = _build_records(rows)
        buffer.pos += consumed
        self._accept(records)

    def _accept(self, records: list[Record]) -> None:
        uids = [self._last_uid, *map(_uid_of, records)]
        if not all(map(lt, uids, uids[1:])):
            raise ProtocolError("records are not in ascending order")
        self._last_uid = uids[-1]
        self.records += records

    def _read_any(self, buffer: Buffer) -> bool:
        """One item of any shape; False if it is unfinished."""
        if self.parser is None:
            if not buffer:
                return False
            if buffer.data[buffer.pos] == b")"[0]:
                buffer.pos += 1
                self.done = True
                return True
            if _surely_unfinished(buffer):
                return False
            self.parser = dlist.Parser(self._limits, dlist.Files.SKIP, one_line=True)
        buffer.pos = self.parser.feed(buffer.data, buffer.pos)
        if self.parser.status is not dlist.Status.DONE:
            return False
        self._content = self.content
        value, self.parser = self.parser.value, None
        self._slab = _SMALL_SLAB
        if not self.discard:
            self._accept([decode_record(value)])
        return True


def _surely_unfinished(buffer: Buffer) -> bool:
    """True for the first part of a record in the usual shape: the fast path will take it when the rest is
    there. Without quoted text and literals, parentheses are what they seem to be. Where the line has ended,
    no rest will come."""
    if len(buffer) >= _SMALL_SLAB:
        return False
    tail = buffer.data[buffer.pos :]
    if b"\n" in tail:
        return False
    return _PLAIN_START.fullmatch(tail) is not None and tail.count(b"(") > tail.count(b")")


def decode_records(data: bytes) -> list[Record]:
    """What `encode_records` made. Raises `ProtocolError` or `dlist.ParseError`."""
    buffer = Buffer()
    buffer.append(data + b")")
    reader = RecordReader(dlist.DEFAULT_LIMITS)
    records: list[Record] = []
    while not reader.done:
        before = len(buffer)
        reader.feed(buffer)
        records += reader.take()
        if not reader.done and len(buffer) == before:
            raise dlist.ParseError("unfinished record")
    return records
