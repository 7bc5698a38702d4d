"""A csync server with just the login in it, for tests of what connects to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

from cyrus_sync.common.protocol.connection import ServerConnection
from cyrus_sync.common.protocol.events import DlistCommand, SaslLine, SessionCommand
from cyrus_sync.common.wire.policy import Layer
from cyrus_sync.common.wire.sasl.server import Attempt, Challenge, SaslServer, Success
from cyrus_sync.common.wire.tls import ServerTLS
from cyrus_sync.common.wire.transport import CsyncProtocol


@dataclass
class Peer:
    """A server's session with just the login in it. `commands` is what it heard."""

    server: FakeServer
    proto: CsyncProtocol
    commands: list[bytes] = field(default_factory=list)
    attempt: Attempt | None = None
    userid: str = ""

    def begin(self) -> None:
        if self.server.tls_at_once:
            assert self.server.tls is not None
            self.proto.start_tls(self.server.tls).addCallbacks(lambda _: self.greet(), lambda _: None)
        else:
            self.greet()
        self.proto.set_event_handler(self)

    def greet(self) -> None:
        lines = list(self.server.extra)
        mechanisms = self.server.sasl.mechanisms(Layer.of(self.proto)) if self.server.sasl else ()
        if mechanisms:
            lines.append(b"* SASL " + " ".join(mechanisms).encode())
        if self.server.tls and not self.proto.tls:
            lines.append(b"* STARTTLS")
        if self.server.compress and not self.proto.tls:
            lines.append(b"* COMPRESS DEFLATE")
        self.say(*lines, b"* SIEVE-MAILBOX", self.server.last_line)

    def say(self, *lines: bytes) -> None:
        self.proto.write(b"".join(line + b"\r\n" for line in lines))

    def event(self, event: Any) -> Deferred[Any] | None:
        if isinstance(event, SaslLine) and self.attempt:
            return Deferred.fromCoroutine(self.step(self.attempt.step(event.line)))
        if isinstance(event, DlistCommand):
            self.commands.append(f"{event.verb} {event.name}".encode())
            enabled = (b"* ENABLED ()",) if event.name == "CAPABILITIES" else ()
            self.say(*enabled, b"OK success")
        if not isinstance(event, SessionCommand):
            return None
        self.commands.append(f"{event.verb} ".encode() + event.arguments)
        if event.verb in self.server.answers:
            self.server.answers[event.verb](self)
        elif event.verb == "AUTHENTICATE" and self.server.sasl:
            words = event.arguments.split()
            self.attempt = self.server.sasl.attempt(Layer.of(self.proto))
            started = self.attempt.start(words[0], words[1] if len(words) > 1 else None)
            return Deferred.fromCoroutine(self.step(started))
        elif event.verb == "STARTTLS" and self.server.tls:
            self.say(b"OK Begin TLS negotiation now")
            self.proto.start_tls(self.server.tls).addCallbacks(lambda _: self.greet(), lambda _: None)
        elif event.verb == "COMPRESS":
            self.say(b"OK DEFLATE active")
            self.proto.start_deflate()
        elif event.verb == "EXIT":
            self.say(b"OK Finished")
            self.proto.lose()
        else:
            self.say(b"OK Noop completed")
        return None

    async def step(self, outcome: Any) -> None:
        said = await outcome
        if isinstance(said, Challenge):
            connection: Any = self.proto.connection
            connection.expect_sasl_line()
            self.say(said.line)
        else:
            self.say(said.reply)
            if isinstance(said, Success):
                self.userid = said.userid
                self.proto.connection.authenticated = True  # type: ignore[attr-defined]

    def connection_lost(self, reason: Any) -> None:
        self.server.lost.append(self)


@dataclass
class FakeServer:
    """What a test wants of its server."""

    sasl: SaslServer | None = None
    tls: ServerTLS | None = None
    tls_at_once: bool = False
    compress: bool = True
    extra: tuple[bytes, ...] = ()
    last_line: bytes = b"* OK replica.test Cyrus sync server 3.6.1"
    answers: dict[str, Callable[[Peer], None]] = field(default_factory=dict)
    peers: list[Peer] = field(default_factory=list)
    lost: list[Peer] = field(default_factory=list)

    @property
    def commands(self) -> list[bytes]:
        return self.peers[-1].commands


class Accept(Factory):
    """Gives each connection a `Peer`."""

    def __init__(self, reactor: Any, server: FakeServer) -> None:
        self.reactor = reactor
        self.server = server

    def buildProtocol(self, addr: Any) -> CsyncProtocol:
        return CsyncProtocol(ServerConnection(), self.reactor, server=True, connected=self.begin)

    def begin(self, proto: CsyncProtocol) -> None:
        peer = Peer(self.server, proto)
        self.server.peers.append(peer)
        peer.begin()
