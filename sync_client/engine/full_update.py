"""The full update: find what `conflict` decides, and have the master carry it out. No interruption loses a
message.

1. GET FULLMAILBOX. 2. A walk over both sides' records makes a `Settlement`, and finds which messages exist on
the replica only; they are fetched into a spool. 3. The master carries the settlement out, and all of it is
durable there; if the mailbox has changed meanwhile so that it is wrong, the walk is repeated. 4. Only then
does EXPUNGE drop on the replica what has found its new UID. 5. The caller sends the merged mailbox.

Interrupted between 3 and 4, the next full update finds that the messages have been adopted, and only
repeats the EXPUNGE. A master that takes no changes is spared where none are needed: what the replica missed
is sent, what is stale there is expunged. Where they are needed, the mailbox fails, and says what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cyrus_sync.common.errors import (
    MailboxMoved,
    MailboxNonexistent,
    SettlementRefused,
    SnapshotLost,
    SyncChanged,
    SyncChecksum,
)
from cyrus_sync.common.master import Master, MasterReader, Settlement
from cyrus_sync.common.model import MailboxState, Record, RecordSource
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.engine.compare import told
from cyrus_sync.sync_client.engine.concurrency import all_of, start
from cyrus_sync.sync_client.engine.conflict import Adopt, Counters, walk, without_adopted, without_copied
from cyrus_sync.sync_client.engine.context import EngineContext
from cyrus_sync.sync_client.engine.errors import NeverStill
from cyrus_sync.sync_client.engine.reading import Item, Without, sound
from cyrus_sync.sync_client.engine.settlement import make_settlement
from cyrus_sync.sync_client.engine.spool import BodySpool

ROUNDS = 10
"""How often the walk is done, at most: again when the master has changed so that its result is wrong."""

FETCHES_IN_FLIGHT = 32


class Walked(NamedTuple):
    """What one walk came to."""

    settlement: Settlement
    to_fetch: list[Record]
    """The replica's records whose messages the master and the spool lack, each message once."""
    withheld: dict[int, bytes]
    """Messages that the replica lacks since they cannot be read here, GUID by UID."""


async def full_update(context: EngineContext, item: Item) -> None:
    """Settle the conflict between both sides' `item`; afterwards a normal update without SINCE is due.

    Raises `SyncChecksum` if a message that only the replica has cannot be fetched, `SettlementRefused` if the
    master would have to be changed and takes no changes.
    """
    context.report("FULLMAILBOX", item.name)
    try:
        remote, records = await context.replica.get_full_mailbox(item.name)
    except MailboxNonexistent:
        item.remote = None
    else:
        if remote.uniqueid != item.uniqueid:
            raise MailboxMoved().at(command="FULLMAILBOX")
        expunge = await _settle(context, item, remote, records)
        if expunge:
            await context.replica.expunge(item.name, item.uniqueid, expunge)
        item.remote = remote
    item.since = False
    item.full_done = True
    item.cached = False
    item.cuts.clear()


async def _settle(
    context: EngineContext, item: Item, remote: MailboxState, records: RecordSource
) -> Sequence[int]:
    """Make the master what both sides come to; the UIDs to be expunged on the replica."""
    run = context.threads.run
    spool = await run(BodySpool, context.options.spool_dir)
    try:
        for _ in range(ROUNDS):
            try:
                walked = await run(_walk, context, item, remote, records, spool)
                if walked is None:
                    return []
                if not context.master.refuses:
                    await _fetch_all(context, item, remote, walked.to_fetch, spool)
                expunge = await run(_carry_out, context, item, walked)
            except SnapshotLost:
                continue
            if expunge is not None:
                return expunge
    finally:
        await run(spool.close)
    raise NeverStill("the mailbox kept changing while its conflict was settled")


def _walk(
    context: EngineContext, item: Item, remote: MailboxState, records: RecordSource, spool: BodySpool
) -> Walked | None:
    """Both sides' records, as they are now; None if the master has no such mailbox any more."""
    with context.master.read(item.owner) as reader:
        local = reader.mailbox_by_id(item.uniqueid)
        if local is None:
            return None
        if context.master.refuses:
            local = told(local, remote)
        ours, lacking = _ours(context, reader, item.uniqueid, records)
        actions = list(walk(ours, records, Counters.of(local, remote)))
        actions = without_adopted(actions, reader.records(item.uniqueid), records)
        actions = without_copied(actions, reader.records(item.uniqueid))
        adopted = {act.record.guid: act.record for act in actions if isinstance(act, Adopt)}
        stored = reader.has_guids(adopted) if adopted else set()
    to_fetch = [r for guid, r in adopted.items() if guid not in stored and guid not in spool]
    return Walked(
        make_settlement(local, remote, actions, spool),
        to_fetch,
        {uid: guid for uid, guid in lacking.items() if uid <= remote.last_uid},
    )


def _ours(
    context: EngineContext, reader: MasterReader, uniqueid: str, records: RecordSource
) -> tuple[RecordSource, dict[int, bytes]]:
    """The master's records without those that the replica lacks and whose messages cannot be read: there is
    nothing to be given under another UID. And these, GUID by UID."""
    ours = reader.records(uniqueid)
    if context.options.withheld is None:
        return ours, {}
    damaged = reader.damaged_guids()
    lacking: dict[int, bytes] = {}
    for batch in ours:
        live = [(record.uid, record.guid) for record in batch if not record.expunged]
        good = sound(reader, uniqueid, live, damaged)
        lacking.update((uid, guid) for uid, guid in live if guid not in good)
    if not lacking:
        return ours, {}
    for batch in records:
        for record in batch:
            lacking.pop(record.uid, None)
    return Without(ours, lacking), lacking


def _carry_out(context: EngineContext, item: Item, walked: Walked) -> Sequence[int] | None:
    """Have the master do it; None if it has changed so that this is wrong by now."""
    try:
        expunge = settle(context.master, item.owner, walked.settlement)
    except (SyncChanged, MailboxNonexistent):
        return None
    if context.options.withheld is not None:
        context.options.withheld.put(item.uniqueid, item.name, walked.withheld)
    return expunge


def settle(master: Master, owner: Owner, settlement: Settlement) -> Sequence[int]:
    """Have the master settle, if it has to. A refusal says what differs."""
    if settlement.changes_nothing:
        return settlement.expunge
    try:
        if master.refuses:
            raise SettlementRefused(master.refuses)
        return master.settle(owner, settlement)
    except SettlementRefused as error:
        text = f"both sides have changed it ({settlement.describe()}), and {error.message}"
        raise SettlementRefused(text) from error


async def _fetch_all(
    context: EngineContext, item: Item, remote: MailboxState, lacking: Sequence[Record], spool: BodySpool
) -> None:
    for begin in range(0, len(lacking), FETCHES_IN_FLIGHT):
        fetches = []
        for record in lacking[begin : begin + FETCHES_IN_FLIGHT]:
            await context.replica.ready()
            fetches.append(start(_fetch(context, item, remote, record, spool)))
        await all_of(fetches)


async def _fetch(
    context: EngineContext, item: Item, remote: MailboxState, record: Record, spool: BodySpool
) -> None:
    where = f"message {record.uid} ({record.guid.hex()}), which only the replica has"
    try:
        body = await context.replica.fetch(
            item.name, remote.partition, remote.uniqueid, record.guid, record.uid
        )
    except MailboxNonexistent:
        body = None
    if body is None:
        raise SyncChecksum(f"{where}, is damaged there and cannot be fetched").at(command="FETCH")
    if body.guid != record.guid:
        raise SyncChecksum(f"{where}: the replica sent another one").at(command="FETCH")
    await context.threads.run(spool.add, body)
