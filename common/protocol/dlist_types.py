"""What dlist values are made of, and how much of them one peer may make us hold.

Import these through `common.protocol.dlist`.
"""

from __future__ import annotations

from typing import TypeAlias

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import ProtocolViolation

MAX_FILE = 2**32 - 1
"""The largest size that a file literal can announce."""


class Flag(bytes):
    """A message flag: printed as it stands, never quoted."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class File:
    """A file literal ``%{partition guid size}``. `guid` is the text of the wire, unchecked.

    `data` is None where the bytes were streamed or skipped; printing that gives NIL, as Cyrus prints a
    file that it cannot find.
    """

    partition: bytes
    guid: bytes
    size: int
    data: bytes | None = None


Value: TypeAlias = "bytes | File | list[Value] | dict[bytes, Value] | None"
"""What is read: a word, string or flag; a file literal; NIL; a list; a kvlist."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may make us hold; all but depth and items are bytes.

    A word, quoted string or literal that is too long is fatal for a connection, as in Cyrus; depth, number
    of items and total size fail only the value that exceeds them.
    """

    max_word: int = 131072
    max_quoted: int = 131072
    max_literal: int = 131072
    max_depth: int = 64
    max_items: int = 1_000_000
    max_value: int = 32 * 1024 * 1024
    """One value without its file literals and streamed records."""
    max_line: int = 22 * 1024
    """A line of the session layer; the longest are those of SASL."""


DEFAULT_LIMITS = Limits()


class ParseError(ProtocolViolation):
    """Not a dlist, or one that is nested too deeply or too large."""

    text = "not a dlist"


class OutOfStep(ParseError):
    """It cannot be told any more where content ends and commands begin: a connection cannot go on."""

    text = "cannot tell content from commands"


class TooLong(OutOfStep):
    """A word, quoted string or literal beyond its limit: fatal for a connection, as in Cyrus."""

    text = "word too long"
