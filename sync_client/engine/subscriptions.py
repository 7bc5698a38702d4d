"""Subscriptions: the replica gets the names that the master's user has subscribed to, and no others."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.master import Master
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.engine.concurrency import Answers
from cyrus_sync.sync_client.engine.session import Session


def subscription_changes(local: Sequence[str], remote: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names to subscribe and names to unsubscribe."""
    ours, theirs = set(local), set(remote)
    return [name for name in local if name not in theirs], [name for name in remote if name not in ours]


async def sync_subscriptions(
    session: Session, userid: str, local: Sequence[str], remote: Sequence[str]
) -> None:
    """Make the replica's subscriptions of `userid` those of the master."""
    wanted, surplus = subscription_changes(local, remote)
    answers = Answers()
    for name in wanted:
        await _put(session, answers, userid, name, True)
    for name in surplus:
        await _put(session, answers, userid, name, False)
    await answers.check()


async def sub(session: Session, userid: str, mailbox: str) -> None:
    """A SUB or UNSUB line of the log: send what the subscription is now."""
    session.begin()
    subscribed = await session.threads.run(_is_subscribed, session.master, userid, mailbox)
    answers = Answers()
    await _put(session, answers, userid, mailbox, subscribed)
    await answers.check()


async def _put(session: Session, answers: Answers, userid: str, name: str, subscribed: bool) -> None:
    verb = "SUB" if subscribed else "UNSUB"
    await session.replica.ready()
    session.report(verb, userid, name)
    send = session.replica.sub if subscribed else session.replica.unsub
    answers.expect(send(userid, name), command=verb, user=userid, mailbox=name)


def _is_subscribed(master: Master, userid: str, mailbox: str) -> bool:
    with master.read(Owner("user", userid)) as reader:
        return mailbox in reader.meta(with_sieve=False).subscriptions
