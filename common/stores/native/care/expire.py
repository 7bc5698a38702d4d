"""`expire`: the one thing that removes mail for good. Expunged messages and deleted mailboxes go when
their retention time is over, and packs that are mostly waste are written anew.

Compacting is crash-safe by order: new pack written and synced, index switched (one commit), old file
removed. A file whose removal was missed is unknown to the index, and goes next time. Each pack is a
transaction of its own, so that the owner is locked only for as long as one pack takes.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Mapping

from cyrus_sync.common.errors import ObjectsUnavailable, StoreError
from cyrus_sync.common.names import Owner, is_deleted
from cyrus_sync.common.stores.care import PATIENCE, Expired
from cyrus_sync.common.stores.native.care.compact import (
    PackShare,
    fetch,
    move_pack,
    needed_of,
    pack_shares,
)
from cyrus_sync.common.stores.native.care.removed import removed_boxes
from cyrus_sync.common.stores.native.history import begins_at, forget, what_is_spoken_of
from cyrus_sync.common.stores.native.homes import UNCOUNTED, OwnerDirectory
from cyrus_sync.common.stores.native.layout import pack_name
from cyrus_sync.common.stores.native.reader import Reader
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.native.summary import NEVER, Summary
from cyrus_sync.common.stores.native.tables.boxes import purge_box, set_columns
from cyrus_sync.common.stores.native.transaction import Transaction
from cyrus_sync.common.stores.native.verbs.folders import delete

WASTE, WASTE_FAR = 0.25, 0.5
"""A pack of which more than this share is waste is compacted: one that is near, and one that is in an object
store, where room costs little and reading much."""

_NOTHING: Mapping[int, Collection[int]] = {}

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
    if store.find(owner) is None:
        return done
    with store.transaction(owner, create=False, timeout=timeout) as transaction:
        forget(transaction.db, before, store.now())
        spoken_of = what_is_spoken_of(transaction.db)
        for state in transaction.reader.mailboxes():
            if (
                is_deleted(state.name)
                and _set_aside(state.name) < before
                and not state.intermediate
                and transaction.reader.mailbox_id(state.uniqueid) not in spoken_of.mailboxes
            ):
                delete(transaction, state.name, delayed=False)
                purge_box(transaction, next(box.id for box in removed_boxes(transaction)))
                done.mailboxes += 1
        for removed in removed_boxes(transaction):
            if removed.deleted_at < before and removed.id not in spoken_of.mailboxes:
                purge_box(transaction, removed.id)
                done.mailboxes += 1
        done.records = drop_expunged(transaction, before, spoken_of.records)
        done.messages = drop_unreferenced(transaction, spoken_of.guids)
        if done != Expired():
            begins_at(transaction.db, before)
        forget_tombstones(transaction, store.now() - max(retention, KEEP_TOMBSTONES))
        something_left = worth_keeping(transaction)
        shares = pack_shares(transaction)
    if not something_left:
        _remove(store, owner, timeout)
        done.bytes, done.packs = sum(share.length for share in shares), len(shares)
        return done
    wasteful = [share for share in shares if _wastes(share, WASTE)]
    for share in wasteful if compact else ():
        try:
            _fetch(store, owner, share)
            with store.transaction(owner, create=False, timeout=timeout) as transaction:
                if not _is_worth_moving(transaction.reader, share):
                    continue
                move_pack(transaction, share.pack)
        except ObjectsUnavailable as error:
            done.left.append(f"{pack_name(share.pack)} is not written anew now: {error}")
            continue
        done.packs += 1
        done.bytes += share.length - share.live
    with store.transaction(owner, create=False, timeout=timeout) as transaction:
        _drop_needless_packs(store, transaction)
    return done


def expirable(store: NativeStore, retention: int, *, compact: bool = True) -> Iterator[Owner]:
    """Of whom `expire` may have something to remove, as far as that is known from outside."""
    before = store.now() - retention
    forgotten = store.now() - max(retention, KEEP_TOMBSTONES)
    for owner, stamp, summary in store.summaries.everybody():
        if (
            stamp is None
            or summary is None
            or not summary.kept
            or summary.needless
            or min(summary.oldest_expunged, summary.oldest_removed) < before
            or summary.oldest_tombstone < forgotten
            or summary.oldest_history <= before
            or NEVER > summary.oldest_history > store.now()
            or stamp.packs not in (UNCOUNTED, len(summary.packs))
            or (compact and _has_waste(store, OwnerDirectory(owner, stamp.directory, None), summary))
        ):
            yield owner


def _has_waste(store: NativeStore, directory: OwnerDirectory, summary: Summary) -> bool:
    """Whether a pack is worth moving."""
    wasteful = [share for share in map(PackShare._make, summary.packs) if _wastes(share, WASTE)]
    if not wasteful:
        return False
    with contextlib.closing(store.home.packs(directory)) as packs:
        return any(_wastes(share, WASTE_FAR) or packs.is_near(share.pack) for share in wasteful)


def _fetch(store: NativeStore, owner: Owner, share: PackShare) -> None:
    """Of a far pack that is worth it, have here what is needed. Nobody is held meanwhile, and no snapshot is
    open: what is changed then need not be kept in the index's log."""
    with store.read(owner) as reader:
        if _is_near(reader, share) or not _is_worth_moving(reader, share):
            return
        assert reader.bodies_reader is not None
        packs, needed = reader.bodies_reader.packs.again(), needed_of(reader.connection, share.pack)
    with contextlib.closing(packs):
        fetch(packs, needed)


def _is_worth_moving(reader: Reader, share: PackShare) -> bool:
    return _wastes(share, WASTE_FAR) or _is_near(reader, share)


def _wastes(share: PackShare, limit: float) -> bool:
    """Whether more than this share of a pack is waste."""
    return share.length - share.live > limit * share.length


def _is_near(reader: Reader, share: PackShare) -> bool:
    bodies = reader.bodies_reader
    assert bodies is not None
    return bodies.packs.is_near(share.pack)


def _set_aside(name: str) -> int:
    """When delayed delete gave a mailbox this name."""
    return int(name.rpartition(".")[2], 16)


def _drop_needless_packs(store: NativeStore, transaction: Transaction) -> None:
    """Packs that hold nothing the index knows of."""
    directory = store.find(transaction.owner)
    if directory is not None:
        store.home.drop_packs(directory, {share.pack for share in pack_shares(transaction)})


def _remove(store: NativeStore, owner: Owner, timeout: float) -> None:
    """Remove an owner of whom nothing is left."""
    if store.find(owner) is None:
        return
    with store.transaction(owner, create=False, timeout=timeout) as transaction:
        if worth_keeping(transaction):
            return
        try:
            store.remove(owner)
        except OSError as error:
            raise StoreError(f"cannot remove {error.filename}: {error.strerror}") from error


# -- in one transaction


def drop_expunged(
    transaction: Transaction, before: int, spoken_of: Mapping[int, Collection[int]] = _NOTHING
) -> int:
    """Forget records that were expunged before `before` (Unix seconds), but for those that are `spoken_of`;
    how many. `deletedmodseq` of their mailboxes says up to where that has been done, so that no delta misses
    an expunge."""
    transaction.change()
    dropped = 0
    for number, known in transaction.db.execute("SELECT id, deletedmodseq FROM mailboxes").fetchall():
        where = "mailbox = ? AND expunged = 1 AND last_updated < ? AND last_updated >= 0"
        if kept := spoken_of.get(number):
            where += f" AND uid NOT IN ({','.join(map(str, sorted(kept)))})"
        count, highest = transaction.db.execute(
            f"SELECT count(*), max(modseq) FROM records WHERE {where}", (number, before)
        ).fetchone()
        if not count:
            continue
        transaction.db.execute(
            f"DELETE FROM annotations WHERE mailbox = ? AND uid IN (SELECT uid FROM records WHERE {where})",
            (number, number, before),
        )
        transaction.db.execute(f"DELETE FROM records WHERE {where}", (number, before))
        set_columns(transaction, number, deletedmodseq=max(known, highest))
        dropped += count
    return dropped


def drop_unreferenced(transaction: Transaction, spoken_of: Collection[str] = ()) -> int:
    """Forget messages that no record needs any more, nor the history (GUIDs in hex, `spoken_of`); how many.
    Their bytes stay in the packs until those are compacted."""
    transaction.change()
    cursor = transaction.db.execute(
        "DELETE FROM messages WHERE guid NOT IN (SELECT guid FROM records WHERE unlinked = 0)"
        " AND lower(hex(guid)) NOT IN (SELECT value FROM json_each(?))",
        (json.dumps(sorted(spoken_of)),),
    )
    return cursor.rowcount


def forget_tombstones(transaction: Transaction, before: int) -> None:
    """Forget tombstones and former names from before `before` (Unix seconds)."""
    transaction.change()
    transaction.db.execute("DELETE FROM tombstones WHERE deleted_at < ?", (before,))
    transaction.db.execute(
        "DELETE FROM former_names WHERE renamed_at < ? AND uniqueid NOT IN (SELECT uniqueid FROM mailboxes)",
        (before,),
    )


def worth_keeping(transaction: Transaction) -> bool:
    """False if nothing at all is left, neither alive nor to be brought back."""
    if not transaction.reader.is_empty():
        return True
    found = transaction.db.execute(
        "SELECT EXISTS (SELECT 1 FROM mailboxes) OR EXISTS (SELECT 1 FROM tombstones)"
        " OR EXISTS (SELECT 1 FROM messages) OR EXISTS (SELECT 1 FROM history)"
    ).fetchone()
    return bool(found[0])
