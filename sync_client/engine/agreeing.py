"""Which users are the same at the replica: it tells of thousands in a few answers, instead of being asked for
each.

Both ends have digests of all that they compare (`common.summary`); the same digest means that the comparison
would find nothing. A user whom the replica does not tell of, or who differs, or for whom there is more to do
than to compare, is done as ever.
"""

from __future__ import annotations

from collections.abc import Mapping

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.names import owner_of
from cyrus_sync.common.protocol.commands import DIGESTS
from cyrus_sync.sync_client.engine.concurrency import forgiving
from cyrus_sync.sync_client.engine.context import EngineContext

SKIP_USER = "skipuser-"


async def agreeing(context: EngineContext, here: Mapping[str, bytes] | None = None) -> set[str]:
    """The users among `here` (digests of the master by userid; None: of all as they are now) of whom nothing
    has to be done."""
    capable = DIGESTS in context.replica.capabilities and context.sieve_mailbox
    if not capable or context.options.partition:  # with it, mailboxes may have to move
        return set()
    if here is None:
        known = await context.threads.run(context.master.known_users)
        here = {userid: one.digest for userid, one in known.items()}
    if not here:
        return set()
    there = await forgiving(context.replica.get_digests(), ReplyError) or {}
    same = {userid for userid, digest in here.items() if digest and there.get(userid) == digest}
    if same:
        same -= await context.threads.run(_special, context)
        context.report("AGREE", f"{len(same)} users")
    return same


def _special(context: EngineContext) -> set[str]:
    """Users of whom there is more to do than to compare. Blocks on a disk."""
    options = context.options
    found = {owner.name for owner in context.master.damaged_owners()}
    if options.withheld is not None:
        found.update(owner_of(entry.mailbox).name for entry in options.withheld.entries())
    if options.skip_dir is not None:
        found.update(path.name.removeprefix(SKIP_USER) for path in options.skip_dir.glob(f"{SKIP_USER}*"))
    return found
