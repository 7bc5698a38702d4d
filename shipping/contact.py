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

from cyrus_sync.common.commands import reason
from cyrus_sync.common.numbers import decimal
from cyrus_sync.shipping.errors import CannotReach, Refused
from cyrus_sync.shipping.key import proof, proves
from cyrus_sync.shipping.site import Site

LONGEST_LINE = 256
UDP_WAITS = (1.0, 2.0, 4.0)
"""Seconds to wait for the answer to each of the datagrams."""

TCP_WAIT = 10.0


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the other host takes files."""

    family: int
    address: tuple[str | int, ...]


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
    ways = [socket.SOCK_DGRAM]
    if site.conf.min_port:
        ways.insert(0, socket.SOCK_STREAM)
    reasons: list[str] = []
    nonce = secrets.token_hex(16)
    line = question(site.key, nonce)
    for way in ways:
        try:
            found = socket.getaddrinfo(host, site.contact_port, type=way)
        except (OSError, UnicodeError) as error:
            raise CannotReach(f"{host}: {reason(error)}") from None
        for family, kind, _protocol, _name, address in found:
            name = "tcp" if kind == socket.SOCK_STREAM else "udp"
            where = f"{name} {address[0]!s} port {address[1]!s}"
            try:
                with socket.socket(family, kind) as sock:
                    reply = _ask_tcp(sock, address, line) if name == "tcp" else _ask_udp(sock, address, line)
            except OSError as error:
                reasons.append(f"{where}: {reason(error) or 'no answer'}")
                continue
            port = _port(site.key, nonce, reply)
            if port is None:
                reasons.append(f"{where}: no valid answer (another family key?)")
            elif port == 0:
                raise Refused(f"{host} has no free port for a transfer")
            else:
                return Meeting(family, (address[0], port, *address[2:]))
    raise CannotReach(f"{host} does not answer: {'; '.join(reasons)}")


def _ask_tcp(sock: socket.socket, address: tuple[Any, ...], line: bytes) -> bytes:
    sock.settimeout(TCP_WAIT)
    sock.connect(address)
    sock.sendall(line)
    reply = b""
    while not reply.endswith(b"\n") and len(reply) < LONGEST_LINE:
        more = sock.recv(LONGEST_LINE)
        if not more:
            break
        reply += more
    return reply


def _ask_udp(sock: socket.socket, address: tuple[Any, ...], line: bytes) -> bytes:
    # Connected, so that datagrams of others are not seen and a closed port is an error at once.
    sock.connect(address)
    for number, wait in enumerate(UDP_WAITS, 1):
        sock.settimeout(wait)
        sock.send(line)
        try:
            return sock.recv(LONGEST_LINE)
        except TimeoutError:
            if number == len(UDP_WAITS):
                raise
    return b""


def _port(key: bytes, nonce: str, reply: bytes) -> int | None:
    words = reply.decode("ascii", "replace").split()
    if len(words) != 5 or words[0] != "SHIP1" or words[2] != nonce:
        return None
    if not proves(key, words[4], "port", nonce.encode(), words[3].encode()):
        return None
    return decimal(words[3], 65535)
