"""Figures about one owner: mailboxes, messages, bytes raw and on disk."""

from __future__ import annotations

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import OwnerStats
from cyrus_sync.common.stores.native.layout import INDEX
from cyrus_sync.common.stores.native.store import NativeStore


def stats(store: NativeStore, owner: Owner) -> OwnerStats | None:
    """Figures of one owner, None if it is not stored."""
    directory = store.directory_of(owner)
    if directory is None:
        return None
    with store.read(owner) as reader:
        query = reader.connection.execute
        mailboxes, messages, size = query(
            "SELECT count(*), coalesce(sum(messages), 0), coalesce(sum(bytes), 0) FROM mailboxes"
            " WHERE deleted_at = 0"
        ).fetchone()
        (expunged,) = query("SELECT count(*) FROM records WHERE expunged = 1").fetchone()
        stored, raw, live = query(
            "SELECT count(*), coalesce(sum(size), 0), coalesce(sum(length), 0) FROM messages"
        ).fetchone()
        packs, pack_bytes = query(
            "SELECT count(*), coalesce(sum(length), 0) FROM packs WHERE length > 0"
        ).fetchone()
        (removed,) = query("SELECT count(*) FROM mailboxes WHERE deleted_at > 0").fetchone()
    index = sum(path.stat().st_size for path in directory.glob(f"{INDEX}*"))
    return OwnerStats(
        directory=directory,
        mailboxes=mailboxes,
        messages=messages,
        expunged=expunged,
        bytes=size,
        stored=stored,
        stored_bytes=raw,
        pack_bytes=pack_bytes,
        live_pack_bytes=live,
        packs=packs,
        index_bytes=index,
        removed_mailboxes=removed,
    )
