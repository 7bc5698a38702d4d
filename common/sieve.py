"""Sieve scripts: as messages of the ``#sieve`` mailbox, their names, their syntax.

A Cyrus 3.6 keeps each script as a message in ``user.X.#sieve``: the Subject is the script's name, the
body is the script, the active one is ``\\Flagged``. The messages made here have the same header, line
by line. Older peers speak of files instead: ``NAME.script``, and ``NAME.bc`` for the active one.

The syntax check is the generic grammar of RFC 5228 section 8.2 plus its rules for ``require``, ``if``,
``elsif`` and ``else``; it knows no list of commands, so that no extension is refused. Octets beyond ASCII
between words (a byte order mark, most often) are passed over, as Cyrus does: what a master has accepted
must not be refused by its replica.

>>> check_syntax(b'if true { keep; ')
Traceback (most recent call last):
common.errors.SyncBadSieve: line 1: the block that began here is not closed
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import time
from typing import NamedTuple

from cyrus_sync.common.errors import SyncBadSieve
from cyrus_sync.common.names import BadName

SIEVE_FOLDER = "#sieve"
MAX_NAME = 512
"""Octets of a script's name in UTF-8 (RFC 5804 asks for 128 characters at least)."""

MAX_DEPTH = 64
"""Nesting of blocks and of tests."""

_BAD_IN_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029/]")


class Script(NamedTuple):
    """A script that was taken from a message."""

    name: str
    content: bytes


# -- names


def check_name(name: str) -> str:
    """`name` if a script can be called so (RFC 5804, 1.6; no slash); raises `BadName`."""
    try:
        octets = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise BadName("Invalid Sieve script name").at(mailbox=ascii(name)) from None
    if not name or octets > MAX_NAME or name in (".", "..") or _BAD_IN_NAME.search(name):
        raise BadName("Invalid Sieve script name").at(mailbox=ascii(name[:80]))
    return name


def script_filename(name: str) -> str:
    """What the SIEVE commands call the script."""
    return f"{name}.script"


def bytecode_filename(name: str) -> str:
    """What the SIEVE commands call the script when it is the active one."""
    return f"{name}.bc"


def name_of(filename: str) -> str | None:
    """The script's name in a ``NAME.script`` or ``NAME.bc``, None for any other file name."""
    for suffix in (".script", ".bc"):
        if filename.endswith(suffix) and filename != suffix:
            return filename.removesuffix(suffix)
    return None


# -- messages


def to_message(
    name: str, content: bytes, *, userid: str, servername: str, when: int, script_id: str = ""
) -> bytes:
    """The message that holds the script. `when` is its time in Unix seconds, `script_id` the 24
    characters that Cyrus gives every script (made up if not given)."""
    sender = userid if "@" in userid else f"{userid}@{servername}"
    digest = hashlib.sha1(content).hexdigest()
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(when))
    header = (
        f"From: <{sender}>\r\n"
        f"Subject: {_encode_subject(check_name(name))}\r\n"
        f"Date: {date}\r\n"
        f"Message-ID: <{digest}@{servername}>\r\n"
        "Content-Type: application/sieve; charset=utf-8\r\n"
        f"Content-Length: {len(content)}\r\n"
        f'Content-Disposition: attachment;\r\n\tfilename="{script_id or _random_id()}.sieve"\r\n'
        "MIME-Version: 1.0\r\n\r\n"
    )
    return header.encode("utf-8") + content


def from_message(message: bytes) -> Script:
    """Name and content of the script in `message`; raises `SyncBadSieve` if it has no name."""
    header, content = _split(message)
    for line in re.sub(rb"\r?\n[ \t]+", b" ", header).splitlines():
        key, colon, value = line.partition(b":")
        if colon and key.strip().lower() == b"subject":
            name = _decode_subject(value.strip())
            if name:
                return Script(name, content)
            break
    raise SyncBadSieve("the message has no Subject, so the script has no name")


def content_of(message: bytes) -> bytes:
    """The script in `message`."""
    return _split(message)[1]


def _split(message: bytes) -> tuple[bytes, bytes]:
    found = re.search(rb"\r?\n\r?\n", message)
    return (message[: found.start()], message[found.end() :]) if found else (message, b"")


def _encode_subject(name: str) -> str:
    if name.isascii() and "=?" not in name and name == name.strip():
        return name
    from email.header import Header  # here and below: hardly anybody needs it, and it takes long to load

    return Header(name, "utf-8", maxlinelen=75, header_name="Subject").encode(linesep="\r\n")


def _decode_subject(value: bytes) -> str:
    text = value.decode("utf-8", "replace")
    if "=?" not in text:
        return text
    from email.errors import HeaderParseError
    from email.header import decode_header, make_header

    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, UnicodeDecodeError):
        return text


def _random_id() -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(24))


# -- syntax

_TOKEN = re.compile(
    rb"""
      (?P<blank> [ \t\r\n\x80-\xff]+ | \#[^\n]*\n? | /\*.*?\*/ )
    | (?P<text>  text:[ \t]*(?:\#[^\r\n]*)?\r?\n (?:.*?\n)?? \.\r?(?:\n|\Z) )
    | (?P<quoted> " )
    | (?P<number> [0-9]+[KMGkmg]?(?![A-Za-z0-9_]) )
    | (?P<tag>   :[A-Za-z_][A-Za-z0-9_]* )
    | (?P<word>  (?!text:)[A-Za-z_][A-Za-z0-9_]* )
    | (?P<mark>  [][{}();,] )
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_QUOTED = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+){0,200}', re.DOTALL)
"""What stands in quotes, or the first 200 escapes of it: a match remembers every turn of a group."""


class Token(NamedTuple):
    """A word of the language, at an offset of the script; the last one is of the kind ``end``."""

    kind: str
    text: bytes
    start: int


class Wrong(Exception):
    """What is wrong, and at which offset of the script."""

    def __init__(self, problem: str, start: int) -> None:
        super().__init__(problem)
        self.start = start


def check_syntax(script: bytes) -> None:
    """Raise `SyncBadSieve` with line number and reason, unless `script` follows the grammar."""
    try:
        _Parser(tokens_of(script)).script()
    except Wrong as wrong:
        line = script.count(b"\n", 0, wrong.start) + 1
        raise SyncBadSieve(f"line {line}: {wrong}") from None


def tokens_of(script: bytes) -> list[Token]:
    """The words of `script` without blanks and comments; raises `Wrong`."""
    if b"\0" in script:
        raise Wrong("there is a NUL octet", script.index(b"\0"))
    tokens = []
    position = 0
    while position < len(script):
        found = _TOKEN.match(script, position)
        if not found:
            raise Wrong(_why_no_token(script, position), position)
        kind = found.lastgroup or ""
        end = _end_of_quoted(script, found.end()) if kind == "quoted" else found.end()
        if kind != "blank":
            tokens.append(
                Token("string" if kind in ("text", "quoted") else kind, script[position:end], position)
            )
        position = end
    tokens.append(Token("end", b"", len(script)))
    return tokens


def _end_of_quoted(script: bytes, start: int) -> int:
    """The position behind the quote that closes a string; its text begins at `start`."""
    end = start
    while found := _QUOTED.match(script, end):
        end = found.end()
        if script[end : end + 1] == b'"':
            return end + 1
        if end + 1 >= len(script):
            break
    raise Wrong("the string that begins here is not closed", start - 1)


def _why_no_token(script: bytes, position: int) -> str:
    if script.startswith(b"/*", position):
        return "the comment that begins here is not closed"
    if script[position : position + 5].lower() == b"text:":
        return "the text that begins here does not end with a line of one dot"
    return f"{chr(script[position])!a} is not expected here"


class _Parser:
    """Recursive descent over the tokens; depth is bounded by `MAX_DEPTH`."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._next = 0

    def script(self) -> None:
        self._commands(0)
        token = self._tokens[self._next]
        if token.kind != "end":
            raise Wrong("a } without its {", token.start)

    def _peek(self, mark: bytes) -> bool:
        token = self._tokens[self._next]
        return token.kind == "mark" and token.text == mark

    def _take(self, mark: bytes) -> bool:
        found = self._peek(mark)
        self._next += found
        return found

    def _wrong(self, wanted: str) -> Wrong:
        token = self._tokens[self._next]
        if token.kind == "end":
            return Wrong(f"the script ends where {wanted} is expected", token.start)
        shown = token.text[:20].decode("utf-8", "replace")
        return Wrong(f"{wanted} is expected, not {shown}", token.start)

    def _commands(self, depth: int) -> None:
        previous = ""
        only_require = depth == 0
        while self._tokens[self._next].kind == "word":
            token = self._tokens[self._next]
            self._next += 1
            name = token.text.decode().lower()
            if name == "require" and not only_require:
                raise Wrong("require stands only at the beginning of a script", token.start)
            if name in ("elsif", "else") and previous not in ("if", "elsif"):
                raise Wrong(f"{name} without an if before it", token.start)
            only_require = only_require and name == "require"
            tests = self._arguments(depth)
            if name in ("if", "elsif") and tests != 1:
                raise Wrong(f"{name} takes one test", token.start)
            self._end_of_command(name, depth)
            previous = name
        token = self._tokens[self._next]
        if token.kind != "end" and not self._peek(b"}"):
            raise self._wrong("a command")

    def _end_of_command(self, name: str, depth: int) -> None:
        token = self._tokens[self._next]
        if name in ("if", "elsif", "else") and not self._peek(b"{"):
            raise self._wrong(f"a block behind {name}")
        if self._take(b"{"):
            if depth >= MAX_DEPTH:
                raise Wrong("blocks are nested too deep", token.start)
            self._commands(depth + 1)
            if not self._take(b"}"):
                raise Wrong("the block that began here is not closed", token.start)
        elif not self._take(b";"):
            raise self._wrong("a semicolon")

    def _arguments(self, depth: int) -> int:
        """``*argument [test / test-list]``; how many tests there were."""
        while True:
            token = self._tokens[self._next]
            if token.kind in ("string", "number", "tag"):
                self._next += 1
            elif self._take(b"["):
                self._string_list()
            elif token.kind == "word":
                self._test(depth)
                return 1
            elif self._take(b"("):
                return self._test_list(depth)
            else:
                return 0

    def _string_list(self) -> None:
        while True:
            if self._tokens[self._next].kind != "string":
                raise self._wrong("a string")
            self._next += 1
            if self._take(b"]"):
                return
            if not self._take(b","):
                raise self._wrong("a comma or ]")

    def _test_list(self, depth: int) -> int:
        count = 0
        while True:
            self._test(depth)
            count += 1
            if self._take(b")"):
                return count
            if not self._take(b","):
                raise self._wrong("a comma or )")

    def _test(self, depth: int) -> None:
        token = self._tokens[self._next]
        if token.kind != "word":
            raise self._wrong("a test")
        if depth >= MAX_DEPTH:
            raise Wrong("tests are nested too deep", token.start)
        self._next += 1
        self._arguments(depth + 1)
