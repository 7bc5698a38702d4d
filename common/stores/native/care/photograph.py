"""An owner as he is at one moment, for who keeps copies elsewhere; and an owner made from such a copy.

A photograph takes no lock. The index is copied out of one read transaction, and says how many octets of each
pack belong to it. Packs are only appended to, so these octets stay what they are, however long somebody takes
to read them. If `expire` removes a pack meanwhile, it is missing (FileNotFoundError), and a new photograph
does without it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.files import make_private
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import PackPieces, Photograph
from cyrus_sync.common.stores.native.homes import Grown, Hold
from cyrus_sync.common.stores.native.packs import PackOctets
from cyrus_sync.common.stores.native.schema import WITH_HISTORY, stored_version
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.native.transaction import leave_lines
from cyrus_sync.common.stores.native.unlogged import Line
from cyrus_sync.common.stores.trouble import reporting


class _Packs:
    """Octets of an owner's packs (`care.PackSource`)."""

    def __init__(self, octets: PackOctets) -> None:
        self._octets = octets
        self.read = octets.read
        self.name = octets.name
        self.identity = octets.identity


def stamp(store: NativeStore, owner: Owner) -> str:
    """What changes with every commit; "" where that cannot be told at the moment."""
    directory = store.find(owner)
    found = store.home.stamp(directory) if directory is not None else None
    return found.text if found is not None and found.settled else ""


@contextlib.contextmanager
def photograph(store: NativeStore, owner: Owner, index: Path) -> Iterator[Photograph | None]:
    """Copy the owner's index to the new file `index`, and read his packs; None for who is not stored. Raises
    `StoreError`."""
    before = stamp(store, owner)
    directory = store.find(owner)
    if directory is None:
        yield None
        return
    with reporting(owner):
        make_private(index)
        with store.read(owner) as reader, contextlib.closing(_plain(index)) as copy:
            now = store.now()
            copy.execute("PRAGMA synchronous = OFF")  # It is gone when this is over.
            reader.connection.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
            lengths = dict(copy.execute("SELECT pack, length FROM packs WHERE length > 0 ORDER BY pack"))
        octets = store.home.packs(directory)
        partition = store.home.partition_of(directory)
    try:
        yield Photograph(now, before, partition, lengths, _Packs(octets))
    finally:
        octets.close()


def _plain(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def put_back(
    store: NativeStore, owner: Owner, index: Path, packs: Mapping[int, PackPieces], partition: str
) -> None:
    """Make an owner who is not stored from a copy of his index, and his packs. Raises `StoreError`, and what
    reading `packs` raises; then he is not there."""
    with reporting(owner), contextlib.closing(store.home.make(owner, partition, large=True)) as hold:
        try:
            hints = _fill_index(store, hold, index, owner)
            grown = _fill_packs(store, hold, index, packs)
            store.home.bring_in([(hold, grown)], lambda: store.home.registry.note(hints, owner))
        except BaseException:
            with contextlib.suppress(OSError):
                store.home.abandon(hold)
            raise
    with store.write(owner, create=False):
        pass  # writes the lines that are in the index


def _fill_index(store: NativeStore, hold: Hold, index: Path, owner: Owner) -> list[tuple[str, Owner | None]]:
    """Put the copy into the owner's empty index, with the lines that tell a replica of it; the mailboxes that
    the registry learns of."""
    with contextlib.closing(_plain(index)) as copy, contextlib.closing(store.home.blank(hold)) as new:
        copy.backup(new)
        if new.execute("SELECT kind, name FROM owner").fetchone() not in (None, tuple(owner)):
            raise StoreError("this is the index of another owner")
        new.execute("DELETE FROM outbox")
        if stored_version(new) >= WITH_HISTORY:
            # What was between the copy and now is not known.
            new.execute("DELETE FROM history")
            new.execute("UPDATE owner SET known_since = ?", (store.now(),))
        rows = new.execute("SELECT uniqueid, name FROM mailboxes WHERE deleted_at = 0").fetchall()
        if store.keeps_lines:
            leave_lines(new, _lines(owner, [name for _, name in rows]))
        return [(uniqueid, owner) for uniqueid, _ in rows]


def _lines(owner: Owner, names: list[str]) -> list[Line]:
    if owner.kind == "user":
        return [(False, ("USER", owner.name))]
    return [(False, ("MAILBOX", name)) for name in names]


def _fill_packs(store: NativeStore, hold: Hold, index: Path, packs: Mapping[int, PackPieces]) -> Grown:
    with contextlib.closing(_plain(index)) as copy:
        lengths = dict(copy.execute("SELECT pack, length FROM packs WHERE length > 0 ORDER BY pack"))
    writer = store.home.pack_writer(hold.directory, {}, new=True)
    with contextlib.closing(writer):
        for number, length in lengths.items():
            if number not in packs:
                continue  # Lost when the copy was made: `verify` names it.
            while writer.mark().pack < number:
                writer.next_pack()
            place = writer.append_pieces(packs[number]())
            if (place.pack, place.offset) != (number, 0) or place.length > length:
                raise StoreError(
                    f"pack {number} of the copy has {place.length} octets, the index says {length}"
                )
        writer.sync()
        return writer.grown
