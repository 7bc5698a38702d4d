"""Which messages a command means."""

from __future__ import annotations

from collections.abc import Iterator

from common.model import MailboxState, Record
from common.stores.mailstore import MailReader
from mailstore.context import parse_uids


def records_of(
    reader: MailReader, mailbox: MailboxState, *, expunged: bool | None = False
) -> Iterator[list[Record]]:
    """Records in batches: live ones, or `expunged` ones, or (None) both."""
    for batch in reader.records(mailbox.uniqueid):
        yield [record for record in batch if expunged is None or record.expunged == expunged]


def select(
    reader: MailReader, mailbox: MailboxState, typed: str, *, expunged: bool = False, flag: str = ""
) -> list[int]:
    """The UIDs of `typed` (``1:5,9,12:*``) that the mailbox has, ascending."""
    wanted = parse_uids(typed, mailbox.last_uid)
    return [
        record.uid
        for batch in records_of(reader, mailbox, expunged=expunged)
        for record in batch
        if any(record.uid in one for one in wanted) and (not flag or flag in record.flags.split())
    ]
