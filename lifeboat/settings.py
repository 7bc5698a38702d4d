"""Where the lifeboat listens, as imapd.conf says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.listening import Address, addresses_of
from cyrus_sync.common.wire.tls_settings import ServerTLSSettings

IMAP, IMAPS = 143, 993


@dataclass(frozen=True, slots=True)
class Ports:
    """Addresses for IMAP (which may begin TLS), and for IMAP within TLS."""

    plain: tuple[Address, ...]
    tls: tuple[Address, ...]

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """`ConfigError` names file and line. Without a certificate there is no IMAP within TLS."""
        plain, tls = (
            addresses_of(config.words(option), config.where(option), port, name)
            for option, port, name in (
                ("lifeboat_listen", IMAP, "imap"),
                ("lifeboat_tls_listen", IMAPS, "imaps"),
            )
        )
        if ServerTLSSettings.from_config(config) is None:
            tls = ()
        if not plain and not tls:
            raise ConfigError(f"{config.where('lifeboat_listen')}no address to listen on")
        return cls(plain, tls)
