"""FETCH: what is asked for (RFC 3501, 6.4.5; RFC 7162), and the answer for one message.

>>> [item.label for item in parse_items(Cursor(b"(FLAGS BODY.PEEK[1.HEADER.FIELDS (Date)]<0.20>)"))]
[b'FLAGS', b'BODY[1.HEADER.FIELDS (Date)]<0>']
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from cyrus_sync.common.model import Record
from cyrus_sync.lifeboat.grammar import BadCommand, Cursor
from cyrus_sync.lifeboat.mime import Part
from cyrus_sync.lifeboat.structure import body_structure, envelope

_MONTHS = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()

Flags = Callable[[Record], bytes]
"""The flags of a message as this user sees them, joined by blanks."""


@dataclass(frozen=True, slots=True)
class Section:
    """``BODY[…]``: a part's numbers, and what of it: "" all, ``HEADER``, ``TEXT``, ``MIME``, ``FIELDS`` or
    ``NOT`` (the fields but those of `names`)."""

    numbers: tuple[int, ...] = ()
    what: str = ""
    names: frozenset[bytes] = frozenset()
    first: int | None = None
    """Of a partial fetch: the first octet, and how many at most."""
    most: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """Something that is asked for. `kind` is its name; a section has "BODY[]"."""

    kind: str
    label: bytes
    section: Section = Section()

    @property
    def of_message(self) -> bool:
        """Whether the message itself has to be read."""
        return self.kind not in ("FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "MODSEQ")

    @property
    def whole(self) -> bool:
        """Whether it is the message as it is stored, so that nothing of it has to be understood."""
        return self.kind == "BODY[]" and self.section == Section()


_PLAIN = ("FLAGS", "UID", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "MODSEQ")
_FAST = ("FLAGS", "INTERNALDATE", "RFC822.SIZE")
_MACROS = {b"FAST": _FAST, b"ALL": (*_FAST, "ENVELOPE"), b"FULL": (*_FAST, "ENVELOPE", "BODY")}
_RFC822 = {
    b"RFC822": Section(),
    b"RFC822.HEADER": Section(what="HEADER"),
    b"RFC822.TEXT": Section(what="TEXT"),
}


def parse_items(cursor: Cursor) -> list[Item]:
    """What a FETCH asks for; the cursor stands behind it then. `BadCommand`."""
    if not cursor.skip(b"("):
        for name, kinds in _MACROS.items():
            if cursor.next_is(name):
                cursor.expect(name)
                return [Item(kind, kind.encode()) for kind in kinds]
        return [_item(cursor)]
    items = [_item(cursor)]
    while cursor.skip(b" "):
        items.append(_item(cursor))
    cursor.expect(b")")
    return list(dict.fromkeys(items))


def _item(cursor: Cursor) -> Item:
    for word in (b"BODY.PEEK[", b"BODY["):
        if cursor.skip(word):
            return _section(cursor)
    name = cursor.atom()
    if name in _RFC822:
        return Item("BODY[]", name, _RFC822[name])
    text = name.decode()
    if text not in _PLAIN and text != "BODY":
        raise BadCommand(f"Invalid Fetch attribute {text[:50]}")
    return Item(text, name)


def _section(cursor: Cursor) -> Item:
    numbers: list[int] = []
    label = b""
    what, names = "", []
    while not cursor.next_is(b"]"):
        if label:
            cursor.expect(b".")
            label += b"."
        for word, meaning in ((b"HEADER.FIELDS.NOT", "NOT"), (b"HEADER.FIELDS", "FIELDS")):
            if cursor.skip(word):
                cursor.space()
                what, names = meaning, cursor.string_list()
                label += word + b" (" + b" ".join(names) + b")"
                break
        else:
            for word in (b"HEADER", b"TEXT", b"MIME"):
                if cursor.skip(word):
                    what = word.decode()
                    label += word
                    break
            else:
                numbers.append(cursor.number())
                label += b"%d" % numbers[-1]
                continue
        break
    cursor.expect(b"]")
    if what == "MIME" and not numbers:
        raise BadCommand("Invalid body section")
    first, most, tail = None, 0, b""
    if cursor.skip(b"<"):
        first = cursor.number()
        cursor.expect(b".")
        most = cursor.number()
        cursor.expect(b">")
        tail = b"<%d>" % first
        if not most:
            raise BadCommand("Invalid body partial")
    section = Section(tuple(numbers), what, frozenset(name.lower() for name in names), first, most)
    return Item("BODY[]", b"BODY[" + label + b"]" + tail, section)


def extract(part: Part, section: Section) -> bytes | None:
    """The octets of a section, None where the message has no such part."""
    data = _octets(part, section)
    if data is None or section.first is None:
        return data
    return data[section.first : section.first + section.most]


def _octets(part: Part, section: Section) -> bytes | None:
    found = part.find(section.numbers)
    if found is None:
        return None
    if not section.numbers and not section.what:
        return part.data
    if section.what == "MIME":
        return found.header
    if not section.what:
        return found.content
    inner = found.message if section.numbers else found
    if inner is None:  # these are sections of a message, and the part is none
        return None
    if section.what == "TEXT":
        return inner.content
    if section.what == "HEADER":
        return inner.header
    wanted = section.what == "FIELDS"
    return b"".join(text for name, text in inner.fields() if (name in section.names) == wanted) + b"\r\n"


def internal_date(when: int) -> bytes:
    """An internaldate as IMAP writes it, in the time of this host."""
    local = time.localtime(when)
    minutes = (local.tm_gmtoff or 0) // 60
    sign = b"-" if minutes < 0 else b"+"
    zone = b"%b%02d%02d" % (sign, *divmod(abs(minutes), 60))
    day, month, year = local.tm_mday, _MONTHS[local.tm_mon - 1], local.tm_year
    return b'"%2d-%b-%04d %02d:%02d:%02d %b"' % (
        *(day, month, year),
        *(local.tm_hour, local.tm_min, local.tm_sec, zone),
    )


def answer(number: int, record: Record, items: Iterable[Item], flags: Flags, part: Part | None) -> bytes:
    """The line for a message; `part` where an item asks for it."""
    words = [_word(item, record, flags, part) for item in items]
    return b"* %d FETCH (%b)\r\n" % (number, b" ".join(words))


def _word(item: Item, record: Record, flags: Flags, part: Part | None) -> bytes:
    match item.kind:
        case "FLAGS":
            return b"FLAGS (" + flags(record) + b")"
        case "UID":
            return b"UID %d" % record.uid
        case "INTERNALDATE":
            return b"INTERNALDATE " + internal_date(record.internaldate)
        case "RFC822.SIZE":
            return b"RFC822.SIZE %d" % record.size
        case "MODSEQ":
            return b"MODSEQ (%d)" % record.modseq
    assert part is not None, "an item of the message needs it"
    match item.kind:
        case "ENVELOPE":
            return b"ENVELOPE " + envelope(part)
        case "BODY":
            return b"BODY " + body_structure(part, extended=False)
        case "BODYSTRUCTURE":
            return b"BODYSTRUCTURE " + body_structure(part, extended=True)
    data = extract(part, item.section)
    if data is None:
        return item.label + b" NIL"
    return item.label + b" {%d}\r\n%b" % (len(data), data)


def with_uid(items: Sequence[Item]) -> list[Item]:
    """What a UID FETCH answers: the UID in any case."""
    return list(items) if any(item.kind == "UID" for item in items) else [Item("UID", b"UID"), *items]
