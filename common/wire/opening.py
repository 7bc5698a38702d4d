"""The beginning of a connection to a server, until the first command: greeting, STARTTLS, login, compression.

Each step is limited by `ClientSettings.timeout` from its beginning, whatever the server says meanwhile: data
does not put it off. In which order they come is in `common.wire.client`.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import (
    AuthenticationFailed,
    CannotConnect,
    CompressionRefused,
    ConfigError,
    ConnectionLost,
    CyrusSyncError,
    ProtocolViolation,
    QuietLogout,
    TLSFailed,
)
from cyrus_sync.common.protocol.events import Answer, Challenge, ConnectionClosed, Fatal, Reply
from cyrus_sync.common.reactor import Timer
from cyrus_sync.common.wire import imap
from cyrus_sync.common.wire.policy import Layer
from cyrus_sync.common.wire.sasl.client import SaslClient, choose, why_not
from cyrus_sync.common.wire.settings import ClientSettings
from cyrus_sync.common.wire.transport import CsyncProtocol, Trace

_log = Logger(namespace="csync.client")


@dataclass(frozen=True, slots=True)
class ReadyConnection:
    """A connection that is logged in. `proto` has no event handler yet: set one, and it is yours."""

    proto: CsyncProtocol
    settings: ClientSettings
    capabilities: frozenset[str]
    """The greeting's: ``SIEVE-MAILBOX``, ``REPLICATION-ARCHIVE``, … whatever the server named."""
    banner: str
    """What the server says of itself: ``replica.example Cyrus sync server 3.6.1``."""
    layer: Layer
    mechanism: str
    """"" where no login was needed."""
    within_imap: bool = False
    """The server is an imapd: commands have tags (`common.wire.imap`)."""

    @property
    def ssf(self) -> int:
        return self.layer.ssf

    @property
    def server(self) -> str:
        return self.settings.server

    @property
    def peer(self) -> str:
        """One line for people: address, layer, login, compression."""
        parts = [f"{self.server} ({self.proto.peer})", f"layer {self.layer}"]
        parts.append(f"logged in with {self.mechanism}" if self.mechanism else "no login")
        parts.append("deflate" if self.proto.compressed else "not compressed")
        return ", ".join(parts) + (", within IMAP" if self.within_imap else "")


class _Events:
    """A handler for code that waits for one event after the other."""

    def __init__(self) -> None:
        self._ready: deque[Any] = deque()
        self._waiting: Deferred[Any] | None = None
        self._lost: Failure | None = None

    def event(self, event: Any) -> None:
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.callback(event)
        else:
            self._ready.append(event)

    def connection_lost(self, reason: Failure) -> None:
        self._lost = reason
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            waiting.errback(reason)

    async def next(self) -> Any:
        if self._ready:
            return self._ready.popleft()
        if self._lost is not None:
            self._lost.raiseException()
        self._waiting = Deferred(self._cancelled)
        return await self._waiting

    def _cancelled(self, _: Deferred[Any]) -> None:
        self._waiting = None


class Opening:
    """The conversation before the first real command."""

    def __init__(self, proto: CsyncProtocol, settings: ClientSettings, within_imap: bool) -> None:
        self._proto = proto
        self._imap = within_imap
        self._settings = settings
        self._events = _Events()
        self._capabilities: dict[str, str] = {}
        self._banner = ""
        self._phase = "connecting"
        self._deadline: Timer | None = None

    async def run(self, trace: Trace | None) -> ReadyConnection:
        try:
            return await self._run(trace)
        finally:
            self._stop_deadline()

    async def _run(self, trace: Trace | None) -> ReadyConnection:
        proto, settings = self._proto, self._settings
        proto.set_timeout(settings.timeout)
        try:
            if settings.immediate_tls:
                await self._handshake()
            proto.set_event_handler(self._events)
            await self._greeting()
            if self._imap:
                await self._ask_capabilities()
            mechanism = "" if settings.path or settings.noauth else await self._log_in()
            proto.trace = trace
            if settings.compress or settings.require_compression:
                await self._compress()
        except ConnectionLost as error:
            raise ConnectionLost(f"{error.message} (while {self._phase})").at(**error.address) from None
        proto.set_timeout(None)
        proto.set_event_handler(None)
        session = ReadyConnection(
            proto,
            settings,
            frozenset(self._capabilities),
            self._banner,
            Layer.of(proto),
            mechanism,
            self._imap,
        )
        _log.debug("connected: {peer}", peer=session.peer)
        return session

    # -- the time that each step has

    def _begin(self, phase: str) -> None:
        """The next step, which has `timeout` seconds in all."""
        self._stop_deadline()
        self._phase = phase
        self._deadline = self._proto.clock.callLater(self._settings.timeout, self._too_late)

    def _too_late(self) -> None:
        self._deadline = None
        seconds = f"{self._settings.timeout:g} seconds"
        self._proto.give_up(ConnectionLost(f"{self._proto.peer} does not come to an end within {seconds}"))

    def _stop_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None and deadline.active():
            deadline.cancel()

    # -- pieces

    async def _greeting(self) -> None:
        self._begin("waiting for the greeting")
        self._capabilities = {}
        while True:
            try:
                said = await self._next()
            except QuietLogout as error:
                raise CannotConnect(f"the server refuses: {error.message}") from None
            match said:
                case Answer(name="OK", value=rest) | Reply(status="OK", text=rest):
                    self._banner = _as_text(rest)
                    return
                case Answer(name=name, value=rest):
                    self._capabilities[name.upper()] = _as_text(rest)
                case Reply(status=status, text=text):
                    raise CannotConnect(f"the server refuses: {status} {text}")
                case other:
                    raise ProtocolViolation(f"not a greeting: {other!r:.200}")

    async def _ask_capabilities(self) -> None:
        self._begin("waiting for the capabilities")
        self._capabilities = {}
        reply = await self._command(b"CAPABILITY")
        if reply.status != "OK":
            raise self._farewell(CannotConnect(f"not an imapd: {reply.status} {reply.text}"))
        if imap.REPLICATION not in self._capabilities:
            raise self._farewell(CannotConnect(f"an imapd without {imap.REPLICATION}"))

    async def _log_in(self) -> str:
        settings, proto = self._settings, self._proto
        mechanism = self._choice()
        certificate = bool(settings.tls.cert) and mechanism != "EXTERNAL"
        if (mechanism is None or certificate) and "STARTTLS" in self._capabilities and not proto.tls:
            await self._starttls()
            mechanism = self._choice()
        if mechanism is None:
            offered = self._capabilities.get("SASL", "").split()
            reason = why_not(
                offered,
                settings.policy,
                Layer.of(proto),
                settings.credentials,
                with_certificate=bool(settings.tls.cert),
            )
            raise self._farewell(AuthenticationFailed(f"cannot log in: {reason}"))
        await self._authenticate(mechanism)
        return mechanism

    def _choice(self) -> str | None:
        settings = self._settings
        return choose(
            self._capabilities.get("SASL", "").split(),
            settings.policy,
            Layer.of(self._proto),
            settings.credentials,
            with_certificate=bool(settings.tls.cert),
        )

    async def _starttls(self) -> None:
        self._begin("waiting for the answer to STARTTLS")
        reply = await self._command(b"STARTTLS")
        if reply.status != "OK":
            raise TLSFailed(f"the server refuses STARTTLS: {reply.status} {reply.text}")
        await self._handshake()
        if self._imap:
            await self._ask_capabilities()
        else:
            self._expect_greeting()
            await self._greeting()

    async def _handshake(self) -> None:
        from cyrus_sync.common.wire.tls import client_context  # loads OpenSSL's bindings

        self._begin("negotiating TLS")
        try:
            context = client_context(self._settings.tls, self._settings.host)
        except ConfigError as error:
            raise TLSFailed(str(error)) from None
        try:
            await self._proto.start_tls(context)
        except ConnectionLost as error:
            raise TLSFailed(f"{error.message} (while {self._phase})") from None

    def _expect_greeting(self) -> None:
        connection: Any = self._proto.connection
        connection.expect_greeting()

    async def _authenticate(self, mechanism: str) -> None:
        self._begin(f"logging in with {mechanism}")
        try:
            await self._exchange(mechanism)
        except AuthenticationFailed as error:
            error.at(mechanism=mechanism, layer=str(Layer.of(self._proto)))
            raise self._farewell(error) from None

    async def _exchange(self, mechanism: str) -> None:
        sasl = SaslClient(mechanism, self._settings.credentials)
        line = f"AUTHENTICATE {mechanism}".encode()
        initial = sasl.initial
        if initial is not None and (not self._imap or "SASL-IR" in self._capabilities):
            line += b" " + (b64encode(initial) or b"=")
            initial = None
        event = await self._ask(self._spoken(line))
        while isinstance(event, Challenge):
            if initial is not None:  # there was no room for it in the command
                event, initial = await self._ask(b64encode(initial)), None
                continue
            try:
                answer = sasl.step(b64decode(event.data.strip(), validate=True))
            except (ValueError, AuthenticationFailed) as error:
                await self._ask(b"*")
                raise AuthenticationFailed(f"{mechanism}: {error}") from None
            event = await self._ask(b64encode(answer))
        if event.status != "OK":
            raise AuthenticationFailed(
                f"authentication failed: {mechanism} as {self._settings.credentials.user or 'certificate'}"
                f"{sasl.misgiving()}"
            ).at(reply=f"{event.status} {event.text}")
        sasl.finish()

    async def _compress(self) -> None:
        if self._imap:
            _log.warn("no compression to server {server}: within IMAP", server=self._settings.server)
            return
        self._begin("waiting for the answer to COMPRESS")
        offered = "DEFLATE" in self._capabilities.get("COMPRESS", "").upper().split()
        reason = "not offered"
        # Under TLS no server names it in its second greeting, but a Cyrus accepts it.
        if offered or self._proto.tls:
            reply = await self._command(b"COMPRESS DEFLATE")
            if reply.status == "OK":
                self._proto.start_deflate()
                return
            reason = f"{reply.status} {reply.text}"
        if self._settings.require_compression:
            raise self._farewell(
                CompressionRefused(f"Failed to enable compression to server '{self._settings.server}'").at(
                    reply=reason
                )
            )
        _log.warn("no compression to server {server}: {reason}", server=self._settings.server, reason=reason)

    async def _command(self, line: bytes) -> Reply:
        event = await self._ask(self._spoken(line))
        if isinstance(event, Reply):
            return event
        raise ProtocolViolation(f"unexpected answer to {line.decode()}: {event!r:.200}")

    def _spoken(self, line: bytes) -> bytes:
        return imap.session_command(line) if self._imap else line

    async def _ask(self, line: bytes) -> Any:
        """Send a line; the `Challenge` or `Reply` that comes back."""
        self._proto.write(line + b"\r\n")
        while True:
            event = await self._next()
            if isinstance(event, Challenge | Reply):
                return event
            if not isinstance(event, Answer):
                raise ProtocolViolation(f"unexpected answer: {event!r:.200}")
            if self._imap and event.name == "CAPABILITY":
                self._capabilities = imap.capabilities(_as_text(event.value))

    async def _next(self) -> Any:
        event = await self._events.next()
        match event:
            case ConnectionClosed():
                raise ConnectionLost("the server has closed the connection")
            case Fatal(reply=reply):
                raise ProtocolViolation(f"received bad response: {reply.decode('utf-8', 'replace')}")
            case Reply(status="BYE", text=text):
                raise QuietLogout(f"the server says BYE {text}".rstrip())
        return event

    def _farewell(self, error: CyrusSyncError) -> CyrusSyncError:
        """Leave politely before raising `error`."""
        self._proto.write(self._spoken(b"EXIT") + b"\r\n")
        return error


def _as_text(value: Any) -> str:
    return value.decode("utf-8", "replace").strip() if isinstance(value, bytes) else str(value or "").strip()
