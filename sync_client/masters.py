"""Which mail is replicated: the master that the configuration names (`sync_source`). Only that one is
loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from cyrus_sync.common.config import Config
from cyrus_sync.common.master import Master
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.stores import open_kept, open_store, role_of
from cyrus_sync.spool.config import reads_spool

if TYPE_CHECKING:
    from cyrus_sync.csync.line import Line


class OpenedMaster(NamedTuple):
    """A master, and what is left of earlier changes to be logged."""

    master: Master
    sweep: Callable[[Event], object]
    """Writes lines of the action log that whoever changed mail could not write. Blocks; ends early when the
    event is set."""
    reconfigure: Callable[[Config], None]
    """Takes what a file that was read anew says of the master's own csync server."""


_THREADS_OF_A_LINE = 2
"""They read what is sent to the master's csync server, while others wait for its answers."""


def open_master(cfg: Config, reactor: Reactor) -> OpenedMaster:
    """What `cfg` names. Raises what its `check` does where mail cannot be kept, or read, there."""
    if reads_spool(cfg):
        from cyrus_sync.spool.master import SpoolMaster
        from cyrus_sync.spool.server import Server

        server = Server.from_config(cfg)
        server.check()
        line = _own_server(cfg, reactor)
        if line is None:
            return OpenedMaster(SpoolMaster(server), _nothing_left, _nothing_to_take)
        from cyrus_sync.common.synclog.writer import ActionLog
        from cyrus_sync.csync.settling import Settling

        settling = Settling(line, ActionLog.from_config(cfg))
        return OpenedMaster(SpoolMaster(server, settling), _nothing_left, partial(_take_settings, line))
    from cyrus_sync.common.stores.master import NativeMaster

    kept = open_kept(cfg, replicating=True)
    kept.care.check()
    master = NativeMaster(kept.mail, role_of(cfg).refuses_settling)
    return OpenedMaster(master, kept.care.sweep, _nothing_to_take)


def _own_server(cfg: Config, reactor: Reactor) -> Line | None:
    """The way to the csync server that `cyrus_csync` names. Nothing is connected yet."""
    from cyrus_sync.common.wire.settings import ClientSettings

    settings = ClientSettings.of_own_server(cfg)
    if settings is None:
        return None
    from cyrus_sync.common.stores.threads import ThreadRunner
    from cyrus_sync.csync.line import Line

    return Line(reactor, settings, ThreadRunner(reactor, _THREADS_OF_A_LINE, "csync"))


def _take_settings(line: Line, cfg: Config) -> None:
    """For the next connection."""
    from cyrus_sync.common.wire.settings import ClientSettings

    line.settings = ClientSettings.of_own_server(cfg) or line.settings


def _nothing_to_take(cfg: Config) -> None:
    del cfg


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
