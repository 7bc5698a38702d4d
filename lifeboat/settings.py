"""Where the lifeboat listens, as imapd.conf says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.listening import Address
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
        plain = _addresses(config, "lifeboat_listen", IMAP, "imap")
        tls = _addresses(config, "lifeboat_tls_listen", IMAPS, "imaps")
        if ServerTLSSettings.from_config(config) is None:
            tls = ()
        if not plain and not tls:
            raise ConfigError(f"{config.where('lifeboat_listen')}no address to listen on")
        return cls(plain, tls)


def _addresses(config: Config, option: str, port: int, name: str) -> tuple[Address, ...]:
    try:
        return tuple(Address.parse(word, port, names=(name,)) for word in config.words(option))
    except ValueError as error:
        raise ConfigError(f"{config.where(option)}{error}") from None
