"""Everybody: each user once, and each shared mailbox singly; nobody's error stops the others."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.master import READ_ERRORS, KnownUser, Master
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.sync_client.engine.alone import tell_of_users
from cyrus_sync.sync_client.engine.concurrency import Failed, as_sync_error, is_fatal, map_bounded
from cyrus_sync.sync_client.engine.context import EngineContext
from cyrus_sync.sync_client.engine.errors import UsersFailed
from cyrus_sync.sync_client.engine.mailboxes import sync_mailboxes
from cyrus_sync.sync_client.engine.survey import is_hidden
from cyrus_sync.sync_client.engine.user import sync_user

Work = Callable[[Any], Coroutine[Deferred[Any], Any, None]]


def read_everybody(
    master: Master, prefix: str, sieve_mailbox: bool, known: Mapping[str, KnownUser] | None = None
) -> tuple[list[str], list[str]]:
    """Userids that have an INBOX, and names of shared mailboxes, that begin with `prefix`.

    A user counts if the userid or the name of the INBOX begins so. Who cannot be read is among them (a shared
    mailbox by its top): the work on him fails, says why, and keeps nobody else. `known`: of whom it is known
    whether he has an INBOX. Blocks on a disk.
    """
    known = known or {}
    users: list[str] = []
    shared: list[str] = []
    for owner in master.owners():
        if owner.kind == "user":
            inbox = inbox_of(owner.name)
            wanted = owner.name.startswith(prefix) or inbox.startswith(prefix)
            there = known.get(owner.name)
            if wanted and (there.inbox if there else _has_inbox(master, owner, inbox)):
                users.append(owner.name)
        elif owner.kind == "shared":
            names = _shared_names(master, owner, sieve_mailbox)
            shared += [name for name in names if name.startswith(prefix)]
    return users, shared


def _has_inbox(master: Master, owner: Owner, inbox: str) -> bool:
    try:
        with master.read(owner) as reader:
            return reader.mailbox(inbox) is not None
    except READ_ERRORS:
        return True


def _shared_names(master: Master, owner: Owner, sieve_mailbox: bool) -> list[str]:
    try:
        with master.read(owner) as reader:
            return [state.name for state in reader.mailboxes() if not is_hidden(state, sieve_mailbox)]
    except READ_ERRORS:
        return [owner.name]


async def sync_all_users(context: EngineContext, prefix: str = "", done: set[str] | None = None) -> None:
    """Every user and every shared mailbox whose name begins with `prefix`.

    `done` collects what has been dealt with, ``user:NAME`` and ``mailbox:NAME``, and is left out: after
    a lost connection a new engine goes on where this one stopped. Raises `UsersFailed` at the end, or
    at once what ended the connection.
    """
    done = set() if done is None else done
    users, shared = await context.threads.run(read_everybody, context.master, prefix, context.sieve_mailbox)
    left = [f"user:{name}" for name in users] + [f"mailbox:{name}" for name in shared]
    await sync_each(context, [item for item in left if item not in done], _sync_one(context, done))
    await tell_of_users(context, prefix, users)


def _sync_one(context: EngineContext, done: set[str]) -> Work:
    async def work(item: str) -> None:
        kind, _, name = item.partition(":")
        try:
            await (sync_user(context, name) if kind == "user" else sync_mailboxes(context, [name]))
        except Exception as error:
            if not is_fatal(error):
                done.add(item)
            raise
        done.add(item)

    return work


async def sync_users(context: EngineContext, userids: Sequence[str]) -> None:
    """Several users at once. Raises `UsersFailed` when all the others are done."""
    await sync_each(context, list(dict.fromkeys(userids)), lambda userid: sync_user(context, userid))


async def sync_each(context: EngineContext, items: Sequence[str], work: Work) -> None:
    """``work(item)`` for every item, many in flight at once."""
    results = await map_bounded(work, items, context.options.concurrency)
    failures: list[tuple[str, CyrusSyncError]] = []
    fatal: CyrusSyncError | None = None
    for item, result in zip(items, results, strict=True):
        if isinstance(result, Failed):
            error = as_sync_error(result.error)
            if is_fatal(error):
                fatal = fatal or error
            else:
                failures.append((item.removeprefix("user:").removeprefix("mailbox:"), error))
    if fatal is not None:
        raise fatal
    if failures:
        raise UsersFailed(failures)
