"""``--drain``: nothing more is taken here, and everything that is here is at the replica. What a planned
change of masters begins with.

The store becomes *draining* (`common.role`): local changes are refused from then on. Then the log is worked
off, by the rolling client that runs or by one run; both ends are compared by CRCs, and if they differ
everybody is replicated once more. Only if nothing waits and nothing differs the replica is told that this
master is drained, which is what **cyrus-sync promote** there goes by. The steps are commands of their own, so
each can be typed again by hand.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from cyrus_sync.common.commands import complain
from cyrus_sync.common.errors import EX_FAILURE, EX_OK
from cyrus_sync.common.protocol.commands import WAITING
from cyrus_sync.common.reactor import Reactor, installed
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.waiting import Waiting
from cyrus_sync.common.wire.client import connect
from cyrus_sync.common.wire.replica import WireReplica
from cyrus_sync.spool.whose import whose_mail
from cyrus_sync.sync_client.channel import lock_holder
from cyrus_sync.sync_client.masters import drain_master
from cyrus_sync.sync_client.parts import Job
from cyrus_sync.sync_client.until_done import until_done

PATIENCE = 600.0
"""Seconds for which the log may take to be worked off by a client that is rolling."""
POLL = 0.2
RUNS = 3
"""How often the log is run, at most, where nobody is rolling: lines may come from changes that were under
way."""
_CHILD = "import sys; from cyrus_sync.sync_client.cli import main; sys.exit(main(sys.argv[1:]))"


def run_drain(job: Job) -> int:
    """Drain, and say what was done; the exit status: 0 if the replica has everything."""
    drain = Drain(job)
    return drain.go()


class Drain:
    """One run."""

    def __init__(self, job: Job, sleep: Callable[[float], object] = time.sleep) -> None:
        self._job = job
        self._sleep = sleep

    def go(self) -> int:
        job = self._job
        if whose_mail(job.cfg).is_cyrus:
            _say(
                "the mail here is that of a real Cyrus, which cannot be kept from taking more: stop its"
                " services first, or say readonly: yes there"
            )
        else:
            drain_master(job.cfg, "sync_client --drain")
            _say("this store takes no changes any more (cyrus-sync promote lets it take them again)")
        if not self._work_off():
            return self._failed("the log is not worked off")
        _say("the log is worked off; comparing both ends")
        if self._compare(show=False) != EX_OK:
            _say("both ends differ: replicating everybody")
            self._client("-A")
            if self._compare(show=True) != EX_OK:
                return self._failed("both ends still differ")
        if self._waits():
            return self._failed("changes have come meanwhile")
        self._tell()
        _say("drained: nothing waits, and both ends are the same. On the replica: cyrus-sync promote")
        return EX_OK

    def _failed(self, why: str) -> int:
        _say(f"not drained: {why}. Do it again when that is seen to; this store goes on taking no changes")
        return EX_FAILURE

    def _work_off(self) -> bool:
        """Whether nothing is left in the log."""
        deadline = time.monotonic() + PATIENCE
        runs = 0
        while self._waits():
            if lock_holder(self._job.directory) is not None:
                if time.monotonic() > deadline:
                    return False
                self._sleep(POLL)
                continue
            if runs == RUNS:
                return False
            runs += 1
            self._client("-R", "-1")
        return True

    def _waits(self) -> bool:
        directory: Path = self._job.directory
        return any((directory / name).exists() for name in ("log", "log-run"))

    def _compare(self, *, show: bool) -> int:
        return self._client("--compare", "-A", "--anew", quiet=not show)

    def _client(self, *options: str, quiet: bool = False) -> int:
        """One run of sync_client with the configuration, channel and server of this one."""
        command = [sys.executable, "-c", _CHILD, *_same(self._job), *options]
        return subprocess.run(command, stdout=subprocess.DEVNULL if quiet else None, check=False).returncode

    def _tell(self) -> None:
        """Tell the replica, if it keeps such words."""
        reactor = installed()
        done: list[Any] = []

        def begin() -> tuple[Deferred[int], Callable[[], None]]:
            telling = Deferred.fromCoroutine(self._told(reactor))
            return telling, telling.cancel

        done.append(until_done(reactor, begin))

    async def _told(self, reactor: Reactor) -> int:
        job = self._job
        session = await connect(reactor, job.settings)
        replica = await WireReplica.start(
            session, {WAITING}, ThreadRunner(reactor), timeout=job.settings.idle_timeout
        )
        try:
            if WAITING in replica.capabilities:
                word = Waiting(job.cfg.servername, job.arguments.channel, 0, drained=True)
                await replica.waiting(word)
        finally:
            await replica.close()
        return EX_OK


def _same(job: Job) -> Iterable[str]:
    arguments = job.arguments
    yield from ("-C", arguments.config)
    if arguments.channel:
        yield from ("-n", arguments.channel)
    if arguments.server:
        yield from ("-S", arguments.server)
    if arguments.connect_once:
        yield "-o"
    if arguments.partition:
        yield from ("-p", arguments.partition)


def _say(text: str) -> None:
    complain("sync_client", text)
