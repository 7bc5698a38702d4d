"""First contact: a host asks another one for a port to which it may bring files.

One line each way, as a UDP datagram or over TCP, on the contact port:

    SHIP1 CONTACT <nonce> <proof>
    SHIP1 PORT <nonce> <port> <proof>      or, if no port of the range is free: SHIP1 BUSY <nonce> 0 <proof>

A line without a good proof gets no answer, so the service answers nobody outside the family and cannot
be used to flood others (the answer is no longer than the question). Playing a question again gives its
sender nothing but the port. With CLEARCASE_MIN_PORT and CLEARCASE_MAX_PORT set, TCP is tried first, then
UDP; otherwise UDP alone.
"""

from __future__ import annotations

import secrets
import socket
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.error import ConnectError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.threads import deferToThreadPool

from cyrus_sync.common.commands import reason
from cyrus_sync.common.numbers import decimal
from cyrus_sync.shipping.errors import CannotReach, Refused
from cyrus_sync.shipping.key import proof, proves
from cyrus_sync.shipping.loop import wait_for
from cyrus_sync.shipping.site import Site
from cyrus_sync.shipping.talk import Broken, Talk

LONGEST_LINE = 256
UDP_WAITS = (1.0, 2.0, 4.0)
"""Seconds to wait for the answer to each of the datagrams."""

TCP_WAIT = 10.0


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the other host takes files: address and port."""

    address: tuple[str, int]


def question(key: bytes, nonce: str) -> bytes:
    return f"SHIP1 CONTACT {nonce} {proof(key, 'contact', nonce.encode())}\n".encode()


def answer_to(key: bytes, line: bytes) -> str | None:
    """The nonce of a good question, else None."""
    words = line.decode("ascii", "replace").split()
    if len(words) != 4 or words[:2] != ["SHIP1", "CONTACT"] or not 16 <= len(words[2]) <= 64:
        return None
    return words[2] if proves(key, words[3], "contact", words[2].encode()) else None


def answer(key: bytes, nonce: str, port: int) -> bytes:
    """`port` 0: none is free."""
    word = "PORT" if port else "BUSY"
    shown = proof(key, "port", nonce.encode(), str(port).encode())
    return f"SHIP1 {word} {nonce} {port} {shown}\n".encode()


def meet(site: Site, host: str) -> Meeting:
    """Ask `host` for its port. `CannotReach` if nothing answers, `Refused` if it has no free port."""
    return wait_for(lambda reactor: find_port(reactor, site, host))


async def find_port(reactor: Any, site: Site, host: str) -> Meeting:
    """`meet` on a reactor that runs."""
    ways = ["udp"]
    if site.conf.min_port:
        ways.insert(0, "tcp")
    reasons: list[str] = []
    nonce = secrets.token_hex(16)
    line = question(site.key, nonce)
    for way in ways:
        for address in await addresses(reactor, host):
            where = f"{way} {address} port {site.contact_port}"
            ask = _ask_tcp if way == "tcp" else _ask_udp
            try:
                reply = await ask(reactor, address, site.contact_port, line)
            except (OSError, ConnectError, Refused) as error:
                reasons.append(f"{where}: {why(error)}")
                continue
            port = _port(site.key, nonce, reply)
            if port is None:
                reasons.append(f"{where}: no valid answer (another family key?)")
            elif port == 0:
                raise Refused(f"{host} has no free port for a transfer")
            else:
                return Meeting((address, port))
    raise CannotReach(f"{host} does not answer: {'; '.join(reasons)}")


async def addresses(reactor: Any, host: str) -> list[str]:
    """The addresses of a host, the best first. `CannotReach` if it has none."""
    try:
        found = await deferToThreadPool(
            reactor, reactor.getThreadPool(), socket.getaddrinfo, host, None, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        raise CannotReach(f"{host}: {reason(error)}") from None
    return [_with_zone(*address) for *_, address in found]


def _with_zone(host: str, _port: int, _flow: int = 0, zone: int = 0) -> str:
    return f"{host}%{zone}" if zone and "%" not in host else host


def why(error: Exception) -> str:
    """What a connection that was not made, or broke, says of it."""
    if isinstance(error, ConnectError):
        return str(error).rstrip(".") or "no answer"
    return reason(error) or "no answer"


async def _ask_tcp(reactor: Any, address: str, port: int, line: bytes) -> bytes:
    talk = Talk(reactor)
    try:
        await connectProtocol(HostnameEndpoint(reactor, address, port, timeout=TCP_WAIT), talk)
        talk.until(TCP_WAIT)
        talk.say(line)
        return (await talk.line(LONGEST_LINE)).encode()
    except Broken:
        return b""
    finally:
        await talk.lose()


async def _ask_udp(reactor: Any, address: str, port: int, line: bytes) -> bytes:
    asking = _Asking(reactor, address, port, line)
    listening = reactor.listenUDP(0, asking, interface="::" if ":" in address else "")
    try:
        return await asking.answer
    finally:
        await maybeDeferred(listening.stopListening)


class _Asking(DatagramProtocol):
    """A question by UDP, said again until there is an answer or nobody is waited for any more."""

    transport: Any

    def __init__(self, clock: Any, address: str, port: int, line: bytes) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self._clock = clock
        self._there = address, port
        self._line = line
        self._waits = iter(UDP_WAITS)
        self._again: Any = None

    def startProtocol(self) -> None:
        # Connected, so that datagrams of others are not seen and a closed port is an error at once.
        self.transport.connect(*self._there)
        self._ask()

    def _ask(self) -> None:
        wait = next(self._waits, None)
        if wait is None:
            self._end(TimeoutError("timed out"))
            return
        self._again = self._clock.callLater(wait, self._ask)
        try:
            self.transport.write(self._line)
        except OSError as error:
            self._end(error)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self._end(datagram[:LONGEST_LINE])

    def connectionRefused(self) -> None:
        self._end(ConnectionRefusedError("connection refused"))

    def stopProtocol(self) -> None:
        # The reactor closes a socket that has an error and nothing to read.
        self.connectionRefused()

    def _end(self, result: bytes | Exception) -> None:
        if self._again is not None and self._again.active():
            self._again.cancel()
        if self.answer.called:
            return
        if isinstance(result, bytes):
            self.answer.callback(result)
        else:
            self.answer.errback(result)


def _port(key: bytes, nonce: str, reply: bytes) -> int | None:
    words = reply.decode("ascii", "replace").split()
    if len(words) != 5 or words[0] != "SHIP1" or words[2] != nonce:
        return None
    if not proves(key, words[4], "port", nonce.encode(), words[3].encode()):
        return None
    return decimal(words[3], 65535)
