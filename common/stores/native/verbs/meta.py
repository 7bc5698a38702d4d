"""What replication changes besides APPLY MAILBOX: deletes, quota, seen, subscriptions, annotations.

A replica changes nothing of its own accord: no modseq moves here but where the master says so.
"""

from __future__ import annotations

from collections.abc import Sequence

from cyrus_sync.common.errors import BadParameters, MailboxMoved, MailboxNonexistent
from cyrus_sync.common.model import MailboxAnnotation, Quota, Seen
from cyrus_sync.common.names import check_mailbox_name, is_deleted, is_inbox, parent_of
from cyrus_sync.common.stores.native.tables.annotations import put_box_annotation, put_server_annotation
from cyrus_sync.common.stores.native.tables.boxes import (
    find_box,
    get_box,
    get_real_box,
    remove_box,
    set_columns,
)
from cyrus_sync.common.stores.native.tables.personal import forget_user, put_seen, put_subscription
from cyrus_sync.common.stores.native.tables.quotas import assign_quotaroots, put_quota, remove_quota
from cyrus_sync.common.stores.native.tables.records import records_by_uid, update_records
from cyrus_sync.common.stores.native.tables.tally import Tally
from cyrus_sync.common.stores.native.transaction import Transaction


def apply_expunge(transaction: Transaction, mailbox: str, uniqueid: str, uids: Sequence[int]) -> None:
    """Expunge records; modseq and last_updated stay as they are (that is what EXPUNGE means). Raises
    `MailboxNonexistent`, `MailboxMoved` for another uniqueid."""
    box = get_real_box(transaction, mailbox, uniqueid)
    if box.state.uniqueid != uniqueid:
        raise MailboxMoved().at(mailbox=mailbox, uniqueid=uniqueid)
    old = [record for record in records_by_uid(transaction, box.id, uids) if not record.expunged]
    tally = Tally(box)
    update_records(transaction, box.id, tally, old, [record._replace(expunged=True) for record in old])
    if old:
        set_columns(transaction, box.id, **tally.columns())
        transaction.log("MAILBOX", mailbox, chained=True)


def apply_unmailbox(transaction: Transaction, name: str) -> None:
    """Delete a mailbox at once, leaving a tombstone. Raises `MailboxNonexistent`."""
    remove_box(transaction, get_box(transaction, name))
    transaction.log("UNMAILBOX", name, chained=True)


def drop_childless(transaction: Transaction, name: str) -> None:
    """Delete intermediates upwards from `name`, as far as nothing is below them. Stops at a real mailbox."""
    names = [state.name for state in transaction.reader.mailboxes()]
    above: str | None = name
    while above is not None and not any(each.startswith(f"{above}.") for each in names):
        box = find_box(transaction, above)
        if box is not None and box.state.intermediate:
            remove_box(transaction, box, modseq=box.state.foldermodseq)
            transaction.log("MAILBOX", above, chained=True)
            names.remove(above)
        elif box is not None:
            return
        above = parent_of(above)


def apply_unuser(transaction: Transaction) -> None:
    """Delete mailboxes, subscriptions, seen state and quota roots. Mailboxes that delayed delete has set
    aside stay, and so do intermediates."""
    names = [
        state.name
        for state in transaction.reader.mailboxes()
        if not (state.intermediate or is_deleted(state.name))
    ]
    if not names and transaction.reader.is_empty():
        return
    transaction.change()
    for name in sorted(names, key=is_inbox):
        remove_box(transaction, get_box(transaction, name))
    forget_user(transaction, chained=True)
    transaction.log("UNUSER", transaction.owner.name, chained=True)


def apply_quota(transaction: Transaction, quota: Quota) -> None:
    """Write a quota root as the master has it. Raises `BadName`."""
    check_mailbox_name(quota.root)
    transaction.change()
    put_quota(transaction, quota.root, quota.limits, quota.modseq)
    assign_quotaroots(transaction)
    transaction.log("QUOTA", quota.root, chained=True)


def apply_unquota(transaction: Transaction, root: str) -> None:
    """Forget a quota root, if it is there."""
    if transaction.reader.quota(root) is None:
        return
    transaction.change()
    remove_quota(transaction, root)
    assign_quotaroots(transaction)
    transaction.log("QUOTA", root, chained=True)


def apply_sub(transaction: Transaction, mailbox: str, subscribed: bool) -> None:
    """Subscribe or unsubscribe; of an owner who is not stored there is nothing to unsubscribe. Raises
    `BadName`."""
    if not subscribed and not transaction.stored:
        return
    put_subscription(transaction, mailbox, subscribed)
    transaction.log("SUB", transaction.owner.name, mailbox, chained=True)


def apply_seen(transaction: Transaction, seen: Seen) -> None:
    """Write seen state as the master has it. Raises `BadParameters` where no mailbox is named."""
    if not seen.uniqueid:
        raise BadParameters()
    put_seen(transaction, seen)
    transaction.log("SEEN", transaction.owner.name, seen.uniqueid, chained=True)


def apply_annotation(transaction: Transaction, annotation: MailboxAnnotation) -> None:
    """Set an annotation of a mailbox, or of the server (no mailbox). No counter moves. Raises
    `BadParameters`, `MailboxNonexistent`."""
    _annotate(transaction, annotation.mailbox, annotation.entry, annotation.userid, annotation.value)


def apply_unannotation(transaction: Transaction, mailbox: str, entry: str, userid: str) -> None:
    """Remove an annotation; errors as in `apply_annotation`."""
    _annotate(transaction, mailbox, entry, userid, None)


def _annotate(transaction: Transaction, mailbox: str, entry: str, userid: str, value: bytes | None) -> None:
    if not entry.startswith("/"):
        raise BadParameters().at(mailbox=mailbox)
    if not mailbox:
        put_server_annotation(transaction, entry, userid, value)
    else:
        box = find_box(transaction, mailbox)
        if box is None:
            raise MailboxNonexistent().at(mailbox=mailbox)
        put_box_annotation(transaction, box, entry, userid, value)
    transaction.log("ANNOTATION", mailbox, chained=True)
