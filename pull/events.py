"""What the IMAP server tells of: somebody's mail has changed.

Taken are POST and PUT of JSON, whatever the path: an event as Dovecot 2.4's ``event_exporter`` sends it (its
user under ``fields``), and as the push notification of Dovecot 2.3 does (driver ``ox``: ``user`` at the top).
Of an event only the user is believed, and no more than that he is to be looked at.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request, Site

_log = logging.getLogger(__name__)

MOST_OCTETS = 64 * 1024
"""Of one request. An event has some hundred."""

_IDLE_SECONDS = 300
_USER_KEYS = ("user", "username", "session_user")


def users_of(body: bytes) -> list[str]:
    """The login names that events are about: one object, a list of them, or one a line. Raises ValueError
    for what is no event."""
    try:
        told = [json.loads(body)]
    except ValueError:
        told = [json.loads(line) for line in body.splitlines() if line.strip()]
    found = dict.fromkeys(user for event in _flat(told) for user in _user(event))
    if not found:
        raise ValueError("no user in it")
    return list(found)


def _flat(told: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for one in told:
        if isinstance(one, list):
            yield from _flat(one)
        elif isinstance(one, dict):
            yield one
        else:
            raise ValueError("not an event")


def _user(event: dict[str, Any]) -> Iterator[str]:
    places = [event.get("fields"), event]
    for place in places:
        if isinstance(place, dict):
            for key in _USER_KEYS:
                if isinstance(place.get(key), str) and place[key]:
                    yield place[key]
                    return


class Events(Resource):
    """Calls `changed` with the login names of an event."""

    isLeaf = True

    def __init__(self, changed: Callable[[Sequence[str]], object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # so are most of Twisted's
        self._changed = changed
        self.taken = 0
        self.refused = 0

    def render_POST(self, request: Request) -> bytes:
        length = request.getHeader(b"content-length") or b""
        content: Any = request.content
        body = content.read(MOST_OCTETS + 1)
        try:
            if len(body) > MOST_OCTETS:
                raise ValueError(f"more than {MOST_OCTETS} octets ({length.decode('latin-1')[:20]})")
            users = users_of(body)
        except (ValueError, RecursionError) as error:
            self.refused += 1
            _log.warning("imap_events_listen: an event cannot be read: %s", str(error)[:200])
            request.setResponseCode(400)
            return b"no event\n"
        self.taken += 1
        self._changed(users)
        return b"ok\n"

    render_PUT = render_POST

    def render_GET(self, request: Request) -> bytes:
        return b"POST events here\n"


def site(events: Events) -> Site:
    """What listens."""
    made = Site(events, timeout=_IDLE_SECONDS)
    made.noisy = False
    return made
