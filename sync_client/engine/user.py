"""A whole user: mailboxes, then quota roots, subscriptions, Sieve and \\Seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import CyrusSyncError, InvalidUser, MailboxNonexistent, ReplyError
from cyrus_sync.common.master import READ_ERRORS, Master
from cyrus_sync.common.model import Quota, UserMeta, UserState
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.sync_client.engine.alone import tell_of_user
from cyrus_sync.sync_client.engine.concurrency import (
    Failed,
    all_of,
    all_results,
    as_sync_error,
    forgiving,
    is_fatal,
    item_of,
    start,
)
from cyrus_sync.sync_client.engine.context import EngineContext
from cyrus_sync.sync_client.engine.errors import ItemsFailed
from cyrus_sync.sync_client.engine.folders import FolderRun, look_for_moved, start_folders
from cyrus_sync.sync_client.engine.mending import ask_for_damage, heal_owner, heal_replica
from cyrus_sync.sync_client.engine.quotas import sync_quotas
from cyrus_sync.sync_client.engine.seen import sync_seen
from cyrus_sync.sync_client.engine.sieve import sync_sieve, tell_of_files
from cyrus_sync.sync_client.engine.subscriptions import sync_subscriptions


@dataclass(frozen=True, slots=True)
class LocalUser:
    """What the master has of a user, mailboxes apart."""

    quotas: Sequence[Quota]
    meta: UserMeta


async def sync_user(context: EngineContext, userid: str) -> None:
    """Make everything of `userid` on the replica as it is on the master.

    A user without INBOX on the master is left alone. Raises `FoldersFailed` when everything else is
    done, `MailboxLocked` if the user is being worked on (with `skip_locked`) or set aside.
    """
    context.begin()
    try:
        async with context.locks.hold([userid]):
            await _sync_locked(context, userid)
    except CyrusSyncError as error:
        error.at(user=userid)
        raise
    finally:
        if context.options.restart_after_group:
            context.stage.restart()


async def _sync_locked(context: EngineContext, userid: str) -> None:
    run = FolderRun({Owner("user", userid): None}, full=True)
    while run.next_round():
        context.report("USER", userid)
        # Both questions are on the line, and the master is read, before the first answer comes.
        asked = start(_ask(context, userid))
        damage = start(ask_for_damage(context))
        reading = context.threads.run(_read_user, context.master, userid, not context.sieve_mailbox)
        together: list[Deferred[Any]] = [asked, damage, reading]
        await all_of(together)
        remote, local = await asked, await reading
        if run.rounds == 1:
            await heal_owner(context, Owner("user", userid), remote.mailboxes)
            await heal_replica(context, userid, remote.mailboxes)
        if local is None:
            context.report("Does not exist locally", userid)
            if not await tell_of_user(context, userid, remote) and context.options.strict:
                context.options.remark(f"no such user: {userid}")
            return
        folders = await start_folders(context, run, remote.mailboxes)
        if folders is None:
            continue
        await all_of([folders, start(_sync_rest(context, userid, local, remote, run.failures))])
        if await look_for_moved(context, run):
            continue
        run.check()
        return


async def _ask(context: EngineContext, userid: str) -> UserState:
    state = await forgiving(context.replica.get_user(userid), MailboxNonexistent, InvalidUser)
    return state or UserState()


def _read_user(master: Master, userid: str, with_sieve: bool) -> LocalUser | None:
    with master.read(Owner("user", userid)) as reader:
        try:
            if reader.mailbox(inbox_of(userid)) is None:
                return None
        except READ_ERRORS:
            pass  # it is there: it fails alone, in its turn
        return LocalUser(reader.quotas(), reader.meta(with_sieve=with_sieve))


async def _sync_rest(
    context: EngineContext,
    userid: str,
    local: LocalUser,
    remote: UserState,
    failures: dict[str, CyrusSyncError],
) -> None:
    """Everything but mailboxes. None of it waits for another's answer; what the replica refuses joins
    `failures`, and the rest is done."""
    meta = remote.meta
    parts = [
        start(sync_quotas(context, local.quotas, remote.quotas)),
        start(sync_subscriptions(context, userid, local.meta.subscriptions, meta.subscriptions)),
    ]
    if not context.sieve_mailbox:
        parts.append(start(sync_sieve(context, userid, local.meta.sieve, meta.sieve)))
    else:
        tell_of_files(context, userid, local.meta.sieve)
    parts.append(start(_sync_seen_leniently(context, userid, local, meta)))
    for result in await all_results(parts):
        if not isinstance(result, Failed):
            continue
        error = as_sync_error(result.error)
        if is_fatal(error):
            raise error
        singly = error.failures if isinstance(error, ItemsFailed) else [(item_of(error), error)]
        failures.update(singly)


async def _sync_seen_leniently(
    context: EngineContext, userid: str, local: LocalUser, remote: UserMeta
) -> None:
    """\\Seen of other people's mailboxes is not worth failing a user for."""
    try:
        await sync_seen(context, userid, local.meta.seen, remote.seen)
    except (ReplyError, ItemsFailed) as error:
        context.options.notice(f"seen state of {userid} was refused: {error}")
