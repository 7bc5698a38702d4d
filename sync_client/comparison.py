"""``--compare`` put together: master, connection, pace, progress, report. Imported when it is asked for."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import LoopingCall

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.commands import LostOutput
from cyrus_sync.common.config import DEFAULT_PATH
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, EX_TEMPFAIL, CyrusSyncError
from cyrus_sync.common.master import Master
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.pace import Pace
from cyrus_sync.common.protocol.commands import VERIFY
from cyrus_sync.common.reactor import Reactor, installed, pause
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.wire.replica import WireReplica
from cyrus_sync.spool.whose import whose_mail
from cyrus_sync.sync_client import oneshot
from cyrus_sync.sync_client.arguments import Arguments
from cyrus_sync.sync_client.backoff import ONE_SHOT_PATIENCE
from cyrus_sync.sync_client.comparing.advice import Terms
from cyrus_sync.sync_client.comparing.comparer import Comparer, Depth, Limits, Options
from cyrus_sync.sync_client.comparing.findings import OwnerFindings, name_of
from cyrus_sync.sync_client.comparing.progress import Progress, progress_path
from cyrus_sync.sync_client.comparing.report import About, document, entry_lines, is_equal, summary
from cyrus_sync.sync_client.comparing.signing import Signer
from cyrus_sync.sync_client.connecting import WireConnector
from cyrus_sync.sync_client.engine import Options as EngineOptions
from cyrus_sync.sync_client.engine.withheld import Withheld, withheld_path
from cyrus_sync.sync_client.masters import look_at_master
from cyrus_sync.sync_client.parts import Job
from cyrus_sync.sync_client.report import Reporter, failure_lines, log
from cyrus_sync.sync_client.until_done import until_done
from cyrus_sync.sync_client.work import Item, Kind

WIDTH = {Depth.CRCS: 50, Depth.RECORDS: 16, Depth.MESSAGES: 8}
"""Owners that are compared at once."""

TELL_EVERY = 60.0
"""Seconds between two lines of the log that say how far it is."""


def run_comparison(job: Job) -> int:
    """Compare, and print the report. 0: no difference; 1: some, or not everybody could be compared; 75: it
    was stopped, and the same command goes on. If nobody reads it: `LostOutput`."""
    reactor = installed()
    made: list[Comparison] = []

    def begin() -> tuple[Deferred[int], Callable[[], None]]:
        comparison = Comparison(job, reactor)
        made.append(comparison)
        return Deferred.fromCoroutine(comparison.go()), comparison.stop

    status = until_done(reactor, begin)
    for comparison in made:
        comparison.progress.close()
        if comparison.lost is not None:
            raise comparison.lost
    return status


class Interrupted(CyrusSyncError):
    """An owner's turn does not come any more in this run."""

    text = "the comparison was stopped"


@dataclass(slots=True)
class Comparison:
    """One run."""

    job: Job
    reactor: Reactor
    lost: LostOutput | None = None
    progress: Progress = field(init=False)
    _threads: ThreadRunner = field(init=False)
    _master: Master = field(init=False)
    _names: Namespace = field(init=False)
    _shot: oneshot.OneShot = field(init=False)
    _limits: Limits = field(default_factory=Limits)
    _errors: dict[str, str] = field(default_factory=dict)
    """Why owners could not be compared at the last try."""
    _stopped: bool = False
    _waiting: set[Deferred[None]] = field(default_factory=set)
    """For the turn of owners, for their octets, for another look."""
    _total: int = 0

    def __post_init__(self) -> None:
        arguments, cfg = self.job.arguments, self.job.cfg
        self._threads = ThreadRunner(self.reactor)
        self._master = look_at_master(cfg, self.reactor)
        self._names = Namespace.from_config(cfg)
        path = progress_path(self.job.directory, self.job.settings.server)
        self.progress = Progress(path, self._asked(), anew=arguments.anew)
        self._shot = oneshot.OneShot(
            clock=self.reactor,
            connector=self._connector(),
            items=[],
            patience=0 if arguments.connect_once else ONE_SHOT_PATIENCE,
            maxwait=cfg.duration("sync_reconnect_maxwait", self.job.channel),
            width=WIDTH[self._depth],
            report=self._failed,
            say=lambda text: log.error("%s", text),
        )

    @property
    def _depth(self) -> Depth:
        arguments = self.job.arguments
        return Depth.MESSAGES if arguments.messages else Depth.RECORDS if arguments.records else Depth.CRCS

    def _asked(self) -> dict[str, Any]:
        """The question, as the report and the file of progress have it."""
        arguments = self.job.arguments
        asked: dict[str, Any] = {"depth": self._depth.value, "partition": arguments.partition}
        if arguments.everybody:
            return asked | {"owners": "all", "prefix": "".join(self.job.names)}
        return asked | {"owners": list(self.job.names)}

    def _connector(self) -> WireConnector:
        job, withheld = self.job, Withheld(withheld_path(self.job.directory, self.job.settings.server))
        owners = Pace(job.arguments.owners_a_second, self.reactor.seconds)
        octets = Pace(job.arguments.octets_a_second, self.reactor.seconds)
        options = Options(
            depth=self._depth,
            terms=self._terms,
            tell=self._tell,
            fail=self._fail,
            owner_turn=lambda: self._pause(owners.take(1)),
            octets_turn=lambda amount: self._pause(octets.take(amount)),
            pause=self._pause,
            names=self._names,
            partition=job.arguments.partition,
            withheld=withheld.of,
            strict=not job.arguments.everybody,
        )

        def make(replica: WireReplica) -> Comparer:
            return Comparer(self._master, replica, self._threads, options, self._limits)

        reporter = Reporter(verbose=job.arguments.verbose, server=job.settings.server)
        return WireConnector(
            self.reactor,
            job.settings,
            self._master,
            self._threads,
            EngineOptions(),
            trace=reporter.trace,
            make=make,
            wanted=frozenset({VERIFY}),
        )

    def _terms(self, ours: bool) -> Terms:
        cfg = self.job.cfg
        return Terms(
            options=tuple(_options(self.job.arguments)),
            here=cfg.servername,
            server=self.job.settings.server,
            of_cyrus=whose_mail(cfg).is_cyrus,
            settles=bool(cfg.string("cyrus_csync")),
            ours=ours,
            external=self._names.external,
        )

    async def _pause(self, seconds: float) -> None:
        """Wait; raises `Interrupted` when the run is stopped meanwhile."""
        if self._stopped:
            raise Interrupted
        if seconds <= 0:
            return
        waiting = pause(self.reactor, seconds)
        self._waiting.add(waiting)
        try:
            await waiting
        except CancelledError:
            raise Interrupted from None
        finally:
            self._waiting.discard(waiting)

    # -- running

    def stop(self) -> None:
        self._stopped = True
        self._shot.stop()
        for waiting in list(self._waiting):
            waiting.cancel()

    async def go(self) -> int:
        """Do it all; the exit status."""
        if self.progress.went_on:
            done = len(self.progress.done)
            log.warning("going on with the comparison that was interrupted: %d owners are done", done)
        if self._as_text:
            self._print_entries()
        known, left = await self._threads.run(self._owners)
        self._total = len(known)
        self._shot.items = left
        if self.job.arguments.everybody:
            self._shot.everybody = "".join(self.job.names), known
            self._shot.ask_anyway = True
        ticker = LoopingCall(self._say_how_far)
        ticker.clock = cast(Any, self.reactor)
        ticker.start(TELL_EVERY, now=False)
        try:
            await self._shot.go()
        except CyrusSyncError as error:
            log.error("%s", error)
            return self._unfinished()
        finally:
            ticker.stop()
        undone = [name for name in map(name_of, (i.owner for i in left)) if name not in self.progress.done]
        if self._stopped or any(name not in self._errors for name in undone) or self._shot.everybody:
            return self._unfinished()
        for name in undone:
            await self._threads.run(self.progress.fail, name, self._errors[name])
        return await self._report()

    def _owners(self) -> tuple[list[str], list[Item]]:
        """The names of all who are asked for, and the items of those who are not done."""
        if not self.job.arguments.everybody:
            owners: Iterable[Owner] = (_owner_of(name) for name in self.job.names)
        else:
            prefix = "".join(self.job.names)
            owners = (owner for owner in self._master.owners() if _begins(owner, prefix))
        known: list[str] = []
        left: list[Item] = []
        for owner in owners:
            name = name_of(owner)
            known.append(name)
            if name not in self.progress.done:
                left.append(_item(owner))
        return known, left

    def _failed(self, item: Item, error: Exception, _following: str) -> None:
        if isinstance(error, Interrupted):
            return
        lines = failure_lines(item, error, "", server=self.job.settings.server)
        self._errors[name_of(item.owner)] = str(error)
        for line in lines:
            log.error("%s", line.replace("sync failed:", "cannot compare:", 1))

    async def _fail(self, owner: Owner, error: CyrusSyncError) -> None:
        log.error("cannot compare %s: %s", name_of(owner), error)
        await self._threads.run(self.progress.fail, name_of(owner), str(error))

    async def _tell(self, findings: OwnerFindings) -> None:
        await self._threads.run(self.progress.add, findings)
        if not findings.equal and self._as_text:
            self._print(entry_lines({"owner": findings.name, "found": findings.as_json()}))

    def _say_how_far(self) -> None:
        log.info("compared %d of %d owners", len(self.progress.done), self._total)

    def _unfinished(self) -> int:
        log.error(
            "not finished, so there is no report: %d of %d owners are compared; the same command goes on",
            len(self.progress.done),
            self._total,
        )
        return EX_TEMPFAIL if self._stopped else EX_FAILURE

    # -- telling

    @property
    def _as_text(self) -> bool:
        return self.job.arguments.format == "text"

    def _print(self, lines: Iterable[str]) -> None:
        if self.lost is not None:
            return
        try:
            for line in lines:
                print(line)
            sys.stdout.flush()
        except LostOutput as lost:
            self.lost = lost
            self.stop()

    def _print_entries(self) -> None:
        """What an earlier run has found."""
        for entry in self.progress.entries():
            if "found" in entry:  # who could not be compared is named at the end
                self._print(entry_lines(entry))

    def _source(self) -> str:
        mail = whose_mail(self.job.cfg)
        return mail.value if mail.is_cyrus else "store"

    async def _report(self) -> int:
        about = About(
            master=self.job.cfg.servername,
            source=self._source(),
            replica=self.job.settings.server,
            channel=self.job.arguments.channel,
            asked=self._asked(),
            ended=time.time(),
            limits=tuple(self._limits.said),
            failed_names=self.job.bad_names,
        )
        if self._as_text:
            for entry in self.progress.entries():
                if "error" in entry:
                    self._print(entry_lines(entry))
            self._print(summary(self.progress, about))
        else:
            signer = Signer.of(self.job.cfg.configdirectory / "sync")
            try:
                for piece in document(self.progress, about, signer):
                    sys.stdout.write(piece)
                sys.stdout.flush()
            except LostOutput as lost:
                self.lost = lost
        if self.lost is None:
            self.progress.finish()
        return EX_OK if is_equal(self.progress) and not self.job.bad_names else EX_FAILURE


def _options(arguments: Arguments) -> Iterable[str]:
    """Those of the command line that say which configuration and which server, to be typed again."""
    if arguments.config != DEFAULT_PATH:
        yield from ("-C", arguments.config)
    if arguments.channel:
        yield from ("-n", arguments.channel)
    if arguments.server:
        yield from ("-S", arguments.server)
    if arguments.partition:
        yield from ("-p", arguments.partition)


def _owner_of(name: str) -> Owner:
    """The owner whom `name_of` calls so."""
    kind, colon, rest = name.partition(":")
    return Owner("shared", rest) if colon and kind == "shared" else Owner("user", name)


def _item(owner: Owner) -> Item:
    return Item.user(owner.name) if owner.kind == "user" else Item(Kind.MAILBOXES, owner, (owner.name,))


def _begins(owner: Owner, prefix: str) -> bool:
    if owner.kind == "user":
        return owner.name.startswith(prefix) or inbox_of(owner.name).startswith(prefix)
    return owner.name.startswith(prefix) or prefix.startswith(f"{owner.name}.")
