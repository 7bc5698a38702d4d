"""Where a daemon listens: an address as imapd.conf has it, and the port that is opened there.

>>> Address.parse("[2001:db8::1]:2005", 2005)
Address(interface='2001:db8::1', port=2005, path='')
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.numbers import decimal
from cyrus_sync.common.reactor import Reactor


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen: a TCP port of one interface ("" = all), or the path of a UNIX socket."""

    interface: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return self.path
        host = self.interface or "*"
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str, default: int, *, names: tuple[str, ...] = (), interface: str = "") -> Self:
        """`host:port`, `[v6]:port`, `:port`, a lone host, or an absolute path; ValueError otherwise.

        `default` is the port where none is said, or one of `names` in its place; `interface` the host where
        none is said. ``*`` is every address.
        """
        if text.startswith("/"):
            return cls(path=text)
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError(f"'{text}' is not [IPv6 address]:port")
            return cls(host, _port(rest[1:], default, names))
        host, _, port = text.partition(":")
        if ":" in port:
            raise ValueError(f"'{text}': an IPv6 address needs brackets, [{text}]:port")
        return cls("" if host == "*" else host or interface, _port(port, default, names))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect there: a UNIX socket, or the loopback interface."""
        return bool(self.path) or self.interface in ("localhost", "::1") or self.interface.startswith("127.")


def addresses_of(words: Iterable[str], where: str, default: int, name: str) -> tuple[Address, ...]:
    """The addresses that an option lists; `name` is the default port in words, `where` the option with file
    and line. Raises `ConfigError`."""
    try:
        return tuple(Address.parse(word, default, names=(name,)) for word in words)
    except ValueError as error:
        raise ConfigError(f"{where}{error}") from None


def _port(text: str, default: int, names: tuple[str, ...]) -> int:
    if text == "" or text in names:
        return default
    number = decimal(text, 65535)
    if number is None:
        raise ValueError(f"'{text}' is not a port number")
    return number


def listen(
    reactor: Reactor, address: Address, factory: Any, *, backlog: int = 128, mode: int = 0o600
) -> IListeningPort:
    """Open the port; `mode` is that of a UNIX socket. Raises what `why_not` explains."""
    if address.path:
        _remove_stale_socket(address.path)
        return reactor.listenUNIX(address.path, factory, mode=mode)
    if address.interface:
        host = _numeric(address.interface)
        return reactor.listenTCP(address.port, factory, backlog=backlog, interface=host)
    try:
        return reactor.listenTCP(address.port, factory, backlog=backlog, interface="::")
    except (CannotListenError, OSError) as error:
        if "in use" in str(error):
            raise
        everywhere = "0.0.0.0"  # noqa: S104 (no address was given)
        return reactor.listenTCP(address.port, factory, backlog=backlog, interface=everywhere)


def bind(address: Address, *, backlog: int = 128, mode: int = 0o600) -> socket.socket:
    """As `listen`, a socket that is no reactor's. Raises what `why_not` explains."""
    if address.path:
        _remove_stale_socket(address.path)
        made = socket.socket(socket.AF_UNIX)
        before = os.umask(0o777 & ~mode)
        try:
            made.bind(address.path)
            made.listen(backlog)
        except BaseException:
            made.close()
            raise
        finally:
            os.umask(before)
        return made
    if address.interface:
        host = _numeric(address.interface)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, address.port), family=family, backlog=backlog)
    if socket.has_dualstack_ipv6():
        return socket.create_server(
            ("::", address.port), family=socket.AF_INET6, backlog=backlog, dualstack_ipv6=True
        )
    return socket.create_server(("", address.port), backlog=backlog)


class OpenPorts:
    """The ports of a daemon: opened one by one, closed together."""

    def __init__(self, reactor: Reactor, log: logging.Logger) -> None:
        self._reactor = reactor
        self._log = log
        self._open: list[Any] = []

    def open(self, option: str, address: Address, factory: Any, *, mode: int = 0o600) -> None:
        """Listen as `option` says; `mode` is that of a UNIX socket. Raises `ConfigError` where the address
        cannot be had; none of the ports is left open then."""
        try:
            port = listen(self._reactor, address, factory, mode=mode)
        except CANNOT as error:
            self.close()
            raise ConfigError(f"{option}: cannot listen on {address}: {why_not(error)}") from None
        self._open.append(port)
        self._log.info("listening on %s", describe(port))

    @property
    def where(self) -> list[str]:
        """What is listened on, for people."""
        return [describe(port) for port in self._open]

    def close(self) -> Deferred[Any]:
        """Take no more connections; fires when nothing is listened on."""
        ports, self._open = self._open, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])


CANNOT = (CannotListenError, OSError, ValueError)
"""What `listen` raises where an address cannot be had."""


def why_not(error: Exception) -> str:
    """What is said of an error of `listen`."""
    inner = getattr(error, "socketError", error)
    return str(getattr(inner, "strerror", None) or inner)


def describe(port: Any) -> str:
    """``127.0.0.1:2005``, or the path of a socket."""
    host = port.getHost()
    if isinstance(host, UNIXAddress):
        return str(Path(host.name.decode() if isinstance(host.name, bytes) else str(host.name)))
    return f"[{host.host}]:{host.port}" if ":" in host.host else f"{host.host}:{host.port}"


def _numeric(host: str) -> str:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return str(found[0][4][0])


def _remove_stale_socket(path: str) -> None:
    """A socket that a killed server left behind goes; one that answers, or no socket at all, stays."""
    if not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
