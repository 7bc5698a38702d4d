"""Who gets a connection: strangers may not take the places of those who replicate.

A *stranger* is whoever has not logged in as an administrator. Every address has a bound of its own, all
strangers together have one, and some places are kept for connections through a UNIX socket and from addresses
from which an administrator has logged in lately (*known* addresses). While places are short, a stranger has
ten seconds instead of a minute to log in; somebody known takes the place of a stranger at once.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self

from cyrus_sync.common.classes import dataclass

log = logging.getLogger("sync_server")

STRANGER_SECONDS = 10.0
"""What a stranger has to log in while places are short."""

KNOWN_SECONDS = 7 * 24 * 3600.0
"""So long after a login of an administrator its address is known."""

_A_DAY = 24 * 3600.0
_REMEMBERED = 1000
"""Known addresses; the ones used longest ago go first."""

_COMPLAIN_SECONDS = 60.0
"""One line of the log in so long for an address that is turned away."""


@dataclass(frozen=True, slots=True)
class Most:
    """How many connections there may be."""

    connections: int
    """In all."""
    per_address: int
    """Of one address, logged in or not."""
    strangers: int
    """That have not logged in, of all addresses."""
    strangers_per_address: int
    """And of one that is not known."""
    kept: int
    """Of `connections`, those that only UNIX sockets and known addresses may take."""

    @classmethod
    def of(cls, connections: int, per_address: int = 0, strangers: int = 0) -> Self:
        """`per_address` and `strangers` are what the administrator allows, 0: nothing was said."""
        kept = min(max(1, connections // 8), 64) if connections > 1 else 0
        most = max(1, connections - kept)
        strangers = min(strangers or max(4, connections // 4), most)
        address = min(per_address or connections, connections)
        return cls(connections, address, strangers, min(address, max(2, strangers // 4)), kept)


class Guest(Protocol):
    """A connection, as far as its place is concerned (`sync_server.session.Session`)."""

    origin: str

    def give_way(self, why: str) -> None:
        """Say BYE and end."""


class Places:
    """Counts connections. `now` gives seconds, `later` calls a function after so many."""

    def __init__(
        self,
        most: Most,
        now: Callable[[], float],
        later: Callable[..., Any],
        *,
        known: Mapping[str, float] | None = None,
        keep: Callable[[Mapping[str, float]], object] = lambda known: None,
    ) -> None:
        """`known`: addresses of before, and when. `keep` is told all when there is a new one, and once a day
        of one that comes back."""
        self._keep = keep
        self.most = most
        self._now = now
        self._later = later
        self._guests: dict[Guest, str] = {}
        self._of_address: Counter[str] = Counter()
        self._strangers: OrderedDict[Guest, float] = OrderedDict()
        """Since when; the oldest first."""
        self._strangers_of: Counter[str] = Counter()
        self._known: OrderedDict[str, float] = OrderedDict(known or {})
        self._kept = dict(self._known)
        self._complained: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._watching = False

    def __len__(self) -> int:
        return len(self._guests)

    @property
    def strangers(self) -> int:
        return len(self._strangers)

    @property
    def short(self) -> bool:
        """Whether strangers have to hurry."""
        taken, most = len(self._guests), self.most
        return len(self._strangers) * 2 >= most.strangers or taken * 4 >= (most.connections - most.kept) * 3

    def known(self, address: str) -> bool:
        """Whether an administrator has logged in from there lately. A UNIX socket is its administrator's."""
        return not address or self._now() - self._known.get(address, -KNOWN_SECONDS) < KNOWN_SECONDS

    # -- coming and going

    def refusal(self, address: str) -> str:
        """Why a new connection from `address` ("" = a UNIX socket) cannot stay, "" where it can. Somebody
        else may have to give way to it."""
        most, known = self.most, self.known(address)
        if address:
            strangers = self._strangers_of[address]
            if self._of_address[address] >= most.per_address or (
                not known and strangers >= most.strangers_per_address
            ):
                return f"too many connections from {address}"
        if known:
            while len(self._guests) >= most.connections and self._dismiss_oldest(0.0):
                pass
            return "too many connections" if len(self._guests) >= most.connections else ""
        full = len(self._guests) >= most.connections - most.kept or len(self._strangers) >= most.strangers
        if full and not self._dismiss_oldest(STRANGER_SECONDS):
            return "too many connections"
        return "" if len(self._guests) < most.connections - most.kept else "too many connections"

    def complain(self, address: str, why: str) -> None:
        """Say in the log that a connection was turned away, once a minute for an address."""
        now = self._now()
        last, unsaid = self._complained.pop(address, (now - _COMPLAIN_SECONDS, 0))
        if now - last < _COMPLAIN_SECONDS:
            self._complained[address] = (last, unsaid + 1)
            return
        more = f" (and {unsaid} times more since the last such line)" if unsaid else ""
        log.error(
            "turned away: %s%s; %d connections are open, %d of them not logged in, %d fit [client=%s]",
            *(why, more, len(self._guests), len(self._strangers), self.most.connections),
            address or "unix socket",
        )
        self._complained[address] = (now, 0)
        while len(self._complained) > _REMEMBERED:
            self._complained.popitem(last=False)

    def enter(self, guest: Guest) -> None:
        """A connection stands; it is a stranger's until `logged_in`."""
        address = guest.origin
        self._guests[guest] = address
        self._of_address[address] += 1
        self._strangers[guest] = self._now()
        self._strangers_of[address] += 1
        self._watch()

    def logged_in(self, guest: Guest) -> None:
        """It has logged in as an administrator."""
        self._no_stranger(guest)
        address = guest.origin
        if address:
            now = self._now()
            before = self._known.pop(address, 0.0)
            self._known[address] = max(before, now)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            if now - self._kept.get(address, 0.0) > _A_DAY:
                self._kept = dict(self._known)
                self._keep(self._kept)

    def leave(self, guest: Guest) -> None:
        """The connection is gone, or going."""
        self._no_stranger(guest)
        address = self._guests.pop(guest, None)
        if address is not None:
            _subtract(self._of_address, address)

    # -- making room

    def _no_stranger(self, guest: Guest) -> None:
        if self._strangers.pop(guest, None) is not None:
            _subtract(self._strangers_of, self._guests[guest])

    def _dismiss_oldest(self, seconds: float) -> bool:
        """The oldest stranger gives way, if it has been one for so long; one from a known address, which is
        about to log in, has its ten seconds in any case."""
        now = self._now()
        for guest, since in self._strangers.items():
            if now - since < seconds:
                return False
            if now - since >= STRANGER_SECONDS or not self.known(guest.origin):
                self.leave(guest)
                guest.give_way("others wait for the place, and nobody has logged in here")
                return True
        return False

    def _watch(self) -> None:
        """While places are short, look when the oldest stranger has had its seconds."""
        if self._watching or not self._strangers or not self.short:
            return
        self._watching = True
        oldest = next(iter(self._strangers.values()))
        self._later(max(0.1, oldest + STRANGER_SECONDS - self._now()), self._look)

    def _look(self) -> None:
        self._watching = False
        while self.short and self._dismiss_oldest(STRANGER_SECONDS):
            pass
        self._watch()


def _subtract(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
