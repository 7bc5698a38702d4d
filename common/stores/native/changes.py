"""Records as rows: inserting, changing and finding them in batches, with the mailbox's sums kept right."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice

from cyrus_sync.common.model import MailboxState, Record
from cyrus_sync.common.protocol.crc import ANNOT_SEED
from cyrus_sync.common.stores.native.boxes import Boxes
from cyrus_sync.common.stores.native.rows import (
    INSERT_ANNOTATION,
    INSERT_RECORD,
    RECORD_COLUMNS,
    UPDATE_RECORD,
    annotation_rows,
    record_row,
    records_of,
    update_row,
)
from cyrus_sync.common.stores.native.tally import Tally, weight
from cyrus_sync.common.stores.native.transaction import Box

_UIDS_AT_ONCE = 2000


class RecordChanges(Boxes):
    """What every verb does to records."""

    def records_by_uid(self, mailbox: int, uids: Iterable[int]) -> list[Record]:
        """Those of these records that there are, ascending."""
        found: list[Record] = []
        for chunk in chunks(sorted(set(uids)), _UIDS_AT_ONCE):
            rows = self._db.execute(
                f"SELECT {RECORD_COLUMNS}, annotations FROM records WHERE mailbox = ?"
                " AND uid IN (SELECT value FROM json_each(?)) ORDER BY uid",
                (mailbox, json.dumps(chunk)),
            ).fetchall()
            found += records_of(self._db, mailbox, rows)
        return found

    def insert_records(
        self, mailbox: int, tally: Tally, records: Sequence[Record], *, stored: Collection[bytes]
    ) -> None:
        """New records; those whose GUID is not in `stored` have no message."""
        tally.add(records)
        self._db.executemany(
            INSERT_RECORD,
            [record_row(mailbox, record, unlinked=record.guid not in stored) for record in records],
        )
        self._insert_annotations(mailbox, [record for record in records if record.annotations])

    def update_records(
        self, mailbox: int, tally: Tally, old: Sequence[Record], new: Sequence[Record]
    ) -> None:
        """Change records; `old` and `new` run in parallel. UID, GUID and size stay."""
        if not new:
            return
        self.change()
        tally.replace(old, new)
        self._db.executemany(UPDATE_RECORD, [update_row(mailbox, record) for record in new])
        noted = [now for was, now in zip(old, new, strict=True) if was.annotations != now.annotations]
        if noted:
            self._db.executemany(
                "DELETE FROM annotations WHERE mailbox = ? AND uid = ?", [(mailbox, now.uid) for now in noted]
            )
            self._insert_annotations(mailbox, noted)

    def recount_box(self, uniqueid: str) -> bool:
        """Make a mailbox's sums anew from its records; whether they were wrong."""
        box = self.box_by_id(uniqueid)
        empty = MailboxState("", "", sync_crc=0, sync_crc_annot=ANNOT_SEED)
        tally = Tally(Box(box.id, empty, 0, 0, weight(box.state.annotations)))
        for batch in self.records(uniqueid):
            tally.add(batch)
        wrong = tally.columns() != Tally(box).columns()
        if wrong:
            self.change()
            self.set_columns(box.id, **tally.columns())
        return wrong

    def _insert_annotations(self, mailbox: int, records: Sequence[Record]) -> None:
        rows = [row for record in records for row in annotation_rows(mailbox, record.uid, record.annotations)]
        if rows:
            self._db.executemany(INSERT_ANNOTATION, rows)


def chunks(items: Sequence[int], size: int) -> Iterator[list[int]]:
    """`items` in lists of at most `size`."""
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk
