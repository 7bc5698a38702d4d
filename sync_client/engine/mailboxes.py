"""Mailboxes by name: a group from the action log, or the names of a command line."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.errors import MailboxNonexistent
from cyrus_sync.common.master import READ_ERRORS, MasterReader
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner, inbox_of, owner_of, owner_user
from cyrus_sync.common.sieve import SIEVE_FOLDER
from cyrus_sync.sync_client.engine.alone import names_nowhere
from cyrus_sync.sync_client.engine.concurrency import all_of, forgiving, start
from cyrus_sync.sync_client.engine.context import EngineContext
from cyrus_sync.sync_client.engine.folders import FolderRun, look_for_moved, start_folders
from cyrus_sync.sync_client.engine.mending import heal_owner
from cyrus_sync.sync_client.engine.meta import sync_meta_locked


async def sync_mailboxes(context: EngineContext, names: Sequence[str]) -> None:
    """Bring the mailboxes `names` up to date on the replica, wherever they belong.

    A name that exists on neither side is no error. Raises `FoldersFailed` when all others are done.
    """
    context.begin()
    ordered = list(dict.fromkeys(names))
    try:
        async with context.locks.hold({owner_user(name) for name in ordered}):
            await _sync_locked(context, ordered)
    finally:
        if context.options.restart_after_group:
            context.stage.restart()


async def _sync_locked(context: EngineContext, names: Sequence[str]) -> None:
    mailboxes = [name for name in names if context.sieve_mailbox or not name.endswith(".#sieve")]
    scripts_of = sorted({owner_user(name) for name in names if name not in mailboxes} - {""})
    parts = [start(sync_meta_locked(context, userid, only_sieve=True)) for userid in scripts_of]
    if mailboxes:
        parts.append(start(_sync_folders(context, mailboxes)))
    await all_of(parts)


async def sync_script_mailbox(context: EngineContext, userid: str) -> None:
    """Bring the ``#sieve`` of `userid` up to date on the replica, where scripts travel as its messages.

    Nothing is asked where the master knows of none.
    """
    name = f"{inbox_of(userid)}.{SIEVE_FOLDER}"
    if context.sieve_mailbox and await context.threads.run(_is_known, context, name):
        await sync_mailboxes(context, [name])


def _is_known(context: EngineContext, name: str) -> bool:
    with context.master.read(owner_of(name)) as reader:
        try:
            return reader.mailbox(name) is not None
        except READ_ERRORS:
            return True  # it fails alone, in its turn


async def _sync_folders(context: EngineContext, names: Sequence[str]) -> None:
    wanted: dict[Owner, list[str]] = {}
    for name in names:
        wanted.setdefault(owner_of(name), []).append(name)
    run = FolderRun(wanted)
    remembered = await _from_cache(context, wanted)
    while run.next_round():
        asked = [name for name in names if name not in remembered]
        asked += await context.threads.run(_former_names, context, wanted, set(names), set(remembered))
        remote = list(remembered.values())
        if asked:
            context.report("MAILBOXES", *asked)
            remote += await forgiving(context.replica.get_mailboxes(asked), MailboxNonexistent) or []
        if context.options.strict and run.rounds == 1:
            for name in await context.threads.run(names_nowhere, context.master, wanted, remote):
                context.options.remark(f"no such mailbox: {context.options.external(name)}")
        for owner in wanted if run.rounds == 1 and asked else ():
            if owner.kind == "shared":
                await heal_owner(context, owner, remote)
        folders = await start_folders(context, run, remote, tuple(remembered))
        remembered = {}
        if folders is None:
            continue
        await folders
        if await look_for_moved(context, run):
            continue
        run.check()
        return


def peek(reader: MasterReader, name: str) -> MailboxState | None:
    """The mailbox; None too where it cannot be read: it fails alone, in its turn."""
    try:
        return reader.mailbox(name)
    except READ_ERRORS:
        return None


async def _from_cache(context: EngineContext, wanted: dict[Owner, list[str]]) -> dict[str, MailboxState]:
    """What may be taken from the cache: states of mailboxes that still have that id and place."""
    if context.options.cache is None or not context.options.trust_cache:
        return {}
    return await context.threads.run(_read_cache, context, wanted)


def _read_cache(context: EngineContext, wanted: dict[Owner, list[str]]) -> dict[str, MailboxState]:
    assert context.options.cache is not None
    remembered = context.options.cache.get([name for names in wanted.values() for name in names])
    if not remembered:
        return {}
    usable: dict[str, MailboxState] = {}
    for owner, names in wanted.items():
        with context.master.read(owner) as reader:
            for name in names:
                local, remote = peek(reader, name), remembered.get(name)
                if (
                    local is not None
                    and remote is not None
                    and local.uniqueid == remote.uniqueid
                    and context.target_partition(local.partition) == remote.partition
                ):
                    usable[name] = remote
    return usable


def _former_names(
    context: EngineContext, wanted: dict[Owner, list[str]], named: set[str], remembered: set[str]
) -> list[str]:
    """Names under which the replica may still have mailboxes that were renamed here."""
    found: list[str] = []
    for owner, names in wanted.items():
        with context.master.read(owner) as reader:
            for name in names:
                local = None if name in remembered else peek(reader, name)
                if local is not None:
                    found += [old for old in reader.former_names(local.uniqueid) if old not in named]
    return list(dict.fromkeys(found))
