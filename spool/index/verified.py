"""What windows of records were found to be, so that a mailbox is not checked and summed up anew for every
change of it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST = 32_768
"""Windows that are remembered: at 512 records each, sixteen million records in about eight MB."""


class Verified(Generic[T]):
    """What was found, by what was looked at: the same octets, of the same version, with the same keywords,
    have the same sums. Safe for threads."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._known: OrderedDict[bytes, T] = OrderedDict()
        self._lock = Lock()

    def get(self, key: bytes) -> T | None:
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                self._known.move_to_end(key)
            return found

    def put(self, key: bytes, found: T) -> None:
        with self._lock:
            self._known[key] = found
            if len(self._known) > self._most:
                self._known.popitem(last=False)


class Keys:
    """The keys of one mailbox's windows."""

    def __init__(self, version: int, record_size: int, keywords: Sequence[str | None]) -> None:
        words = "\n".join(word or "" for word in keywords)
        self._begin = hashlib.sha1(f"{version} {record_size}\n{words}\0".encode())

    def key(self, window: bytes) -> bytes:
        digest = self._begin.copy()
        digest.update(window)
        return digest.digest()
