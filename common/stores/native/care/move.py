"""`move`: an owner goes to another partition, with everything."""

from __future__ import annotations

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import Moved
from cyrus_sync.common.stores.native.moving import Told, check_places, move_files
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.native.verbs.rename import Move, rename_within
from cyrus_sync.common.stores.trouble import reporting


def move(store: NativeStore, owner: Owner, partition: str, timeout: float, told: Told) -> Moved | None:
    """Move the files of an owner to another partition, then have all his mailboxes say so: a local change,
    of which a replica learns as from a real Cyrus (a rename to the same name). None if he, and all of them,
    were there already. Doing it again ends what was interrupted. Raises as `StoreCare.move`."""
    check_places(store.home)
    if reason := store.refuses_changes():
        raise StoreError(reason).at(user=str(owner))
    files = move_files(store, owner, partition, timeout, told, to_new=False)
    moved = files is not None
    if not moved:
        with reporting(owner):
            moved = store.home.clear_moves_of(owner)
    with store.transaction(owner, create=False, timeout=timeout) as transaction:
        for state in transaction.reader.mailboxes():
            if state.partition != partition and not state.intermediate:
                rename_within(transaction, Move(state.name, state.name, partition, 0, True, False))
                moved = True
        if moved:  # what was deleted comes back where everything is
            transaction.db.execute("UPDATE mailboxes SET partition = ? WHERE deleted_at > 0", (partition,))
    return files or (Moved(0, 0) if moved else None)
