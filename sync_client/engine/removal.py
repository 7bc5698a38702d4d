"""UNMAILBOX and UNUSER lines of the log: what is gone here goes there, if it is the same thing.

A name says little: it may have been given to another mailbox since. Both commands therefore ask the
replica which mailboxes it has under the name, and only delete those whose uniqueid has a tombstone here.
"""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.errors import CyrusSyncError, InvalidUser, MailboxNonexistent, SyncChanged
from cyrus_sync.common.master import Master
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import inbox_of, is_deleted, owner_of, owner_user, sort_key
from cyrus_sync.sync_client.engine.concurrency import forgiving
from cyrus_sync.sync_client.engine.context import EngineContext

LIVES = "lives here as"


class NotRenamed(SyncChanged):
    """Mailboxes that are to go live on here under other names. `names` are the replica's and ours."""

    def __init__(self, text: str, names: list[str]) -> None:
        super().__init__(text)
        self.names = names


async def unmailbox(context: EngineContext, name: str) -> None:
    """Delete `name` on the replica if it was deleted here. Raises `MailboxLocked`, or what it answers."""
    context.begin()
    async with context.locks.hold([owner_user(name)]):
        if await context.threads.run(_exists, context.master, name):
            return
        states = await forgiving(context.replica.get_mailboxes([name]), MailboxNonexistent) or []
        for state in states:
            reason = await context.threads.run(_why_not, context.master, state)
            if reason:
                context.options.notice(f"{name} ({state.uniqueid}) {reason}: left alone on the replica")
                continue
            await _delete(context, state)


async def unuser(context: EngineContext, userid: str) -> bool:
    """Remove on the replica a user who was removed here; False, and nothing done, if he is here (again).

    With a mailbox among his that was never deleted here, only the others are deleted. Raises
    `NotRenamed` if one of them lives on here under another name: its rename has to come first.
    """
    context.begin()
    async with context.locks.hold([userid]):
        if await context.threads.run(_exists, context.master, inbox_of(userid)):
            return False
        state = await forgiving(context.replica.get_user(userid), MailboxNonexistent, InvalidUser)
        theirs = [s for s in state.mailboxes if not is_deleted(s.name)] if state else []
        kept = await context.threads.run(_kept, context.master, theirs)
        for mailbox, reason in kept:
            if reason.startswith(LIVES):
                text = f"{mailbox.name} {reason}: to be renamed before its user is removed"
                raise NotRenamed(text, _names(kept)).at(
                    user=userid, mailbox=mailbox.name, uniqueid=mailbox.uniqueid, command="UNUSER"
                )
            context.options.notice(f"{mailbox.name} ({mailbox.uniqueid}) {reason}: left alone on the replica")
        if not kept:
            context.report_localizable("UNUSER", userid)
            answer = context.replica.unuser(userid, local=context.options.local_only)
            try:
                await forgiving(answer, MailboxNonexistent, InvalidUser)
            except CyrusSyncError as error:
                error.at(user=userid, command="UNUSER")
                raise
        else:
            names = {mailbox.name for mailbox, _ in kept}
            for mailbox in sorted(theirs, key=lambda s: sort_key(s.name), reverse=True):
                if mailbox.name not in names:
                    await _delete(context, mailbox)
        await context.forget([mailbox.name for mailbox in theirs])
        return True


async def _delete(context: EngineContext, state: MailboxState) -> None:
    name = state.name
    context.report_localizable("UNMAILBOX", name)
    try:
        await forgiving(context.unmailbox(state), MailboxNonexistent)
    except CyrusSyncError as error:
        error.at(user=owner_user(name), mailbox=name, command="UNMAILBOX")
        raise
    await context.forget([name])


def _kept(master: Master, theirs: Sequence[MailboxState]) -> list[tuple[MailboxState, str]]:
    """Those of the replica's mailboxes that may not be deleted, with the reason."""
    found = [(state, _why_not(master, state)) for state in theirs if not state.intermediate]
    return [(state, reason) for state, reason in found if reason]


def _names(kept: Sequence[tuple[MailboxState, str]]) -> list[str]:
    """The names, there and here, of those that live here."""
    here = [reason.removeprefix(LIVES).strip() for _, reason in kept if reason.startswith(LIVES)]
    there = [mailbox.name for mailbox, reason in kept if reason.startswith(LIVES)]
    return [*there, *here]


def _exists(master: Master, name: str) -> bool:
    with master.read(owner_of(name)) as reader:
        return reader.mailbox(name) is not None


def _why_not(master: Master, state: MailboxState) -> str:
    """Why the replica's mailbox may not be deleted, "" if it may."""
    elsewhere = master.owner_of_uniqueid(state.uniqueid)
    places = {owner_of(state.name)} | ({elsewhere} if elsewhere is not None else set())
    for place in places:
        with master.read(place) as reader:
            live = reader.mailbox_by_id(state.uniqueid)
            if live is not None:
                return f"{LIVES} {live.name}"
    for place in places:
        with master.read(place) as reader:
            stone = reader.tombstone(state.uniqueid)
        if stone is not None:
            newer = 0 < stone.modseq < state.highestmodseq
            return "has changed on the replica since it was deleted here" if newer else ""
    return "was never deleted here"
