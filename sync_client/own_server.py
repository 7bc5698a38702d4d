"""The master's own csync server, as `cyrus_csync` names it: to settle what is read in a spool, or for all.

Loaded where it is configured. Nothing is connected before it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.synclog.writer import ActionLog
from cyrus_sync.common.wire.settings import ClientSettings
from cyrus_sync.csync.asking import Asking
from cyrus_sync.csync.line import Line
from cyrus_sync.csync.master import CsyncMaster
from cyrus_sync.csync.settling import Settling

_THREADS = 2
"""They read what is sent to that server, while others wait for its answers."""


def settling_of(cfg: Config, reactor: Reactor) -> Settling | None:
    """Who settles there; None where nothing says where it is."""
    settings = ClientSettings.of_own_server(cfg)
    if settings is None:
        return None
    line = Line(reactor, settings, ThreadRunner(reactor, _THREADS, "csync"))
    return Settling(line, ActionLog.from_config(cfg))


def master_of(cfg: Config, reactor: Reactor | None) -> CsyncMaster:
    """The mail that it tells of. Without a `reactor` that runs nothing can be asked. Raises `ConfigError`."""
    settings = ClientSettings.of_own_server(cfg)
    if settings is None:
        raise ConfigError(f"{cfg.where('sync_source')}csync: cyrus_csync does not say where that server is")
    if reactor is None:
        return CsyncMaster(Asking(None), None)
    threads = ThreadRunner(reactor, _THREADS, "csync")
    line = Line(reactor, settings, threads)
    asking = Asking(line, Line(reactor, settings, threads, wanted=frozenset()))
    return CsyncMaster(asking, Settling(line, ActionLog.from_config(cfg)))


def take_settings(lines: Sequence[Line], cfg: Config) -> None:
    """What a file that was read anew says holds for the next connection."""
    for line in lines:
        line.settings = ClientSettings.of_own_server(cfg) or line.settings
