"""One-shots: ``-u``, ``-m``, ``-A``, ``-s``. Putting the parts together; imported after any fork."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from twisted.internet.defer import Deferred

from cyrus_sync.common.commands import LostOutput
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import EX_FAILURE, EX_OK
from cyrus_sync.common.master import Master
from cyrus_sync.common.progress import Meter, progress
from cyrus_sync.common.reactor import installed
from cyrus_sync.spool.whose import whose_mail
from cyrus_sync.sync_client import oneshot
from cyrus_sync.sync_client.arguments import Mode
from cyrus_sync.sync_client.backoff import ONE_SHOT_PATIENCE
from cyrus_sync.sync_client.engine.all_users import read_everybody
from cyrus_sync.sync_client.foreign import cyrus_spool, foreign_mail, nobody_here
from cyrus_sync.sync_client.jobs import Part, in_processes
from cyrus_sync.sync_client.parts import Job, Parts, warn_of_certificates
from cyrus_sync.sync_client.report import log
from cyrus_sync.sync_client.until_done import until_done
from cyrus_sync.sync_client.work import Item, Kind

MANY = 2000
"""Users named with ``-u`` from which on both ends are asked first whom they have alike: to
compare digests of everybody takes as long as to look at a twentieth of them."""


def run_one_shot(job: Job) -> int:
    """``-u``, ``-m``, ``-A``, ``-s``. If nobody reads ``-v``: `LostOutput`, after what was under way."""
    jobs = job.cfg.integer("sync_jobs", job.channel)
    many = job.arguments.mode is Mode.ALL or (job.arguments.mode is Mode.USERS and len(job.names) > 1)
    if jobs > 1 and many:
        return in_processes(jobs, lambda part: _metered(job, part))
    return _metered(job, Part())


def _metered(job: Job, part: Part) -> int:
    with progress(
        "replicating",
        stream=sys.stderr,
        log=lambda text: log.info("%s", text),
        unit="users and mailboxes",
        silent=bool(job.arguments.verbose) or not part.first,  # each operation is printed
    ) as meter:
        return _one_shot(job, meter, part)


def _one_shot(job: Job, meter: Meter, part: Part) -> int:
    reactor = installed()
    lost: list[LostOutput] = []

    def begin() -> tuple[Deferred[int], Callable[[], None]]:
        parts = Parts(job, reactor)
        shot = oneshot.OneShot(
            clock=reactor,
            connector=parts.connector,
            items=[],
            patience=0 if job.arguments.connect_once else ONE_SHOT_PATIENCE,
            maxwait=job.cfg.duration("sync_reconnect_maxwait", job.channel),
            skip_locked=job.arguments.mode is Mode.ALL,
            report=parts.reporter.failure,
            finished=meter.advance,
            say=lambda text: log.error("%s", text),
        )
        parts.meter = meter
        parts.remark = shot.remark

        async def work() -> int:
            items, shot.digests = await parts.threads.run(_items, job, parts.master)
            shot.items = [item for item in items if part.has(item.owner)]
            meter.expect(len(shot.items))
            if not part.first:
                return await shot.go()
            if job.arguments.mode is Mode.ALL:
                if not items:
                    shot.remark(await parts.threads.run(nobody_here, job.cfg, "".join(job.names)))
                here = [item.owner.name for item in items if item.kind is Kind.USER]
                shot.everybody = "".join(job.names), here
                shot.ask_anyway = bool(items) and not shot.items
            elif (found := _left_out(job.cfg, parts.master)) is not None:
                shot.remark(foreign_mail(found))
            status = await shot.go()
            return status or (EX_FAILURE if job.bad_names else EX_OK)

        def nobody_reads(loss: LostOutput) -> None:
            lost.append(loss)
            reactor.callFromThread(shot.stop)

        parts.reporter.on_lost_output = nobody_reads
        warn_of_certificates(job.settings)
        return Deferred.fromCoroutine(work()), shot.stop

    status = until_done(reactor, begin)
    if lost:
        raise lost[0]
    return status


def _left_out(cfg: Config, master: Master) -> Path | None:
    """What is here of a real Cyrus whose mail is not what is replicated, if nobody else's is."""
    if whose_mail(cfg).is_cyrus or next(master.owners(), None) is not None:
        return None
    return cyrus_spool(cfg)


def _items(job: Job, master: Master) -> tuple[list[Item], dict[str, bytes]]:
    """What is to be done; with ``-A`` and many users, the digests of those of whom they are known."""
    match job.arguments.mode:
        case Mode.USERS:
            known = master.known_users() if len(job.names) >= MANY else {}
            digests = {userid: known[userid].digest for userid in job.names if userid in known}
            return oneshot.user_items(job.names), digests
        case Mode.META:
            return oneshot.meta_items(job.names), {}
        case Mode.MAILBOXES:
            return oneshot.mailbox_items(job.names), {}
        case _:
            known = master.known_users()
            users, shared = read_everybody(master, "".join(job.names), True, known)
            digests = {userid: known[userid].digest for userid in users if userid in known}
            return oneshot.everybody_items(users, shared), digests
