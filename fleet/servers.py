"""Several PostgreSQL servers, and which of them an owner is on.

Owners are spread by a hash of their names that moves as few of them as can be when a server is added at the
end (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm").
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence

from cyrus_sync.common.names import Owner
from cyrus_sync.fleet.database import Server
from cyrus_sync.fleet.migrations import migrate

_STEP, _WRAP = 2862933555777941757, 1 << 64


def place_of(key: str, count: int) -> int:
    """Which of `count` servers has `key`: a number from 0."""
    state = int.from_bytes(hashlib.sha1(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    place, following = -1, 0
    while following < count:
        place = following
        state = (state * _STEP + 1) % _WRAP
        following = int((place + 1) * (1 << 31) / ((state >> 33) + 1))
    return place


class Servers:
    """All servers of a fleet, in the order of ``store_journal``. Each is looked at before its first use."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._servers = [Server(url) for url in urls]
        self._known: set[int] = set()
        self._lock = threading.Lock()

    @property
    def urls(self) -> list[str]:
        return [server.url for server in self._servers]

    @property
    def failures(self) -> list[int]:
        """Of each server, how often it was away when something was asked of it."""
        return [server.failures for server in self._servers]

    def all(self) -> Iterator[Server]:
        """One after the other. Raises `Away`, `Misfit`."""
        return (self._at(place) for place in range(len(self._servers)))

    def of(self, owner: Owner) -> Server:
        """The server that has an owner. Raises `Away`, `Misfit`."""
        return self._at(self.number_of(owner))

    def number_of(self, owner: Owner) -> int:
        return place_of(f"{owner.kind}/{owner.name}", len(self._servers))

    def of_uniqueid(self, uniqueid: str) -> Server:
        """The server that says who holds a mailbox. Raises `Away`, `Misfit`."""
        return self._at(place_of(uniqueid, len(self._servers)))

    def _at(self, place: int) -> Server:
        server = self._servers[place]
        if place not in self._known:
            with self._lock:
                if place not in self._known:
                    migrate(server, place, len(self._servers))
                    self._known.add(place)
        return server

    def close(self) -> None:
        for server in self._servers:
            server.close()
