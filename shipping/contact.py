"""First contact: a host asks another one for a port to which it may bring files.

One line each way, as a UDP datagram or over TCP, on the contact port:

    SHIP1 CONTACT <nonce> <proof>
    SHIP1 PORT <nonce> <port> <proof>      or, if no port of the range is free: SHIP1 BUSY <nonce> 0 <proof>

A datagram without a good proof gets no answer, so the service cannot be used to flood others (besides, an
answer is no longer than the question). Over TCP it is answered ``NO`` and a reason. Playing a question again
gives its sender nothing but the port. With CLEARCASE_MIN_PORT and CLEARCASE_MAX_PORT set, TCP is tried first,
then UDP. Otherwise UDP, and TCP only where there is no answer: that tells a network that loses datagrams from
a host that has another key.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from dataclasses import dataclass

from cyrus_sync.common.commands import reason
from cyrus_sync.common.numbers import decimal
from cyrus_sync.shipping.call import Call, ended
from cyrus_sync.shipping.errors import Broken, CannotReach, Refused
from cyrus_sync.shipping.key import proof, proves
from cyrus_sync.shipping.site import Site

LONGEST_LINE = 256
UDP_WAITS = (1.0, 2.0, 4.0)
"""Seconds to wait for the answer to each of the datagrams."""

TCP_WAIT = 5.0
OTHER_KEY = "the family key is not ours"


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where the other host takes files: address and port."""

    address: tuple[str, int]


def question(key: bytes, nonce: str) -> bytes:
    return f"SHIP1 CONTACT {nonce} {proof(key, 'contact', nonce.encode())}\n".encode()


def answer_to(key: bytes, line: bytes) -> str | None:
    """The nonce of a good question, else None."""
    words = line.decode("ascii", "replace").split()
    if not _is_question(words):
        return None
    return words[2] if proves(key, words[3], "contact", words[2].encode()) else None


def has_other_key(key: bytes, line: str) -> bool:
    """Whether a line is a first contact that proves another key."""
    words = line.split()
    return _is_question(words) and not proves(key, words[3], "contact", words[2].encode())


def _is_question(words: list[str]) -> bool:
    return len(words) == 4 and words[:2] == ["SHIP1", "CONTACT"] and 16 <= len(words[2]) <= 64


def answer(key: bytes, nonce: str, port: int) -> bytes:
    """`port` 0: none is free."""
    word = "PORT" if port else "BUSY"
    shown = proof(key, "port", nonce.encode(), str(port).encode())
    return f"SHIP1 {word} {nonce} {port} {shown}\n".encode()


def meet(site: Site, host: str) -> Meeting:
    """Ask `host` for its port. `CannotReach` if nothing answers, `Refused` if it has no free port."""
    reasons: list[str] = []
    silent: set[str] = set()
    nonce = secrets.token_hex(16)
    line = question(site.key, nonce)
    for way in ("tcp", "udp") if site.conf.min_port else ("udp", "tcp"):
        for address in addresses(host):
            if way == "tcp" and not site.conf.min_port and address not in silent:
                continue
            where = f"{way} {address} port {site.contact_port}"
            ask = _ask_tcp if way == "tcp" else _ask_udp
            try:
                reply = ask(address, site.contact_port, line)
            except (OSError, Refused) as error:
                if isinstance(error, TimeoutError):
                    silent.add(address)
                reasons.append(f"{where}: {why(error)}")
                continue
            if reply.startswith(b"NO "):
                raise refusal(host, reply[3:].decode("utf-8", "replace"))
            port = _port(site.key, nonce, reply)
            if port is None:
                reasons.append(f"{where}: no valid answer (another family key?)")
            elif port == 0:
                raise Refused(f"{host} has no free port for a transfer")
            else:
                return Meeting((address, port))
    raise CannotReach(f"{host} does not answer: {'; '.join(reasons)}")


def addresses(host: str) -> list[str]:
    """The addresses of a host, the best first. `CannotReach` if it has none."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise CannotReach(f"{host}: {reason(error)}") from None
    return [_with_zone(*address) for *_, address in found]


def _with_zone(host: str, _port: int, _flow: int = 0, zone: int = 0) -> str:
    return f"{host}%{zone}" if zone and "%" not in host else host


def refusal(host: str, text: str) -> Refused:
    """What a host says that will have nothing to do with us."""
    said = "".join(c if c.isprintable() else "?" for c in text[:200]).strip()
    hint = " (multisite_key_file has to be the same on both)" if said == OTHER_KEY else ""
    return Refused(f"{host} refused: {said}{hint}")


def why(error: Exception) -> str:
    """What a connection that was not made, or broke, says of it."""
    return reason(error) or "no answer"


def _ask_tcp(address: str, port: int, line: bytes) -> bytes:
    with Call.to((address, port), TCP_WAIT) as call:
        call.until(TCP_WAIT)
        try:
            call.say(line)
            return ended(call.line(LONGEST_LINE)).encode()
        except Broken:
            return b""


def _ask_udp(address: str, port: int, line: bytes) -> bytes:
    """Ask, and again, until there is an answer or nobody is waited for any more."""
    family, kind, protocol, _, there = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as sock:
        # Connected, so that datagrams of others are not seen and a closed port is an error at once.
        sock.connect(there)
        for wait in UDP_WAITS:
            sock.send(line)
            sock.settimeout(wait)
            with contextlib.suppress(TimeoutError):
                return sock.recv(LONGEST_LINE)
    raise TimeoutError("timed out")


def _port(key: bytes, nonce: str, reply: bytes) -> int | None:
    words = reply.decode("ascii", "replace").split()
    if len(words) != 5 or words[0] != "SHIP1" or words[2] != nonce:
        return None
    if not proves(key, words[4], "port", nonce.encode(), words[3].encode()):
        return None
    return decimal(words[3], 65535)
