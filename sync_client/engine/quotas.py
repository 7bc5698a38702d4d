"""Quota roots: limits go to the replica, usage and modseq are each side's own."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.master import Master
from cyrus_sync.common.model import Quota
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.sync_client.engine.compare import same_limits
from cyrus_sync.sync_client.engine.concurrency import Answers
from cyrus_sync.sync_client.engine.context import EngineContext


def quota_changes(local: Sequence[Quota], remote: Sequence[Quota]) -> tuple[list[Quota], list[str]]:
    """Roots to set, because they are missing or have other limits, and roots to remove."""
    theirs = {quota.root: quota for quota in remote}
    ours = {quota.root for quota in local}
    wanted = [q for q in local if q.root not in theirs or not same_limits(q, theirs[q.root])]
    return wanted, [root for root in theirs if root not in ours]


async def sync_quotas(context: EngineContext, local: Sequence[Quota], remote: Sequence[Quota]) -> None:
    """Make the replica's quota roots of a user those of the master."""
    wanted, surplus = quota_changes(local, remote)
    answers = Answers()
    for quota in wanted:
        await context.replica.ready()
        context.report("QUOTA", quota.root)
        answers.expect(context.replica.quota(quota), command="QUOTA", mailbox=quota.root)
    for root in surplus:
        await context.replica.ready()
        context.report("UNQUOTA", root)
        answers.expect(context.replica.unquota(root), command="UNQUOTA", mailbox=root)
    await answers.check()


async def quota(context: EngineContext, root: str) -> None:
    """A QUOTA line of the log: send what the root has now, or that it is gone."""
    context.begin()
    quota = await context.threads.run(_read_quota, context.master, owner_of(root), root)
    answers = Answers()
    if quota is None:
        context.report("UNQUOTA", root)
        answers.expect(context.replica.unquota(root), command="UNQUOTA", mailbox=root)
    else:
        context.report("QUOTA", root)
        answers.expect(context.replica.quota(quota), command="QUOTA", mailbox=root)
    await answers.check()


def _read_quota(master: Master, owner: Owner, root: str) -> Quota | None:
    with master.read(owner) as reader:
        return reader.quota(root)
