"""What a server's untagged answers say.

What comes once a folder or once a session is read by imapclient's lexer. FETCH comes once a message: its
items are matched one after the other, and what does not fit is an error, not a guess.

>>> list(fetched([b'1 (UID 7 FLAGS (\\\\Seen $Junk) MODSEQ (9))']))[0][:2]
(7, b'\\\\Seen $Junk')
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.extras import lacking
from cyrus_sync.common.model import MAX_UID
from cyrus_sync.common.numbers import decimal
from cyrus_sync.pull.connection import Large, Line
from cyrus_sync.pull.errors import ServerTrouble

_FLAGS = re.compile(
    rb"\d+ \((?:UID (?P<uid>\d{1,10}) (?:MODSEQ \(\d{1,19}\) )?)?FLAGS \((?P<flags>[^()]*)\)"
    rb"(?: MODSEQ \(\d{1,19}\))?(?: UID (?P<uid2>\d{1,10}))?\)"
)
_HEAD = re.compile(rb"\d+ \(")
_ITEM = re.compile(
    rb" *(?P<name>[A-Za-z][A-Za-z0-9.-]*(?:\[[^\]]*\])?)"
    rb" (?:\((?P<list>[^()]*)\)|\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|\{(?P<literal>\d+)\+?\}"
    rb"|(?P<atom>[^ ()\"{]+))"
)
_DATE = re.compile(r" ?(\d{1,2})-(\w{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]


class Fetched(NamedTuple):
    """What FETCH said of one message. None, or b"" for `flags`: it did not say. `identity` is the server's
    name for the contents (EMAILID and its like)."""

    uid: int
    flags: bytes | None = None
    date: str = ""
    size: int = -1
    identity: bytes = b""
    body: bytes | Large | None = None


def fetched(lines: Iterable[Line]) -> Iterator[Fetched]:
    """The messages of FETCH answers, without those that do not say their UID (nobody asked for them). Raises
    `ServerTrouble`."""
    pieces: list[Line] = []
    for line in lines:
        if isinstance(line, bytes) and not pieces:
            plain = _FLAGS.fullmatch(line)
            if plain:
                uid = plain["uid"] or plain["uid2"]
                if uid:
                    yield Fetched(int(uid), plain["flags"])
                continue
        pieces.append(line)
        if isinstance(line, bytes):
            found = _message(pieces)
            if found is not None:
                yield found
            pieces = []


def _message(pieces: Sequence[Line]) -> Fetched | None:
    values: dict[str, Any] = {}
    name = ""
    for number, piece in enumerate(pieces):
        text, literal = piece if isinstance(piece, tuple) else (piece, None)
        at = 0
        if not number:
            head = _HEAD.match(text)
            if head is None:
                raise ServerTrouble(f"no FETCH answer: {text[:80]!r}")
            at = head.end()
        while item := _ITEM.match(text, at):
            at = item.end()
            name = item["name"].decode().upper()
            if item["literal"] is not None:
                values[name] = literal
            elif item["list"] is not None:
                values[name] = item["list"]
            elif item["quoted"] is not None:
                values[name] = re.sub(rb"\\(.)", rb"\1", item["quoted"])
            else:
                values[name] = None if item["atom"].upper() == b"NIL" else item["atom"]
        if text[at:].strip() not in (b"", b")") or (number == len(pieces) - 1) != text.endswith(b")"):
            raise ServerTrouble(f"a FETCH answer that no client understands: {text[at:][:80]!r}")
    return _as_fetched(values)


def _as_fetched(values: dict[str, Any]) -> Fetched | None:
    uid = _number(values.get("UID"), MAX_UID)
    if uid < 1:
        return None
    date = values.get("INTERNALDATE") or b""
    return Fetched(
        uid,
        values.get("FLAGS"),
        date.decode("ascii", "replace"),
        _number(values.get("RFC822.SIZE"), 2**63 - 1),
        next((values[name] for name in ("EMAILID", "X-GM-MSGID", "X-GUID") if values.get(name)), b""),
        values.get("BODY[]"),
    )


def _number(value: Any, most: int) -> int:
    """-1 for what is none."""
    found = decimal(value.decode("ascii", "replace"), most) if isinstance(value, bytes) else None
    return -1 if found is None else found


def seconds(date: str) -> int:
    """Unix seconds of an INTERNALDATE; 0 for what is none.

    >>> seconds("17-Jul-1996 02:44:25 -0700")
    837596665
    """
    found = _DATE.fullmatch(date)
    if found is None or found[2].lower() not in _MONTHS:
        return 0
    day = _day(found[1], found[2].lower(), found[3])
    clock = int(found[4]) * 3600 + int(found[5]) * 60 + int(found[6])
    zone = (int(found[8]) * 60 + int(found[9])) * 60
    return day + clock + (zone if found[7] == "-" else -zone)


@lru_cache(maxsize=1024)
def _day(day: str, month: str, year: str) -> int:
    return timegm((int(year), _MONTHS.index(month) + 1, int(day), 0, 0, 0))


def load_lexer() -> None:
    """Before threads need it. Raises `ConfigError` where it is not installed."""
    try:
        import imapclient.response_parser  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"sync_source: imap {lacking('imap', 'imapclient')}") from error


def parsed(lines: Iterable[Line]) -> Iterator[tuple[Any, ...]]:
    """Untagged answers as trees: numbers are int, NIL None, lists tuples, all else bytes. Raises
    `ServerTrouble`."""
    from imapclient.exceptions import ProtocolError
    from imapclient.response_parser import parse_response

    answer: list[Line] = []
    for line in lines:
        answer.append(line)
        if isinstance(line, tuple):
            continue
        try:
            yield parse_response([one for one in answer if one])
        except (ProtocolError, ValueError) as error:
            raise ServerTrouble(f"an answer that no client understands: {answer[0]!r}: {error}") from error
        answer = []


def octets(word: Any) -> bytes:
    """A word of `parsed` as it stood on the wire: an atom may look like a number, or like NIL."""
    if word is None:
        return b"NIL"
    return str(word).encode() if isinstance(word, int) else bytes(word)


def number_told(answers: Mapping[str, Sequence[Line]], name: str) -> int:
    """``EXISTS``, ``UIDVALIDITY`` and their like, as they were told last; 0 where they were not."""
    lines = (line for line in reversed(answers.get(name, ())) if isinstance(line, bytes) and line.isdigit())
    return next((int(line) for line in lines), 0)


def pairs(words: Sequence[Any]) -> dict[str, Any]:
    """``(MESSAGES 2 UIDNEXT 3)`` as a dictionary."""
    return {
        octets(key).decode("ascii", "replace").upper(): value
        for key, value in zip(words[::2], words[1::2], strict=False)
    }


def uids_of(text: bytes) -> list[range]:
    """``41,43:116`` as ranges. Raises `ServerTrouble`."""
    found = []
    for part in text.split(b",") if text else []:
        first, _, last = part.partition(b":")
        ends = [_number(first, MAX_UID), _number(last or first, MAX_UID)]
        if min(ends) < 0:
            raise ServerTrouble(f"no UIDs: {part[:80]!r}")
        found.append(range(min(ends), max(ends) + 1))
    return found


def quoted(name: bytes) -> bytes:
    """An astring as a quoted string. Raises ValueError for what stands in none."""
    if re.search(rb"[\r\n\0]", name):
        raise ValueError("a line end stands in no name")
    return b'"' + re.sub(rb'(["\\])', rb"\\\1", name) + b'"'
