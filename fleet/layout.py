"""`Layout`: by which servers owners are spread, as every server of a fleet has it in its table ``fleet``.

A layout has a number, its *epoch*. A rebalance is two steps: to one that has both lists of servers, in which
owners are on their way from the place that the first gives them to that of the second, and then to one that
has the second alone. The first step is one statement at the first server of the layout before; the second
follows from it. So there are never two layouts of one epoch, and any process may tell a server of a newer
one.

Owners are spread by a hash of their names that moves as few of them as can be when a server is added at the
end (Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm").
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from typing import NamedTuple

from cyrus_sync.common.names import Owner

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


def key_of(owner: Owner) -> str:
    """By what an owner is spread."""
    return f"{owner.kind}/{owner.name}"


class Layout(NamedTuple):
    """Servers by their names for themselves (`migrations`)."""

    epoch: int
    fleet: str
    """A word that no other fleet has; "" for one that began before there were such."""
    servers: tuple[str, ...]
    following: tuple[str, ...]
    """The same, unless a rebalance is under way."""

    @property
    def moving(self) -> bool:
        """Whether a rebalance is under way."""
        return self.servers != self.following

    @property
    def everyone(self) -> list[str]:
        """All servers that may have anything."""
        return list(dict.fromkeys([*self.servers, *self.following]))

    def places(self, key: str) -> tuple[str, str]:
        """Where a key was, and where it is to be."""
        old, new = self.servers, self.following
        return old[place_of(key, len(old))], new[place_of(key, len(new))]

    @property
    def text(self) -> str:
        return json.dumps({"fleet": self.fleet, "servers": self.servers, "next": self.following})


def decode_layout(epoch: int, text: str) -> Layout | None:
    """None for a server that is of no fleet yet."""
    if not epoch:
        return None
    found = json.loads(text)
    return Layout(epoch, found["fleet"], tuple(found["servers"]), tuple(found["next"]))


def without(servers: Sequence[str], leaving: Collection[str], coming: Sequence[str]) -> tuple[str, ...]:
    """The servers that follow: who comes takes the place of one who leaves, or stands at the end; a place
    that stays empty is taken by the last one. So few owners have to move."""
    slots: list[str] = ["" if one in leaving else one for one in servers]
    for one in coming:
        if "" in slots:
            slots[slots.index("")] = one
        else:
            slots.append(one)
    while "" in slots:
        last = slots.pop()
        if last:
            slots[slots.index("")] = last
    return tuple(slots)
