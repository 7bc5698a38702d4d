"""Sieve scripts by commands, for a replica with which SIEVE-MAILBOX was not agreed."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import ProtocolError, RemoteDenied, ReplyError, SyncBadSieve, UnknownFailure
from cyrus_sync.common.master import Master
from cyrus_sync.common.model import NULL_GUID, SieveScript
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.engine.concurrency import Answers, start
from cyrus_sync.sync_client.engine.context import EngineContext

SCRIPT, BYTECODE = ".script", ".bc"
_CANNOT_COMPILE = (SyncBadSieve, UnknownFailure, RemoteDenied, ProtocolError)
"""What servers answer then: the release decides."""


def tell_of_files(context: EngineContext, userid: str, scripts: Sequence[SieveScript]) -> None:
    """Where scripts travel as messages: those that an older release has left as `scripts` in files do not."""
    if scripts:
        context.options.remark(
            f"the Sieve scripts of {userid} are files of an older release, which are not replicated: they"
            " become messages when he logs in to ManageSieve"
        )


@dataclass(frozen=True, slots=True)
class SieveChanges:
    """In the order of doing: upload, remove, then activate (a bytecode name) or deactivate."""

    upload: tuple[SieveScript, ...]
    remove: tuple[str, ...]
    activate: str | None
    deactivate: bool


def sieve_changes(local: Sequence[SieveScript], remote: Sequence[SieveScript]) -> SieveChanges:
    """What makes the replica's scripts those of the master. Bytecode is never uploaded: the replica
    compiles what it gets, and so an uploaded script's bytecode counts as there."""
    theirs = {script.filename: script for script in remote}
    ours = {script.filename for script in local}
    scripts = [script for script in local if script.filename.endswith(SCRIPT)]
    upload = tuple(script for script in scripts if _outdated(script, theirs.get(script.filename)))
    compiled = {script.filename.removesuffix(SCRIPT) + BYTECODE for script in scripts}
    remove = tuple(name for name in theirs if name not in ours and name not in compiled)
    wanted, active = _active(local), _active(remote)
    return SieveChanges(
        upload=upload,
        remove=remove,
        activate=wanted if wanted != active else None,
        deactivate=wanted is None and active is not None and active not in remove,
    )


def _outdated(ours: SieveScript, theirs: SieveScript | None) -> bool:
    if theirs is None:
        return True
    if NULL_GUID not in (theirs.guid, ours.guid):
        return theirs.guid != ours.guid
    return theirs.last_update < ours.last_update


def _active(scripts: Sequence[SieveScript]) -> str | None:
    """The bytecode name of the active script."""
    for script in scripts:
        if script.active:
            return script.filename.removesuffix(SCRIPT).removesuffix(BYTECODE) + BYTECODE
    return None


async def sync_sieve(
    context: EngineContext, userid: str, local: Sequence[SieveScript], remote: Sequence[SieveScript]
) -> None:
    """Bring the replica's scripts of `userid` up to date."""
    changes = sieve_changes(local, remote)
    answers = Answers()
    replica = context.replica
    refused: set[str] = set()
    for script in changes.upload:
        content = await context.threads.run(_read_script, context.master, userid, script.filename)
        if content is None:
            continue
        await replica.ready()
        context.report("SIEVE", userid, script.filename)
        sending = replica.sieve(userid, script.filename, script.last_update, content)
        uploading = _uploaded(context, userid, script.filename, sending, refused)
        answers.expect(start(uploading), command="SIEVE", user=userid)
    for filename in changes.remove:
        await replica.ready()
        context.report("UNSIEVE", userid, filename)
        answers.expect(replica.unsieve(userid, filename), command="UNSIEVE", user=userid)
    if changes.activate is not None:
        context.report("ACTIVATE_SIEVE", userid, changes.activate)
        activating = _activated(replica.activate_sieve(userid, changes.activate), refused)
        answers.expect(start(activating), command="ACTIVATE_SIEVE", user=userid)
    elif changes.deactivate:
        context.report("UNACTIVATE_SIEVE", userid)
        answers.expect(replica.unactivate_sieve(userid), command="UNACTIVATE_SIEVE", user=userid)
    await answers.check()


async def _uploaded(
    context: EngineContext, userid: str, filename: str, answer: Deferred[None], refused: set[str]
) -> None:
    """A script that the replica cannot compile is left out and told of; the others go on."""
    try:
        await answer
    except _CANNOT_COMPILE as error:
        refused.add(filename.removesuffix(SCRIPT))
        context.options.remark(
            f"{userid}: the Sieve script {filename.removesuffix(SCRIPT)} is left out: {error.message}"
        )


async def _activated(answer: Deferred[None], refused: set[str]) -> None:
    """If there is something to activate: what was refused was told of."""
    try:
        await answer
    except ReplyError:
        if not refused:
            raise


def _read_script(master: Master, userid: str, filename: str) -> bytes | None:
    with master.read(Owner("user", userid)) as reader:
        return reader.sieve_content(filename)
