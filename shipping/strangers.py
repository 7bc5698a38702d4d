"""Connections that have proved nothing yet: how many there may be, and which of them gives way to a new one.

One address cannot take the places of all: it has a share, beyond which its own oldest connection gives way.
Where all places are taken, the oldest one of the address with the most gives way.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Iterator

MAX_STRANGERS = 128
MAX_OF_ONE_ADDRESS = 32

_FEWEST = 4
_KEPT_FREE = 40
"""Descriptors for listeners, the log, bays, and a pipe and a process for each child."""


def most_strangers(file_limit: int, in_use: int) -> int:
    """How many fit beside all else into the number of files that the process may have open."""
    return max(_FEWEST, min(MAX_STRANGERS, file_limit - in_use - _KEPT_FREE))


def neighbourhood(address: str) -> str:
    """What counts as one address: in IPv6 the network of 64 bits, in which one host can have any number."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))


class Strangers:
    """The tasks that serve them, oldest first."""

    def __init__(self) -> None:
        self.most = MAX_STRANGERS
        self._from: dict[asyncio.Task[None], str] = {}

    def __iter__(self) -> Iterator[asyncio.Task[None]]:
        return iter(list(self._from))

    def __len__(self) -> int:
        return len(self._from)

    def make_room(self, address: str) -> None:
        """Let one give way if there is no place for another one from `address`."""
        near = neighbourhood(address)
        counts = Counter(self._from.values())
        if counts[near] >= min(MAX_OF_ONE_ADDRESS, max(1, self.most // 4)):
            self._dismiss(near)
        elif len(self._from) >= self.most:
            self._dismiss(counts.most_common(1)[0][0])

    def add(self, task: asyncio.Task[None], address: str) -> None:
        self._from[task] = neighbourhood(address)

    def drop(self, task: asyncio.Task[None]) -> None:
        """It has ended, or is no stranger any more."""
        self._from.pop(task, None)

    def _dismiss(self, near: str) -> None:
        oldest = next(task for task, its in self._from.items() if its == near)
        del self._from[oldest]
        oldest.cancel()
