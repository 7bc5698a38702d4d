"""Packs that are mostly waste: what is still needed of one is written into a new one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import NamedTuple

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.stores.native.bodies import Stored
from cyrus_sync.common.stores.native.packs import PackReader, Place
from cyrus_sync.common.stores.native.tables.messages import enter_messages
from cyrus_sync.common.stores.native.transaction import Transaction

COPY_AT_ONCE = 1024 * 1024
"""Bytes of a frame that are held in memory while it is copied."""


class PackShare(NamedTuple):
    """How much of a pack is still needed, in bytes of frames."""

    pack: int
    length: int
    live: int


def pack_shares(transaction: Transaction) -> list[PackShare]:
    """Every pack that has bytes."""
    rows = transaction.db.execute(
        "SELECT packs.pack, packs.length, coalesce(sum(messages.length), 0) FROM packs"
        " LEFT JOIN messages ON messages.pack = packs.pack WHERE packs.length > 0"
        " GROUP BY packs.pack ORDER BY packs.pack"
    )
    return [PackShare(*row) for row in rows]


def move_pack(transaction: Transaction, number: int) -> None:
    """Write what is needed of a pack into a new one, and forget the old one, whose file may be
    removed once this is committed. Frames that are not there (the pack is lost, or too short) keep their
    places, and the pack its length: it may come back."""
    packs, bodies = transaction.packs, transaction.reader.bodies_reader
    assert bodies is not None
    moved = needed_of(transaction.db, number)
    if moved:
        packs.next_pack()
    entries = []
    for stored in moved:
        if not _is_there(bodies.packs, stored):
            transaction.reader.note_damaged(stored.guid)
            continue
        place = packs.append_pieces(bodies.packs.pieces(stored.place, COPY_AT_ONCE))
        entries.append((stored.guid, place.pack, place.offset, place.length, stored.size))
    enter_messages(transaction, entries)
    if len(entries) == len(moved):
        transaction.db.execute("UPDATE packs SET length = 0 WHERE pack = ?", (number,))


def fetch(packs: PackReader, needed: Sequence[Stored]) -> None:
    """Read what is `needed` of a pack that is far, before its owner is held: most of it is here then. What is
    wrong with it is seen by `move_pack`. Raises `ObjectsUnavailable`."""
    for stored in needed:
        _is_there(packs, stored)


def needed_of(connection: sqlite3.Connection, number: int) -> list[Stored]:
    """The messages in a pack, in their order there."""
    rows = connection.execute(
        "SELECT guid, pack, offset, length, size FROM messages WHERE pack = ? ORDER BY offset", (number,)
    )
    return [Stored(guid, Place(pack, offset, length), size) for guid, pack, offset, length, size in rows]


def _is_there(packs: PackReader, stored: Stored) -> bool:
    try:
        for _ in packs.pieces(stored.place, COPY_AT_ONCE):
            pass
    except (StoreCorrupt, OSError):
        return False
    return True
