"""Who may see the page from another host: an administrator (admins), by a password of the password file.

It is HTTP's own login (RFC 7617), and within TLS alone. What was right is remembered for some minutes, as a
browser says it again with each request, and checking takes its time by intention. Guessing is slowed as in
sync_server.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.defer import Deferred

from cyrus_sync.common.printable import printable
from cyrus_sync.common.reactor import Reactor, pause
from cyrus_sync.common.threads import Threads
from cyrus_sync.common.wire.guessing import Guessing, origin

log = logging.getLogger("cyrus-sync-web")

REMEMBERED_SECONDS = 300.0
_MOST = 100
_LONGEST = 4096


class Doorkeeper:
    """Looks at an Authorization header. `check(user, password)` blocks, and is called in a thread."""

    def __init__(
        self,
        reactor: Reactor,
        threads: Threads,
        admins: frozenset[str],
        check: Callable[[str, str], bool],
        failed_pause: float,
    ) -> None:
        self._reactor = reactor
        self._threads = threads
        self._admins = admins
        self._check = check
        self._pause = failed_pause
        self._guessing = Guessing(failed_pause, reactor.seconds)
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, float] = OrderedDict()

    async def admits(self, header: str | None, peer: str) -> bool:
        """Whether who says `header` is an administrator. `peer` is ``192.0.2.7:40112``."""
        if not header:
            return False
        mark = hmac.new(self._key, header[:_LONGEST].encode(), hashlib.sha256).digest()
        if self._reactor.seconds() - self._right.get(mark, -REMEMBERED_SECONDS) < REMEMBERED_SECONDS:
            return True
        said = _said(header)
        if said is None:
            return False
        address = origin(peer)
        wait = self._guessing.begin(address)
        if wait is None:
            log.warning("badlogin: %s [too many failed logins from %s: not checked]", peer, address)
            return False
        if wait:
            await pause(self._reactor, wait)
        user, password = said
        if user in self._admins and await self._is_right(user, password):
            self._guessing.forgive(address)
            self._right[mark] = self._reactor.seconds()
            while len(self._right) > _MOST:
                self._right.popitem(last=False)
            log.info("login: %s %s", peer, printable(user))
            return True
        log.warning("badlogin: %s %s", peer, printable(user)[:100])
        await pause(self._reactor, self._pause)
        return False

    def _is_right(self, user: str, password: str) -> Deferred[bool]:
        def failed(failure: object) -> bool:
            log.error("cannot check a password: %s", getattr(failure, "value", failure))
            return False

        return self._threads.run(self._check, user, password).addErrback(failed)


def _said(header: str) -> tuple[str, str] | None:
    """User and password of ``Basic …``; None for what is none."""
    kind, _, coded = header[:_LONGEST].partition(" ")
    if kind.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(coded.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None
