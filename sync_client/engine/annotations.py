"""Annotations of a mailbox, or of the server, that an ANNOTATION line of the log names."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.errors import MailboxNonexistent
from cyrus_sync.common.master import Master
from cyrus_sync.common.model import MailboxAnnotation
from cyrus_sync.common.names import SERVER, owner_of
from cyrus_sync.sync_client.engine.concurrency import Answers, item_of
from cyrus_sync.sync_client.engine.context import EngineContext
from cyrus_sync.sync_client.engine.errors import ItemsFailed


def annotation_changes(
    local: Sequence[MailboxAnnotation], remote: Sequence[MailboxAnnotation]
) -> list[tuple[MailboxAnnotation, bool]]:
    """What is to be set (True) or removed (False) on the replica, in order of (entry, userid)."""
    ours = {(a.entry, a.userid): a for a in local}
    theirs = {(a.entry, a.userid): a for a in remote}
    changes: list[tuple[MailboxAnnotation, bool]] = []
    for key in sorted(ours.keys() | theirs.keys()):
        if key not in ours:
            changes.append((theirs[key], False))
        elif key not in theirs or theirs[key].value != ours[key].value:
            changes.append((ours[key], True))
    return changes


async def sync_annotations(context: EngineContext, mailbox: str) -> None:
    """Make the replica's annotations of `mailbox` ("" = of the server) those of the master."""
    context.begin()
    answers = Answers()
    asking = context.replica.get_annotations(mailbox)
    local = await context.threads.run(_read, context.master, mailbox)
    for note, wanted in annotation_changes(local, await asking):
        await context.replica.ready()
        verb = "ANNOTATION" if wanted else "UNANNOTATION"
        context.report(verb, mailbox, note.entry, note.userid)
        if wanted:
            answer = context.replica.annotation(note)
        else:
            answer = context.replica.unannotation(mailbox, note.entry, note.userid)
        answers.expect(answer, command=verb, mailbox=mailbox, entry=note.entry)
    errors = await answers.errors()
    if not mailbox and errors and all(isinstance(error, MailboxNonexistent) for error in errors):
        # 3.2 looks for a mailbox of that name. To try again changes nothing; the C client passes over it.
        context.options.notice("the replica's release takes no annotations of the server itself: left out")
        return
    if len(errors) == 1:
        raise errors[0]
    if errors:  # the others are done
        raise ItemsFailed([(item_of(error), error) for error in errors])


def _read(master: Master, mailbox: str) -> list[MailboxAnnotation]:
    with master.read(owner_of(mailbox) if mailbox else SERVER) as reader:
        return reader.annotations(mailbox)
