"""MAIL, RCPT and BDAT as they are written (RFC 5321, 4.1; RFC 2033; RFC 6531; RFC 3030), without I/O. What a
real lmtpd takes is taken.

>>> path_of(b"FROM:<joe@example.org> SIZE=100 BODY=8BITMIME", b"FROM:")
(b'joe@example.org', [b'SIZE=100', b'BODY=8BITMIME'])
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from cyrus_sync.lmtp.answers import (
    BAD_BODY,
    BAD_PARAMETER,
    BAD_PART,
    BAD_PATH,
    BAD_SIZE,
    Refused,
    announced_too_large,
)

_PATH = re.compile(
    rb"<"
    rb"(?:@(?:\[[0-9.]*\]|[A-Za-z0-9.-]*)(?:,(?=@)|:(?!@)))*"  # the route of RFC 821, of no use
    rb'((?:"(?:[^"\\]|\\.)*"|(?:[^\x00-\x20\x7f<>()\[\]\\,;:"@]|\\[^\x00-\x1f\x7f])*)'
    rb"(?:@(?:\[[A-Za-z0-9.:]*\]|[A-Za-z0-9.\x80-\xff-]*))?)"
    rb">(?= |\Z)"
)
_PART = re.compile(rb"(\d{1,18})( LAST)?", re.IGNORECASE)
_QUOTED = re.compile(rb"\\(.)")


def path_of(
    arguments: bytes, word: bytes, *, lenient: bool = False, utf8: bool = False
) -> tuple[bytes, list[bytes]]:
    """The address behind ``FROM:`` or ``TO:``, without brackets and route, and the parameters. It may have
    other letters than ASCII's with `utf8`. Without, and with `lenient`, 8-bit octets of the local part are
    each an X (lmtp_strict_rfc2821: no). Raises `Refused`."""
    if arguments[: len(word)].upper() != word:
        raise Refused(BAD_PATH)
    rest = arguments[len(word) :]
    if lenient and not utf8:
        path, bracket, behind = rest.partition(b">")
        rest = re.sub(rb"[\x80-\xff]", b"X", path) + bracket + behind
    found = _PATH.match(rest)
    if found is None or not (found[1].isascii() or (utf8 and _is_utf8(found[1]))):
        raise Refused(BAD_PATH)
    parameters = rest[found.end() :]
    return found[1], parameters[1:].split(b" ") if parameters else []


def part_of(arguments: bytes) -> tuple[int, bool]:
    """How many octets come behind BDAT, and whether they are the last. Raises `Refused`."""
    found = _PART.fullmatch(arguments)
    if found is None:
        raise Refused(BAD_PART)
    return int(found[1]), found[2] is not None


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def unquoted(address: bytes) -> str:
    """The local part without quotes and backslashes, and the domain."""
    local, at, domain = address.rpartition(b"@")
    if not at:
        local, domain = address, b""
    if local.startswith(b'"'):
        local = local[1:-1]
    return (_QUOTED.sub(rb"\1", local) + at + domain).decode("utf-8", "replace")


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL: who sends. `size` in octets as announced, 0 if it is not; `login`: who submitted it; `utf8`:
    addresses and header may have other letters than ASCII's (RFC 6531)."""

    sender: str
    size: int = 0
    login: str = ""
    utf8: bool = False

    @classmethod
    def read(cls, arguments: bytes, most: int, *, lenient: bool = False, utf8: bool = True) -> Self:
        """`most`: octets that a message may have, 0 for any number; `utf8`: whether SMTPUTF8 is taken. Raises
        `Refused`."""
        asked = utf8 and b"SMTPUTF8" in arguments.upper().split(b" ")
        path, parameters = path_of(arguments, b"FROM:", lenient=lenient, utf8=asked)
        size, login, given = 0, "", False
        for parameter in parameters:
            name, _, value = parameter.partition(b"=")
            match name.upper():
                case b"SIZE":
                    if not value.isdigit():
                        raise Refused(BAD_SIZE)
                    size = int(value[:20])
                    if most and size > most:
                        raise Refused(announced_too_large(most))
                case b"BODY":
                    if value.upper() not in (b"7BIT", b"8BITMIME"):
                        raise Refused(BAD_BODY)
                case b"AUTH":
                    login = _xtext(value.removeprefix(b"<").removesuffix(b">"))
                case b"SMTPUTF8" if utf8 and parameter == name:
                    given = True
                case _:
                    raise Refused(BAD_PARAMETER)
        if not (given or path.isascii()):
            raise Refused(BAD_PATH)  # the word stood in a quoted localpart
        return cls(path.decode(), size, login, given)


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT: to whom. `ignore_quota` is a word of lmtpd's own."""

    address: str
    ignore_quota: bool = False

    @classmethod
    def read(cls, arguments: bytes, *, lenient: bool = False, utf8: bool = False) -> Self:
        """`utf8`: MAIL had SMTPUTF8. Raises `Refused`."""
        path, parameters = path_of(arguments, b"TO:", lenient=lenient, utf8=utf8)
        if any(parameter.upper() != b"IGNOREQUOTA" for parameter in parameters):
            raise Refused(BAD_PARAMETER)
        return cls(unquoted(path), bool(parameters))


def _xtext(value: bytes) -> str:
    """RFC 3461, 4: ``+2B`` is a plus. "" for what cannot be read: then nobody is named."""
    try:
        raw = re.sub(rb"\+([0-9A-F]{2})", lambda hexes: bytes([int(hexes[1], 16)]), value)
        return raw.decode("ascii")
    except UnicodeDecodeError:
        return ""
