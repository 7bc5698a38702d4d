"""`expire`: the one thing that removes mail for good. Expunged messages and deleted mailboxes go when
their retention time is over, and packs that are mostly waste are written anew.

Compacting is crash-safe by order: new pack written and synced, index switched (one commit), old file
removed. A file whose removal was missed is unknown to the index, and goes next time. Each pack is a
transaction of its own, so that the owner is locked only for as long as one pack takes.
"""

from __future__ import annotations

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import sync_directory
from cyrus_sync.common.names import Owner, is_deleted
from cyrus_sync.common.stores.care import PATIENCE, Expired
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.native.upkeep import unlink_all

WASTE = 0.25
"""A pack of which more than this share is waste is compacted."""

KEEP_TOMBSTONES = 365 * 86400
"""Seconds for which tombstones and name histories are kept at least."""


def expire(
    store: NativeStore, owner: Owner, retention: int, *, compact: bool = True, timeout: float = PATIENCE
) -> Expired:
    """Forget what was expunged or deleted more than `retention` seconds ago. Mailboxes that delayed delete
    has set aside (``DELETED.…``) are deleted when they are that old, which is logged as a local change.

    Raises `MailboxLocked`, `StoreError`.
    """
    done = Expired()
    before = store.now() - retention
    directory = store.directory_of(owner)
    if directory is None:
        return done
    with store.write(owner, create=False, timeout=timeout) as writer:
        for state in writer.mailboxes():
            if is_deleted(state.name) and _set_aside(state.name) < before and not state.intermediate:
                writer.delete(state.name, delayed=False)
                writer.purge_box(next(box.id for box in writer.removed_boxes()))
                done.mailboxes += 1
        for removed in writer.removed_boxes():
            if removed.deleted_at < before:
                writer.purge_box(removed.id)
                done.mailboxes += 1
        done.records = writer.drop_expunged(before)
        done.messages = writer.drop_unreferenced()
        writer.forget_tombstones(store.now() - max(retention, KEEP_TOMBSTONES))
        worth_keeping = writer.worth_keeping
        shares = writer.pack_shares()
    if not worth_keeping:
        _remove(store, owner, timeout)
        done.bytes, done.packs = sum(share.length for share in shares), len(shares)
        return done
    wasteful = [share for share in shares if share.length - share.live > WASTE * share.length]
    for share in wasteful if compact else ():
        with store.write(owner, create=False, timeout=timeout) as writer:
            writer.move_pack(share.pack)
        done.packs += 1
        done.bytes += share.length - share.live
    with store.write(owner, create=False, timeout=timeout) as writer:
        needless = writer.needless_files(directory)
        unlink_all(needless)
        if needless:
            sync_directory(directory)
    return done


def _set_aside(name: str) -> int:
    """When delayed delete gave a mailbox this name."""
    return int(name.rpartition(".")[2], 16)


def _remove(store: NativeStore, owner: Owner, timeout: float) -> None:
    """Remove an owner of whom nothing is left."""
    directory = store.directory_of(owner)
    if directory is None:
        return
    with store.write(owner, create=False, timeout=timeout) as writer:
        if writer.worth_keeping:
            return
        try:
            store.remove_owner(owner, directory)
        except OSError as error:
            raise StoreError(f"cannot remove {directory}: {error.strerror}") from error
