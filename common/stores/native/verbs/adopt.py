"""What settling a conflict does on the master; logged as any local change, so that it is replicated."""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.errors import ProtocolError, StoreError
from cyrus_sync.common.model import Annotation, MessageBody, Record, held_date
from cyrus_sync.common.stores.native.flags import keywords_of, with_keywords
from cyrus_sync.common.stores.native.intake import store_bodies
from cyrus_sync.common.stores.native.tables.annotations import in_order, replace_box_annotations
from cyrus_sync.common.stores.native.tables.boxes import folder_changed, get_box_by_id, set_columns
from cyrus_sync.common.stores.native.tables.counters import next_modseq, raise_owner
from cyrus_sync.common.stores.native.tables.messages import stored_anew, stored_sizes
from cyrus_sync.common.stores.native.tables.records import insert_records, records_by_uid, update_records
from cyrus_sync.common.stores.native.tables.tally import Tally
from cyrus_sync.common.stores.native.transaction import Transaction


def raise_counters(
    transaction: Transaction,
    uniqueid: str,
    *,
    uidvalidity: int = 0,
    highestmodseq: int = 0,
    last_uid: int = 0,
    foldermodseq: int = 0,
    raclmodseq: int = 0,
    xconvmodseq: int = 0,
) -> None:
    """Raise what is lower of a mailbox's counters; the owner's own follow. Raises `MailboxNonexistent`."""
    box = get_box_by_id(transaction, uniqueid)
    wanted = {
        "uidvalidity": uidvalidity,
        "highestmodseq": highestmodseq,
        "last_uid": last_uid,
        "foldermodseq": foldermodseq,
        "raclmodseq": raclmodseq,
        "xconvmodseq": xconvmodseq,
    }
    higher = {name: value for name, value in wanted.items() if value > getattr(box.state, name)}
    if not higher:
        return
    transaction.change()
    set_columns(transaction, box.id, **higher)
    raise_owner(
        transaction,
        modseq=max(highestmodseq, foldermodseq, raclmodseq, xconvmodseq),
        uidvalidity=uidvalidity,
    )
    transaction.log("MAILBOX", box.state.name)


def rewrite_records(transaction: Transaction, uniqueid: str, records: Sequence[Record]) -> None:
    """Put these records in the place of those with their UIDs, with a new modseq; sizes stay. Raises
    `MailboxNonexistent`; `StoreError` for a UID that is not there or is another message."""
    box = get_box_by_id(transaction, uniqueid)
    uids = [record.uid for record in records]
    mine = {record.uid: record for record in records_by_uid(transaction, box.id, uids)}
    old, new = [], []
    modseq, now = next_modseq(transaction), transaction.around.now()
    for record in records:
        was = mine.get(record.uid)
        if was is None or was.guid != record.guid:
            raise StoreError(f"uid {record.uid} is not the record to rewrite").at(uniqueid=uniqueid)
        old.append(was)
        date = held_date(record.internaldate)
        new.append(record._replace(modseq=modseq, last_updated=now, internaldate=date, size=was.size))
    if not new:
        return
    tally = Tally(box)
    update_records(transaction, box.id, tally, old, new)
    keywords = with_keywords(box.state.userflags, keywords_of(record.flags for record in new))
    set_columns(transaction, box.id, **tally.columns_at(modseq), userflags=" ".join(keywords))
    transaction.log("MAILBOX", box.state.name)


def heal(transaction: Transaction, body: MessageBody) -> None:
    """Store a message whose stored copy is damaged or missing. Raises `ProtocolError` if it is not what its
    GUID says."""
    transaction.change()
    store_bodies(transaction, [body])
    stored_anew(transaction, [body.guid])


def adopt(
    transaction: Transaction, uniqueid: str, record: Record, body: MessageBody | None, *, keep_uid: bool
) -> int:
    """Append a message of the replica's, under its own UID or the next. Raises `MailboxNonexistent`;
    `StoreError` where the message is not stored and not given, or the UID is taken; `ProtocolError` for a
    wrong one."""
    box = get_box_by_id(transaction, uniqueid)
    transaction.change()
    if body is not None and (
        record.guid not in transaction.reader.has_guids([record.guid])
        or transaction.reader.unsound([record.guid])
    ):
        if body.guid != record.guid:
            raise ProtocolError("message does not match the record").at(uniqueid=uniqueid)
        store_bodies(transaction, [body])
        stored_anew(transaction, [record.guid])
    size = stored_sizes(transaction, [record.guid]).get(record.guid)
    if size is None:
        raise StoreError("the message to adopt is not stored").at(uniqueid=uniqueid, guid=record.guid.hex())
    uid = record.uid if keep_uid else box.state.last_uid + 1
    if keep_uid and records_by_uid(transaction, box.id, [uid]):
        raise StoreError(f"uid {uid} is taken").at(uniqueid=uniqueid)
    modseq, now = next_modseq(transaction), transaction.around.now()
    new = record._replace(
        uid=uid,
        modseq=modseq,
        last_updated=now,
        internaldate=held_date(record.internaldate),
        size=size,
        createdmodseq=record.createdmodseq or modseq,
    )
    tally = Tally(box)
    insert_records(transaction, box.id, tally, [new], stored={record.guid})
    keywords = with_keywords(box.state.userflags, keywords_of([new.flags]))
    set_columns(
        transaction,
        box.id,
        **tally.columns_at(modseq),
        last_uid=max(box.state.last_uid, uid),
        last_appenddate=now,
        userflags=" ".join(keywords),
    )
    transaction.log("APPEND", box.state.name)
    transaction.log("MAILBOX", box.state.name)
    return uid


def replace_mailbox_annotations(
    transaction: Transaction, uniqueid: str, annotations: Sequence[Annotation]
) -> None:
    """Make these the mailbox's own annotations. Raises `MailboxNonexistent`."""
    box = get_box_by_id(transaction, uniqueid)
    wanted = in_order(annotations)
    if wanted == box.state.annotations:
        return
    transaction.change()
    replace_box_annotations(transaction, box, wanted)
    folder_changed(transaction, box)
