"""Where mail lives. `open_store` gives the store that the configuration describes, `open_kept` its care too.

Which store that is, and where its owners are, is chosen here; nobody outside of this room imports one of
them. It is loaded when one is opened.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, cast

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.extras import lacking
from cyrus_sync.common.role import RoleOf
from cyrus_sync.common.stores.care import StoreCare
from cyrus_sync.common.stores.mailstore import MailStore

if TYPE_CHECKING:
    from cyrus_sync.common.stores.native.farpack import FarReader
    from cyrus_sync.common.stores.native.homes import OwnerHome
    from cyrus_sync.common.stores.native.local_home import LocalHome

FLEET = "cyrus_sync.fleet.opening"
"""Of two outer rooms that an inner one names: its `open_home` is called unless the store is local."""

TIERING = "cyrus_sync.tiering.opening"
"""The other one: its `open_far` is called when a pack is read that is in an object store."""

STORE_DIRECTORY = "store"
"""Below configdirectory: the registry of mailboxes, and the annotations of the server."""


def _nothing() -> str:
    return ""


class KeptStore(NamedTuple):
    """A store, and what its keeper may ask of it."""

    mail: MailStore
    care: StoreCare

    def close(self) -> None:
        """Neither is of use afterwards."""
        self.mail.close()


def open_store(cfg: Config, readonly: bool = False, *, log: bool = True) -> MailStore:
    """The store in the partitions of `cfg`. Local changes go to the action log; replicated ones
    too where replication is chained; without `log`, nothing does. Nothing is created before something is
    stored."""
    return open_kept(cfg, readonly, log=log).mail


def role_of(cfg: Config) -> RoleOf:
    """Who may change the store now."""
    return RoleOf(cfg.configdirectory, replicaonly=cfg.switch("replicaonly"), conf=str(cfg.path))


def open_kept(
    cfg: Config, readonly: bool = False, *, log: bool = True, replicating: bool = False
) -> KeptStore:
    """As `open_store`, with the store's care. `replicating`: what its user changes is replication, also where
    it says what changes are made here (settling, the import of packets): a replica takes it."""
    from cyrus_sync.common.stores.native.care.keeper import NativeCare
    from cyrus_sync.common.stores.native.store import NativeStore
    from cyrus_sync.common.synclog.rightnow import RightNow
    from cyrus_sync.common.synclog.writer import ActionLog

    store = NativeStore(
        _home(cfg, readonly),
        action_log=ActionLog.from_config(cfg) if log else None,
        chain_log=ActionLog.from_config(cfg, replicated=True) if log else None,
        right_now=RightNow.from_config(cfg) if log else None,
        servername=cfg.servername,
        refuses_changes=_nothing if replicating else role_of(cfg).refuses_changes,
    )
    return KeptStore(store, NativeCare(store))


def _home(cfg: Config, readonly: bool) -> OwnerHome:
    """Where owners are, as ``store`` says."""
    if cfg.string("store") != "local":
        try:
            opening = import_module(FLEET)
        except ImportError as error:
            why = lacking("fleet", "psycopg")
            raise ConfigError(f"{cfg.where('store')}{cfg.string('store')} {why}") from error
        return cast("OwnerHome", opening.open_home(cfg, readonly=readonly))
    return local_home(cfg, readonly=readonly)


def local_home(cfg: Config, *, readonly: bool = False) -> LocalHome:
    """The partitions of this machine."""
    from cyrus_sync.common.stores.native.farpack import FarLater
    from cyrus_sync.common.stores.native.layout import Layout
    from cyrus_sync.common.stores.native.local_home import LocalHome

    layout = Layout(cfg.partitions, cfg.defaultpartition, cfg.configdirectory / STORE_DIRECTORY)
    return LocalHome(layout, readonly=readonly, far=FarLater(lambda: _far(cfg)))


def _far(cfg: Config) -> FarReader:
    return cast("FarReader", import_module(TIERING).open_far(cfg))
