"""Guessing passwords is slow, however many connections an address opens for it.

An attempt counts when it begins, not when it has failed: many at the same time would otherwise be free. After
the first few, attempts of an address are *checked* one after the other with a pause between them that grows;
not only their answers are late, for nobody has to wait for an answer to know that it was not yes. Who would
have to wait for too long is refused unchecked. A UNIX socket needs no login and is not counted.

An address is an IPv4 address, or the /64 of an IPv6 address: a site gets no less than that.

>>> origin("192.0.2.7:40112"), origin("[::ffff:192.0.2.7]:1"), origin("[2001:db8:1:2:3::4]:1")
('192.0.2.7', '192.0.2.7', '2001:db8:1:2::/64')
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

from cyrus_sync.common.classes import dataclass

FREE = 5
"""Attempts of an address without success that are checked at once."""

LONGEST_PAUSE = 30.0
"""Seconds between two checks for an address, at most."""

LONGEST_WAIT = 8.0
"""Seconds that an attempt waits for its check. A client gives up after ten (client_timeout)."""

FORGET_AFTER = 900.0
"""Seconds without an attempt after which an address is like new."""

REMEMBERED = 10_000
"""Addresses that are remembered; the ones seen longest ago go first."""


def origin(peer: str) -> str:
    """The address that is counted of ``192.0.2.7:40112`` or ``[2001:db8::1]:40112``; "" of a UNIX socket."""
    host, colon, _ = peer.rpartition(":")
    if not colon:
        return ""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)


@dataclass(slots=True)
class _Seen:
    count: int = 0
    free_at: float = 0.0
    last: float = 0.0


class Guessing:
    """Counts attempts to log in by address. `pause` is failedloginpause in seconds; 0: nobody is slowed."""

    def __init__(self, pause: float, now: Callable[[], float]) -> None:
        self._pause = pause
        self._now = now
        self._seen: OrderedDict[str, _Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def begin(self, address: str) -> float | None:
        """An attempt begins: the seconds until it may be checked, None where it may not be checked at all."""
        if not address or not self._pause:
            return 0.0
        now = self._now()
        seen = self._seen.pop(address, None)
        if seen is None or now - max(seen.last, seen.free_at) > FORGET_AFTER:
            seen = _Seen()
        self._seen[address] = seen
        while len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        seen.last = now
        wait = max(0.0, seen.free_at - now)
        if wait > LONGEST_WAIT:
            return None
        seen.count += 1
        if seen.count >= FREE:
            seen.free_at = now + wait + min(self._pause * 2 ** min(seen.count - FREE, 16), LONGEST_PAUSE)
        return wait

    def withdrawn(self, address: str) -> None:
        """The attempt has told nobody anything: it was cancelled, or a user who is no administrator has
        logged in. (An administrator's login forgives all; another's does not, for many have a password.)"""
        seen = self._seen.get(address)
        if seen is not None and seen.count:
            seen.count -= 1

    def forgive(self, address: str) -> None:
        """An administrator has logged in from there."""
        self._seen.pop(address, None)
