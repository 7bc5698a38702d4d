"""The text of a message as a person reads it, for searching: decoded, and without regard to case."""

from __future__ import annotations

import binascii
import quopri
import re
from collections.abc import Iterator
from email.errors import HeaderParseError
from email.header import decode_header, make_header

from cyrus_sync.lifeboat.mime import Part, first_word

_FOLD = re.compile(rb"\r?\n(?=[ \t])")
_TAGS = re.compile(r"<[^>]*>")


def header_text(part: Part, name: bytes | None = None) -> str:
    """The header of a message, or all of its fields called `name` (lower case) without the names."""
    lines: list[str] = []
    for found, text in part.fields():
        if name is None:
            lines.append(_decoded(text))
        elif found == name:
            lines.append(_decoded(text.partition(b":")[2]))
    return "\n".join(lines).casefold()


def _decoded(text: bytes) -> str:
    plain = _FOLD.sub(b"", text).decode("utf-8", "replace").strip()
    if "=?" not in plain:
        return plain
    try:
        return str(make_header(decode_header(plain)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return plain


def body_text(part: Part) -> str:
    """All that is text in a message, parts of its parts included; of others there is nothing to search."""
    return "\n".join(_texts(part)).casefold()


def _texts(part: Part) -> Iterator[str]:
    if part.multipart:
        for one in part.parts:
            yield from _texts(one)
        return
    if part.message is not None:
        yield header_text(part.message)
        yield from _texts(part.message)
    elif part.type == b"TEXT":
        charset = next((value for name, value in part.parameters if name == b"CHARSET"), b"us-ascii")
        text = _in_charset(_without_encoding(part), charset.decode("latin-1"))
        yield _TAGS.sub("", text) if part.subtype == b"HTML" else text


def _without_encoding(part: Part) -> bytes:
    encoding = first_word(part.value(b"content-transfer-encoding") or b"").upper()
    if encoding == b"QUOTED-PRINTABLE":
        return quopri.decodestring(part.content)
    if encoding == b"BASE64":
        try:
            return binascii.a2b_base64(part.content)
        except binascii.Error:
            return part.content
    return part.content


def _in_charset(data: bytes, charset: str) -> str:
    try:
        return data.decode(charset, "replace")
    except (LookupError, ValueError):
        return data.decode("utf-8", "replace")
