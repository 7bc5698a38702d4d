"""`connect`: from a server's address to a `ReadyConnection`: logged in, ready for the first command.

The order of things, as Cyrus's own client has it::

    TCP (all addresses of the name) or UNIX socket     [TLS at once with host/tls]
    greeting                                           capabilities, one a line
    STARTTLS, greeting again                           if no mechanism may be used on the bare line, or
                                                       a client certificate is to be shown
    AUTHENTICATE                                       not on a UNIX socket, nor with host/noauth
    COMPRESS DEFLATE                                   if asked for

With `ClientSettings.imap_port` all this is first tried with an imapd (`common.wire.imap`), without COMPRESS;
where that comes to nothing, for whatever reason, there is a new connection with the rules of csync.

What comes after TCP is said in `common.wire.opening`. Every error says which server, and, where it matters,
which mechanism was tried, which layer was in force, and what the server replied.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint, connectProtocol
from twisted.logger import Logger

from cyrus_sync.common.errors import (
    CannotConnect,
    ConnectionLost,
    CyrusSyncError,
    ProtocolViolation,
)
from cyrus_sync.common.protocol.connection_client import ClientConnection
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.wire.opening import Opening, ReadyConnection
from cyrus_sync.common.wire.settings import ClientSettings
from cyrus_sync.common.wire.transport import CsyncProtocol, Trace

__all__ = ["ClientSettings", "ReadyConnection", "connect"]

_log = Logger(namespace="csync.client")


def connect(
    reactor: Reactor, settings: ClientSettings, trace: Trace | None = None
) -> Deferred[ReadyConnection]:
    """Connect and log in. `trace` is told everything that passes after the login.

    Fails with `CannotConnect`, or its kin `TLSFailed`, `AuthenticationFailed`, `CompressionRefused`, or
    with `QuietLogout`. Cancelling the Deferred gives the attempt up.
    """
    return Deferred.fromCoroutine(_connect(reactor, settings, trace))


async def _connect(reactor: Reactor, settings: ClientSettings, trace: Trace | None) -> ReadyConnection:
    if settings.imap_port is None or settings.require_compression:
        return await _attempt(reactor, settings, trace)
    try:
        return await _attempt(reactor, replace(settings, port=settings.imap_port), trace, within_imap=True)
    except CyrusSyncError as error:
        refusal = str(error)
        _log.info("no replication within IMAP: {reason}; now csync", reason=refusal)
    try:
        return await _attempt(reactor, settings, trace)
    except CyrusSyncError as error:
        raise error.at(imap=refusal) from None


async def _attempt(
    reactor: Reactor, settings: ClientSettings, trace: Trace | None, within_imap: bool = False
) -> ReadyConnection:
    try:
        proto = await _transport(reactor, settings, within_imap)
        try:
            return await Opening(proto, settings, within_imap).run(trace)
        except (CancelledError, CyrusSyncError):
            proto.lose() if proto.alive else proto.abort()
            raise
    except (ConnectionLost, ProtocolViolation) as error:
        raise CannotConnect(f"Can not connect to server '{settings.server}': {error.message}").at(
            **error.address, server=settings.server, channel=settings.channel
        ) from None
    except CyrusSyncError as error:
        raise error.at(server=settings.server, channel=settings.channel) from None


async def _transport(reactor: Reactor, settings: ClientSettings, tagged: bool) -> CsyncProtocol:
    proto = CsyncProtocol(ClientConnection(tagged=tagged), reactor, server=False)
    endpoint: Any
    if settings.path:
        endpoint = UNIXClientEndpoint(reactor, settings.path, timeout=settings.timeout)
    else:
        endpoint = HostnameEndpoint(
            reactor,
            settings.host,
            settings.port,
            timeout=settings.timeout,
            bindAddress=await _bind_address(reactor, settings),
        )
    try:
        await connectProtocol(endpoint, proto)
    except CancelledError:
        raise
    except Exception as error:
        raise CannotConnect(f"Can not connect to server '{settings.server}': {_words(error)}") from None
    return proto


async def _bind_address(reactor: Reactor, settings: ClientSettings) -> tuple[str, int] | None:
    if not settings.bind:
        return None
    try:
        return (await reactor.resolve(settings.bind, (settings.timeout,)), 0)
    except CancelledError:
        raise
    except Exception as error:
        raise CannotConnect(f"client_bind: no address for '{settings.bind}': {_words(error)}") from None


def _words(error: Exception) -> str:
    return str(error).rstrip(".") or type(error).__name__
