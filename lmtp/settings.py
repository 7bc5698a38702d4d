"""What imapd.conf says of LMTP, apart from addresses and placing."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Self

from cyrus_sync.common import __version__
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.listening import Address, addresses_of
from cyrus_sync.common.model import MAX_SIZE
from cyrus_sync.common.names import BadName
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.lmtp.header import Rules
from cyrus_sync.lmtp.recipients import Recipient, catchall

PORT = 24

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Settings:
    """`most`: octets of a message that is taken; `catchall`: who gets what is for nobody."""

    listen: tuple[Address, ...]
    trusted: tuple[Network, ...]
    rules: Rules
    most: int = MAX_SIZE
    lenient: bool = False
    soft_noauth: bool = True
    duplicates: bool = False
    catchall: Recipient | None = None

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """`ConfigError` names file and line."""
        rules = Rules(
            config.servername,
            f"cyrus-sync {__version__}",
            config.switch("reject8bit"),
            config.switch("munge8bit"),
        )
        return cls(
            listen=_addresses(config),
            trusted=_networks(config),
            rules=rules,
            most=min(config.size("maxmessagesize") or MAX_SIZE, MAX_SIZE),
            lenient=not config.switch("lmtp_strict_rfc2821"),
            soft_noauth=config.switch("soft_noauth"),
            duplicates=config.switch("duplicatesuppression"),
            catchall=_catchall(config),
        )

    @property
    def utf8(self) -> bool:
        """Whether addresses and headers with other letters than ASCII's may be announced (SMTPUTF8): where no
        header with them is refused or changed."""
        return not (self.rules.reject_8bit or self.rules.munge_8bit)

    @property
    def announced(self) -> int:
        """The largest SIZE, 0 for any."""
        return 0 if self.most == MAX_SIZE else self.most

    def trusts(self, host: str | None) -> bool:
        """Whether a client delivers without a login; `host` is its address, None on a UNIX socket."""
        if host is None:
            return True
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.trusted)


def _addresses(config: Config) -> tuple[Address, ...]:
    where = config.where("lmtp_listen")
    found = addresses_of(config.words("lmtp_listen"), where, PORT, "lmtp")
    if not found:
        raise ConfigError(f"{where}no address to listen on")
    return found


def _networks(config: Config) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(word) for word in config.words("lmtp_trusted"))
    except ValueError as error:
        raise ConfigError(f"{config.where('lmtp_trusted')}{error}") from None


def _catchall(config: Config) -> Recipient | None:
    typed = config.string("lmtp_catchall_mailbox")
    if not typed:
        return None
    try:
        return catchall(Namespace.from_config(config), typed)
    except BadName as error:
        raise ConfigError(f"{config.where('lmtp_catchall_mailbox')}{error.message}") from None
