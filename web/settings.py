"""Where the page is shown, as imapd.conf says it, and to whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.listening import Address
from cyrus_sync.common.metrics.settings import LOOPBACK
from cyrus_sync.common.wire.tls_settings import ServerTLSSettings

OPTION = "sync_web_listen"
PORT = 9780


@dataclass(frozen=True, slots=True)
class Places:
    """`local` ones are reached from this host alone; `open` ones take TLS and a login."""

    local: tuple[Address, ...]
    open: tuple[Address, ...]

    @classmethod
    def from_config(cls, config: Config, words: list[str] | None = None) -> Self:
        """`words` in place of what the file says. Raises `ConfigError`."""
        where = "--listen: " if words else config.where(OPTION)
        try:
            found = [_address(word) for word in words or config.words(OPTION)]
        except ValueError as error:
            raise ConfigError(f"{where}{error}") from None
        if not found:
            raise ConfigError(f"{where}no address to listen on")
        remote = tuple(address for address in found if not address.is_local)
        if remote and ServerTLSSettings.from_config(config) is None:
            raise ConfigError(
                f"{where}{remote[0]} can be reached from other hosts, so passwords go there: that takes TLS"
                " (tls_server_cert, tls_server_key)"
            )
        return cls(tuple(address for address in found if address.is_local), remote)


def _address(text: str) -> Address:
    if text.isascii() and text.isdigit():
        text = f":{text}"
    return Address.parse(text, PORT, interface=LOOPBACK)
