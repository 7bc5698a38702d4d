"""What only the replica has: told every time a user, or everybody, is done in full.

A split brain leaves mailboxes and users on the replica that the master knows nothing of. They are left alone.
But an administrator relies on the two being the same: he is told each time, with what to type. Whole users
can only be found where the replica lists them (`USERS`): csync itself has no such command.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cyrus_sync.common.errors import InvalidUser, MailboxNonexistent, ReplyError
from cyrus_sync.common.master import READ_ERRORS, Master, MasterReader
from cyrus_sync.common.model import MailboxState, RecordSource, UserState
from cyrus_sync.common.names import Owner, inbox_of, is_deleted
from cyrus_sync.common.protocol.commands import USERS
from cyrus_sync.sync_client.engine.concurrency import forgiving
from cyrus_sync.sync_client.engine.context import EngineContext

MOST_NAMED = 100
"""Users that are described singly; of more, the number alone is told."""


async def tell_of_mailbox(context: EngineContext, theirs: MailboxState, reason: str) -> None:
    """A mailbox that only the replica has."""
    if theirs.intermediate or is_deleted(theirs.name):
        return
    name = context.options.external(theirs.name)
    count = await _count(context, theirs)
    context.options.remark(
        f"only the replica has {name} ({theirs.uniqueid}), with {_messages(count)}: {reason}, so it is left"
        f" alone. To bring it here, type on the replica: sync_client -S {context.options.here} -m {name};"
        f" to be rid of it, there: mailstore delete {name} (a Cyrus: cyradm, dm {name})"
    )


async def tell_of_user(context: EngineContext, userid: str, remote: UserState) -> bool:
    """A user who has no INBOX here; False if the replica has nothing of him either."""
    boxes = [box for box in remote.mailboxes if not box.intermediate and not is_deleted(box.name)]
    if not boxes:
        return False
    counts = [await _count(context, box) for box in boxes]
    total = None if None in counts else sum(count or 0 for count in counts)
    what = f"{len(boxes)} mailbox{'es' if len(boxes) > 1 else ''} and {_messages(total)}"
    if await context.threads.run(_was_deleted, context.master, userid):
        context.options.remark(
            f"only the replica has the user {userid}, with {what}: deleted here, not yet there. To have that"
            f" done, type here: echo 'UNUSER {userid}' | sync_client -R -f -"
        )
        return True
    context.options.remark(
        f"only the replica has the user {userid}, with {what}: never deleted here, so left alone."
        f" To bring the user here, type on the replica: sync_client -S {context.options.here} -u {userid};"
        f" to be rid of the user, there: mailstore delete -r {context.options.external(inbox_of(userid))}"
    )
    return True


async def tell_of_users(context: EngineContext, prefix: str, here: Collection[str]) -> None:
    """Everybody whom only the replica has and whose userid, or INBOX, begins with `prefix`."""
    if USERS not in context.replica.capabilities:
        return
    try:
        listed = await context.replica.get_users()
    except ReplyError as error:
        context.options.notice(f"the replica does not list its users: {error}")
        return
    there = [u for u in listed if u.startswith(prefix) or inbox_of(u).startswith(prefix)]
    known = set(here)
    alone: list[tuple[str, UserState]] = []
    for userid in there:
        if userid not in known:
            asked = await forgiving(context.replica.get_user(userid), MailboxNonexistent, InvalidUser)
            if asked is not None and any(not box.intermediate for box in asked.mailboxes):
                alone.append((userid, asked))
    for userid, state in alone[:MOST_NAMED]:
        await tell_of_user(context, userid, state)
    if len(alone) > MOST_NAMED:
        context.options.remark(f"and {len(alone) - MOST_NAMED} more users whom only the replica has")


async def _count(context: EngineContext, theirs: MailboxState) -> int | None:
    """Live messages of the replica's mailbox; None if it does not say."""
    try:
        _, records = await context.replica.get_full_mailbox(theirs.name)
    except ReplyError:
        return None
    return await context.threads.run(_live, records)


def _live(records: RecordSource) -> int:
    return sum(not record.expunged for batch in records for record in batch)


def _messages(count: int | None) -> str:
    if count is None:
        return "an unknown number of messages"
    return "1 message" if count == 1 else f"{count} messages"


def _was_deleted(master: Master, userid: str) -> bool:
    with master.read(Owner("user", userid)) as reader:
        return any(stone.name == inbox_of(userid) for stone in reader.tombstones())


def names_nowhere(
    master: Master, wanted: dict[Owner, list[str]], remote: Sequence[MailboxState]
) -> list[str]:
    """Names that neither side has."""
    there = {state.name for state in remote}
    nowhere: list[str] = []
    for owner, names in wanted.items():
        with master.read(owner) as reader:
            nowhere += [name for name in names if name not in there and not _is_here(reader, name)]
    return nowhere


def _is_here(reader: MasterReader, name: str) -> bool:
    try:
        return reader.mailbox(name) is not None
    except READ_ERRORS:
        return True
