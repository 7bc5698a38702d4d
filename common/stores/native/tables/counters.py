"""The owner's counters: no modseq and no UIDVALIDITY is ever given out twice."""

from __future__ import annotations

from cyrus_sync.common.stores.native.transaction import Transaction


def next_modseq(transaction: Transaction) -> int:
    """A modseq above every one that the owner has used. A `change`."""
    transaction.change()
    row = transaction.db.execute(
        "UPDATE owner SET highestmodseq = highestmodseq + 1 RETURNING highestmodseq"
    ).fetchone()
    return int(row[0])


def next_uidvalidity(transaction: Transaction) -> int:
    """The present second, or one above the last that was given out. A `change`."""
    transaction.change()
    row = transaction.db.execute(
        "UPDATE owner SET uidvalidity = max(uidvalidity + 1, ?) RETURNING uidvalidity",
        (transaction.around.now(),),
    ).fetchone()
    return int(row[0])


def raise_owner(transaction: Transaction, *, modseq: int = 0, uidvalidity: int = 0) -> None:
    """Let later local changes lie above what came from elsewhere. Never lowers."""
    transaction.db.execute(
        "UPDATE owner SET highestmodseq = max(highestmodseq, ?), uidvalidity = max(uidvalidity, ?)"
        " WHERE highestmodseq < ? OR uidvalidity < ?",
        (modseq, uidvalidity, modseq, uidvalidity),
    )
