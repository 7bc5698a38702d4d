"""What a Cyrus 3.6 makes of a Sieve script: the words, tags and extensions that its compiler knows.

`common.sieve` asks only for the grammar, so that no extension of any server is refused. A real server
compiles each script and hangs up on one that it cannot; who brings a script into a store is warned by
`why_not_compiled`. The table below was taken down by trying the compiler (``sievec`` of 3.6.1), and a test
compares the two. It does not look into most strings; a script that asks ``ihave`` is believed from there on.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from cyrus_sync.common.errors import SyncBadSieve
from cyrus_sync.common.sieve import Token, Wrong, check_syntax, tokens_of

MAX_NUMBER = 2**31 - 1

EXTENSIONS = frozenset(
    {
        "comparator-i;octet",
        "comparator-i;ascii-casemap",
        "comparator-i;ascii-numeric",
        "encoded-character",
        "envelope",
        "fileinto",
        "regex",
        "copy",
        "body",
        "environment",
        "variables",
        "vacation",
        "relational",
        "imap4flags",
        "imapflags",
        "subaddress",
        "date",
        "index",
        "editheader",
        "ereject",
        "reject",
        "enotify",
        "notify",
        "ihave",
        "mailbox",
        "mboxmetadata",
        "servermetadata",
        "redirect-deliverby",
        "redirect-dsn",
        "vacation-seconds",
        "include",
        "duplicate",
        "special-use",
        "fcc",
        "mailboxid",
        "vnd.cyrus.log",
        "x-cyrus-log",
        "vnd.cyrus.jmapquery",
        "x-cyrus-jmapquery",
        "vnd.cyrus.snooze",
        "snooze",
        "x-cyrus-snooze",
        "vnd.cyrus.imip",
    }
)
"""All that a 3.6.1 has unless its `sieve_extensions` says less."""

_ALIASES = {
    "imapflags": "imap4flags",
    "x-cyrus-log": "vnd.cyrus.log",
    "x-cyrus-jmapquery": "vnd.cyrus.jmapquery",
    "snooze": "vnd.cyrus.snooze",
    "x-cyrus-snooze": "vnd.cyrus.snooze",
}


class _Tag(NamedTuple):
    takes: str = ""
    """What stands behind it: a letter as in `_Word.takes`, "" = nothing."""
    needs: str = ""
    """The extension that brings it."""


class _Word(NamedTuple):
    takes: tuple[str, ...]
    """Forms of the positional arguments: s(tring), l(ist or string), n(umber), h(eader fields), f(lags),
    a(ddress), v(ariable), d(ate part)."""
    needs: tuple[str, ...] = ()
    """Extensions of which one has to be required."""
    tags: str = ""
    tests: str = ""
    """"" = none, ``1`` = one, ``+`` = a list in parentheses."""


_TAGS = {
    "comparator": _Tag("c"),
    "is": _Tag(),
    "contains": _Tag(),
    "matches": _Tag(),
    "regex": _Tag("", "regex"),
    "count": _Tag("r", "relational"),
    "value": _Tag("r", "relational"),
    "list": _Tag("", "extlists"),
    "index": _Tag("n", "index"),
    "last": _Tag(),
    "all": _Tag(),
    "localpart": _Tag(),
    "domain": _Tag(),
    "user": _Tag("", "subaddress"),
    "detail": _Tag("", "subaddress"),
    "over": _Tag(),
    "under": _Tag(),
    "copy": _Tag("", "copy"),
    "create": _Tag("", "mailbox"),
    "flags": _Tag("f", "imap4flags"),
    "specialuse": _Tag("s", "special-use"),
    "mailboxid": _Tag("s", "mailboxid"),
    "fcc": _Tag("s", "fcc"),
    "bytimerelative": _Tag("n", "redirect-deliverby"),
    "bytimeabsolute": _Tag("s", "redirect-deliverby"),
    "bymode": _Tag("s", "redirect-deliverby"),
    "bytrace": _Tag("", "redirect-deliverby"),
    "notify": _Tag("s", "redirect-dsn"),
    "ret": _Tag("s", "redirect-dsn"),
    "lower": _Tag(),
    "upper": _Tag(),
    "lowerfirst": _Tag(),
    "upperfirst": _Tag(),
    "quotewildcard": _Tag(),
    "quoteregex": _Tag("", "regex"),
    "encodeurl": _Tag("", "enotify"),
    "length": _Tag(),
    "days": _Tag("n"),
    "seconds": _Tag("n"),
    "subject": _Tag("s"),
    "from": _Tag("s"),
    "addresses": _Tag("l"),
    "mime": _Tag(),
    "handle": _Tag("s"),
    "raw": _Tag(),
    "text": _Tag(),
    "content": _Tag("l"),
    "zone": _Tag("s"),
    "originalzone": _Tag(),
    "importance": _Tag("i"),
    "message": _Tag("s"),
    "options": _Tag("l"),
    "id": _Tag("s"),
    "method": _Tag("s"),
    "low": _Tag(),
    "normal": _Tag(),
    "high": _Tag(),
    "personal": _Tag(),
    "global": _Tag(),
    "once": _Tag(),
    "optional": _Tag(),
    "header": _Tag("s"),
    "uniqueid": _Tag("s"),
    "mailbox": _Tag("s"),
    "addflags": _Tag("f", "imap4flags"),
    "removeflags": _Tag("f", "imap4flags"),
    "weekdays": _Tag("l"),
    "tzid": _Tag("s"),
    "invitesonly": _Tag(),
    "updatesonly": _Tag(),
    "deletecanceled": _Tag(),
    "calendarid": _Tag("s"),
    "outcome": _Tag("s", "variables"),
    "errstr": _Tag("s", "variables"),
}
_MATCH = "comparator is contains matches regex count value"
_PART = "all localpart domain user detail"
_FCC = "fcc create flags specialuse mailboxid"
_FLAG = _Word(("f", "sf"), ("imap4flags",))

_COMMANDS = {
    "if": _Word(("",), tests="1"),
    "elsif": _Word(("",), tests="1"),
    "else": _Word(("",)),
    "require": _Word(("l",)),
    "stop": _Word(("",)),
    "keep": _Word(("",), tags="flags"),
    "discard": _Word(("",)),
    "fileinto": _Word(("s",), ("fileinto",), "copy flags create specialuse mailboxid"),
    "redirect": _Word(("a",), (), "copy list bytimerelative bytimeabsolute bymode bytrace notify ret"),
    "set": _Word(
        ("vs",),
        ("variables",),
        "lower upper lowerfirst upperfirst quotewildcard quoteregex encodeurl length",
    ),
    "vacation": _Word(("s",), ("vacation",), f"days seconds subject from addresses mime handle {_FCC}"),
    "setflag": _FLAG,
    "addflag": _FLAG,
    "removeflag": _FLAG,
    "mark": _Word(("",), ("imap4flags",)),
    "unmark": _Word(("",), ("imap4flags",)),
    "addheader": _Word(("hs",), ("editheader",), "last"),
    "deleteheader": _Word(("h", "hl"), ("editheader",), f"{_MATCH} list index last"),
    "reject": _Word(("s",), ("reject",)),
    "ereject": _Word(("s",), ("ereject",)),
    "notify": _Word(
        ("s", ""), ("enotify", "notify"), f"from importance message options id method low normal high {_FCC}"
    ),
    "denotify": _Word(("", "s"), ("notify",), f"low normal high {_MATCH}"),
    "include": _Word(("s",), ("include",), "personal global once optional"),
    "return": _Word(("",), ("include",)),
    "log": _Word(("s",), ("vnd.cyrus.log",)),
    "snooze": _Word(
        ("l",),
        ("vnd.cyrus.snooze",),
        "mailbox create specialuse mailboxid addflags removeflags weekdays tzid",
    ),
    "processimip": _Word(
        ("",), ("vnd.cyrus.imip",), "invitesonly updatesonly deletecanceled calendarid outcome errstr"
    ),
}
_TESTS = {
    "anyof": _Word(("",), tests="+"),
    "allof": _Word(("",), tests="+"),
    "not": _Word(("",), tests="1"),
    "true": _Word(("",)),
    "false": _Word(("",)),
    "exists": _Word(("l",)),
    "size": _Word(("n",), (), "over under"),
    "header": _Word(("hl",), (), f"{_MATCH} list index last"),
    "address": _Word(("hl",), (), f"{_MATCH} {_PART} list index last"),
    "envelope": _Word(("ll",), ("envelope",), f"{_MATCH} {_PART} list"),
    "body": _Word(("l",), ("body",), f"{_MATCH} raw text content"),
    "environment": _Word(("sl",), ("environment",), _MATCH),
    "string": _Word(("ll",), ("variables",), f"{_MATCH} list"),
    "hasflag": _Word(("l", "ll"), ("imap4flags",), _MATCH),
    "date": _Word(("sdl",), ("date",), f"{_MATCH} zone originalzone index last"),
    "currentdate": _Word(("dl",), ("date",), f"{_MATCH} zone"),
    "valid_notify_method": _Word(("l",), ("enotify",)),
    "notify_method_capability": _Word(("ssl",), ("enotify",), _MATCH),
    "mailboxexists": _Word(("l",), ("mailbox",)),
    "metadata": _Word(("ssl",), ("mboxmetadata",), _MATCH),
    "metadataexists": _Word(("sl",), ("mboxmetadata",)),
    "servermetadata": _Word(("sl",), ("servermetadata",), _MATCH),
    "servermetadataexists": _Word(("l",), ("servermetadata",)),
    "valid_ext_list": _Word(("l",), ("extlists",)),
    "duplicate": _Word(("",), ("duplicate",), "header uniqueid handle seconds last"),
    "specialuse_exists": _Word(("l", "sl"), ("special-use",)),
    "mailboxidexists": _Word(("l",), ("mailboxid",)),
    "jmapquery": _Word(("s",), ("vnd.cyrus.jmapquery",)),
}
_EXCLUSIVE = (
    "is contains matches regex count value list",
    _PART,
    "days seconds",
    "specialuse mailboxid",
    "raw text content",
    "zone originalzone",
    "lower upper",
    "lowerfirst upperfirst",
    "quotewildcard quoteregex",
    "personal global",
    "bytimerelative bytimeabsolute",
    "low normal high importance",
    "header uniqueid",
)
_CHOICES = {
    "c": ("i;octet", "i;ascii-casemap", "i;ascii-numeric"),
    "r": ("eq", "ne", "gt", "ge", "lt", "le"),
    "i": ("1", "2", "3"),
}
_FIELD = re.compile(r"[!-9;-~]*")
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_DATE_PART = re.compile(
    "year|month|day|date|julian|hour|minute|second|time|iso8601|std11|zone|weekday", re.IGNORECASE
)
_ADDRESS = re.compile(r"[^@<>\s]+@[^@<>\s]+|.*\S.*<[^@\s]+@[^@\s]+>", re.DOTALL)
_POSIX_CLASS = re.compile(
    r"\[:(?:alnum|alpha|blank|cntrl|digit|graph|lower|print|punct|space|upper|xdigit|word):\]"
)
_FACTORS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class _Argument(NamedTuple):
    kind: str
    """``string``, ``number``, ``tag`` or ``list``."""
    texts: tuple[str, ...]
    start: int


class _Item(NamedTuple):
    """A command or a test, without the tests and the block that belong to it."""

    name: str
    start: int
    is_test: bool
    arguments: list[_Argument]
    next: Token


def why_not_compiled(script: bytes) -> str:
    """Line and reason why a Cyrus 3.6 does not compile `script`, "" if it does as far as can be told."""
    try:
        check_syntax(script)
        _check(list(_items(tokens_of(script))))
    except SyncBadSieve as error:
        return str(error)
    except Wrong as wrong:
        return f"line {script.count(10, 0, wrong.start) + 1}: {wrong}"
    return ""


def _items(tokens: list[Token]) -> Iterator[_Item]:
    at_command = True
    position = 0
    while position < len(tokens):
        token = tokens[position]
        if token.kind != "word":
            at_command = token.text in (b";", b"{", b"}")
            position += 1
            continue
        is_test, at_command = not at_command, False
        position += 1
        arguments = []
        while tokens[position].kind in ("string", "number", "tag") or tokens[position].text == b"[":
            argument, position = _argument(tokens, position)
            arguments.append(argument)
        yield _Item(token.text.decode(), token.start, is_test, arguments, tokens[position])


def _argument(tokens: list[Token], position: int) -> tuple[_Argument, int]:
    token = tokens[position]
    if token.kind in ("string", "number", "tag"):
        text = _text(token.text) if token.kind == "string" else token.text.decode()
        return _Argument(token.kind, (text,), token.start), position + 1
    texts = []
    while tokens[position].text != b"]":
        if tokens[position].kind == "string":
            texts.append(_text(tokens[position].text))
        position += 1
    return _Argument("list", tuple(texts), token.start), position + 1


def _text(token: bytes) -> str:
    if not token.startswith(b'"'):
        return token.partition(b"\n")[2].rpartition(b".")[0].decode("utf-8", "replace")
    return re.sub(rb"\\(.)", rb"\1", token[1:-1], flags=re.DOTALL).decode("utf-8", "replace")


def _check(items: list[_Item]) -> None:
    known: set[str] = set()
    for item in items:
        if item.is_test and item.name == "ihave" and "ihave" in known:
            return  # what follows may be for other servers
        if item.name != "require" or item.is_test:
            _check_item(item, known | EXTENSIONS if "ihave" in known else known)
            continue
        for argument in item.arguments:
            for name in argument.texts:
                if name not in EXTENSIONS:
                    raise Wrong(f"Cyrus 3.6 has no extension {name[:60]!a}", argument.start)
                known.add(_ALIASES.get(name, name))


def _check_item(item: _Item, known: set[str]) -> None:
    word = (_TESTS if item.is_test else _COMMANDS).get(item.name)
    if word is None and item.name.lower() in (*_TESTS, *_COMMANDS):
        raise Wrong(f"Cyrus takes {item.name} in small letters only", item.start)
    if word is None:
        raise Wrong(f"there is no {'test' if item.is_test else 'command'} {item.name}", item.start)
    if word.needs and not known.intersection(word.needs):
        raise Wrong(f'{item.name} needs require "{word.needs[0]}"', item.start)
    has_block = item.name in ("if", "elsif", "else")
    if not item.is_test and not has_block and item.next.text == b"{":
        raise Wrong(f"{item.name} takes no block", item.next.start)
    tests = {b"(": "+"}.get(item.next.text, "1" if item.next.kind == "word" else "")
    if tests != word.tests:
        expected = {"": "no test", "1": "one test", "+": "tests in parentheses"}[word.tests]
        raise Wrong(f"{item.name} takes {expected}", item.next.start)
    _check_arguments(item, word, known)


def _check_arguments(item: _Item, word: _Word, known: set[str]) -> None:
    positional: list[_Argument] = []
    tags: set[str] = set()
    waiting = iter(item.arguments)
    for argument in waiting:
        if argument.kind != "tag":
            positional.append(argument)
            continue
        if positional:
            raise Wrong(f"{argument.texts[0]} stands behind other arguments", argument.start)
        name = argument.texts[0].removeprefix(":")
        tag = _TAGS.get(name)
        if tag is None or name not in word.tags.split():
            raise Wrong(f"{item.name} takes no tag :{name}", argument.start)
        needs = "vacation-seconds" if (item.name, name) == ("vacation", "seconds") else tag.needs
        if needs and needs not in known:
            raise Wrong(f':{name} needs require "{needs}"', argument.start)
        if name in tags:
            raise Wrong(f":{name} stands twice", argument.start)
        tags.add(name)
        if tag.takes:
            value = next(waiting, None)
            if value is None or not _fits(value, tag.takes):
                raise Wrong(f":{name} takes {_NAMES[tag.takes]}", argument.start)
            _look_into(value, tag.takes, tags, known)
    for form in word.takes:
        if len(form) == len(positional) and all(map(_fits, positional, form)):
            for argument, kind in zip(positional, form, strict=True):
                _look_into(argument, kind, tags, known)
            _check_tags(item, tags)
            if "regex" in tags and positional:
                _check_expressions(positional[-1])
            return
    wanted = " and ".join(_NAMES[kind] for kind in word.takes[0]) or "no arguments"
    raise Wrong(f"{item.name} takes {wanted}", item.start)


_NAMES = {
    "s": "a string",
    "l": "strings",
    "n": "a number",
    "h": "header fields",
    "f": "flags",
    "a": "an address",
    "v": "the name of a variable",
    "d": "a part of a date",
    "c": "the name of a comparator",
    "r": "the name of a relation",
    "i": '"1", "2" or "3"',
}


def _fits(argument: _Argument, kind: str) -> bool:
    if kind == "n":
        return argument.kind == "number"
    if kind in _CHOICES:
        return argument.kind == "string" and argument.texts[0] in _CHOICES[kind]
    return argument.kind == "string" or (argument.kind == "list" and kind in "lhf")


def _look_into(argument: _Argument, kind: str, tags: set[str], known: set[str]) -> None:
    """What strings and numbers say."""
    text = argument.texts[0] if argument.texts else ""
    if kind == "n" and _number(text) > MAX_NUMBER:
        raise Wrong(f"the number {text[:40]} is too large", argument.start)
    if kind == "c" and text == "i;ascii-numeric" and "comparator-i;ascii-numeric" not in known:
        raise Wrong('i;ascii-numeric needs require "comparator-i;ascii-numeric"', argument.start)
    checks = {"v": (_VARIABLE, "name of a variable"), "d": (_DATE_PART, "part of a date")}
    if "variables" not in known:
        checks["h"] = (_FIELD, "header field")
        if "list" not in tags:
            checks["a"] = (_ADDRESS, "address")
    if kind in checks:
        pattern, what = checks[kind]
        for one in argument.texts:
            if not pattern.fullmatch(one):
                raise Wrong(f"{one[:60]!a} is no {what}", argument.start)


def _number(text: str) -> int:
    digits = text.rstrip("KMGkmg")
    factor = _FACTORS.get(text[len(digits) :].lower(), 1)
    return MAX_NUMBER + 1 if len(digits) > 4000 else int(digits) * factor


def _check_tags(item: _Item, tags: set[str]) -> None:
    if item.name == "size" and len(tags) != 1:
        raise Wrong("size takes :over or :under", item.start)
    for group in _EXCLUSIVE:
        several = tags.intersection(group.split())
        if len(several) > 1:
            raise Wrong(
                " and ".join(f":{tag}" for tag in sorted(several)) + " exclude each other", item.start
            )
    if "last" in tags and "index" not in tags and item.name in ("header", "address", "date", "deleteheader"):
        raise Wrong(":last needs :index", item.start)
    if item.name in ("vacation", "notify") and "fcc" not in tags and tags & set(_FCC.split()):
        raise Wrong("where the copy goes is not said: :fcc", item.start)
    if tags & {"bymode", "bytrace"} and not tags & {"bytimerelative", "bytimeabsolute"}:
        raise Wrong(":bymode and :bytrace need a time", item.start)


def _check_expressions(argument: _Argument) -> None:
    for text in argument.texts:
        try:
            with warnings.catch_warnings(action="ignore"):
                re.compile(_POSIX_CLASS.sub("a-z", text.replace("(?i)", "")))
        except (re.error, RecursionError, OverflowError) as error:
            raise Wrong(f"{text[:60]!a} is no expression: {error}", argument.start) from None
