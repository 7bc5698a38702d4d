"""Which mail is replicated: the master that the configuration names (`sync_source`). Only that one is
loaded."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import NamedTuple

from cyrus_sync.common.config import Config
from cyrus_sync.common.master import Master
from cyrus_sync.common.stores import open_kept, open_store, role_of
from cyrus_sync.spool.config import reads_spool


class OpenedMaster(NamedTuple):
    """A master, and what is left of earlier changes to be logged."""

    master: Master
    sweep: Callable[[Event], object]
    """Writes lines of the action log that whoever changed mail could not write. Blocks; ends early when the
    event is set."""


def open_master(cfg: Config) -> OpenedMaster:
    """What `cfg` names. Raises what its `check` does where mail cannot be kept, or read, there."""
    if reads_spool(cfg):
        from cyrus_sync.spool.master import SpoolMaster
        from cyrus_sync.spool.server import Server

        server = Server.from_config(cfg)
        server.check()
        return OpenedMaster(SpoolMaster(server), _nothing_left)
    from cyrus_sync.common.stores.master import NativeMaster

    kept = open_kept(cfg, replicating=True)
    kept.care.check()
    return OpenedMaster(NativeMaster(kept.mail, role_of(cfg).refuses_settling), kept.care.sweep)


def _nothing_left(stop: Event) -> None:
    """The daemons of a real Cyrus write their own lines."""
    del stop


def look_at_master(cfg: Config) -> Master:
    """The same, to be looked at beside a client that works on it: nothing is checked, made or logged."""
    if reads_spool(cfg):
        from cyrus_sync.spool.master import SpoolMaster
        from cyrus_sync.spool.server import Server

        return SpoolMaster(Server.from_config(cfg))
    from cyrus_sync.common.stores.master import NativeMaster

    store = open_store(cfg, readonly=True, log=False)
    return NativeMaster(store, role_of(cfg).refuses_settling)
