"""Connections that have proved nothing yet: how many there may be, and which of them gives way to a new one.

One address cannot take the places of all: it has a share, beyond which its own oldest connection gives way.
Where all places are taken, the oldest one of the address with the most gives way. Datagrams have no
connection; each address has a share of answers to them (`Questions`).
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

MAX_STRANGERS = 128
MAX_OF_ONE_ADDRESS = 32

QUESTIONS_OF_ONE_ADDRESS = 600
QUESTIONS_SECONDS = 10.0
"""So many first contacts by UDP one address may make in so many seconds: more than ten children ever do."""

SAID_AGAIN = 3
"""How often an asker says one question, until there is an answer."""

SPOKEN_OF_SECONDS = 300.0
MOST_SPOKEN_OF = 50
"""So many addresses the log speaks of in so many seconds, once each."""

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


class Stranger(Protocol):
    """A connection that has proved nothing yet."""

    def give_way(self) -> None:
        """End, since another one has the place."""


Kind = TypeVar("Kind", bound=Stranger)


class Strangers(Generic[Kind]):
    """All of them, oldest first."""

    def __init__(self) -> None:
        self.most = MAX_STRANGERS
        self._from: dict[Kind, str] = {}

    def __iter__(self) -> Iterator[Kind]:
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

    def add(self, stranger: Kind, address: str) -> None:
        self._from[stranger] = neighbourhood(address)

    def drop(self, stranger: Kind) -> None:
        """It has ended, or is no stranger any more."""
        self._from.pop(stranger, None)

    def _dismiss(self, near: str) -> None:
        oldest = next(one for one, its in self._from.items() if its == near)
        del self._from[oldest]
        oldest.give_way()


class SpokenOf:
    """Of which addresses the log has spoken lately: one line each, however often one comes."""

    def __init__(self) -> None:
        self._when: OrderedDict[str, float] = OrderedDict()

    def is_new(self, address: str, now: float) -> bool:
        """Whether to speak of it. Not of too many: a datagram comes from wherever its sender likes."""
        while self._when and next(iter(self._when.values())) + SPOKEN_OF_SECONDS <= now:
            self._when.popitem(last=False)
        near = neighbourhood(address)
        if near in self._when or len(self._when) >= MOST_SPOKEN_OF:
            return False
        self._when[near] = now
        return True


class Questions:
    """Which questions by datagram are answered: so many of each address, and none that is only played back.

    Only those that prove the family key are counted, since a datagram can come from any address that its
    sender likes: else anybody could use up the share of a host. A recorded one proves it, too; so each is
    answered as often as its asker may say it, and no more.
    """

    def __init__(self, most: int = QUESTIONS_OF_ONE_ADDRESS, remembered: int = 4096) -> None:
        self._most = most
        self._remembered = remembered
        self._shares: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._answered: OrderedDict[str, int] = OrderedDict()

    def is_answered(self, address: str, nonce: str, now: float) -> bool:
        """Whether the question `nonce` from `address` is to be answered `now` (seconds of any clock)."""
        times = self._answered.get(nonce, 0)
        if times >= SAID_AGAIN:
            return False
        near = neighbourhood(address)
        left, then = self._shares.get(near, (float(self._most), now))
        left = min(self._most, left + (now - then) * self._most / QUESTIONS_SECONDS)
        _remember(self._shares, near, (max(left - 1, 0.0), now), self._remembered)
        if left < 1:
            return False
        _remember(self._answered, nonce, times + 1, self._remembered)
        return True


Value = TypeVar("Value")


def _remember(of: OrderedDict[str, Value], key: str, value: Value, most: int) -> None:
    of[key] = value
    of.move_to_end(key)
    if len(of) > most:
        of.popitem(last=False)
