"""What belongs to a user besides mailboxes: subscriptions, seen state, quota roots."""

from __future__ import annotations

from cyrus_sync.common.model import Seen
from cyrus_sync.common.names import check_mailbox_name, sort_key
from cyrus_sync.common.stores.native.rows import to_signed
from cyrus_sync.common.stores.native.tables.quotas import assign_quotaroots
from cyrus_sync.common.stores.native.transaction import Transaction


def put_subscription(transaction: Transaction, mailbox: str, subscribed: bool) -> None:
    """The user's subscription to a mailbox, which need not exist. A `change`; raises `BadName`."""
    check_mailbox_name(mailbox)
    transaction.change()
    transaction.history.subscription(transaction.db, mailbox)
    if subscribed:
        transaction.db.execute(
            "INSERT OR REPLACE INTO subscriptions (mailbox, sort) VALUES (?, ?)",
            (mailbox, sort_key(mailbox)),
        )
    else:
        transaction.db.execute("DELETE FROM subscriptions WHERE mailbox = ?", (mailbox,))


def put_seen(transaction: Transaction, seen: Seen) -> None:
    """What this user has seen in somebody else's mailbox. A `change`."""
    transaction.change()
    transaction.history.seen(transaction.db, seen.uniqueid)
    transaction.db.execute(
        "INSERT OR REPLACE INTO seen (uniqueid, lastread, lastuid, lastchange, seenuids)"
        " VALUES (?, ?, ?, ?, ?)",
        (
            seen.uniqueid,
            to_signed(seen.lastread),
            seen.lastuid,
            to_signed(seen.lastchange),
            seen.seenuids,
        ),
    )


def forget_user(transaction: Transaction, *, chained: bool = False) -> None:
    """Everything of a user but mailboxes. Each quota root is logged for itself: a replica does not report
    those that no mailbox uses, and the user may be here again before the replica hears of the deletion."""
    for quota in transaction.reader.quotas():
        transaction.log("QUOTA", quota.root, chained=chained)
        transaction.history.quota(transaction.db, quota.root)
    meta = transaction.reader.meta(with_sieve=False)
    for name in meta.subscriptions:
        transaction.history.subscription(transaction.db, name)
    for seen in meta.seen:
        transaction.history.seen(transaction.db, seen.uniqueid)
    for table in ("subscriptions", "seen", "quotas"):
        transaction.db.execute(f"DELETE FROM {table}")
    assign_quotaroots(transaction)
