"""Which messages an owner's packs hold, by GUID. Their bytes are taken in by `intake`."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice

from cyrus_sync.common.stores.native.bodies import lookup
from cyrus_sync.common.stores.native.rows import insert_rows
from cyrus_sync.common.stores.native.transaction import Transaction


def enter_messages(transaction: Transaction, rows: Iterable[tuple[bytes, int, int, int, int]]) -> None:
    """Index messages that were appended to the packs: (guid, pack, offset, length, size), in bytes."""
    insert_rows(
        transaction.db,
        "INSERT OR REPLACE INTO messages (guid, pack, offset, length, size) VALUES (?, ?, ?, ?, ?)",
        sorted(rows),
    )


def stored_sizes(transaction: Transaction, guids: Iterable[bytes]) -> dict[bytes, int]:
    """Raw sizes in bytes of those of these messages that are stored."""
    found: dict[bytes, int] = {}
    remaining = iter(guids)
    while chunk := list(islice(remaining, 1000)):
        found.update((guid, stored.size) for guid, stored in lookup(transaction.db, chunk).items())
    return found


def stored_anew(transaction: Transaction, guids: Collection[bytes]) -> None:
    """These messages were damaged, or missing, and are sound now. The mailboxes that hold them get a line for
    the action log: what a replica could not be given can be given now."""
    if not guids:
        return
    transaction.damaged.difference_update(guids)
    remaining = iter(guids)
    while chunk := list(islice(remaining, 500)):
        marks = ",".join("?" * len(chunk))
        for (name,) in transaction.db.execute(
            "SELECT DISTINCT name FROM mailboxes JOIN records ON records.mailbox = mailboxes.id"
            f" WHERE deleted_at = 0 AND expunged = 0 AND guid IN ({marks})",
            chunk,
        ).fetchall():
            transaction.log("MAILBOX", name, mending=True)
