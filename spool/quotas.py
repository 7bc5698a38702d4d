"""Quota roots: limits, and what is used of them.

A value is a dlist, ``%(S (1096 5000) M (3) MODSEQ 8)``: for each resource what is used, and the limit if
there is one; or, from older releases, numbers: ``used limit [resource used limit …]``, -1 for no limit. Each
stands in a file of its own (quotalegacy) or in a database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.model import Quota
from cyrus_sync.common.names import Owner, root_of
from cyrus_sync.common.protocol import dlist
from cyrus_sync.common.stores import disk
from cyrus_sync.spool.config import SpoolConfig
from cyrus_sync.spool.databases import Databases
from cyrus_sync.spool.paths import Paths
from cyrus_sync.spool.trouble import SpoolDamaged

RESOURCES = {
    "S": "STORAGE",
    "M": "MESSAGE",
    "AS": "X-ANNOTATION-STORAGE",
    "NF": "X-NUM-FOLDERS",
}
"""What a resource is called in these values, and by the protocol."""

_MOST = 2**63
_NUMBER = re.compile(r"-?\d{1,20}")


class QuotaRoots:
    """All of a spool."""

    def __init__(self, config: SpoolConfig, databases: Databases, paths: Paths) -> None:
        self._legacy = config.quotalegacy
        self._databases = databases
        self._paths = paths

    def root(self, root: str) -> Quota | None:
        """One quota root."""
        if not self._legacy:
            database = self._databases.quotas()
            value = database.get(root.encode())
            return parse_quota(value, root, database.path) if value else None
        path = self._paths.quota(root)
        value = _content(path)
        return parse_quota(value, root, path) if value else None

    def of_owner(self, owner: Owner) -> list[Quota]:
        """Those of an owner's mailboxes, in order of name."""
        top = root_of(owner)
        found = (self.root(root) for root in sorted(self._names(top)))
        return [quota for quota in found if quota is not None]

    def _names(self, top: str) -> Iterator[str]:
        if not self._legacy:
            database = self._databases.quotas()
            for key, _ in database.items(top.encode()):
                name = key.decode("utf-8", "replace")
                if name == top or name.startswith(f"{top}."):
                    yield name
            return
        directory, rest = self._paths.quotas_beside(top)
        prefix = top.removesuffix(rest)
        try:
            names = [path.name for path in directory.iterdir()]
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreError(disk.why(error, str(directory))) from error
        for name in names:
            if (name == rest or name.startswith(f"{rest}.")) and not name.endswith(".NEW"):
                yield prefix + name


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise StoreError(disk.why(error, str(path))) from error


def parse_quota(value: bytes, root: str, path: Path) -> Quota:
    """The limits of a quota root. Raises `SpoolDamaged`."""
    try:
        return _new_form(value, root) if value.startswith(b"%") else _old_form(value, root)
    except (ValueError, dlist.ParseError) as error:
        raise SpoolDamaged(path, 0, f"the quota of {root} cannot be read: {error}") from None


def _new_form(value: bytes, root: str) -> Quota:
    fields, end = dlist.parse(value)
    if not isinstance(fields, dict) or value[end:].strip(b"\r\n \0"):
        raise ValueError(f"{value[:80]!r}")
    limits = {}
    for short, name in RESOURCES.items():
        numbers = fields.get(short.encode())
        if isinstance(numbers, list) and len(numbers) > 1:
            limits[name] = _number(numbers[1])
    modseq = fields.get(b"MODSEQ")
    return Quota(root, _limited(limits), _number(modseq) if modseq is not None else 0)


def _old_form(value: bytes, root: str) -> Quota:
    words = value.decode("ascii").split()
    limits: dict[str, int] = {}
    resource, at = "S", 0
    while True:
        _number(words[at].encode() if at < len(words) else b"")
        limits[RESOURCES[resource]] = _number(words[at + 1].encode() if at + 1 < len(words) else b"")
        at += 2
        if at < len(words) and _NUMBER.fullmatch(words[at]):
            at += 1  # what an interrupted `quota -f` has counted
        if at >= len(words):
            return Quota(root, _limited(limits))
        resource = words[at].upper()
        if resource not in RESOURCES:
            raise ValueError(f"{resource!r} is no resource")
        at += 1


def _number(value: Any) -> int:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else ""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{value!r} is no number")
    number = int(text)
    # The protocol prints -1 as a number without sign.
    return -1 if number >= _MOST else number


def _limited(limits: dict[str, int]) -> dict[str, int]:
    return {name: limit for name, limit in limits.items() if limit >= 0}
