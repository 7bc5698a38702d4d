"""Owners whose index cannot be used: giving up what is left of them, on an administrator's word."""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import PATIENCE
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.trouble import reporting


def is_unusable(store: NativeStore, owner: Owner) -> bool:
    """Whether an owner is lost, or its index damaged, so that nothing of it can be read or written. Raises
    `StoreError` where something else is the matter: a lock, a right that is missing, a disk that is away."""
    try:
        with store.read(owner) as reader:
            reader.connection.execute("SELECT count(*) FROM mailboxes").fetchone()
            reader.mailboxes()
    except StoreCorrupt:
        return True
    return False


def give_up(store: NativeStore, owner: Owner, timeout: float = PATIENCE) -> list[Path]:
    """Let an owner go whose index cannot be used, so that it can be filled anew. Nothing is deleted: what is
    left of it is set aside. Returns where that is. Raises `StoreError`, `MailboxLocked`."""
    store.home.check()
    with reporting(owner):
        store.open.forget(owner)
        return list(store.home.set_aside(owner, timeout))
