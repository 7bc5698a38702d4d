"""The page over HTTP, on Twisted's web server: ``/``, its style and script, ``/metrics``.

A request is answered from what was looked at last, so it costs no disk. Whoever comes to the loopback
interface has to call it by a name of this host: a page of somebody else, open in the same browser, could
otherwise have a name of its own lead here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.web.http import UNAUTHORIZED
from twisted.web.pages import errorPage, notFound
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from twisted.web.template import Tag, flattenString

from cyrus_sync.common.metrics.pages import Figures, Metrics
from cyrus_sync.web.login import Doorkeeper

log = logging.getLogger("cyrus-sync-web")

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")

_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">'
    '<circle cx="8" cy="8" r="7" fill="{}"/></svg>'
)
_COLOURS = {"ok": "#2e9e64", "warning": "#d08a12", "critical": "#d03a30"}
_FILES = {"style.css": "text/css; charset=utf-8", "script.js": "text/javascript; charset=utf-8"}

Draw = Callable[[], Deferred[Tag]]
"""The page as it is now."""


class Root(Resource):
    """Everything below ``/``. `names`: by which a request has to call this host, () = whatever it says;
    `door`: who lets in, None = everybody."""

    def __init__(
        self, draw: Draw, figures: Figures, *, names: Sequence[str] = (), door: Doorkeeper | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # so are most of Twisted's
        self._names = frozenset(name.lower() for name in names)
        self._door = door
        self._pages: dict[bytes, Resource] = {b"": _Page(draw), b"metrics": Metrics(figures)}
        for name, kind in _FILES.items():
            body = resources.files("cyrus_sync.web").joinpath("static", name).read_bytes()
            self._pages[name.encode()] = _File(body, kind)
        for level, colour in _COLOURS.items():
            self._pages[f"icon-{level}.svg".encode()] = _File(_ICON.format(colour).encode(), "image/svg+xml")

    def getChild(self, path: bytes, request: Request) -> Any:
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        request.setHeader("server", "cyrus-sync")
        if self._names and _host(request) not in self._names:
            return errorPage(421, "Misdirected Request", "This page is not known by that name.")
        page = self._pages.get(path)
        if page is None or request.postpath:
            return notFound()
        return page if self._door is None else _Guarded(page, self._door)


def _host(request: Request) -> str:
    """What the request calls this host, without the port."""
    said = (request.getHeader(b"host") or b"").decode("latin-1").lower()
    return said.partition("]")[0] + "]" if said.startswith("[") else said.partition(":")[0]


class _File(Resource):
    isLeaf = True

    def __init__(self, body: bytes, kind: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self._body = body
        self._kind = kind

    def render_GET(self, request: Request) -> bytes:
        request.setHeader("content-type", self._kind)
        return self._body


class _Page(Resource):
    isLeaf = True

    def __init__(self, draw: Draw) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self._draw = draw

    def render_GET(self, request: Any) -> int:
        async def drawn() -> bytes:
            return b"<!DOCTYPE html>\n" + await flattenString(request, await self._draw())

        _answer(request, Deferred.fromCoroutine(drawn()))
        return NOT_DONE_YET


def _answer(request: Request, body: Deferred[bytes]) -> None:
    """Say it when it is there, if anybody is there by then."""
    gone: list[bool] = []
    request.notifyFinish().addErrback(lambda _failure: gone.append(True))

    def say(text: bytes) -> None:
        if not gone:
            request.setHeader("content-type", "text/html; charset=utf-8")
            request.setHeader("content-length", b"%d" % len(text))
            request.write(text)
            request.finish()

    def fail(failure: Failure) -> None:
        log.error("the page cannot be made: %s", failure.getTraceback())
        request.setResponseCode(500)
        say(b"<!DOCTYPE html>\n<title>cyrus-sync</title><p>The log has the reason.")

    body.addCallbacks(say, fail)


class _Guarded(Resource):
    """A page for those whom `door` admits."""

    isLeaf = True

    def __init__(self, page: Resource, door: Doorkeeper) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # as above
        self._page = page
        self._door = door

    def render(self, request: Request) -> int:
        gone: list[bool] = []
        request.notifyFinish().addErrback(lambda _failure: gone.append(True))
        header = request.getHeader(b"authorization")
        client = request.getClientAddress()
        peer = f"[{client.host}]:{client.port}" if ":" in client.host else f"{client.host}:{client.port}"
        admitted = self._door.admits(header.decode("latin-1") if header else None, peer)

        def decided(yes: bool) -> None:
            if gone:
                return
            if yes:
                body = self._page.render(request)
            else:
                request.setHeader("www-authenticate", 'Basic realm="cyrus-sync", charset="UTF-8"')
                request.setResponseCode(UNAUTHORIZED)
                body = b"An administrator's name and password are needed.\n"
                request.setHeader("content-type", "text/plain; charset=utf-8")
            if body != NOT_DONE_YET:
                request.write(body)
                request.finish()

        def failed(failure: Failure) -> None:
            log.error("%s", failure.getTraceback())
            decided(False)

        Deferred.fromCoroutine(admitted).addCallback(decided).addErrback(failed)
        return NOT_DONE_YET
