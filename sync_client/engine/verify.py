"""Is a user the same on both sides? The engine's comparison, without the sending.

Mailboxes are compared by uniqueid, header and CRCs; with `deep`, record by record. What the protocol
does not carry (quota usage, modseqs of annotations) is not compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from cyrus_sync.common.errors import InvalidUser, MailboxNonexistent
from cyrus_sync.common.identity import differs
from cyrus_sync.common.master import Master, MasterReader
from cyrus_sync.common.model import MailboxState, Record, UserState
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.common.replica import Replica
from cyrus_sync.common.threads import Threads
from cyrus_sync.sync_client.engine.compare import differences, intermediate_done
from cyrus_sync.sync_client.engine.concurrency import forgiving
from cyrus_sync.sync_client.engine.quotas import quota_changes
from cyrus_sync.sync_client.engine.seen import seen_changes
from cyrus_sync.sync_client.engine.sieve import sieve_changes
from cyrus_sync.sync_client.engine.subscriptions import subscription_changes
from cyrus_sync.sync_client.engine.survey import is_hidden


class Difference(NamedTuple):
    """One thing that is not the same: `what` (mailbox, record, quota, …), which, and in what respect."""

    what: str
    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.what} {self.name}: {self.detail}"


async def diff_user(
    master: Master,
    replica: Replica,
    threads: Threads,
    userid: str,
    *,
    partition: str = "",
    deep: bool = False,
) -> list[Difference]:
    """What of `userid` differs between master and replica; empty = nothing.

    `partition` as ``-p``. `deep` also fetches and compares every record.
    """
    state = await forgiving(replica.get_user(userid), MailboxNonexistent, InvalidUser) or UserState()
    sieve_mailbox = "SIEVE-MAILBOX" in replica.capabilities
    found, common = await threads.run(_compare_user, master, userid, state, partition, sieve_mailbox)
    if deep:
        for name in common:
            _, records = await replica.get_full_mailbox(name)
            found += await threads.run(_compare_records, master, userid, name, records)
    return found


def _compare_user(
    master: Master, userid: str, remote: UserState, partition: str, sieve_mailbox: bool
) -> tuple[list[Difference], list[str]]:
    with master.read(Owner("user", userid)) as reader:
        if reader.mailbox(inbox_of(userid)) is None:
            gone = [Difference("mailbox", s.name, "exists on the replica only") for s in remote.mailboxes]
            return gone, []
        local = [state for state in reader.mailboxes() if not is_hidden(state, sieve_mailbox)]
        found, common = _compare_mailboxes(local, remote.mailboxes, partition, sieve_mailbox)
        meta = reader.meta(with_sieve=not sieve_mailbox)
        found += _compare_quotas(reader, remote)
    subscribe, unsubscribe = subscription_changes(meta.subscriptions, remote.meta.subscriptions)
    found += [Difference("subscription", name, "is missing on the replica") for name in subscribe]
    found += [Difference("subscription", name, "exists on the replica only") for name in unsubscribe]
    found += [
        Difference("seen", seen.uniqueid, "is missing or different on the replica")
        for seen in seen_changes(meta.seen, remote.meta.seen)
    ]
    if not sieve_mailbox:
        scripts = sieve_changes(meta.sieve, remote.meta.sieve)
        found += [
            Difference("script", s.filename, "is missing or different on the replica") for s in scripts.upload
        ]
        found += [Difference("script", name, "exists on the replica only") for name in scripts.remove]
        if scripts.activate:
            found.append(Difference("script", scripts.activate, "is not active on the replica"))
        if scripts.deactivate:
            found.append(Difference("script", "", "one is active on the replica only"))
    return found, common


def _compare_mailboxes(
    local: Sequence[MailboxState], remote: Sequence[MailboxState], partition: str, sieve_mailbox: bool
) -> tuple[list[Difference], list[str]]:
    """The differences, and the names of mailboxes that both have."""
    theirs = {state.uniqueid: state for state in remote if not is_hidden(state, sieve_mailbox)}
    found: list[Difference] = []
    common: list[str] = []
    for ours in local:
        other = theirs.pop(ours.uniqueid, None)
        if other is None:
            found.append(Difference("mailbox", ours.name, "is missing on the replica"))
        elif ours.intermediate:
            if not intermediate_done(ours, other):
                found.append(Difference("mailbox", ours.name, "differs as an intermediate name"))
        else:
            target = partition or ours.partition
            if other.name != ours.name:
                found.append(Difference("mailbox", ours.name, f"is called {other.name} on the replica"))
            else:
                common.append(ours.name)
            if other.partition != target:
                found.append(Difference("mailbox", ours.name, f"is on partition {other.partition}"))
            found += [
                Difference("mailbox", ours.name, f"{f}: {getattr(ours, f)!r} {getattr(other, f)!r}")
                for f in differences(ours, other)
            ]
    found += [
        Difference("mailbox", other.name, "exists on the replica only")
        for other in theirs.values()
        if not other.intermediate
    ]
    return found, common


def _compare_quotas(reader: MasterReader, remote: UserState) -> list[Difference]:
    wanted, surplus = quota_changes(reader.quotas(), remote.quotas)
    return [Difference("quota", quota.root, "is missing or different on the replica") for quota in wanted] + [
        Difference("quota", root, "exists on the replica only") for root in surplus
    ]


def _compare_records(
    master: Master, userid: str, name: str, remote: Iterable[Sequence[Record]]
) -> list[Difference]:
    with master.read(Owner("user", userid)) as reader:
        state = reader.mailbox(name)
        local = reader.records(state.uniqueid) if state else ()
        return list(_unequal(name, local, remote))


def _unequal(
    name: str, local: Iterable[Sequence[Record]], remote: Iterable[Sequence[Record]]
) -> Iterator[Difference]:
    """Records that differ. Expunged ones need not exist on both sides: each cleans up by itself."""
    ours = {record.uid: record for batch in local for record in batch}
    theirs = {record.uid: record for batch in remote for record in batch}
    for uid in sorted(ours.keys() | theirs.keys()):
        our, their = ours.get(uid), theirs.get(uid)
        if our is None or their is None:
            alone = our or their
            if alone is not None and not alone.expunged:
                where = "is missing on the replica" if their is None else "exists on the replica only"
                yield Difference("record", f"{name}:{uid}", where)
        elif our.expunged and their.expunged:
            continue
        elif our.guid != their.guid:
            yield Difference("record", f"{name}:{uid}", "is another message on the replica")
        elif differs(our, their):
            yield Difference("record", f"{name}:{uid}", "differs")
