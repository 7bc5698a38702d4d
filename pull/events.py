"""What the IMAP server tells of by HTTP: somebody's mail has changed.

Taken are POST and PUT of JSON, whatever the path: an event as Dovecot's ``event_exporter`` sends it (its
user under ``fields``), and as the push notification of Dovecot 2.3 does (driver ``ox``: ``user`` at the top).
Of an event only the user and the folder are believed, and no more than that they are to be looked at.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from cyrus_sync.common.utf7 import encode
from cyrus_sync.pull.changes import Change

_log = logging.getLogger(__name__)

MOST_OCTETS = 64 * 1024
"""Of one request. An event has some hundred."""

_IDLE_SECONDS = 300
_USER_KEYS = ("user", "username", "session_user")

_ABOUT = frozenset(("SETACL", "DELETEACL", "SETMETADATA", "SETQUOTA"))
"""Commands after which rights, annotations or limits may be others."""

_LISTED = frozenset(("CREATE", "DELETE", "RENAME", "SUBSCRIBE", "UNSUBSCRIBE"))
"""Commands after which the list of folders is another one."""

_CHANGING = frozenset(("STORE", "COPY", "MOVE", "EXPUNGE", "APPEND", "REPLACE", "CLOSE", "FETCH"))
_READ = re.compile(r"\b(?:BODY\[|RFC822(?:\.TEXT)?(?: |\)|\Z))", re.IGNORECASE)
"""Of FETCH, what sets \\Seen."""

_TARGET = re.compile(r"[0-9:,*$]+ (?:\"(?P<quoted>(?:[^\"\\]|\\.)*)\"|(?P<atom>[^ ()\"{<]+))")
"""The words of COPY and MOVE."""


def changes_of(body: bytes) -> list[Change]:
    """What events are about: one object, a list of them, or one a line. Raises ValueError for what is no
    event."""
    try:
        told = [json.loads(body)]
    except ValueError:
        told = [json.loads(line) for line in body.splitlines() if line.strip()]
    if not told:
        raise ValueError("nothing in it")
    found: dict[Change, None] = {}
    for event in _flat(told):
        change = _change(event)
        if change is not None:
            found[change] = None
    return list(found)


def _flat(told: Sequence[Any]) -> Iterator[dict[str, Any]]:
    for one in told:
        if isinstance(one, list):
            yield from _flat(one)
        elif isinstance(one, dict):
            yield one
        else:
            raise ValueError("not an event")


def _change(event: Mapping[str, Any]) -> Change | None:
    """None for a command that has changed nothing: ours are among them."""
    for fields in (event.get("fields"), event):
        if isinstance(fields, dict) and (login := next(_texts(fields, _USER_KEYS), "")):
            command = next(_texts(fields, ("cmd_name",)), "").upper().removeprefix("UID ")
            if command in _ABOUT:
                return Change(login, about=True)
            if command in _LISTED:
                return Change(login)
            reads = command == "FETCH" and not _READ.search(next(_texts(fields, ("cmd_args",)), ""))
            if reads or (command and command not in _CHANGING):
                return None
            return Change(login, _folders(fields, command))
    raise ValueError("no user in it")


def _folders(fields: Mapping[str, Any], command: str) -> tuple[str, ...]:
    """Those that have changed; none where not all of them are known. Dovecot's names are UTF-8, a client's
    words modified UTF-7."""
    found = [encode(name) for name in _texts(fields, ("mailbox", "folder"))][:1]
    if found and command in ("COPY", "MOVE"):
        target = _TARGET.fullmatch(next(_texts(fields, ("cmd_args",)), ""))
        if target is None:
            return ()
        quoted = target["quoted"]
        name = target["atom"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        found.append(name if name.isascii() else encode(name))
    return tuple(dict.fromkeys(found))


def _texts(fields: Mapping[str, Any], keys: Sequence[str]) -> Iterator[str]:
    for key in keys:
        if isinstance(fields.get(key), str) and fields[key]:
            yield fields[key]


class Events(Resource):
    """Calls `changed` with what an event is about."""

    isLeaf = True

    def __init__(self, changed: Callable[[Sequence[Change]], object]) -> None:
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
            found = changes_of(body)
        except (ValueError, RecursionError) as error:
            self.refused += 1
            _log.warning("imap_events_listen: an event cannot be read: %s", str(error)[:200])
            request.setResponseCode(400)
            return b"no event\n"
        self.taken += 1
        if found:
            self._changed(found)
        return b"ok\n"

    render_PUT = render_POST

    def render_GET(self, request: Request) -> bytes:
        return b"POST events here\n"


def site(events: Events) -> Site:
    """What listens."""
    made = Site(events, timeout=_IDLE_SECONDS)
    made.noisy = False
    return made
