"""The sockets of the receiving side: for each address of `multisite_listen` a contact port, UDP and TCP,
and later a transfer port."""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from dataclasses import dataclass

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.numbers import decimal

_STILL_HELD = 1.0
"""Seconds to wait for a port. A child of a service that was killed may hold it until it has closed what is
not its own."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of `multisite_listen`: its sockets, bound and not yet listened to by anybody."""

    family: int
    host: str
    contact: socket.socket
    datagrams: socket.socket

    def close(self) -> None:
        self.contact.close()
        self.datagrams.close()


def bind(text: str, default_port: int) -> Endpoint:
    """The sockets of ``host``, ``host:port``, ``[v6]:port`` or ``*``."""
    end = time.monotonic() + _STILL_HELD
    while True:
        try:
            return _bind(text, default_port)
        except ValueError as error:
            raise ConfigError(f"multisite_listen: {error}") from None
        except (OSError, OverflowError) as error:
            in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            if not in_use or time.monotonic() > end:
                where = f"{text} (contact port: {default_port})"
                raise ConfigError(f"multisite_listen: cannot listen on {where}: {reason(error)}") from None
        time.sleep(0.05)


def _bind(text: str, default_port: int) -> Endpoint:
    host, port = _address(text, default_port)
    if host in ("*", ""):
        family, host = socket.AF_INET, "0.0.0.0"  # noqa: S104 (that is what * means)
        if socket.has_dualstack_ipv6():
            family, host = socket.AF_INET6, "::"
    else:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(tcp(family, host, port))
        datagrams = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
        if host == "::":
            datagrams.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        datagrams.setblocking(False)
        datagrams.bind((host, port))
        stack.pop_all()
    return Endpoint(family, host, listener, datagrams)


def _address(text: str, default_port: int) -> tuple[str, int]:
    """Host and port. Raises ValueError. An IPv6 address without brackets has no port."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"'{text}' is not [IPv6 address]:port")
        colon, typed = rest[:1], rest[1:]
    elif text.count(":") == 1:
        host, colon, typed = text.partition(":")
    else:
        return text, default_port
    port = decimal(typed, 65535) if colon else default_port
    if port is None:
        raise ValueError(f"'{text}': a port must be a number from 0 to 65535")
    return host, port


def tcp(family: int, host: str, port: int) -> socket.socket:
    """A listening socket; `OSError` if the port cannot be had. Port 0: any."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        if host == "::":
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.setblocking(False)
        sock.bind((host, port))
        sock.listen(1024)
    except BaseException:
        sock.close()
        raise
    return sock
