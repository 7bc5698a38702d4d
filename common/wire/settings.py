"""`ClientSettings`: where to connect and as whom, from imapd.conf or made by hand.

A server is written as in ``sync_host``: ``host``, ``host:port``, ``[IPv6 address]:port``, with ``/tls``
(TLS from the first byte) and ``/noauth`` behind it in any order; or the absolute path of a UNIX socket,
where no login is needed.

>>> parse_server("replica.example:2006/tls/noauth")
Server(host='replica.example', port='2006', path='', tls=True, noauth=True)
"""

from __future__ import annotations

import socket
from dataclasses import field
from typing import TYPE_CHECKING

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.numbers import decimal
from cyrus_sync.common.wire.bandwidth import Bandwidth
from cyrus_sync.common.wire.policy import Policy
from cyrus_sync.common.wire.sasl.client import Credentials
from cyrus_sync.common.wire.tls_settings import ClientTLSSettings

if TYPE_CHECKING:
    from cyrus_sync.common.config import Config

CSYNC_PORT = 2005
IMAP_PORT = 143
OWN_SERVER = "cyrus_csync"
"""The option that names the csync server of a real Cyrus whose mail is read, and what its own options begin
with."""
_WELL_KNOWN = {"csync": CSYNC_PORT, "imap": IMAP_PORT}


@dataclass(frozen=True, slots=True)
class Server:
    """A server string taken apart. `port` is "" where it says none."""

    host: str
    port: str = ""
    path: str = ""
    tls: bool = False
    noauth: bool = False


def parse_server(text: str) -> Server:
    """Raises ValueError."""
    if text.startswith("/"):
        return Server("", path=text)
    address, *options = text.split("/")
    unknown = [option for option in options if option not in ("tls", "noauth", "")]
    if unknown:
        raise ValueError(f"'{text}': unknown option /{unknown[0]} (known: /tls and /noauth)")
    host, port = address, ""
    if address.startswith("["):
        host, bracket, rest = address[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"'{text}' is not [IPv6 address]:port")
        port = rest[1:]
    elif address.count(":") == 1:
        host, _, port = address.partition(":")
    if not host:
        raise ValueError(f"'{text}' names no host")
    return Server(host, port, tls="tls" in options, noauth="noauth" in options)


def port_number(text: str) -> int:
    """A port by number or service name. Raises ValueError."""
    number = decimal(text)
    if number is not None:
        if 0 < number < 65536:
            return number
    elif text in _WELL_KNOWN:
        return _WELL_KNOWN[text]
    else:
        try:
            return socket.getservbyname(text, "tcp")
        except OSError:
            pass
    raise ValueError(f"'{text}' is neither a port number nor a service in /etc/services")


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """All that `common.wire.client.connect` needs. Times are seconds.

    `server` is what errors call the server. `timeout` limits connecting and each wait while greeting and
    logging in; `idle_timeout` is for whoever uses the connection afterwards. With `compress` DEFLATE is
    asked for, with `require_compression` nothing goes without it. With an `imap_port` an imapd is tried there
    first, unless compression is required.
    """

    server: str
    host: str = ""
    port: int = CSYNC_PORT
    path: str = ""
    immediate_tls: bool = False
    noauth: bool = False
    credentials: Credentials = field(default_factory=Credentials)
    policy: Policy = field(default_factory=Policy)
    tls: ClientTLSSettings = field(default_factory=ClientTLSSettings)
    compress: bool = False
    require_compression: bool = False
    timeout: float = 10.0
    idle_timeout: float = 1800.0
    bind: str | None = None
    channel: str | None = None
    imap_port: int | None = None
    bandwidth: Bandwidth = field(default_factory=Bandwidth)

    @classmethod
    def from_config(
        cls,
        cfg: Config,
        channel: str | None = None,
        server_override: str | None = None,
        require_compression: bool = False,
        *,
        option: str = "-S",
    ) -> ClientSettings:
        """As imapd.conf has it for `channel`; `server_override` is what the command line's `option` gave,
        `require_compression` is ``-z``. Raises `ConfigError`."""
        text = server_override or cfg.string("sync_host", channel)
        if not text:
            raise ConfigError(f"{cfg.path}: sync_host not defined, and no server given")
        try:
            server = parse_server(text)
            port_text = server.port or "csync"
            port = port_number(port_text)
        except ValueError as error:
            where = f"{option} {text}: " if server_override else cfg.where("sync_host", channel)
            raise ConfigError(f"{where}{error}") from None
        if not server.port and (named := cfg.string("sync_port", channel)):
            port_text = named
            try:
                port = port_number(port_text)
            except ValueError as error:
                raise ConfigError(f"{cfg.where('sync_port', channel)}{error}") from None
        imap_port = None
        if cfg.switch("sync_try_imap", channel) and not (server.path or server.noauth):
            # An imapd wants a login. csync is nobody's IMAP port.
            imap_port = IMAP_PORT if port_text == "csync" else port
        try:
            bandwidth = Bandwidth.parse(cfg.words("sync_bandwidth", channel))
        except ValueError as error:
            raise ConfigError(f"{cfg.where('sync_bandwidth', channel)}{error}") from None
        bind = None
        if cfg.switch("client_bind"):
            bind = cfg.string("client_bind_name") or cfg.servername
        return cls(
            server=text,
            host=server.host,
            port=port,
            path=server.path,
            immediate_tls=server.tls,
            noauth=server.noauth,
            credentials=Credentials(
                cfg.string("sync_authname", channel),
                cfg.string("sync_password", channel),
            ),
            policy=Policy.for_client(cfg, channel, server.host),
            tls=ClientTLSSettings.from_config(cfg, channel, server.host),
            compress=require_compression or cfg.switch("sync_compress", channel),
            require_compression=require_compression,
            timeout=cfg.duration("client_timeout"),
            idle_timeout=max(3, cfg.duration("sync_timeout", channel)),
            bind=bind,
            bandwidth=bandwidth,
            channel=channel,
            imap_port=imap_port,
        )

    @classmethod
    def of_own_server(cls, cfg: Config) -> ClientSettings | None:
        """Where the csync server of the master itself is (`cyrus_csync`); None where it is not said. Raises
        `ConfigError`."""
        text = cfg.string(OWN_SERVER)
        if not text:
            return None
        try:
            server = parse_server(text)
            port = port_number(server.port or "csync")
        except ValueError as error:
            raise ConfigError(f"{cfg.where(OWN_SERVER)}{error}") from None
        return cls(
            server=text,
            host=server.host,
            port=port,
            path=server.path,
            immediate_tls=server.tls,
            noauth=server.noauth,
            credentials=Credentials(
                cfg.string("cyrus_csync_authname"), cfg.string("cyrus_csync_password"), OWN_SERVER
            ),
            policy=Policy.for_own_server(cfg, server.host),
            tls=ClientTLSSettings.from_config(cfg, None, server.host, verify="cyrus_csync_tls_verify"),
            timeout=cfg.duration("client_timeout"),
            idle_timeout=max(3, cfg.duration("sync_timeout")),
        )
