"""What imapd.conf says to sync_server, read once at the start.

Everything that a session asks for is a field here, so that a test makes its settings without a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Self

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.numbers import decimal

DEFAULT_PORT = 2005
LOGIN_SECONDS = 60.0
"""A connection that has not logged in after so long is closed; a login takes seconds."""


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
    def parse(cls, text: str) -> Self:
        """`host:port`, `[v6]:port`, `:port`, a lone host, or an absolute path; ValueError otherwise."""
        if text.startswith("/"):
            return cls(path=text)
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise ValueError(f"'{text}' is not [IPv6 address]:port")
            return cls(host, _port(rest[1:]))
        host, _, port = text.partition(":")
        if ":" in port:
            raise ValueError(f"'{text}': an IPv6 address needs brackets, [{text}]:port")
        return cls("" if host == "*" else host, _port(port))


def _port(text: str) -> int:
    if text in ("", "csync"):
        return DEFAULT_PORT
    number = decimal(text, 65535)
    if number is None:
        raise ValueError(f"'{text}' is not a port number")
    return number


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """`timeout`, `login_seconds` and `failed_login_pause` in seconds, `external_ssf` in bits."""

    servername: str = "localhost"
    admins: frozenset[str] = frozenset()
    listen: tuple[Address, ...] = (Address(port=DEFAULT_PORT),)
    timeout: float = 1800.0
    login_seconds: float = LOGIN_SECONDS
    failed_login_pause: float = 3.0
    external_ssf: int = 0
    max_connections: int = 0
    """0: as many as there are files for."""
    max_per_address: int = 0
    """0: no bound but that of all."""
    max_strangers: int = 0
    """0: a quarter of all connections."""
    partitions: dict[str, Path] = field(default_factory=dict)
    version: str = "cyrus-sync"
    facility: str = "mail"
    syslog_prefix: str = ""

    @property
    def banner(self) -> str:
        """The text of the greeting's last line."""
        return f"{self.servername} Cyrus sync server {self.version}"

    @classmethod
    def from_config(cls, config: Config, external_ssf: int = 0) -> Self:
        """Raises `ConfigError` naming file and line."""
        try:
            listen = tuple(Address.parse(word) for word in config.words("sync_listen"))
        except ValueError as error:
            raise ConfigError(f"{config.where('sync_listen')}{error}") from None
        if not listen:
            raise ConfigError(f"{config.where('sync_listen')}no address to listen on")
        if not config.partitions:
            raise ConfigError(f"{config.path}: partition-default: no partition is configured")
        return cls(
            servername=config.servername,
            admins=frozenset(config.words("admins")),
            listen=listen,
            timeout=max(3, config.duration("sync_timeout")),
            failed_login_pause=config.duration("failedloginpause"),
            external_ssf=external_ssf,
            max_connections=config.integer("sync_max_connections"),
            max_per_address=config.integer("sync_max_per_address"),
            max_strangers=config.integer("sync_max_strangers"),
            partitions=dict(config.partitions),
            version=f"cyrus-sync {metadata.version('cyrus-sync')}",
            facility=config.string("syslog_facility") or "mail",
            syslog_prefix=config.string("syslog_prefix") or "",
        )
