"""The metrics over HTTP, on Twisted's web server: ``/metrics``, and ``/`` that says so."""

from __future__ import annotations

import logging
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.protocols.policies import WrappingFactory
from twisted.python.failure import Failure
from twisted.web.pages import notFound
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

_log = logging.getLogger(__name__)

MOST_CONNECTIONS = 32
"""Who else comes is turned away: descriptors are there for replication."""

IDLE_SECONDS = 60

_HELLO = b"""<!DOCTYPE html>
<html lang="en"><title>cyrus-sync</title><p><a href="/metrics">Metrics</a> for Prometheus.</p></html>
"""


class Figures(Protocol):
    """Who has figures to tell (`common.metrics.exporter.Exporter`)."""

    def told(self, accept: str) -> Deferred[tuple[bytes, str]]:
        """The text in the form that an Accept header asks for, and the type of that."""


class _Root(Resource):
    def getChild(self, path: bytes, request: Request) -> Any:
        return notFound()


class _Hello(Resource):
    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"text/html; charset=utf-8")
        return _HELLO


class Metrics(Resource):
    """``/metrics``, as text or in OpenMetrics, whichever is asked for."""

    isLeaf = True

    def __init__(self, figures: Figures) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # so are most of Twisted's
        self._figures = figures

    def render_GET(self, request: Request) -> int:
        gone: list[bool] = []
        request.notifyFinish().addErrback(lambda _failure: gone.append(True))
        accept = (request.getHeader(b"accept") or b"").decode("latin-1")
        self._figures.told(accept).addCallbacks(
            self._tell, self._fail, callbackArgs=(request, gone), errbackArgs=(request, gone)
        )
        return NOT_DONE_YET

    def _tell(self, told: tuple[bytes, str], request: Request, gone: list[bool]) -> None:
        if gone:
            return
        body, kind = told
        request.setHeader(b"content-type", kind.encode())
        request.setHeader(b"content-length", b"%d" % len(body))
        request.write(body)
        request.finish()

    def _fail(self, failure: Failure, request: Request, gone: list[bool]) -> None:
        _log.error("metrics: %s", failure.getTraceback())
        request.setResponseCode(500)
        self._tell((b"The log has the reason.\n", "text/plain; charset=utf-8"), request, gone)


def site(figures: Figures) -> Any:
    """The factory of a web server that tells `figures`."""
    root: Any = _Root()  # type: ignore[no-untyped-call] # as above
    root.putChild(b"", _Hello())  # type: ignore[no-untyped-call] # as above
    root.putChild(b"metrics", Metrics(figures))
    return limited(root)


class _Quiet(Site):
    """Twisted would write a line for each request."""

    noisy = False
    displayTracebacks = False

    def log(self, request: Any) -> None:
        del request


class _Limited(WrappingFactory):
    noisy = False

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return super().buildProtocol(addr) if len(self.protocols) < MOST_CONNECTIONS else None


def limited(root: Resource) -> Any:
    """The factory of a web server for so many connections at once, without a log of its own."""
    return _Limited(_Quiet(root, timeout=IDLE_SECONDS))  # type: ignore[no-untyped-call] # as above
