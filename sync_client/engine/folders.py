"""A set of mailboxes: delete and rename on the replica what must be, then update what differs.

Deletions come first, since they free names; renames second, and after any of them the replica is asked
anew. Then the mailboxes are sent in *waves*: one RESERVE for all of a wave, and behind it MESSAGE and
MAILBOX of every mailbox without waiting for an answer in between. What fails is remembered with its
address and does not stop the others.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import field

from twisted.internet.defer import Deferred, fail

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import (
    CyrusSyncError,
    MailboxMoved,
    MailboxNonexistent,
    RemoteDenied,
    ReplyError,
)
from cyrus_sync.common.master import READ_ERRORS
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner, sort_key
from cyrus_sync.sync_client.engine.alone import tell_of_mailbox
from cyrus_sync.sync_client.engine.concurrency import (
    Failed,
    all_results,
    as_sync_error,
    forgiving,
    is_fatal,
    start,
)
from cyrus_sync.sync_client.engine.context import EngineContext
from cyrus_sync.sync_client.engine.errors import FoldersFailed, GaveWay, NeverStill
from cyrus_sync.sync_client.engine.mailbox import finish, reserve, send
from cyrus_sync.sync_client.engine.options import RESERVE_LIMIT
from cyrus_sync.sync_client.engine.reading import Item, wanted_guids
from cyrus_sync.sync_client.engine.renames import Rename, plan_renames
from cyrus_sync.sync_client.engine.survey import Survey, Surveyor

ROUNDS = 3
"""How often the replica is asked, at most, when mailboxes have to be renamed."""

_NO_CODE = "Unknown error"
"""What a real server says behind NO where the protocol has no code."""

WAVE = 1000
"""Mailboxes that are compared and sent together."""


@dataclass(slots=True)
class FolderRun:
    """One set of mailboxes, over all its rounds."""

    wanted: Mapping[Owner, Sequence[str] | None]
    failures: dict[str, CyrusSyncError] = field(default_factory=dict)
    """By mailbox name."""
    given_up: set[str] = field(default_factory=set)
    """Uniqueids of mailboxes whose rename failed."""
    unmoved: set[str] = field(default_factory=set)
    """Uniqueids of mailboxes that the replica does not bring to another partition."""
    moved: list[Item] = field(default_factory=list)
    """Mailboxes that the replica refused because it has them under another name or id."""
    elsewhere: list[MailboxState] = field(default_factory=list)
    """Where it has them, for the next round."""
    rounds: int = 0
    looked: bool = False
    full: bool = False
    """Everything of an owner is compared."""
    told: set[str] = field(default_factory=set)
    """Uniqueids of the mailboxes of the replica that were told of."""

    def next_round(self) -> bool:
        """True; raises `NeverStill` when the replica has been asked anew too often."""
        self.rounds += 1
        if self.rounds > ROUNDS:
            raise NeverStill("mailboxes are still to be renamed after three rounds")
        return True

    def fail(self, name: str, uniqueid: str, error: CyrusSyncError) -> None:
        """Remember that this mailbox could not be done."""
        self.failures[name] = error.at(mailbox=name, uniqueid=uniqueid)
        if uniqueid:
            self.given_up.add(uniqueid)

    def check(self) -> None:
        """Raise `FoldersFailed` if anything failed."""
        if self.failures:
            raise FoldersFailed(list(self.failures.items()))


async def start_folders(
    context: EngineContext, run: FolderRun, remote: Sequence[MailboxState], cached: Sequence[str] = ()
) -> Deferred[None] | None:
    """Compare, and put on the line what has to be sent.

    None if something was renamed: ask the replica again and call this anew. Otherwise the Deferred of
    the end of it all; failures of single mailboxes are in `run`, only what ends the connection is
    raised.
    """
    known = {state.uniqueid for state in remote}
    remote = [*remote, *(state for state in run.elsewhere if state.uniqueid not in known)]
    run.elsewhere = []
    survey = await context.threads.run(_survey, context, run, remote, tuple(cached))
    for name, uniqueid, error in survey.unreadable:
        run.fail(name, uniqueid, error)
    await _tell_of_alone(context, run, survey)
    deleted = await _delete(context, run, survey.deletes)
    if await _rename(context, run, survey, remote, deleted):
        return None
    updates = [item for item in survey.updates if item.uniqueid not in run.given_up]
    names = [name for name in survey.replica_names if name not in deleted]
    context.remember(survey.agreeing)
    pending = await _send_waves(context, updates, names)
    return start(_collect(context, run, pending))


async def _tell_of_alone(context: EngineContext, run: FolderRun, survey: Survey) -> None:
    """Each mailbox that only the replica has, once a run. One whose name another of ours is to get
    gives way, or is told of when it does not."""
    ours = {item.name for item in survey.updates}
    for theirs, reason in survey.alone:
        if theirs.uniqueid in run.told or theirs.name in ours:
            continue
        run.told.add(theirs.uniqueid)
        if run.full or context.options.strict:
            await tell_of_mailbox(context, theirs, reason)
        else:
            context.options.notice(f"only the replica has {theirs.name} ({theirs.uniqueid}): {reason}")


async def look_for_moved(context: EngineContext, run: FolderRun) -> bool:
    """Ask under which names the replica has the mailboxes that it refused as moved.

    True if it has them elsewhere, so that the next round can rename them: after a user was renamed, or
    where a ring of renames was interrupted and only some of its names are asked for.
    """
    moved, run.moved = run.moved, []
    if not moved or run.looked:
        return False
    run.looked = True
    names = {item.uniqueid: item.name for item in moved}
    found = await forgiving(context.replica.get_uniqueids(list(names)), ReplyError)
    if found is None:  # a release that cannot be asked so
        former = await context.threads.run(_former_names, context, moved)
        found = await forgiving(context.replica.get_mailboxes(former), ReplyError) if former else None
    for state in found or ():
        if state.uniqueid in names and state.name != names[state.uniqueid]:
            run.elsewhere.append(state)
            run.failures.pop(names[state.uniqueid], None)
            run.given_up.discard(state.uniqueid)
    if run.elsewhere:
        run.rounds -= 1
    return bool(run.elsewhere)


def _former_names(context: EngineContext, moved: Sequence[Item]) -> list[str]:
    names: list[str] = []
    for item in moved:
        with context.master.read(item.owner) as reader:
            names += reader.former_names(item.uniqueid)
    return list(dict.fromkeys(names))


def _survey(
    context: EngineContext, run: FolderRun, remote: Sequence[MailboxState], cached: Sequence[str]
) -> Survey:
    surveyor = Surveyor(
        context.master,
        partition=context.options.partition,
        sieve_mailbox=context.sieve_mailbox,
        may_settle=not context.options.no_copyback,
        withheld=context.options.withheld,
    )
    return surveyor.survey(run.wanted, remote, run.given_up, frozenset(cached), run.unmoved)


async def _delete(context: EngineContext, run: FolderRun, deletes: Sequence[MailboxState]) -> set[str]:
    """UNMAILBOX, children before their parents; the names that are free now."""
    answers: list[tuple[MailboxState, Deferred[None]]] = []
    for state in sorted(deletes, key=lambda s: sort_key(s.name), reverse=True):
        await context.replica.ready()
        context.report_localizable("UNMAILBOX", state.name)
        answers.append((state, context.unmailbox(state)))
    results = await all_results([answer for _, answer in answers])
    gone: set[str] = set()
    for (state, _), result in zip(answers, results, strict=True):
        if isinstance(result, Failed) and not isinstance(result.error, MailboxNonexistent):
            _note(run, state.name, state.uniqueid, result.error, "UNMAILBOX")
        else:
            gone.add(state.name)
    await context.forget(sorted(gone))
    return gone


async def _rename(
    context: EngineContext, run: FolderRun, survey: Survey, remote: Sequence[MailboxState], deleted: set[str]
) -> bool:
    """Carry out the renames; True if the replica has to be asked again."""
    if not survey.renames:
        return False
    sources = {rename.old for rename in survey.renames}
    targets = {(rename.uniqueid, rename.new) for rename in survey.renames}
    occupied = [
        state.name
        for state in remote
        if state.name not in sources and state.name not in deleted
        if (state.uniqueid, state.name) not in targets
    ]
    plan = plan_renames(survey.renames, occupied)
    for rename in plan.blocked:
        error = MailboxMoved(f"cannot be renamed from {rename.old}: its name is taken on the replica")
        run.fail(rename.new, rename.uniqueid, error.at(command="RENAME"))
    answers: list[tuple[Rename, Deferred[None]]] = []
    for rename in plan.steps:
        await context.replica.ready()
        context.report_localizable("RENAME", f"{rename.old} -> {rename.new} ({rename.partition})")
        answers.append((rename, _put_rename(context, rename)))
    results = await all_results([answer for _, answer in answers])
    await context.forget([name for rename, _ in answers for name in (rename.old, rename.new)])
    done = 0
    for (rename, _), result in zip(answers, results, strict=True):
        if isinstance(result, Failed) and _is_left_there(rename, result.error):
            name = context.options.external(rename.new)
            context.options.remark(
                f"the replica does not bring {name} to partition {rename.partition}: it is left where it is,"
                f" and has everything. To move it there by hand: cyradm, rename {name} {name}"
                f" {rename.partition}"
            )
            run.unmoved.add(rename.uniqueid)
            done += 1
        elif isinstance(result, Failed):
            _note(run, rename.new, rename.uniqueid, result.error, "RENAME")
        else:
            done += 1
    return bool(done)


def _is_left_there(rename: Rename, error: BaseException) -> bool:
    """Whether a mailbox that was to go to another partition is as well where it is. The csync server of Cyrus
    3.12 takes the rename of an INBOX to its own name for one to a name that is taken, and knows no code for
    that."""
    return rename.old == rename.new and isinstance(error, RemoteDenied) and error.message == _NO_CODE


def _put_rename(context: EngineContext, rename: Rename) -> Deferred[None]:
    return context.replica.rename(
        rename.old, rename.new, rename.partition, rename.uidvalidity, local=context.options.local_only
    )


def _note(run: FolderRun, name: str, uniqueid: str, error: BaseException, command: str) -> None:
    """Remember an error of one mailbox; raise one that ends the connection."""
    known = as_sync_error(error).at(mailbox=name, uniqueid=uniqueid, command=command)
    if is_fatal(known):
        raise known
    run.fail(name, uniqueid, known)


# -- waves


async def _send_waves(
    context: EngineContext, updates: Sequence[Item], replica_names: Sequence[str]
) -> list[tuple[Item, Deferred[None]]]:
    """Put every update on the line; each with the Deferred of its end."""
    alone = [item for item in updates if context.options.left_out.suspected(item.uniqueid)]
    queue = deque(item for item in updates if item not in alone)
    pending: list[tuple[Item, Deferred[None]]] = []
    try:
        while queue:
            async with context.stage.hold():
                wave = await _next_wave(context, queue, replica_names)
                while wave and not context.stage.full:
                    if pending and context.options.give_way():
                        return [*pending, (wave[0], fail(GaveWay()))]
                    pending.append(await _put(context, wave.popleft(), replica_names))
                queue.extendleft(reversed(wave))
        for item in alone:
            await _nothing_under_way(pending)
            async with context.stage.hold():
                pending.append(await _put(context, item, replica_names))
            await _nothing_under_way(pending)
    except BaseException:
        await all_results([end for _, end in pending])
        raise
    return pending


async def _nothing_under_way(pending: Sequence[tuple[Item, Deferred[None]]]) -> None:
    """Wait for every answer; raise the error that has ended the connection."""
    for result in await all_results([end for _, end in pending]):
        if isinstance(result, Failed) and is_fatal(result.error):
            raise result.error


async def _next_wave(context: EngineContext, queue: deque[Item], replica_names: Sequence[str]) -> deque[Item]:
    """Take the next mailboxes off `queue` and let the replica reserve what it has of their messages."""
    if not replica_names:
        return deque([queue.popleft() for _ in range(min(len(queue), WAVE))])
    wave, wanted = await context.threads.run(_fill_wave, context, queue)
    if wanted:
        await reserve(context, replica_names, wanted)
    return wave


def _fill_wave(context: EngineContext, queue: deque[Item]) -> tuple[deque[Item], dict[str, list[bytes]]]:
    """Mailboxes until one RESERVE is full, and the GUIDs to reserve by partition, each once."""
    wave: deque[Item] = deque()
    wanted: dict[str, dict[bytes, None]] = {}
    count = 0
    while queue and len(wave) < WAVE and count < RESERVE_LIMIT:
        item = queue.popleft()
        wave.append(item)
        guids: list[bytes] = []
        with context.master.read(item.owner) as reader, contextlib.suppress(*READ_ERRORS):
            guids = wanted_guids(reader, item, context.stage, context.options.batchsize)
        wanted.setdefault(item.target, {}).update(dict.fromkeys(guids))
        count += len(guids)
    return wave, {partition: list(guids) for partition, guids in wanted.items() if guids}


async def _put(
    context: EngineContext, item: Item, replica_names: Sequence[str]
) -> tuple[Item, Deferred[None]]:
    try:
        sent = await send(context, item)
    except Exception as error:
        if is_fatal(error):
            raise
        return item, fail(error)
    return item, start(finish(context, item, sent, replica_names))


async def _collect(
    context: EngineContext, run: FolderRun, pending: Sequence[tuple[Item, Deferred[None]]]
) -> None:
    """Wait for every mailbox; remember what failed."""
    results = await all_results([end for _, end in pending])
    await context.flush_cache()
    errors = [(item, r.error) for (item, _), r in zip(pending, results, strict=True) if isinstance(r, Failed)]
    for _, error in errors:
        if is_fatal(error):
            raise error
    waiting = [error for _, error in errors if isinstance(error, GaveWay)]
    for item, error in errors:
        if isinstance(error, GaveWay):
            continue
        if isinstance(error, MailboxMoved):
            run.moved.append(item)
        _note(run, item.name, item.uniqueid, error, "MAILBOX")
    if waiting:
        raise waiting[0]
