"""Quota roots, and which mailbox counts under which."""

from __future__ import annotations

import json

from cyrus_sync.common.stores.native.transaction import Transaction


def quotaroot_of(transaction: Transaction, name: str) -> str:
    """The innermost quota root that is `name` or above it, "" if there is none."""
    roots = {root for (root,) in transaction.db.execute("SELECT root FROM quotas")}
    while name:
        if name in roots:
            return name
        name = name.rpartition(".")[0]
    return ""


def put_quota(transaction: Transaction, root: str, limits: dict[str, int], modseq: int) -> None:
    """Write a quota root; `limits` by resource, STORAGE in KiB. `assign_quotaroots` comes after it."""
    ordered = {name: limits[name] for name in sorted(limits)}
    transaction.db.execute(
        "INSERT OR REPLACE INTO quotas (root, limits, modseq) VALUES (?, ?, ?)",
        (root, json.dumps(ordered), modseq),
    )


def remove_quota(transaction: Transaction, root: str) -> None:
    """Forget a quota root, if there is one of that name. `assign_quotaroots` comes after it."""
    transaction.db.execute("DELETE FROM quotas WHERE root = ?", (root,))


def assign_quotaroots(transaction: Transaction) -> None:
    """After quota roots came or went: which mailbox counts where."""
    for number, name, root in transaction.db.execute(
        "SELECT id, name, quotaroot FROM mailboxes WHERE deleted_at = 0"
    ).fetchall():
        right = quotaroot_of(transaction, name)
        if right != root:
            transaction.db.execute("UPDATE mailboxes SET quotaroot = ? WHERE id = ?", (right, number))
