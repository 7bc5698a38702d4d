"""Where mail lives. `open_store` gives the store that the configuration describes."""

from __future__ import annotations

from cyrus_sync.common.config import Config
from cyrus_sync.common.stores.native.layout import Layout
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.synclog.rightnow import RightNow
from cyrus_sync.common.synclog.writer import ActionLog

STORE_DIRECTORY = "store"
"""Below configdirectory: the registry of mailboxes, and the annotations of the server."""


def open_store(cfg: Config, readonly: bool = False, *, log: bool = True) -> NativeStore:
    """The native store in the partitions of `cfg`. Local changes go to the action log; replicated ones
    too where replication is chained; without `log`, nothing does. Nothing is created before something is
    stored."""
    return NativeStore(
        Layout(cfg.partitions, cfg.defaultpartition, cfg.configdirectory / STORE_DIRECTORY),
        readonly=readonly,
        action_log=ActionLog.from_config(cfg) if log else None,
        chain_log=ActionLog.from_config(cfg, replicated=True) if log else None,
        right_now=RightNow.from_config(cfg) if log else None,
        servername=cfg.servername,
    )
