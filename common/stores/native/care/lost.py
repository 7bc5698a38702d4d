"""Owners whose index cannot be used: giving up what is left of them, on an administrator's word."""

from __future__ import annotations

import time
from pathlib import Path

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.files import sync_directory
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import PATIENCE
from cyrus_sync.common.stores.native.layout import LOCK, remains
from cyrus_sync.common.stores.native.locks import FileLock
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.trouble import reporting


def is_unusable(store: NativeStore, owner: Owner) -> bool:
    """Whether an owner is lost or his index damaged, so that nothing of him can be read or written. Raises
    `StoreError` where something else is the matter: a lock, a right that is missing, a disk that is away."""
    try:
        with store.read(owner) as reader:
            reader.connection.execute("SELECT count(*) FROM mailboxes").fetchone()
            reader.mailboxes()
    except StoreCorrupt:
        return True
    return False


def give_up(store: NativeStore, owner: Owner, timeout: float = PATIENCE) -> list[Path]:
    """Let somebody go whose index cannot be used, so that he can be filled anew. Nothing is deleted: what is
    left of him is set aside, and the places of that are returned. Raises `StoreError`, `MailboxLocked`."""
    store.partitions.check()
    aside = []
    with reporting(owner):
        for path in store.layout.places(owner):
            if not path.is_dir():
                if path.exists():
                    aside.append(_set_aside(path))
            elif remains(path):
                with FileLock(path / LOCK, timeout):
                    store.forget(owner)
                    aside.append(_set_aside(path))
        store.registry.forget(owner)
    return aside


def _set_aside(path: Path) -> Path:
    """Rename to what no owner's directory is called."""
    target = path.with_name(f".damaged-{time.strftime('%Y%m%dT%H%M%S')}-{path.name}"[:255])
    path.rename(target)
    sync_directory(path.parent)
    return target
