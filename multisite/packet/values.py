"""Values in a header: read from the texts that YAML gives, and checked. Everything here raises ValueError,
with the name of the field."""

from __future__ import annotations

import re
from typing import Any

MAX_ID = 2**63 - 1
"""The largest number that a database holds: an incarnation, a time, the beginning of a range."""
MAX_OPERATION = MAX_ID - 1
"""The largest number of an operation, so that the number behind it can be told, too."""
NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,63}")
_LINK = re.compile(r"[0-9a-f]{12}")
_GUID = re.compile(r"[0-9a-f]{40}")


def text_of(value: Any, name: str) -> str:
    """A text as it stands. `name`: of the field, for the error."""
    if not isinstance(value, str):
        raise ValueError(f"{name} is not text")
    return value


def number_of(value: Any, name: str) -> int:
    """A number in decimal digits."""
    if not isinstance(value, str) or not NUMBER.fullmatch(value):
        raise ValueError(f"{name} is not a number")
    return int(value)


def list_of(value: Any, name: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    return value


def mapping_of(value: Any, name: str) -> dict[str, Any]:
    """A mapping."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not a mapping")
    return value


def guid_of(value: Any, name: str) -> bytes:
    """A GUID in hexadecimal digits, as bytes."""
    if not isinstance(value, str) or not _GUID.fullmatch(value):
        raise ValueError(f"{name} has something that is no GUID")
    return bytes.fromhex(value)


# -- checks


def check_ids(name: str, *values: Any) -> None:
    """Ids of replicas and packets."""
    for value in values:
        if not isinstance(value, str) or not _ID.fullmatch(value):
            raise ValueError(f"{name}: something is not an id (letters, digits, - and _, at most 64)")


def check_links(name: str, *values: Any) -> None:
    """Links of operations (`multisite.oplog.forks`)."""
    for value in values:
        if not isinstance(value, str) or not _LINK.fullmatch(value):
            raise ValueError(f"{name} has something that is no link")


def check_number(name: str, value: Any, low: int = 0, high: int = MAX_ID) -> None:
    """A number between these."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is not a number from {low} to {high}")


def check_count(name: str, values: Any, most: int) -> None:
    """A collection that has `most` entries at most."""
    if len(values) > most:
        raise ValueError(f"{name} has more than {most} entries")
