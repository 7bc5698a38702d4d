"""Which mail is replicated: the master that the configuration names (`sync_source`). Only that one is
loaded."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from threading import Event
from typing import NamedTuple, assert_never

from cyrus_sync.common.config import Config
from cyrus_sync.common.master import Master
from cyrus_sync.common.metrics.sheet import Sheet
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.role import Role
from cyrus_sync.common.stores import open_kept, open_store, role_of
from cyrus_sync.spool.whose import Mail, whose_mail


class OpenedMaster(NamedTuple):
    """A master, and what is left of earlier changes to be logged."""

    master: Master
    sweep: Callable[[Event], object]
    """Writes lines of the action log that whoever changed mail could not write. Blocks; ends early when the
    event is set."""
    reconfigure: Callable[[Config], None]
    """Takes what a file that was read anew says of the master's own csync server."""
    add_figures: Callable[[Sheet], None] = lambda _sheet: None
    """What the master itself tells Prometheus; blocks."""


def open_master(cfg: Config, reactor: Reactor) -> OpenedMaster:
    """What `cfg` names. Raises what its `check` does where mail cannot be kept, or read, there."""
    match whose_mail(cfg):
        case Mail.STORE:
            return _open_store(cfg)
        case Mail.SPOOL:
            return _open_spool(cfg, reactor)
        case Mail.SERVER:
            from cyrus_sync.sync_client.own_server import master_of, take_settings

            asked = master_of(cfg, reactor)
            return OpenedMaster(asked, _nothing_left, partial(take_settings, asked.lines))
        case other:
            assert_never(other)


def _open_store(cfg: Config) -> OpenedMaster:
    from cyrus_sync.common.stores.master import NativeMaster

    kept = open_kept(cfg, replicating=True)
    kept.care.check()
    master = NativeMaster(kept.mail, role_of(cfg).refuses_settling)
    return OpenedMaster(master, kept.care.sweep, _nothing_to_take, kept.care.add_figures)


def _open_spool(cfg: Config, reactor: Reactor) -> OpenedMaster:
    from cyrus_sync.spool.master import SpoolMaster
    from cyrus_sync.spool.server import Server

    server = Server.from_config(cfg)
    server.check()
    if not cfg.string("cyrus_csync"):
        return OpenedMaster(SpoolMaster(server), _nothing_left, _nothing_to_take)
    from cyrus_sync.sync_client.own_server import settling_of, take_settings

    settling = settling_of(cfg, reactor)
    lines = [settling.line] if settling is not None else []
    return OpenedMaster(SpoolMaster(server, settling), _nothing_left, partial(take_settings, lines))


def _nothing_to_take(cfg: Config) -> None:
    del cfg


def _nothing_left(stop: Event) -> None:
    """The daemons of a real Cyrus write their own lines."""
    del stop


def look_at_master(cfg: Config, reactor: Reactor | None = None) -> Master:
    """The same, to be looked at beside a client that works on it: nothing is checked, made or logged. A
    server can be asked only where a `reactor` runs."""
    match whose_mail(cfg):
        case Mail.STORE:
            from cyrus_sync.common.stores.master import NativeMaster

            store = open_store(cfg, readonly=True, log=False)
            return NativeMaster(store, role_of(cfg).refuses_settling)
        case Mail.SPOOL:
            from cyrus_sync.spool.master import SpoolMaster
            from cyrus_sync.spool.server import Server

            return SpoolMaster(Server.from_config(cfg))
        case Mail.SERVER:
            from cyrus_sync.sync_client.own_server import master_of

            return master_of(cfg, reactor)
        case other:
            assert_never(other)


def drain_master(cfg: Config, by: str) -> None:
    """The store takes no changes from now on, until it is promoted; `by` is who says so. Raises OSError."""
    role_of(cfg).become(Role.DRAINING, by, time.time())
