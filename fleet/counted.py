"""`CountedObjects`: an object store whose requests are counted, for Prometheus and for the bill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime

from cyrus_sync.common.errors import ObjectMissing, StoreError
from cyrus_sync.fleet.tallies import Tallies
from cyrus_sync.objects.store import Content, Listed, ObjectStore, Put

REQUESTS = ("put", "get", "list", "delete")
RESULTS = ("ok", "missing", "failed")
"""*Failed*: the store did not answer, or has something else than was put there."""


class CountedObjects:
    """`ObjectStore`, which is another one."""

    def __init__(self, objects: ObjectStore, tallies: Tallies) -> None:
        self._objects = objects
        self._tallies = tallies

    @contextmanager
    def _asked(self, request: str) -> Iterator[list[int]]:
        """One request; what is put into the list are its octets."""
        octets = [0]
        try:
            yield octets
        except StoreError as error:
            result = "missing" if isinstance(error, ObjectMissing) else "failed"
            self._tallies.count(f"{request} {result}", octets[0])
            raise
        self._tallies.count(f"{request} ok", octets[0])

    @property
    def place(self) -> str:
        return self._objects.place

    def put(self, key: str, content: Content, *, check: bool = False) -> Put:
        with self._asked("put") as octets:
            done = self._objects.put(key, content, check=check)
            octets[0] = done.size
        if check:
            self._tallies.count("get ok", done.size)
        return done

    def get(self, key: str) -> bytes:
        with self._asked("get") as octets:
            data = self._objects.get(key)
            octets[0] = len(data)
        return data

    def pieces(self, key: str) -> Iterator[bytes]:
        with self._asked("get") as octets:
            for piece in self._objects.pieces(key):
                octets[0] += len(piece)
                yield piece

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        with self._asked("get") as octets:
            data = self._objects.get_range(key, offset, length)
            octets[0] = len(data)
        return data

    def size(self, key: str) -> int:
        with self._asked("get"):
            return self._objects.size(key)

    def listed(self, folder: str = "") -> Iterator[Listed]:
        with self._asked("list"):
            yield from self._objects.listed(folder)

    def folders(self, folder: str = "") -> list[str]:
        with self._asked("list"):
            return self._objects.folders(folder)

    def delete(self, keys: Iterable[str]) -> None:
        with self._asked("delete"):
            self._objects.delete(keys)

    def now(self) -> datetime:
        """Two requests, where there is a bucket: its clock is that of an object which was put just now."""
        with self._asked("put"):
            found = self._objects.now()
        self._tallies.count("get ok")
        return found

    def close(self) -> None:
        self._objects.close()
