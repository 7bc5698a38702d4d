"""Names of data files, orders and hosts: what arrives from elsewhere can never leave a bay.

A colon becomes a dot (other systems cannot have it in a file name); a name that is taken becomes
``name_1``, then ``name_2``.

>>> bay_name("sync_sydney_19-May-02.09:48:45_7660_1")
'sync_sydney_19-May-02.09.48.45_7660_1'
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator

from cyrus_sync.shipping.errors import BadFileName

ORDER_PREFIX = "sh_o_"
LONGEST_NAME = 230
"""Octets; leaves room below the 255 of a file system for ``sh_o_`` and ``_<number>``."""

_HOST = re.compile(
    r"[A-Za-z0-9_](?:[A-Za-z0-9._%:-]{0,252}[A-Za-z0-9_])?|[0-9A-Fa-f:]{2,45}(?:%[A-Za-z0-9]{1,15})?"
)
_UNFIT = re.compile(r"[\x00-\x1f\x7f/]")


def bay_name(name: str) -> str:
    """The name under which a data file may lie in a bay. `BadFileName` if none can be made of it."""
    made = name.replace(":", ".")
    if not made or made in (".", ".."):
        raise BadFileName(f"'{name}' cannot be the name of a file in a bay")
    if _UNFIT.search(made):
        raise BadFileName(f"{name!r} has a slash or a control character")
    if made.startswith("."):
        raise BadFileName(f"'{name}' begins with a dot: such names are for unfinished files")
    if made.startswith(ORDER_PREFIX):
        raise BadFileName(f"'{name}' begins with {ORDER_PREFIX}: such names are for shipping orders")
    if len(os.fsencode(made)) > LONGEST_NAME:
        raise BadFileName(f"'{made[:40]}…' is longer than {LONGEST_NAME} octets")
    return made


def alternatives(name: str) -> Iterator[str]:
    """`name`, then ``name_1``, ``name_2`` …"""
    yield name
    for number in itertools.count(1):
        yield f"{name}_{number}"


def order_name(data_name: str) -> str:
    """The order that belongs to a data file."""
    return ORDER_PREFIX + data_name


def check_host(host: str) -> str:
    """`host` as given, or `BadFileName`: a host's name becomes the name of a marker file."""
    if not _HOST.fullmatch(host):
        raise BadFileName(f"{host!r} cannot be the name of a host")
    return host


def same_host(one: str, other: str) -> bool:
    return one.lower().rstrip(".") == other.lower().rstrip(".")
