"""What a Cyrus 3.6 makes of a Sieve script: whether its compiler takes it.

`common.sieve` asks only for the grammar, so that no extension of any server is refused. A real server
compiles each script and hangs up on one that it cannot; who brings a script into a store is warned by
`why_not_compiled`. Which words there are is in `common.sieve_words`. Most strings are not looked into; a
script that asks ``ihave`` is believed from there on.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from cyrus_sync.common.errors import SyncBadSieve
from cyrus_sync.common.sieve import Token, Wrong, check_syntax, tokens_of
from cyrus_sync.common.sieve_words import (
    ALIASES,
    CHOICES,
    COMMANDS,
    EXCLUSIVE,
    EXTENSIONS,
    FCC,
    TAGS,
    TESTS,
    Word,
)

MAX_NUMBER = 2**31 - 1

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
                known.add(ALIASES.get(name, name))


def _check_item(item: _Item, known: set[str]) -> None:
    word = (TESTS if item.is_test else COMMANDS).get(item.name)
    if word is None and item.name.lower() in (*TESTS, *COMMANDS):
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


def _check_arguments(item: _Item, word: Word, known: set[str]) -> None:
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
        tag = TAGS.get(name)
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
    if kind in CHOICES:
        return argument.kind == "string" and argument.texts[0] in CHOICES[kind]
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
    for group in EXCLUSIVE:
        several = tags.intersection(group.split())
        if len(several) > 1:
            raise Wrong(
                " and ".join(f":{tag}" for tag in sorted(several)) + " exclude each other", item.start
            )
    if "last" in tags and "index" not in tags and item.name in ("header", "address", "date", "deleteheader"):
        raise Wrong(":last needs :index", item.start)
    if item.name in ("vacation", "notify") and "fcc" not in tags and tags & set(FCC.split()):
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
