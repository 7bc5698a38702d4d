"""Subscriptions: the replica gets the names that the master's user has subscribed to, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.master import Master
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.engine.concurrency import Answers
from cyrus_sync.sync_client.engine.context import EngineContext


def subscription_changes(local: Sequence[str], remote: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names to subscribe and names to unsubscribe."""
    ours, theirs = set(local), set(remote)
    return [name for name in local if name not in theirs], [name for name in remote if name not in ours]


async def sync_subscriptions(
    context: EngineContext, userid: str, local: Sequence[str], remote: Sequence[str]
) -> None:
    """Make the replica's subscriptions of `userid` those of the master."""
    wanted, surplus = subscription_changes(local, remote)
    answers = Answers()
    for name in wanted:
        await _put(context, answers, userid, name, True)
    for name in surplus:
        await _put(context, answers, userid, name, False)
    await answers.check()


async def sub(context: EngineContext, userid: str, mailbox: str) -> None:
    """A SUB or UNSUB line of the log: send what the subscription is now."""
    context.begin()
    subscribed = await context.threads.run(_is_subscribed, context.master, userid, mailbox)
    answers = Answers()
    await _put(context, answers, userid, mailbox, subscribed)
    await answers.check()


async def _put(context: EngineContext, answers: Answers, userid: str, name: str, subscribed: bool) -> None:
    verb = "SUB" if subscribed else "UNSUB"
    await context.replica.ready()
    context.report(verb, userid, name)
    send = context.replica.sub if subscribed else context.replica.unsub
    answers.expect(send(userid, name), command=verb, user=userid, mailbox=name)


def _is_subscribed(master: Master, userid: str, mailbox: str) -> bool:
    with master.read(Owner("user", userid)) as reader:
        return mailbox in reader.meta(with_sieve=False).subscriptions
