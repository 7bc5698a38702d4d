"""dlist, the data syntax of Cyrus replication: values, printing them, reading one from bytes.

A value is one of: ``None`` (NIL), ``bytes`` (atom, string, number, date, GUID), `Flag` (printed raw),
``list``, ``dict`` (a kvlist; keys are ``bytes``, the first of duplicate keys wins) and `File` (a file
literal). ``int`` and ``str`` can be printed too, and come back as ``bytes``.

>>> encode({"UID": 3, "FLAGS": [Flag(b"\\\\Seen")], "ACL": "alice\\tlrs\\t", "X": None}, server=True)
b'%(UID 3 FLAGS (\\\\Seen) ACL "alice\\tlrs\\t" X NIL)'
>>> parse(b"%(UID 3 ACL {4+}\\r\\na\\"b% X NIL)")
({b'UID': b'3', b'ACL': b'a"b%', b'X': None}, 29)

Literals are asymmetric: a client prints ``{N+}``, a server ``{N}``, and new peers break on the other form;
we read both. A connection reads with `Parser`, which takes its input in any pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from cyrus_sync.common.protocol.astring import AstringReader
from cyrus_sync.common.protocol.dlist_parser import Files, Parser, Status, has_braces
from cyrus_sync.common.protocol.dlist_types import (
    DEFAULT_LIMITS,
    MAX_FILE,
    File,
    Flag,
    Limits,
    OutOfStep,
    ParseError,
    TooLong,
    Value,
)

__all__ = [
    "DEFAULT_LIMITS",
    "MAX_FILE",
    "AstringReader",
    "File",
    "Files",
    "Flag",
    "Limits",
    "OutOfStep",
    "ParseError",
    "Parser",
    "Status",
    "TooLong",
    "Value",
    "astring",
    "encode",
    "file_head",
    "has_braces",
    "parse",
]

_BARE = re.compile(rb'[^\x00-\x20\x7f-\xff{()"%*\\]{1,1023}')
_QUOTABLE = re.compile(rb'[^\x00\r\n"%\\\x80-\xff]{0,1023}')
_LAST_WORD = re.compile(rb'[ \t\r\n\v\f]*+[^ \t\r\n\v\f()"{%][^ \t\r\n\v\f()"]*+')


def astring(text: bytes, server: bool) -> bytes:
    """`text` bare, quoted or as a literal, by the rule of a Cyrus sender."""
    if _BARE.fullmatch(text) and text != b"NIL":
        return text
    if _QUOTABLE.fullmatch(text):
        return b'"%s"' % text
    return (b"{%d}\r\n%s" if server else b"{%d+}\r\n%s") % (len(text), text)


def encode(value: Any, server: bool) -> bytes:
    """`value` as it goes on the wire. Raises TypeError for what is no dlist value.

    A negative number is printed as Cyrus prints dates before 1970: as 64 bits without sign.
    """
    out: list[bytes] = []
    _print(value, server, out.append)
    return b"".join(out)


def _print(value: Any, server: bool, put: Callable[[bytes], None]) -> None:
    if value is None:
        put(b"NIL")
    elif isinstance(value, Flag):
        put(value)
    elif isinstance(value, bytes):
        put(astring(value, server))
    elif isinstance(value, str):
        put(astring(value.encode(), server))
    elif isinstance(value, int):
        put(b"%d" % (value & 0xFFFF_FFFF_FFFF_FFFF))
    elif isinstance(value, list | tuple):
        separator = b"("
        for item in value:
            put(separator)
            _print(item, server, put)
            separator = b" "
        put(b")" if value else b"()")
    elif isinstance(value, dict):
        separator = b"%("
        for key, item in value.items():
            put(separator)
            put(astring(key if isinstance(key, bytes) else key.encode(), server))
            put(b" ")
            _print(item, server, put)
            separator = b" "
        put(b")" if value else b"%()")
    elif isinstance(value, File):
        if value.data is None:
            put(b"NIL")
        else:
            put(file_head(value.partition, value.guid, value.size, server))
            put(value.data)
    else:
        raise TypeError(f"no dlist value: {type(value).__name__}")


def file_head(partition: bytes, guid: bytes, size: int, server: bool) -> bytes:
    """What stands before the bytes of a file literal."""
    return b"%%{%s %s %d}\r\n" % (astring(partition, server), astring(guid, server), size)


def parse(data: bytes, pos: int = 0, limits: Limits = DEFAULT_LIMITS) -> tuple[Any, int]:
    """The value at `pos`, white space before it skipped, and the position after it.

    A bare word at the very end of `data` is complete. Raises `ParseError`, also for an unfinished value.
    """
    parser = Parser(limits)
    end = parser.feed(data, pos)
    if parser.status is not Status.DONE and _LAST_WORD.fullmatch(data, pos):
        parser.feed(data[end:] + b" ", 0)
        end = len(data)
    if parser.status is not Status.DONE:
        raise ParseError("unfinished value")
    return parser.value, end
