"""What every run is made of: master, threads, connector, reporter. Imported after any fork.

This is the only place of the package that knows the global reactor, with `start` and `start_rolling`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cyrus_sync.common.allocator import few_arenas
from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.config import Config
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.progress import Meter
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.stores.turns import Turns
from cyrus_sync.common.wire.certificates import client_warnings
from cyrus_sync.common.wire.settings import ClientSettings
from cyrus_sync.sync_client.arguments import Arguments, Mode
from cyrus_sync.sync_client.channel import channel_directory
from cyrus_sync.sync_client.connecting import WireConnector
from cyrus_sync.sync_client.engine import Options
from cyrus_sync.sync_client.engine.left_out import FILE, LeftOut
from cyrus_sync.sync_client.engine.options import BATCH_BYTES
from cyrus_sync.sync_client.engine.withheld import Withheld, withheld_path
from cyrus_sync.sync_client.facts import Facts
from cyrus_sync.sync_client.masters import open_master
from cyrus_sync.sync_client.measures import Measures
from cyrus_sync.sync_client.report import Reporter, log
from cyrus_sync.sync_client.turn import Turn, part_bytes

if TYPE_CHECKING:
    from cyrus_sync.sync_client.engine.cache import RemoteCache


@dataclass(frozen=True, slots=True)
class Job:
    """A checked command. `names` are internal ones, or userids, or the prefix of ``-A``."""

    arguments: Arguments
    cfg: Config
    settings: ClientSettings
    names: list[str] = field(default_factory=list)
    bad_names: int = 0
    """Names that cannot be one and were reported: the others are done, the exit status is 1."""

    @property
    def channel(self) -> str | None:
        return self.arguments.channel or None

    @property
    def directory(self) -> Path:
        return channel_directory(self.cfg, self.arguments.channel)


class Parts:
    """What both kinds of runs are made of."""

    def __init__(self, job: Job, reactor: Reactor) -> None:
        few_arenas()
        arguments = job.arguments
        self.reactor = reactor
        self.threads = Turns(reactor)
        opened = open_master(job.cfg, reactor)
        self.master, self.sweep, self.reconfigure_master, self.add_figures = opened
        self.reporter = Reporter(
            verbose=arguments.verbose,
            verbose_logging=arguments.verbose_logging,
            channel=arguments.channel,
            server=job.settings.server,
        )
        self.facts = Facts()
        self.turn = Turn()
        self.meter = Meter("replicating")
        """May be replaced."""
        self.measures = Measures()
        self.withheld = Withheld(withheld_path(job.directory, job.settings.server))
        self.remark: Callable[[str], None] = lambda text: log.warning("%s", text)
        """May be replaced before the first connection."""
        self.connector = WireConnector(
            reactor,
            job.settings,
            self.master,
            self.threads,
            replace(
                engine_options(job, self.reporter, reactor),
                remark=self._pass_on,
                withheld=self.withheld,
                give_way=self.turn.is_wanted,
                sent=self._sent,
            ),
            archive=arguments.stage_to_archive,
            trace=self.reporter.trace,
            replies=self.measures.replies,
        )

    def _sent(self, messages: int, octets: int) -> None:
        facts = self.facts
        facts.sent(messages, octets)
        self.meter.at(f"{facts.messages:,} messages, {facts.bytes / 1e6:,.1f} MB sent")

    def _pass_on(self, text: str) -> None:
        self.remark(text)


def engine_options(job: Job, reporter: Reporter, reactor: Reactor) -> Options:
    """What the command line and the configuration say to the engine."""
    arguments, cfg = job.arguments, job.cfg
    rolling = arguments.mode is Mode.ROLLING
    cache = cfg.string("sync_cache_db_path", job.channel)
    return Options(
        server=job.settings.server,
        channel=arguments.channel,
        local_only=arguments.local_only,
        no_copyback=arguments.no_copyback,
        skip_locked=arguments.skip_locked,
        partition=arguments.partition,
        batchsize=cfg.integer("sync_batchsize", job.channel),
        batch_bytes=part_bytes(job.settings.bandwidth.least) if rolling else BATCH_BYTES,
        restart_after_group=rolling,
        cache=_remembered(Path(cache), job.settings.server) if cache else None,
        trust_cache=rolling,
        lock_dir=cfg.configdirectory / "lock",
        skip_dir=job.directory,
        left_out=LeftOut(job.directory / FILE, job.settings.server),
        spool_dir=job.directory,
        report=reporter.operation,
        notice=lambda text: log.info("%s", text),
        strict=not rolling,
        external=Namespace.from_config(cfg).external,
        here=cfg.servername,
        clock=reactor,
    )


def _remembered(path: Path, server: str) -> RemoteCache:
    from cyrus_sync.sync_client.engine.cache import RemoteCache  # loads SQLite

    return RemoteCache(path, server)


def warn_of_certificates(settings: ClientSettings) -> None:
    for warning in client_warnings(settings):
        log.warning("%s", warning)
