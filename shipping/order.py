"""A shipping order: the small text beside a data file that says who gets it, and until when.

``%NAME value`` opens an attribute, following lines add values. Texts stand in double quotes, times as
seconds since 1970 with a date for people behind it. Attributes that are not known are kept. An order is
changed only by replacing the whole file.

>>> Order.parse(b'%IDENTIFIER "a"\\n%LOCAL-DATA-PATH "/bay/p"\\n%DESTINATIONS\\nboston\\n').destinations
('boston',)
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from cyrus_sync.common.dates import format_datetime
from cyrus_sync.common.numbers import decimal
from cyrus_sync.shipping.conf import DEFAULT_CLASS, check_address
from cyrus_sync.shipping.digest import check as check_digest
from cyrus_sync.shipping.errors import BadFileName, BadOrder
from cyrus_sync.shipping.names import check_host, same_host

LONGEST_ORDER = 128 * 1024
RETURN_TRIP = 14 * 86400
UNREACHED, REFUSED = 1, 2
"""The flag of a failed attempt: the next hop did not answer; it answered, and the transfer failed."""

_KEPT_FAILURES = 50
_BLANK = " \t\r"
"""What may stand around a value. Other blanks are part of it, wherever it is written."""

_ESCAPE = re.compile(r'[\\"\x00-\x1f\x7f]')
_UNESCAPE = re.compile(r"\\(x[0-9a-f]{2}|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Delivery:
    """`destination` has it, or `next_hop` has taken over the responsibility."""

    time: int
    next_hop: str
    destination: str


@dataclass(frozen=True, slots=True)
class Failure:
    flag: int
    time: int
    next_hop: str
    destination: str


@dataclass(frozen=True, slots=True)
class Passage:
    """A host that the file has come through."""

    host: str
    time: int


@dataclass(frozen=True, slots=True)
class Order:
    """One order. Times in seconds since 1970, `expires` 0 = never. `undelivered` is not empty on the way
    back: the destinations that could not be reached."""

    data_path: str
    origin: str
    destinations: tuple[str, ...]
    created: int
    expires: int
    identifier: str = field(default_factory=lambda: secrets.token_hex(16))
    original_path: str = ""
    storage_class: str = DEFAULT_CLASS
    size: int | None = None
    digest: str | None = None
    notify: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()
    route: tuple[Passage, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    failures: tuple[Failure, ...] = ()
    undelivered: tuple[str, ...] = ()
    others: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def returning(self) -> bool:
        return bool(self.undelivered)

    @property
    def data_name(self) -> str:
        return self.data_path.rpartition("/")[2]

    def expired(self, now: float) -> bool:
        return bool(self.expires) and now >= self.expires

    def remaining(self) -> tuple[str, ...]:
        """The destinations that nobody has been found for yet."""
        return tuple(
            one
            for one in self.destinations
            if not any(same_host(one, d.destination) for d in self.deliveries)
        )

    def delivered(self, destinations: tuple[str, ...], next_hop: str, now: float) -> Order:
        done = tuple(Delivery(int(now), next_hop, one) for one in destinations)
        return replace(self, deliveries=self.deliveries + done)

    def failed(self, destinations: tuple[str, ...], next_hop: str, flag: int, now: float) -> Order:
        """Another try that went wrong; only the latest tries are kept."""
        tries = tuple(Failure(flag, int(now), next_hop, one) for one in destinations)
        return replace(self, failures=(self.failures + tries)[-max(_KEPT_FAILURES, len(tries)) :])

    def turned_round(self, now: float) -> Order:
        """The order that takes the data back to where it came from."""
        return replace(
            self,
            destinations=(self.origin,),
            undelivered=self.remaining(),
            expires=int(now) + RETURN_TRIP,
            deliveries=(),
            failures=(),
            route=(),
        )

    def has_room(self) -> bool:
        """True if the order stays readable, whatever is still written into it: deliveries, failures, hops."""
        hop = "h" * 64
        worst = self.delivered(self.destinations, hop, 10**10).failed(self.destinations, hop, 1, 10**10)
        return len(worst.text()) <= LONGEST_ORDER * 3 // 4

    # -- the text

    def text(self) -> bytes:
        """What stands in the file."""
        values: list[tuple[str, list[str]]] = [
            ("IDENTIFIER", [_quote(self.identifier)]),
            ("CREATION-DATE", [_date(self.created)]),
            ("EXPIRATION-DATE", [_date(self.expires) if self.expires else "0 never"]),
            ("ORIGINAL-DATA-PATH", [_quote(self.original_path)] if self.original_path else []),
            ("LOCAL-DATA-PATH", [_quote(self.data_path)]),
            ("DATA-SIZE", [str(self.size)] if self.size is not None else []),
            ("DATA-DIGEST", [self.digest] if self.digest else []),
            ("STORAGE-CLASS", [_quote(self.storage_class)]),
            ("ORIGIN-HOST", [self.origin]),
            ("DESTINATIONS", list(self.destinations)),
            ("RETURNED-UNDELIVERED", list(self.undelivered)),
            ("ON-ROUTE", [f"{p.host} {_date(p.time)}" for p in self.route]),
            ("DELIVERIES", [f"{_date(d.time)} {d.next_hop} {d.destination}" for d in self.deliveries]),
            (
                "FAILED-ATTEMPTS",
                [f"{f.flag} {_date(f.time)} {f.next_hop} {f.destination}" for f in self.failures],
            ),
            ("NOTIFICATION-ADDRESSES", [_quote(one) if one[:1] in '"%' else one for one in self.notify]),
            ("COMMENTS", [_quote(one) for one in self.comments]),
            *((name, list(lines)) for name, lines in self.others),
        ]
        lines = ["# Version 1.0 shipping order"]
        for name, found in values:
            if found:
                lines.append(f"%{name} {found[0]}" if len(found) == 1 else f"%{name}")
                lines.extend(found if len(found) > 1 else ())
        return ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read the text of an order; `BadOrder` says what is wrong with it."""
        if len(data) > LONGEST_ORDER:
            raise BadOrder("larger than a shipping order can be")
        found = _attributes(data.decode("utf-8", "surrogateescape"))
        try:
            return cls._from_attributes(found)
        except (ValueError, BadFileName) as error:
            raise BadOrder(f"not a valid shipping order: {error}") from None

    @classmethod
    def load(cls, path: Path) -> Self:
        with path.open("rb") as file:
            return cls.parse(file.read(LONGEST_ORDER + 1))

    @classmethod
    def _from_attributes(cls, found: dict[str, list[str]]) -> Self:
        def one(name: str) -> str | None:
            lines = found.pop(name, [])
            if len(lines) > 1:
                raise ValueError(f"%{name} has more than one value")
            return lines[0] if lines else None

        def texts(name: str) -> tuple[str, ...]:
            return tuple(_unquote(line) for line in found.pop(name, []))

        def hosts(name: str) -> tuple[str, ...]:
            return tuple(check_host(host) for line in found.pop(name, []) for host in line.split())

        identifier = _unquote(one("IDENTIFIER") or "")
        data_path = _unquote(one("LOCAL-DATA-PATH") or "")
        destinations = hosts("DESTINATIONS")
        if not identifier or not data_path or not destinations:
            raise ValueError("%IDENTIFIER, %LOCAL-DATA-PATH and %DESTINATIONS are needed")
        digest = one("DATA-DIGEST")
        if sha256 := one("DATA-SHA256"):  # orders of before there was a choice
            digest = digest or f"sha256:{sha256}"
        size = one("DATA-SIZE")
        return cls(
            identifier=identifier,
            created=_seconds(one("CREATION-DATE") or "0"),
            expires=_seconds(one("EXPIRATION-DATE") or "0"),
            original_path=_unquote(one("ORIGINAL-DATA-PATH") or ""),
            data_path=data_path,
            size=None if size is None else _number(size, 18),
            digest=check_digest(digest) if digest else None,
            storage_class=_unquote(one("STORAGE-CLASS") or DEFAULT_CLASS),
            origin=check_host(one("ORIGIN-HOST") or "unknown"),
            destinations=destinations,
            undelivered=hosts("RETURNED-UNDELIVERED"),
            route=tuple(_passage(line) for line in found.pop("ON-ROUTE", [])),
            deliveries=tuple(_delivery(line) for line in found.pop("DELIVERIES", [])),
            failures=tuple(_failure(line) for line in found.pop("FAILED-ATTEMPTS", [])),
            notify=tuple(check_address(word) for word in texts("NOTIFICATION-ADDRESSES")),
            comments=texts("COMMENTS"),
            others=tuple((name, _plain(lines)) for name, lines in found.items() if lines),
        )


def _attributes(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.split("\n"):
        line = line.strip(_BLANK)
        if not line or (line.startswith("#") and current is None):
            continue
        if line.startswith("%"):
            name, _, value = line[1:].partition(" ")
            if not re.fullmatch(r"[A-Z][A-Z0-9_-]*", name):
                raise BadOrder("not a valid shipping order: an attribute without a name")
            if name in found:
                raise BadOrder(f"not a valid shipping order: %{name} is given twice")
            value = value.strip(_BLANK)
            current = found[name] = [value] if value else []
        elif current is None:
            raise BadOrder("not a shipping order: a value comes before the first %NAME")
        else:
            current.append(line)
    if not found:
        raise BadOrder("not a shipping order: there is no attribute in it")
    return found


def _plain(lines: list[str]) -> tuple[str, ...]:
    """Values of an attribute that is not known here, as they are written again: none may read as a name."""
    if any(line.startswith("%") for line in lines):
        raise ValueError("a value begins with %")
    return tuple(lines)


def _quote(text: str) -> str:
    return '"' + _ESCAPE.sub(lambda m: _escape(m[0]), text) + '"'


def _escape(character: str) -> str:
    return f"\\{character}" if character in '\\"' else f"\\x{ord(character):02x}"


def _unquote(text: str) -> str:
    """The text that a value stands for. What is not UTF-8 is in it as os.fsdecode() has it.

    Octets that an escape kept apart may be a letter together, in UTF-8: that letter is what is meant, since
    nobody could tell it from them when the order is read once more."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        text = _UNESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if len(m[1]) == 3 else m[1], text[1:-1])
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


def _date(seconds: int) -> str:
    return f"{seconds} {format_datetime(seconds)}"


def _number(text: str, digits: int) -> int:
    first = text.strip().partition(" ")[0]
    number = decimal(first)
    if number is None or len(first) > digits:
        raise ValueError(f"'{text[:40]}' does not begin with a number of at most {digits} digits")
    return number


def _seconds(text: str) -> int:
    return _number(text, 11)


def _fields(line: str, count: int) -> list[str]:
    words = line.split()
    if len(words) != count:
        raise ValueError(f"'{line[:80]}' does not have {count} fields")
    return words


def _passage(line: str) -> Passage:
    words = _fields(line, 3)
    return Passage(check_host(words[0]), _seconds(words[1]))


def _delivery(line: str) -> Delivery:
    words = _fields(line, 4)
    return Delivery(_seconds(words[0]), check_host(words[2]), check_host(words[3]))


def _failure(line: str) -> Failure:
    words = _fields(line, 5)
    return Failure(_seconds(words[0]), _seconds(words[1]), check_host(words[3]), check_host(words[4]))
