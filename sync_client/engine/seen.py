"""\\Seen of users in mailboxes that are not theirs: records of the user's own seen database."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.master import Master
from cyrus_sync.common.model import Seen
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.engine.concurrency import Answers
from cyrus_sync.sync_client.engine.context import EngineContext


def seen_changes(local: Sequence[Seen], remote: Sequence[Seen]) -> list[Seen]:
    """Records that the replica lacks or has otherwise. Nothing is ever removed there."""
    theirs = {seen.uniqueid: seen for seen in remote}
    return [seen for seen in local if theirs.get(seen.uniqueid) != seen]


async def sync_seen(
    context: EngineContext, userid: str, local: Sequence[Seen], remote: Sequence[Seen]
) -> None:
    """Bring the replica's seen records of `userid` up to date."""
    answers = Answers()
    for record in seen_changes(local, remote):
        await context.replica.ready()
        _put(context, answers, userid, record)
    await answers.check()


async def seen(context: EngineContext, userid: str, uniqueid: str) -> None:
    """A SEEN line of the log: send that record as it is now."""
    context.begin()
    record = await context.threads.run(_read_seen, context.master, userid, uniqueid)
    if record is not None:
        answers = Answers()
        _put(context, answers, userid, record)
        await answers.check()


def _put(context: EngineContext, answers: Answers, userid: str, record: Seen) -> None:
    context.report("SEEN", userid, record.uniqueid)
    answers.expect(
        context.replica.seen(userid, record), command="SEEN", user=userid, uniqueid=record.uniqueid
    )


def _read_seen(master: Master, userid: str, uniqueid: str) -> Seen | None:
    with master.read(Owner("user", userid)) as reader:
        return reader.seen(uniqueid)
