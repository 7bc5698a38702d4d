"""Which mail a site has: our store's, or that of a real Cyrus (`sync_source`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.master import Master
from cyrus_sync.common.stores import open_kept, open_store
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.multisite.errors import OtherMail
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.generation import Stamped
from cyrus_sync.multisite.mail import SiteMail
from cyrus_sync.spool.whose import Mail, whose_mail

if TYPE_CHECKING:
    from cyrus_sync.multisite.cyrus.mail import CyrusMail


@dataclass(frozen=True, slots=True)
class OpenedMail:
    """The mail of a site, opened."""

    mail: SiteMail
    master: Master
    """The same mail, as capture reads it."""
    by_place: Master | None
    """Where a message is found fastest by its mailbox and UID: there is no index of GUIDs."""
    stamped: Stamped | None
    """Where the generation of the log is written, to be restored along with the mail."""
    check: Callable[[], object]
    """Raises `StoreError` where mail cannot be kept, or read, there."""

    def close(self) -> None:
        """Close all files."""
        self.mail.close()


def open_mail(config: Config) -> OpenedMail:
    """The mail that `config` names. Raises `ConfigError`, and `StoreError` for who may not look which it
    is."""
    if is_spool(config):
        cyrus = _cyrus_mail(config)
        return OpenedMail(cyrus, cyrus.master, cyrus.master, None, cyrus.check)
    kept = open_kept(config, replicating=True)
    return OpenedMail(kept.mail, NativeMaster(kept.mail), None, kept.care, kept.care.check)


def look_at_mail(config: Config) -> SiteMail:
    """The same, to be looked at only."""
    return _cyrus_mail(config) if is_spool(config) else open_store(config, readonly=True)


def _cyrus_mail(config: Config) -> CyrusMail:
    # A client of csync, TLS and what reads a spool come with it; at all other sites they would make each
    # start slower by a third.
    from cyrus_sync.multisite.cyrus.mail import CyrusMail

    return CyrusMail(config)


def is_spool(config: Config) -> bool:
    """Whether the mail that `config` names is a real Cyrus's. Raises as `open_mail` does."""
    match whose_mail(config):
        case Mail.STORE:
            return False
        case Mail.SPOOL:
            return True
        case Mail.SERVER:
            raise ConfigError(
                f"{config.where('sync_source')}csync is for sync_client alone: packets are made of a store,"
                " or of a spool"
            )
        case other:
            assert_never(other)


def check_same_mail(config: Config, family: Family) -> None:
    """Raises `OtherMail` where the log of this replica was made from other mail than `config` names now: all
    of it would be recorded as deleted."""
    now = is_spool(config)
    if now != family.spool:
        mail, source = (
            ("a real Cyrus's", "cyrus") if family.spool else ("that of the store of mailstore", "native")
        )
        raise OtherMail(
            f"the mail of this replica is {mail}, and imapd.conf means other mail: say there"
            f" 'sync_source: {source}', or make a new replica (multitool mkreplica)"
        )
