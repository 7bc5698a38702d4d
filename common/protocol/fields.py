"""Taking a kvlist apart with every value checked: numbers in range, text where text belongs, names valid.

Whatever a peer sends, the outcome is a good value or a `ReplyError` (mostly `BadParameters`, a `BadName`
for a name that no store keeps) whose message says what was wrong; the reply on the wire stays Cyrus's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar, cast

from cyrus_sync.common.errors import BadParameters
from cyrus_sync.common.model import MAX_MODSEQ, NULL_GUID
from cyrus_sync.common.names import BadName, check_mailbox_name, check_userid
from cyrus_sync.common.protocol.dlist import Value

MAX_N32 = 2**32 - 1
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""Control characters but TAB, which ACLs and USERGROUPS use."""
_UNIQUEID = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,127}")
_PARTITION = re.compile(r"[0-9A-Za-z_-][0-9A-Za-z._-]{0,127}")
_SEQUENCE_SET = re.compile(
    rb"(?:[0-9]{1,10}+(?::(?:[0-9]{1,10}+|\*))?(?:,[0-9]{1,10}+(?::(?:[0-9]{1,10}+|\*))?)*)?"
)
_GUID = re.compile(rb"[0-9A-Fa-f]{40}")
_LETTERS = re.compile(r"[0-9A-Za-z]{0,64}")
MAX_FILENAME = 490

_REQUIRED: Any = object()
T = TypeVar("T")


# -- single values


def number(value: Value, maximum: int, what: str) -> int:
    """A decimal number of at most `maximum`."""
    if not isinstance(value, bytes) or not value.isdigit() or len(value) > 20:
        raise BadParameters(f"{what} is not a number")
    result = int(value)
    if result > maximum:
        raise BadParameters(f"{what} is out of range")
    return result


def date(value: Value, what: str) -> int:
    """Unix seconds; times before 1970 come as 64 bits without sign."""
    seconds = number(value, 2**64 - 1, what)
    return seconds - 2**64 if seconds >= 2**63 else seconds


def text(value: Value, what: str) -> str:
    """Text without control characters (TAB is none)."""
    if not isinstance(value, bytes):
        raise BadParameters(f"{what} is not a string")
    try:
        result = value.decode()
    except UnicodeDecodeError:
        raise BadParameters(f"{what} is not text") from None
    if _CONTROL.search(result):
        raise BadParameters(f"{what} has control characters")
    return result


def octets(value: Value, what: str) -> bytes:
    """Any bytes; NIL, a map without a buffer, is empty."""
    if value is None:
        return b""
    if not isinstance(value, bytes):
        raise BadParameters(f"{what} is not a string")
    return bytes(value)


def guid(value: Value, what: str = "GUID") -> bytes:
    """The 20 octets of 40 hex digits."""
    if not isinstance(value, bytes) or not _GUID.fullmatch(value):
        raise BadParameters(f"{what} is not a GUID")
    return bytes.fromhex(value.decode("ascii"))


def guids(value: Value, what: str = "GUID") -> list[bytes]:
    """A list of GUIDs; thousands of them at once."""
    items = listed(value, what)
    words = cast(list[bytes], items)
    if set(map(type, items)) <= {bytes} and set(map(len, words)) <= {40}:
        joined = b"".join(words)
        if not joined.translate(None, b"0123456789abcdefABCDEF"):
            raw = bytes.fromhex(joined.decode("ascii"))
            return [raw[at : at + 20] for at in range(0, len(raw), 20)]
    return [guid(item, what) for item in items]


def listed(value: Value, what: str) -> list[Value]:
    """A list, whatever is in it."""
    if type(value) is not list:
        raise BadParameters(f"{what} is not a list")
    return value


def mailbox_name(value: Value, what: str = "MBOXNAME") -> str:
    return check_mailbox_name(text(value, what))


def userid(value: Value, what: str = "USERID") -> str:
    return check_userid(text(value, what))


def uniqueid(value: Value, what: str = "UNIQUEID") -> str:
    found = text(value, what)
    if not _UNIQUEID.fullmatch(found):
        raise BadParameters(f"{what} is not a mailbox identifier")
    return found


def partition(value: Value, what: str = "PARTITION") -> str:
    found = text(value, what)
    if not _PARTITION.fullmatch(found):
        raise BadParameters(f"{what} is not the name of a partition")
    return found


def filename(value: Value, what: str = "FILENAME") -> str:
    """The name of a Sieve script's file: one component of a path."""
    found = text(value, what)
    if not found or "/" in found or "\t" in found or found.startswith(".") or len(found) > MAX_FILENAME:
        raise BadName("Invalid file name").at(command=repr(found[:80]))
    return found


def letters(value: Value, what: str) -> str:
    found = text(value, what)
    if not _LETTERS.fullmatch(found):
        raise BadParameters(f"{what} is not a word")
    return found


def sequence_set(value: Value, what: str = "SEENUIDS") -> str:
    """An IMAP sequence set, perhaps empty."""
    if value is None:
        return ""
    if not isinstance(value, bytes) or not _SEQUENCE_SET.fullmatch(value):
        raise BadParameters(f"{what} is not a sequence set")
    return value.decode("ascii")


# -- a kvlist


class Fields:
    """A kvlist whose values are taken by key and type.

    Without a default the key must be there (BadParameters); with one it may be absent, and where the
    default is "" the value may be NIL as well.
    """

    __slots__ = ("_values", "_what")

    def __init__(self, value: Value, what: str) -> None:
        if type(value) is not dict:
            raise BadParameters(f"{what} is not a kvlist")
        self._values: dict[bytes, Value] = value
        self._what = what

    def __contains__(self, key: bytes) -> bool:
        return key in self._values

    def raw(self, key: bytes, default: Any = _REQUIRED) -> Value:
        """The dlist value under `key`."""
        value = self._values.get(key, default)
        if value is _REQUIRED:
            raise BadParameters(f"{self._what} has no {key.decode()}")
        return cast(Value, value)

    def _take(self, key: bytes, default: Any, kind: Callable[..., T], *limit: int) -> T:
        value = self._values.get(key, _REQUIRED)
        if value is _REQUIRED or (value is None and default == ""):
            if default is _REQUIRED:
                raise BadParameters(f"{self._what} has no {key.decode()}")
            return cast(T, default)
        return kind(value, *limit, key.decode())

    def n32(self, key: bytes, default: Any = _REQUIRED) -> int:
        return self._take(key, default, number, MAX_N32)

    def n64(self, key: bytes, default: Any = _REQUIRED) -> int:
        """A counter: fits 63 bits."""
        return self._take(key, default, number, MAX_MODSEQ)

    def date(self, key: bytes, default: Any = _REQUIRED) -> int:
        return self._take(key, default, date)

    def text(self, key: bytes, default: Any = _REQUIRED) -> str:
        return self._take(key, default, text)

    def letters(self, key: bytes, default: Any = _REQUIRED) -> str:
        return self._take(key, default, letters)

    def octets(self, key: bytes) -> bytes:
        return octets(self.raw(key), key.decode())

    def guid(self, key: bytes, default: Any = _REQUIRED) -> bytes:
        return NULL_GUID if default == "" and key not in self else self._take(key, default, guid)

    def listed(self, key: bytes, default: Any = _REQUIRED) -> list[Value]:
        return self._take(key, default, listed)

    def mailbox(self, key: bytes = b"MBOXNAME") -> str:
        return self._take(key, _REQUIRED, mailbox_name)

    def userid(self, key: bytes = b"USERID") -> str:
        return self._take(key, _REQUIRED, userid)

    def uniqueid(self, key: bytes = b"UNIQUEID") -> str:
        return self._take(key, _REQUIRED, uniqueid)

    def partition(self, key: bytes = b"PARTITION", default: Any = _REQUIRED) -> str:
        return self._take(key, default, partition)

    def filename(self, key: bytes = b"FILENAME") -> str:
        return self._take(key, _REQUIRED, filename)

    def sequence_set(self, key: bytes = b"SEENUIDS") -> str:
        return self._take(key, _REQUIRED, sequence_set)
