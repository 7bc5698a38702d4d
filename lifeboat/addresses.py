"""Addresses of a header field as ENVELOPE shows them (RFC 3501, 7.4.2): raw words, encoded ones stay encoded.

>>> [address.mailbox for address in addresses(b'"Doe, Jane" <jane@example.org>, bob@example.net (Bob)')]
[b'jane', b'bob']
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    rb"\s+|(?P<quoted>\"(?:[^\"\\]|\\.)*\"?)|(?P<comment>\()|(?P<special>[<>@,:;])"
    rb"|(?P<atom>(?:[^\s\"(<>@,:;\[\])]|\\.)+|\[[^\]]*\]?|.)",
    re.DOTALL,
)


class Address(NamedTuple):
    """`host` None: the beginning of a group called `mailbox`, or (`mailbox` None) its end."""

    name: bytes | None
    mailbox: bytes | None
    host: bytes | None
    route: bytes | None = None
    """Through whom, by RFC 822 (obsolete)."""


class _Tokens(NamedTuple):
    kind: str
    text: bytes
    spaced: bool


def _tokens(value: bytes) -> Iterator[_Tokens]:
    at, spaced = 0, False
    while at < len(value):
        found = _TOKEN.match(value, at)
        assert found is not None, "the last alternative takes any octet"
        at = found.end()
        kind = found.lastgroup
        if kind is None:
            spaced = True
        elif kind == "comment":
            at, text = _comment(value, at)
            yield _Tokens("comment", text, spaced)
            spaced = True
        else:
            text = found[0]
            if kind == "quoted":
                text = re.sub(rb"\\(.)", rb"\1", text[1:].removesuffix(b'"'))
            yield _Tokens(text.decode("latin-1") if kind == "special" else kind, text, spaced)
            spaced = False


def _comment(value: bytes, at: int) -> tuple[int, bytes]:
    depth, start = 1, at
    while at < len(value) and depth:
        octet = value[at : at + 1]
        depth += {b"(": 1, b")": -1}.get(octet, 0)
        at += 2 if octet == b"\\" else 1
    return at, re.sub(rb"\\(.)", rb"\1", value[start : at - (not depth)])


def addresses(value: bytes) -> list[Address]:
    """All addresses and groups of a field. What is no address by RFC 5322 gives what can be made of it."""
    found: list[Address] = []
    group = False
    words: list[_Tokens] = []
    for token in [*_tokens(value), _Tokens(",", b",", False)]:
        if token.kind == ":" and not any(word.kind == "<" for word in words):
            found.append(Address(None, _joined(words), None))
            words, group = [], True
        elif token.kind in (",", ";") and not _inside(words):
            if any(word.kind != "comment" for word in words):
                found.append(_address(words))
            words = []
            if token.kind == ";" and group:
                found.append(Address(None, None, None))
                group = False
        else:
            words.append(token)
    if group:
        found.append(Address(None, None, None))
    return found


def _inside(words: list[_Tokens]) -> bool:
    """Whether an angle bracket is open: a route has commas."""
    kinds = [word.kind for word in words]
    return "<" in kinds and ">" not in kinds


def _address(words: list[_Tokens]) -> Address:
    kinds = [word.kind for word in words]
    route: bytes | None = None
    if "<" in kinds:
        at = kinds.index("<")
        name = _joined([word for word in words[:at] if word.kind != "comment"])
        inner = words[at + 1 : kinds.index(">") if ">" in kinds else None]
        kinds = [word.kind for word in inner]
        if ":" in kinds:
            colon = kinds.index(":")
            route, inner = b"".join(word.text for word in inner[:colon]), inner[colon + 1 :]
    else:
        inner = [word for word in words if word.kind != "comment"]
        name = b" ".join(word.text for word in words if word.kind == "comment")
    parts = [word.kind for word in inner]
    at = len(parts) - 1 - parts[::-1].index("@") if "@" in parts else len(parts)
    mailbox = b"".join(word.text for word in inner[:at] if word.kind != "comment")
    host = b"".join(word.text for word in inner[at + 1 :] if word.kind != "comment")
    return Address(name or None, mailbox, host, route)


def _joined(words: list[_Tokens]) -> bytes:
    text = b""
    for word in words:
        text += (b" " if word.spaced and text else b"") + word.text
    return text
