"""SEARCH (RFC 3501, 6.4.4; MODSEQ of RFC 7162): a program becomes a function that tells what it finds.

What can be told from the index is looked at before a message is read. Text is compared without regard to
case, header fields as people read them (RFC 2047), bodies without their transfer encoding.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from cyrus_sync.common.model import Record
from cyrus_sync.lifeboat.grammar import BadCommand, Cursor
from cyrus_sync.lifeboat.mime import Part
from cyrus_sync.lifeboat.numbers import parse_set, positions, uid_positions
from cyrus_sync.lifeboat.words import body_text, header_text

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
CHARSETS = ("US-ASCII", "UTF-8")

_FLAGGED = {
    "ANSWERED": "\\Answered",
    "DELETED": "\\Deleted",
    "DRAFT": "\\Draft",
    "FLAGGED": "\\Flagged",
    "SEEN": "\\Seen",
    "RECENT": "\\Recent",
}
_FIELDS = ("BCC", "CC", "FROM", "SUBJECT", "TO")


class BadCharset(Exception):
    """For ``NO [BADCHARSET]``."""


@dataclass(slots=True)
class Candidate:
    """A message that is looked at: its index among the messages, its record, its flags as the user sees them;
    and what it is itself, while its content is looked at (None where it cannot be read)."""

    index: int
    record: Record
    flags: frozenset[str]
    part: Part | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A search key. `cost`: 0 for what the index tells, 1 where the message must be read."""

    test: Callable[[Candidate], bool]
    cost: int = 0


@dataclass(frozen=True, slots=True)
class Program:
    """A whole search: what the index can tell, then what is in the messages that are left. `modseq`: whether
    the answer tells the highest modseq of what was found."""

    index: Key
    content: Key | None
    modseq: bool


def parse_program(cursor: Cursor, uids: Sequence[int]) -> Program:
    """The search that a command asks for, among messages with these `uids`. `BadCommand`, `BadCharset`."""
    if cursor.skip(b"CHARSET "):
        charset = cursor.astring().decode("latin-1").upper()
        if charset not in CHARSETS:
            raise BadCharset(charset)
        cursor.space()
    parser = _Parser(cursor, uids)
    keys = [parser.key()]
    while cursor.skip(b" "):
        keys.append(parser.key())
    cursor.end()
    near = [key for key in keys if not key.cost]
    far = [key for key in keys if key.cost]
    return Program(_all(near), _all(far) if far else None, parser.modseq)


def _all(keys: Sequence[Key]) -> Key:
    if len(keys) == 1:
        return keys[0]
    tests = [key.test for key in sorted(keys, key=lambda key: key.cost)]
    return Key(lambda one: all(test(one) for test in tests), max((key.cost for key in keys), default=0))


class _Parser:
    def __init__(self, cursor: Cursor, uids: Sequence[int]) -> None:
        self._cursor = cursor
        self._uids = uids
        self._depth = 0
        self.modseq = False

    def key(self) -> Key:
        cursor = self._cursor
        self._depth += 1
        if self._depth > 100:
            raise BadCommand("Search program is nested too deeply")
        try:
            if cursor.skip(b"("):
                keys = [self.key()]
                while cursor.skip(b" "):
                    keys.append(self.key())
                cursor.expect(b")")
                return _all(keys)
            if any(cursor.next_is(start) for start in (*(b"%d" % digit for digit in range(10)), b"*")):
                return _among(positions(parse_set(cursor.sequence_set()), self._uids))
            return self._named(cursor.atom().decode())
        finally:
            self._depth -= 1

    def _named(self, name: str) -> Key:
        negative = name.removeprefix("UN")
        if name in _FLAGGED:
            return _has(_FLAGGED[name])
        if negative != name and negative in _FLAGGED and negative != "RECENT":
            return _not(_has(_FLAGGED[negative]))
        if name in _FIELDS:
            return _field(name.lower().encode(), self._text())
        simple = {
            "ALL": Key(lambda one: True),
            "NEW": _all([_has("\\Recent"), _not(_has("\\Seen"))]),
            "OLD": _not(_has("\\Recent")),
        }
        if name in simple:
            return simple[name]
        reader = _READERS.get(name)
        if reader is None:
            raise BadCommand(f"Invalid Search criteria {name[:50]}")
        return reader(self)

    # -- arguments

    def _text(self) -> str:
        self._cursor.space()
        return self._cursor.astring().decode("utf-8", "replace").casefold()

    def _word(self) -> str:
        self._cursor.space()
        return self._cursor.astring().decode("utf-8", "replace")

    def _number(self) -> int:
        self._cursor.space()
        return self._cursor.number()

    def _date(self) -> tuple[int, int, int]:
        text = self._word()
        try:
            day, month, year = text.split("-")
            found = (int(year), _MONTHS.index(month.lower()) + 1, int(day))
            time.mktime((*found, 0, 0, 0, 0, 0, -1))
        except (ValueError, OverflowError):
            raise BadCommand(f"Invalid date {text[:20]!r}") from None
        return found

    # -- keys with arguments

    def _not_key(self) -> Key:
        self._cursor.space()
        return _not(self.key())

    def _or_key(self) -> Key:
        self._cursor.space()
        first = self.key()
        self._cursor.space()
        second = self.key()
        near, far = sorted((first, second), key=lambda key: key.cost)
        return Key(lambda one: near.test(one) or far.test(one), far.cost)

    def _uid_key(self) -> Key:
        self._cursor.space()
        return _among(uid_positions(parse_set(self._cursor.sequence_set()), self._uids))

    def _keyword(self) -> Key:
        wanted = self._word().lower()
        return Key(lambda one: any(flag.lower() == wanted for flag in one.flags))

    def _larger(self) -> Key:
        bound = self._number()
        return Key(lambda one: one.record.size > bound)

    def _smaller(self) -> Key:
        bound = self._number()
        return Key(lambda one: one.record.size < bound)

    def _header(self) -> Key:
        name = self._word().lower().encode()
        return _field(name, self._text())

    def _body(self) -> Key:
        wanted = self._text()
        return _in_message(lambda part: wanted in body_text(part))

    def _whole(self) -> Key:
        wanted = self._text()
        return _in_message(lambda part: wanted in header_text(part) or wanted in body_text(part))

    def _modseq(self) -> Key:
        self._cursor.space()
        if self._cursor.next_is(b'"'):  # an entry, of which only all flags together have a modseq
            self._cursor.astring()
            self._cursor.space()
            self._cursor.atom()
            self._cursor.space()
        bound = self._cursor.number()
        self.modseq = True
        return Key(lambda one: one.record.modseq >= bound)

    def _received(self, fits: Callable[[tuple[int, int, int], tuple[int, int, int]], bool]) -> Key:
        date = self._date()
        return Key(lambda one: fits(time.localtime(one.record.internaldate)[:3], date))

    def _sent(self, fits: Callable[[tuple[int, int, int], tuple[int, int, int]], bool]) -> Key:
        date = self._date()

        def test(one: Candidate) -> bool:
            said = _sent_on(one.part) if one.part is not None else None
            return fits(said or time.localtime(one.record.internaldate)[:3], date)

        return Key(test, 1)


def _before(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return one < other


def _on(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return one == other


def _since(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return one >= other


_READERS: dict[str, Callable[[_Parser], Key]] = {
    "NOT": _Parser._not_key,
    "OR": _Parser._or_key,
    "UID": _Parser._uid_key,
    "KEYWORD": _Parser._keyword,
    "UNKEYWORD": lambda parser: _not(parser._keyword()),
    "LARGER": _Parser._larger,
    "SMALLER": _Parser._smaller,
    "HEADER": _Parser._header,
    "BODY": _Parser._body,
    "TEXT": _Parser._whole,
    "MODSEQ": _Parser._modseq,
    "BEFORE": lambda parser: parser._received(_before),
    "ON": lambda parser: parser._received(_on),
    "SINCE": lambda parser: parser._received(_since),
    "SENTBEFORE": lambda parser: parser._sent(_before),
    "SENTON": lambda parser: parser._sent(_on),
    "SENTSINCE": lambda parser: parser._sent(_since),
}


def _has(flag: str) -> Key:
    return Key(lambda one: flag in one.flags)


def _not(key: Key) -> Key:
    return Key(lambda one: not key.test(one), key.cost)


def _among(runs: Sequence[range]) -> Key:
    starts = [run.start for run in runs]

    def test(one: Candidate) -> bool:
        at = bisect_right(starts, one.index) - 1
        return at >= 0 and one.index < runs[at].stop

    return Key(test)


def _in_message(test: Callable[[Part], bool]) -> Key:
    """A key for the content; a message that cannot be read is not found by it."""
    return Key(lambda one: one.part is not None and test(one.part), 1)


def _field(name: bytes, wanted: str) -> Key:
    """A field of this name with this text in it; without a text, a field of this name."""
    return _in_message(lambda part: any(wanted in text for text in _values(part, name)))


def _values(part: Part, name: bytes) -> list[str]:
    return [header_text(part, name)] if part.value(name) is not None else []


def _sent_on(part: Part) -> tuple[int, int, int] | None:
    """The day of the Date field, as it stands there; None where there is none that can be read. Then the
    message counts as sent when it came."""
    value = part.value(b"date")
    try:
        when = parsedate_to_datetime((value or b"").decode("latin-1"))
    except (ValueError, TypeError):
        return None
    return when.year, when.month, when.day
