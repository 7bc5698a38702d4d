"""META of a user: \\Seen, subscriptions and Sieve, without the mailboxes."""

from __future__ import annotations

from cyrus_sync.common.errors import CyrusSyncError, MailboxNonexistent
from cyrus_sync.common.master import Master
from cyrus_sync.common.model import UserMeta
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.engine.concurrency import all_of, forgiving, start
from cyrus_sync.sync_client.engine.context import EngineContext
from cyrus_sync.sync_client.engine.seen import sync_seen
from cyrus_sync.sync_client.engine.sieve import sync_sieve, tell_of_files
from cyrus_sync.sync_client.engine.subscriptions import sync_subscriptions


async def sync_meta(context: EngineContext, userid: str) -> None:
    """Make the replica's META of `userid` that of the master.

    With SIEVE-MAILBOX the scripts are in a mailbox, which the protocol does not count to META
    (`sync_script_mailbox`).
    """
    context.begin()
    try:
        async with context.locks.hold([userid]):
            if await context.threads.run(context.master.exists, Owner("user", userid)):
                await sync_meta_locked(context, userid)
            elif context.options.strict:
                context.options.remark(f"no such user: {userid}")
    except CyrusSyncError as error:
        error.at(user=userid)
        raise


async def sync_meta_locked(context: EngineContext, userid: str, *, only_sieve: bool = False) -> None:
    """The same for a caller that holds the user's lock; `only_sieve`: leave the rest."""
    context.report("META", userid)
    asking = forgiving(context.replica.get_meta(userid), MailboxNonexistent)
    local = await context.threads.run(_read_meta, context.master, userid, not context.sieve_mailbox)
    remote = await asking or UserMeta()
    parts = []
    if not only_sieve:
        parts.append(start(sync_seen(context, userid, local.seen, remote.seen)))
        parts.append(start(sync_subscriptions(context, userid, local.subscriptions, remote.subscriptions)))
    if not context.sieve_mailbox:
        parts.append(start(sync_sieve(context, userid, local.sieve, remote.sieve)))
    else:
        tell_of_files(context, userid, local.sieve)
    await all_of(parts)


def _read_meta(master: Master, userid: str, with_sieve: bool) -> UserMeta:
    with master.read(Owner("user", userid)) as reader:
        return reader.meta(with_sieve=with_sieve)
