"""Records as rows: finding, inserting, changing and forgetting them in batches, with the mailbox's sums kept
right in a `Tally`, which the caller writes when all is done."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from cyrus_sync.common.model import Record
from cyrus_sync.common.stores.native.rows import (
    INSERT_ANNOTATION,
    INSERT_RECORD,
    RECORD_COLUMNS,
    UPDATE_RECORD,
    annotation_rows,
    insert_rows,
    record_row,
    records_of,
    update_row,
)
from cyrus_sync.common.stores.native.tables.tally import Tally
from cyrus_sync.common.stores.native.transaction import Transaction

_UIDS_AT_ONCE = 2000


def records_by_uid(transaction: Transaction, mailbox: int, uids: Iterable[int]) -> list[Record]:
    """Those of these records that there are, ascending."""
    found: list[Record] = []
    for chunk in chunks(sorted(set(uids)), _UIDS_AT_ONCE):
        rows = transaction.db.execute(
            f"SELECT {RECORD_COLUMNS}, annotations FROM records WHERE mailbox = ?"
            " AND uid IN (SELECT value FROM json_each(?)) ORDER BY uid",
            (mailbox, json.dumps(chunk)),
        ).fetchall()
        found += records_of(transaction.db, mailbox, rows)
    return found


def insert_records(
    transaction: Transaction,
    mailbox: int,
    tally: Tally,
    new: Sequence[Record],
    *,
    stored: Collection[bytes],
) -> None:
    """New records; those whose GUID is not in `stored` have no message."""
    tally.add(new)
    transaction.history.added(mailbox, new)
    insert_rows(
        transaction.db,
        INSERT_RECORD,
        [record_row(mailbox, record, unlinked=record.guid not in stored) for record in new],
    )
    _insert_annotations(transaction, mailbox, [record for record in new if record.annotations])


def update_records(
    transaction: Transaction, mailbox: int, tally: Tally, old: Sequence[Record], new: Sequence[Record]
) -> None:
    """Change records; `old` and `new` run in parallel. UID, GUID and size stay. A `change` if there
    are any."""
    if not new:
        return
    transaction.change()
    tally.replace(old, new)
    transaction.history.replaced(mailbox, old, new)
    transaction.db.executemany(UPDATE_RECORD, [update_row(mailbox, record) for record in new])
    noted = []
    for was, now in zip(old, new, strict=True):
        if was.annotations != now.annotations:
            transaction.history.annotations(mailbox, was.uid, was.annotations)
            noted.append(now)
    if noted:
        transaction.db.executemany(
            "DELETE FROM annotations WHERE mailbox = ? AND uid = ?", [(mailbox, now.uid) for now in noted]
        )
        _insert_annotations(transaction, mailbox, noted)
    transaction.spill_history()


def _insert_annotations(transaction: Transaction, mailbox: int, noted: Sequence[Record]) -> None:
    rows = [row for record in noted for row in annotation_rows(mailbox, record.uid, record.annotations)]
    if rows:
        transaction.db.executemany(INSERT_ANNOTATION, rows)


def forget_records(transaction: Transaction, mailbox: int, tally: Tally, uids: Collection[int]) -> None:
    """Remove records without a trace; their messages stay in the packs until `expire`."""
    if not uids:
        return
    gone = records_by_uid(transaction, mailbox, uids)
    tally.remove([record for record in gone if not record.expunged])
    chosen = json.dumps([record.uid for record in gone])
    rows = transaction.db.execute(
        "SELECT * FROM records WHERE mailbox = ? AND uid IN (SELECT value FROM json_each(?))",
        (mailbox, chosen),
    )
    transaction.history.forgets(mailbox, gone, rows)
    for table in ("records", "annotations"):
        transaction.db.execute(
            f"DELETE FROM {table} WHERE mailbox = ? AND uid IN (SELECT value FROM json_each(?))"
            + (" AND uid > 0" if table == "annotations" else ""),
            (mailbox, chosen),
        )


def chunks(items: Sequence[int], size: int) -> Iterator[list[int]]:
    """`items` in lists of at most `size`."""
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk
