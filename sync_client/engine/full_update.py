"""The full update: carry out what `conflict` decides, so that no interruption loses a message.

1. GET FULLMAILBOX. 2. A dry walk finds which messages exist on the replica only; they are fetched into
a spool while nothing is locked. 3. Under the owner's write lock the walk is done again, on the state of
now, and everything is carried out on the master in one durable transaction: adopt first, then renumber,
rewrite and raise counters. 4. Only then does EXPUNGE drop on the replica what has found its new UID.
5. The caller sends the merged mailbox.

Interrupted between 3 and 4, the next full update finds that the messages have been adopted, and only
repeats the EXPUNGE.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cyrus_sync.common.errors import MailboxMoved, MailboxNonexistent, SyncChanged, SyncChecksum
from cyrus_sync.common.model import MailboxState, Record, RecordSource
from cyrus_sync.common.stores.mailstore import MailReader, MailWriter
from cyrus_sync.sync_client.engine.compare import mailbox_annotations
from cyrus_sync.sync_client.engine.concurrency import all_of, start
from cyrus_sync.sync_client.engine.conflict import (
    Action,
    Adopt,
    Counters,
    ExpungeRemote,
    Renumber,
    Rewrite,
    walk,
    without_adopted,
)
from cyrus_sync.sync_client.engine.reading import Item, Without
from cyrus_sync.sync_client.engine.session import Session
from cyrus_sync.sync_client.engine.spool import BodySpool

ROUNDS = 3
"""How often the walk is repeated because the master changed while messages were fetched."""

FETCHES_IN_FLIGHT = 32


@dataclass(slots=True)
class Outcome:
    """What is left to do on the replica."""

    expunge: list[int]


async def full_update(session: Session, item: Item) -> None:
    """Settle the conflict between both sides' `item`; afterwards a normal update without SINCE is due.

    Raises `SyncChecksum` if a message that only the replica has cannot be fetched.
    """
    session.report("FULLMAILBOX", item.name)
    for _ in range(ROUNDS):
        try:
            remote, records = await session.replica.get_full_mailbox(item.name)
        except MailboxNonexistent:
            item.remote = None
            break
        if remote.uniqueid != item.uniqueid:
            raise MailboxMoved().at(command="FULLMAILBOX")
        outcome = await _settle(session, item, remote, records)
        if outcome is None:
            continue
        if outcome.expunge:
            await session.replica.expunge(item.name, item.uniqueid, outcome.expunge)
        item.remote = remote
        break
    else:
        raise SyncChanged("the mailbox kept changing while its conflict was settled")
    item.since = False
    item.full_done = True
    item.cached = False
    item.cuts.clear()


async def _settle(
    session: Session, item: Item, remote: MailboxState, records: RecordSource
) -> Outcome | None:
    """Fetch and carry out; None if the master changed so that more must be fetched."""
    run = session.threads.run
    spool = await run(BodySpool, session.options.spool_dir)
    try:
        lacking = await run(_dry_walk, session, item, remote, records)
        await _fetch_all(session, item, remote, lacking, spool)
        return await run(_change, session, item, remote, records, spool)
    finally:
        await run(spool.close)


def _dry_walk(session: Session, item: Item, remote: MailboxState, records: RecordSource) -> list[Record]:
    """The replica's records whose messages have to be fetched, each message once."""
    with session.store.read(item.owner) as reader:
        local = reader.mailbox_by_id(item.uniqueid)
        if local is None:
            return []
        adopted = _adoptions(session, reader, local, remote, records)
        return _not_stored(reader, adopted)


def _ours(
    session: Session, reader: MailReader, uniqueid: str, records: RecordSource
) -> tuple[RecordSource, dict[int, bytes]]:
    """The master's records without those that the replica lacks and whose messages cannot be read: there is
    nothing to be given under another UID. And these, GUID by UID."""
    ours = reader.records(uniqueid)
    if session.options.withheld is None:
        return ours, {}
    damaged = reader.damaged_guids()
    bad = reader.unsound(damaged) if damaged else set()
    lacking: dict[int, bytes] = {}
    for batch in ours:
        live = {record.uid: record.guid for record in batch if not record.expunged}
        stored = reader.has_guids(live.values())
        lacking.update((u, guid) for u, guid in live.items() if guid in bad or guid not in stored)
    if not lacking:
        return ours, {}
    for batch in records:
        for record in batch:
            lacking.pop(record.uid, None)
    return Without(ours, lacking), lacking


def _adoptions(
    session: Session,
    reader: MailReader,
    local: MailboxState,
    remote: MailboxState,
    records: RecordSource,
) -> list[Record]:
    ours, _ = _ours(session, reader, local.uniqueid, records)
    actions = walk(ours, records, Counters.of(local, remote))
    return [action.record for action in actions if isinstance(action, Adopt)]


def _not_stored(reader: MailReader, records: Iterable[Record]) -> list[Record]:
    by_guid = {record.guid: record for record in records}
    stored = reader.has_guids(by_guid)
    return [record for guid, record in by_guid.items() if guid not in stored]


async def _fetch_all(
    session: Session, item: Item, remote: MailboxState, lacking: Sequence[Record], spool: BodySpool
) -> None:
    for begin in range(0, len(lacking), FETCHES_IN_FLIGHT):
        fetches = []
        for record in lacking[begin : begin + FETCHES_IN_FLIGHT]:
            await session.replica.ready()
            fetches.append(start(_fetch(session, item, remote, record, spool)))
        await all_of(fetches)


async def _fetch(
    session: Session, item: Item, remote: MailboxState, record: Record, spool: BodySpool
) -> None:
    where = f"message {record.uid} ({record.guid.hex()}), which only the replica has"
    try:
        body = await session.replica.fetch(
            item.name, remote.partition, remote.uniqueid, record.guid, record.uid
        )
    except MailboxNonexistent:
        body = None
    if body is None:
        raise SyncChecksum(f"{where}, is damaged there and cannot be fetched").at(command="FETCH")
    if body.guid != record.guid:
        raise SyncChecksum(f"{where}: the replica sent another one").at(command="FETCH")
    await session.threads.run(spool.add, body)


def _change(
    session: Session, item: Item, remote: MailboxState, records: RecordSource, spool: BodySpool
) -> Outcome | None:
    """The changing walk, one transaction."""
    with session.store.write(item.owner, create=False) as writer:
        local = writer.mailbox_by_id(item.uniqueid)
        if local is None:
            return Outcome([])
        ours, lacking = _ours(session, writer, item.uniqueid, records)
        actions = list(walk(ours, records, Counters.of(local, remote)))
        adopted = [action.record for action in actions if isinstance(action, Adopt)]
        if any(record.guid not in spool for record in _not_stored(writer, adopted)):
            return None
        actions = without_adopted(actions, writer.records(item.uniqueid), records)
        _carry_out(writer, local, remote, actions, spool)
        if session.options.withheld is not None:
            below = {uid: guid for uid, guid in lacking.items() if uid <= remote.last_uid}
            session.options.withheld.put(item.uniqueid, item.name, below)
        return Outcome([action.uid for action in actions if isinstance(action, ExpungeRemote)])


def _carry_out(
    writer: MailWriter,
    local: MailboxState,
    remote: MailboxState,
    actions: Sequence[Action],
    spool: BodySpool,
) -> None:
    uniqueid = local.uniqueid
    ahead = remote.highestmodseq > local.highestmodseq
    writer.raise_counters(
        uniqueid,
        uidvalidity=remote.uidvalidity,
        highestmodseq=remote.highestmodseq + 1 if ahead else 0,
        xconvmodseq=remote.xconvmodseq,
    )
    for action in actions:
        if isinstance(action, Adopt) and action.keep_uid:
            _adopt(writer, uniqueid, action, spool)
    writer.raise_counters(
        uniqueid,
        last_uid=remote.last_uid,
        foldermodseq=remote.foldermodseq,
        raclmodseq=remote.raclmodseq,
    )
    for action in actions:
        if isinstance(action, Adopt) and not action.keep_uid:
            _adopt(writer, uniqueid, action, spool)
        elif isinstance(action, Renumber):
            writer.adopt(uniqueid, action.record, None, keep_uid=False)
    rewritten = [action.record for action in actions if isinstance(action, Rewrite)]
    if rewritten:
        writer.rewrite_records(uniqueid, rewritten)
    if ahead and mailbox_annotations(local) != mailbox_annotations(remote):
        writer.replace_mailbox_annotations(uniqueid, remote.annotations)


def _adopt(writer: MailWriter, uniqueid: str, action: Adopt, spool: BodySpool) -> None:
    writer.adopt(uniqueid, action.record, spool.body(action.record.guid), keep_uid=action.keep_uid)
