"""Quota roots, and which mailbox counts under which."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from cyrus_sync.common.stores.native.transaction import Transaction


def quotaroot_of(transaction: Transaction, name: str) -> str:
    """The innermost quota root that is `name` or above it, "" if there is none."""
    return _innermost(_roots(transaction.db), name)


def _roots(connection: sqlite3.Connection) -> set[str]:
    return {root for (root,) in connection.execute("SELECT root FROM quotas")}


def _innermost(roots: Collection[str], name: str) -> str:
    while name:
        if name in roots:
            return name
        name = name.rpartition(".")[0]
    return ""


def put_quota(transaction: Transaction, root: str, limits: dict[str, int], modseq: int) -> None:
    """Write a quota root; `limits` by resource, STORAGE in KiB. `assign_quotaroots` comes after it."""
    transaction.history.quota(transaction.db, root)
    ordered = {name: limits[name] for name in sorted(limits)}
    transaction.db.execute(
        "INSERT OR REPLACE INTO quotas (root, limits, modseq) VALUES (?, ?, ?)",
        (root, json.dumps(ordered), modseq),
    )


def remove_quota(transaction: Transaction, root: str) -> None:
    """Forget a quota root, if there is one of that name. `assign_quotaroots` comes after it."""
    transaction.history.quota(transaction.db, root)
    transaction.db.execute("DELETE FROM quotas WHERE root = ?", (root,))


def assign_quotaroots(transaction: Transaction) -> None:
    """After quota roots came or went: which mailbox counts where."""
    assign_in(transaction.db)


def assign_in(connection: sqlite3.Connection) -> None:
    """`assign_quotaroots` of an index without a transaction of ours."""
    roots = _roots(connection)
    for number, name, root in connection.execute(
        "SELECT id, name, quotaroot FROM mailboxes WHERE deleted_at = 0"
    ).fetchall():
        right = _innermost(roots, name)
        if right != root:
            connection.execute("UPDATE mailboxes SET quotaroot = ? WHERE id = ?", (right, number))
