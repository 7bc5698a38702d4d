"""Mailboxes that were deleted and whose mail `expire` has not removed yet: which they are, and back again."""

from __future__ import annotations

from cyrus_sync.common.errors import MailboxMoved, MailboxNonexistent, UnknownFailure
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import check_mailbox_name, owner_of
from cyrus_sync.common.stores.care import Removed
from cyrus_sync.common.stores.native.rows import STATE_COLUMNS, state_of
from cyrus_sync.common.stores.native.tables.boxes import bring_box_back, find_box, find_box_by_id
from cyrus_sync.common.stores.native.transaction import Transaction


def removed_boxes(transaction: Transaction) -> list[Removed]:
    """Deleted mailboxes whose mail is still kept, the latest first."""
    rows = transaction.db.execute(
        f"SELECT id, deleted_at, messages, {STATE_COLUMNS} FROM mailboxes WHERE deleted_at > 0"
        " ORDER BY deleted_at DESC, id DESC"
    ).fetchall()
    return [Removed(row[0], state_of(row[3:]), row[1], row[2]) for row in rows]


def undelete(transaction: Transaction, number: int, name: str) -> MailboxState:
    """Bring a deleted mailbox back under a free name of this owner; a local change. `number` is its
    `Removed.id`. Raises `MailboxNonexistent`, `MailboxMoved` where it is alive elsewhere, `UnknownFailure`
    for a name that is another owner's or taken."""
    box = next((one for one in removed_boxes(transaction) if one.id == number), None)
    if box is None:
        raise MailboxNonexistent()
    if owner_of(check_mailbox_name(name)) != transaction.owner:
        raise UnknownFailure(f"{name} does not belong to {transaction.owner}")
    if find_box(transaction, name):
        raise UnknownFailure("Mailbox already exists").at(mailbox=name)
    uniqueid = box.state.uniqueid
    if transaction.around.other_holder(uniqueid) or find_box_by_id(transaction, uniqueid):
        raise MailboxMoved("the mailbox is alive elsewhere").at(uniqueid=uniqueid)
    state = bring_box_back(transaction, number, uniqueid, name)
    transaction.log("MAILBOX", name)
    return state
