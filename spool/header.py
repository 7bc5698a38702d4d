"""cyrus.header: what a mailbox is called, whose quota counts it, its ACL, and the names of its keywords.

Three lines that never change, then one line with a kvlist (since Cyrus 3.6), or three lines of text: quota
root and uniqueid, keywords, ACL (up to 3.4, and wherever nothing was written since).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.model import MAX_KEYWORDS
from cyrus_sync.common.protocol.dlist import ParseError, parse
from cyrus_sync.spool.trouble import SpoolDamaged

MAGIC = b"\xa1\x02\x8b\x0dCyrus mailbox header\n"
MAX_SIZE = 16 * 1024 * 1024
"""Octets. An ACL of a hundred thousand people has fewer."""

_MAGIC_LINES = 3


@dataclass(frozen=True, slots=True)
class MailboxHeader:
    """The content of one file. `keywords` has a place for every slot of the records' user flags, None where
    it is free; `crc` is the CRC-32 of the whole file, which the index repeats.

    `name` and `mbtype` are "" in the old form, which has neither. `acl` is text with a TAB behind each
    word.
    """

    uniqueid: str
    quotaroot: str
    acl: str
    keywords: tuple[str | None, ...]
    crc: int
    name: str = ""
    mbtype: str = ""

    @property
    def userflags(self) -> tuple[str, ...]:
        """The keywords in the order of their slots."""
        return tuple(word for word in self.keywords if word is not None)


def parse_header(data: bytes, path: Path) -> MailboxHeader:
    """The header in `data`, the content of the file `path`. Raises `SpoolDamaged`."""
    if not data.startswith(MAGIC):
        raise SpoolDamaged(path, 0, "does not begin as a cyrus.header does")
    begin = 0
    for _ in range(_MAGIC_LINES):
        begin = data.find(b"\n", begin) + 1
        if not begin:
            raise SpoolDamaged(path, len(data), "ends before its content begins")
    if data[begin : begin + 1] == b"%":
        return _new_form(data, begin, path)
    return _old_form(data, begin, path)


def _new_form(data: bytes, begin: int, path: Path) -> MailboxHeader:
    try:
        fields, end = parse(data, begin)
    except ParseError as error:
        raise SpoolDamaged(path, begin, f"its kvlist cannot be read: {error}") from None
    if data[end:] != b"\n":
        raise SpoolDamaged(path, end, "something follows its kvlist")
    keywords = fields.get(b"U") or []
    rights = fields.get(b"A") or {}
    if type(keywords) is not list or type(rights) is not dict:
        raise SpoolDamaged(path, begin, "its U is no list, or its A no kvlist")
    acl = b"".join(b"%s\t%s\t" % (who, what or b"") for who, what in rights.items() if _plain(what))
    return MailboxHeader(
        uniqueid=_word(fields, b"I", path, begin),
        quotaroot=_word(fields, b"Q", path, begin),
        acl=_text(acl, path, begin),
        keywords=_slots(keywords, path, begin),
        crc=crc32(data),
        name=_word(fields, b"N", path, begin),
        mbtype=_word(fields, b"T", path, begin),
    )


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bytes)


def _word(fields: dict[bytes, Any], key: bytes, path: Path, offset: int) -> str:
    value = fields.get(key)
    if not _plain(value):
        raise SpoolDamaged(path, offset, f"its {key.decode()} is no word")
    return _text(value or b"", path, offset)


def _text(value: bytes, path: Path, offset: int) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise SpoolDamaged(path, offset, "it holds text that is not UTF-8") from None


def _old_form(data: bytes, begin: int, path: Path) -> MailboxHeader:
    lines = []
    at = begin
    for what in ("quota root", "keywords", "ACL"):
        end = data.find(b"\n", at)
        if end < 0:
            raise SpoolDamaged(path, at, f"its line of {what} has no end")
        lines.append(data[at:end])
        at = end + 1
    root, _, rest = lines[0].partition(b"\t")
    uniqueid = rest.partition(b"\t")[0]
    words = [word or None for word in lines[1].split(b" ")]
    while words and words[-1] is None:
        words.pop()
    return MailboxHeader(
        uniqueid=_text(uniqueid, path, begin),
        quotaroot=_text(root, path, begin),
        acl=_text(lines[2], path, begin),
        keywords=_slots(words, path, begin),
        crc=crc32(data),
    )


def _slots(words: list[Any], path: Path, offset: int) -> tuple[str | None, ...]:
    if len(words) > MAX_KEYWORDS:
        raise SpoolDamaged(
            path, offset, f"it has {len(words)} keywords; a record has flags for {MAX_KEYWORDS}"
        )
    slots: list[str | None] = []
    for word in words:
        if word is None:
            slots.append(None)
        elif not isinstance(word, bytes) or not word.isascii() or not word or b" " in word:
            raise SpoolDamaged(path, offset, f"{word!r} is no keyword")
        else:
            slots.append(word.decode("ascii"))
    return tuple(slots)
