"""The lines of the action log: ``TYPE SP argument [SP argument] LF``.

An argument stands bare unless it is empty or holds one of space TAB ``( ) \\ " { }``; then it is quoted,
the last four with a backslash before them. Readers take literals too (``{5}`` CRLF, five bytes). Names
are internal ones. A line that cannot be read is reported and passed over: one bad line must not hold
up the others.

>>> format_line("MAILBOX", "user.al.My Folder")
b'MAILBOX "user.al.My Folder"\\n'
>>> parse_lines(b'sub al user.al.x\\n')
[LogLine(type='SUB', args=('al', 'user.al.x'))]
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import BadName, check_mailbox_name, check_userid

MAX_LINE = 4096
"""Octets of a formatted line, its LF included."""

ARGUMENTS = {
    "USER": 1,
    "UNUSER": 1,
    "META": 1,
    "SIEVE": 1,
    "APPEND": 1,
    "MAILBOX": 1,
    "DOUBLEMAILBOX": 2,
    "RENAME": 2,
    "UNMAILBOX": 1,
    "QUOTA": 1,
    "ANNOTATION": 1,
    "SEEN": 2,
    "SUB": 2,
    "UNSUB": 2,
}
"""How many arguments a line of each type has."""

_USERIDS = frozenset({"USER", "UNUSER", "META", "SIEVE", "SEEN", "SUB", "UNSUB"})
"""Types whose first argument is a userid."""


class LogLine(NamedTuple):
    """One line; `type` in upper case."""

    type: str
    args: tuple[str, ...]


class UnloggableName(CyrusSyncError):
    """A name with CR, LF or NUL in it, or too long for a line."""

    text = "name cannot stand in the action log"


Report = Callable[[bytes, str], None]
"""Is told of a line that was passed over: the line, and what is wrong with it."""

_UNIQUEID = re.compile(r"[!-~]{1,255}")
_NEEDS_QUOTES = re.compile(r'[ \t()\\"{}]')
_ESCAPE = re.compile(r'([\\"{}])')
_UNESCAPE = re.compile(r"\\(.)")
_FORBIDDEN = re.compile(r"[\r\n\x00]")

_ARG = r'[^ \t\r\n()"{][^ \t\r\n()"]*+|"[^"\\\r\n]*+(?:\\[^\r\n][^"\\\r\n]*+){0,4096}"'
"""As many escapes as a line has octets at most: a match remembers every turn of a group."""
_LINE = re.compile(rf"^([A-Za-z]++) ++({_ARG})(?: ++({_ARG}))?[ \t\r]*+(?:\n|\Z)", re.MULTILINE)
_LITERAL = re.compile(rb"\{(\d{1,9})\+?\}\r?\n")
_WORD = re.compile(_ARG.encode())
_BLANKS = re.compile(rb"[ \t\r]*")
_REST_OF_LINE = re.compile(rb"[^\n]*\n?")


def format_line(kind: str, *args: str) -> bytes:
    """One line with its LF; raises `UnloggableName` for what no line can carry."""
    if ARGUMENTS.get(kind) != len(args):
        raise ValueError(f"{kind} with {len(args)} arguments is no line of the action log")
    line = f"{kind} {' '.join(_quote(arg) for arg in args)}\n".encode("utf-8", "surrogateescape")
    if len(line) > MAX_LINE:
        raise UnloggableName(f"a line of {len(line)} bytes is too long for the action log").at(command=kind)
    return line


def check_line(kind: str, *args: str) -> None:
    """Raises `BadName` if a name of the line is none that there can be, so that no mail could be meant.

    ``ANNOTATION ""`` is the server's; the second argument of SEEN is a uniqueid.
    """
    names = args
    if kind in _USERIDS:
        check_userid(args[0])
        names = args[1:]
    if kind == "SEEN":
        if not _UNIQUEID.fullmatch(args[1]):
            raise BadName(f"{args[1]!r} is no uniqueid of a mailbox").at(command=kind)
        return
    for name in names:
        if name or kind != "ANNOTATION":
            check_mailbox_name(name)


def parse_lines(data: bytes, report: Report | None = None) -> list[LogLine]:
    """The lines of `data` in their order; `report` hears of each that was passed over."""
    tell = report or (lambda line, problem: None)
    lines: list[LogLine] = []
    position = 0
    while literal := _LITERAL.search(data, position):
        start = data.rfind(b"\n", position, literal.start()) + 1 or position
        _parse_plain(data[position:start], lines, tell)
        position = _parse_one(data, start, lines, tell)
    _parse_plain(data[position:] if position else data, lines, tell)
    return lines


def _parse_plain(data: bytes, lines: list[LogLine], tell: Report) -> None:
    """Lines without literals, in one sweep of one pattern over all of them."""
    text = data.decode("utf-8", "surrogateescape")
    add, new, arguments = lines.append, tuple.__new__, ARGUMENTS
    position = 0
    for found in _LINE.finditer(text):
        if found.start() != position:
            _passed_over(text[position : found.start()], tell)
        position = found.end()
        kind, first, second = found.groups()
        if first[0] == '"':
            first = _UNESCAPE.sub(r"\1", first[1:-1])
        if second is None:
            args: tuple[str, ...] = (first,)
        else:
            args = (first, second if second[0] != '"' else _UNESCAPE.sub(r"\1", second[1:-1]))
        if arguments.get(kind) == len(args) or arguments.get(kind := kind.upper()) == len(args):
            add(new(LogLine, (kind, args)))
        else:
            tell(_encode(found[0]).rstrip(b"\r\n"), _complaint(kind, len(args)))
    if position != len(text):
        _passed_over(text[position:], tell)


def _parse_one(data: bytes, start: int, lines: list[LogLine], tell: Report) -> int:
    """One line with literals, which may hold line ends, from `start`; where the next line begins."""
    words: list[str] = []
    problem = ""
    position = start
    while not problem:
        found = _BLANKS.match(data, position)
        position = found.end() if found else position
        if position >= len(data) or data[position] == 0x0A:
            break
        if literal := _LITERAL.match(data, position):
            position = literal.end() + int(literal[1])
            words.append(_decode(data[literal.end() : position]))
            problem = "literal cut short" if position > len(data) else ""
        elif word := _WORD.match(data, position):
            position = word.end()
            text = _decode(word[0])
            words.append(_UNESCAPE.sub(r"\1", text[1:-1]) if text[0] == '"' else text)
        else:
            problem = "cannot be read"
    rest = _REST_OF_LINE.match(data, min(position, len(data)))
    end = rest.end() if rest else len(data)
    kind, args = (words[0].upper(), tuple(words[1:])) if words else ("", ())
    if not problem and ARGUMENTS.get(kind) == len(args):
        lines.append(LogLine(kind, args))
    else:
        tell(data[start:end].rstrip(b"\r\n"), problem or _complaint(kind, len(args)))
    return end


def _passed_over(text: str, tell: Report) -> None:
    for line in text.split("\n"):
        if line.strip():
            tell(_encode(line).rstrip(b"\r"), "cannot be read")


def _complaint(kind: str, count: int) -> str:
    if kind not in ARGUMENTS:
        return f"unknown type {kind}"
    return f"{kind} has {ARGUMENTS[kind]} argument(s), not {count}"


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _quote(arg: str) -> str:
    if _FORBIDDEN.search(arg):
        raise UnloggableName().at(mailbox=repr(arg))
    if arg and not _NEEDS_QUOTES.search(arg):
        return arg
    return '"' + _ESCAPE.sub(r"\\\1", arg) + '"'
