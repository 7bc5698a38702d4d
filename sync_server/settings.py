"""What imapd.conf says to sync_server, read once at the start.

Everything that a session asks for is a field here, so that a test makes its settings without a file.
"""

from __future__ import annotations

from dataclasses import field, replace
from importlib import metadata
from pathlib import Path
from typing import Self

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.listening import Address

DEFAULT_PORT = 2005
LOGIN_SECONDS = 60.0
"""A connection that has not logged in after so long is closed; a login takes seconds."""


def csync_address(text: str) -> Address:
    """A word of sync_listen. Raises ValueError."""
    return Address.parse(text, DEFAULT_PORT, names=("csync",))


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
    workers: int = 1
    """Processes; with one, the process that was started serves itself."""
    partitions: dict[str, Path] = field(default_factory=dict)
    version: str = "cyrus-sync"
    facility: str = "mail"
    syslog_prefix: str = ""

    @property
    def banner(self) -> str:
        """The text of the greeting's last line."""
        return f"{self.servername} Cyrus sync server {self.version}"

    def share_of(self, workers: int) -> Self:
        """What one of so many processes goes by: its part of the limits, rounded up."""
        return replace(
            self,
            max_connections=-(-self.max_connections // workers),
            max_per_address=-(-self.max_per_address // workers),
            max_strangers=-(-self.max_strangers // workers),
        )

    @classmethod
    def from_config(cls, config: Config, external_ssf: int = 0) -> Self:
        """Raises `ConfigError` naming file and line."""
        try:
            listen = tuple(csync_address(word) for word in config.words("sync_listen"))
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
            workers=config.integer("sync_workers"),
            partitions=dict(config.partitions),
            version=f"cyrus-sync {metadata.version('cyrus-sync')}",
            facility=config.string("syslog_facility") or "mail",
            syslog_prefix=config.string("syslog_prefix") or "",
        )
