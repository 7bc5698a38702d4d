"""Message bytes by GUID, out of the packs of one owner."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cyrus_sync.common.errors import MessageUnavailable, ObjectsUnavailable, StoreCorrupt, StoreError
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.stores import disk
from cyrus_sync.common.stores.frames import LARGE, content_pieces, contents
from cyrus_sync.common.stores.native.marks import Marks
from cyrus_sync.common.stores.native.packs import PackReader, Place

Unreadable = Callable[[bytes, StoreError], None]
"""Told the GUID of a message that cannot be read, and why: `StoreCorrupt`, `MessageUnavailable`."""

_TROUBLE = (StoreCorrupt, ObjectsUnavailable, OSError)

_GUIDS_AT_ONCE = 500
_BATCH = 1024 * 1024


class Stored(NamedTuple):
    """A message in a pack; `size` is its raw length in bytes."""

    guid: bytes
    place: Place
    size: int


def lookup(connection: sqlite3.Connection, guids: Sequence[bytes]) -> dict[bytes, Stored]:
    """Where these messages are, for those that are stored."""
    marks = ",".join("?" * len(guids))
    return {
        guid: Stored(guid, Place(pack, offset, length), size)
        for guid, pack, offset, length, size in connection.execute(
            f"SELECT guid, pack, offset, length, size FROM messages WHERE guid IN ({marks})", guids
        )
    }


class BodyReader:
    """Reads messages; where a pack was removed since the snapshot, looks again where they are now.

    `refresh` answers that from the index as it is at that moment.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        packs: PackReader,
        refresh: Callable[[Sequence[bytes]], dict[bytes, Stored]],
        damaged: Marks,
    ) -> None:
        self._connection = connection
        self.packs = packs
        self.refresh = refresh
        self.damaged = damaged
        """GUIDs whose stored copy was found damaged: a writer that is given such a message stores it anew."""

    def source(
        self, guids: Sequence[bytes], partition: str, encoding: str, unreadable: Unreadable | None
    ) -> BodySource:
        return BodySource(self, guids, partition, encoding, unreadable)

    def batches(
        self,
        guids: Sequence[bytes],
        partition: str,
        encoding: str,
        unreadable: Unreadable | None = None,
    ) -> Iterator[list[MessageBody]]:
        """`unreadable` is told of messages that cannot be read, which are left out then."""
        batch: list[Stored] = []
        size = 0
        for start in range(0, len(guids), _GUIDS_AT_ONCE):
            chunk = guids[start : start + _GUIDS_AT_ONCE]
            known = lookup(self._connection, chunk)
            for guid in chunk:
                stored = known.get(guid)
                if stored is None:
                    continue
                if batch and size + stored.size > _BATCH:
                    yield self._readable(batch, partition, encoding, unreadable)
                    batch, size = [], 0
                batch.append(stored)
                size += stored.size
        if batch:
            yield self._readable(batch, partition, encoding, unreadable)

    def _readable(
        self, batch: list[Stored], partition: str, encoding: str, unreadable: Unreadable | None
    ) -> list[MessageBody]:
        """The messages of a batch; where it cannot be read as a whole, those that can singly."""
        try:
            return self._bodies(batch, partition, encoding, careful=unreadable is not None)
        except _TROUBLE as error:
            found: list[MessageBody] = []
            for stored in batch:
                try:
                    found += self._bodies([stored], partition, encoding, careful=unreadable is not None)
                except _TROUBLE as single:
                    trouble = _trouble(single).at(guid=stored.guid.hex())
                    if isinstance(trouble, StoreCorrupt):
                        self.damaged.add(stored.guid)
                    if unreadable is None:
                        raise trouble from error
                    unreadable(stored.guid, trouble)
            return found

    def _bodies(
        self, batch: list[Stored], partition: str, encoding: str, *, careful: bool
    ) -> list[MessageBody]:
        if len(batch) == 1 and batch[0].size > LARGE:
            return [self._large(batch[0], partition, encoding, careful)]
        try:
            frames = self.packs.read_all([stored.place for stored in batch])
        except FileNotFoundError:
            now = self.refresh([stored.guid for stored in batch])
            batch = [now[stored.guid] for stored in batch if stored.guid in now]
            try:
                frames = self.packs.read_all([stored.place for stored in batch])
            except FileNotFoundError as error:
                raise StoreCorrupt(f"pack missing: {error.filename}") from error
        if encoding == "zstd":
            data = frames
        else:
            data = contents(frames, [stored.size for stored in batch])
        return [
            MessageBody(partition, stored.guid, stored.size, raw, encoding)
            for stored, raw in zip(batch, data, strict=True)
        ]

    def _large(self, stored: Stored, partition: str, encoding: str, careful: bool) -> MessageBody:
        pieces = LargeBody(self.packs, stored, self.refresh, encoding, self.damaged)
        if careful:
            pieces.check_place()
            if stored.guid in self.damaged:
                for _ in LargeBody(self.packs, stored, self.refresh, "identity", self.damaged):
                    pass
        return MessageBody(partition, stored.guid, stored.size, pieces, encoding)


def _trouble(error: StoreCorrupt | ObjectsUnavailable | OSError) -> StoreCorrupt | MessageUnavailable:
    if isinstance(error, ObjectsUnavailable):
        return MessageUnavailable(f"{MessageUnavailable.text}: {error}")
    return error if isinstance(error, StoreCorrupt) else StoreCorrupt(disk.why(error))


class BodySource:
    """Messages in batches of about a MiB; may be iterated more than once."""

    def __init__(
        self,
        reader: BodyReader,
        guids: Sequence[bytes],
        partition: str,
        encoding: str,
        unreadable: Unreadable | None,
    ) -> None:
        self._arguments = guids, partition, encoding, unreadable
        self._reader = reader

    def __iter__(self) -> Iterator[list[MessageBody]]:
        return self._reader.batches(*self._arguments)


class LargeBody:
    """A large message as an iterable of pieces; opens its pack anew each time it is iterated."""

    def __init__(
        self,
        packs: PackReader,
        stored: Stored,
        refresh: Callable[[Sequence[bytes]], dict[bytes, Stored]],
        encoding: str,
        damaged: Marks,
    ) -> None:
        self._packs = packs
        self._stored = stored
        self._refresh = refresh
        self._encoding = encoding
        self._damaged = damaged

    def check_place(self) -> None:
        """Raise `StoreCorrupt` or OSError where the pack is not there, or too short; `ObjectsUnavailable`."""
        packs = self._packs.again()
        try:
            stored = self._place_now(packs)
            last = stored.place.offset + stored.place.length - 1
            packs.read(Place(stored.place.pack, last, 1))
        finally:
            packs.close()

    def _place_now(self, packs: PackReader) -> Stored:
        try:
            packs.size(self._stored.place.pack)
        except FileNotFoundError:
            return self._refresh([self._stored.guid])[self._stored.guid]
        return self._stored

    def __len__(self) -> int:
        """In bytes, of all pieces together."""
        return self._stored.place.length if self._encoding == "zstd" else self._stored.size

    def __iter__(self) -> Iterator[bytes]:
        packs = self._packs.again()
        try:
            frame = packs.pieces(self._place_now(packs).place)
            yield from frame if self._encoding == "zstd" else content_pieces(frame)
        except _TROUBLE as error:
            trouble = _trouble(error).at(guid=self._stored.guid.hex())
            if isinstance(trouble, StoreCorrupt):
                self._damaged.add(self._stored.guid)
            raise trouble from error
        finally:
            packs.close()
