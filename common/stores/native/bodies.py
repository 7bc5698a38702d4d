"""Message bytes by GUID, out of the packs of one owner."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from common.errors import StoreCorrupt
from common.model import MessageBody
from common.stores.frames import LARGE, content_pieces, contents
from common.stores.native.packs import PackReader, Place

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
        damaged: set[bytes],
    ) -> None:
        self._connection = connection
        self.packs = packs
        self.refresh = refresh
        self.damaged = damaged
        """GUIDs whose stored copy was found damaged: a writer that is given such a message stores it anew."""

    def source(self, guids: Sequence[bytes], partition: str, encoding: str) -> BodySource:
        return BodySource(self, guids, partition, encoding)

    def batches(self, guids: Sequence[bytes], partition: str, encoding: str) -> Iterator[list[MessageBody]]:
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
                    yield self._bodies(batch, partition, encoding)
                    batch, size = [], 0
                batch.append(stored)
                size += stored.size
        if batch:
            yield self._bodies(batch, partition, encoding)

    def _bodies(self, batch: list[Stored], partition: str, encoding: str) -> list[MessageBody]:
        if len(batch) == 1 and batch[0].size > LARGE:
            return [self._large(batch[0], partition, encoding)]
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
            data = self._contents(batch, frames)
        return [
            MessageBody(partition, stored.guid, stored.size, raw, encoding)
            for stored, raw in zip(batch, data, strict=True)
        ]

    def _contents(self, batch: list[Stored], frames: list[bytes]) -> list[bytes]:
        try:
            return contents(frames, [stored.size for stored in batch])
        except StoreCorrupt:
            for stored, frame in zip(batch, frames, strict=True):
                try:
                    contents([frame], [stored.size])
                except StoreCorrupt as error:
                    self.damaged.add(stored.guid)
                    raise error.at(guid=stored.guid.hex()) from None
            raise

    def _large(self, stored: Stored, partition: str, encoding: str) -> MessageBody:
        pieces = LargeBody(self.packs.directory, stored, self.refresh, encoding)
        return MessageBody(partition, stored.guid, stored.size, pieces, encoding)


class BodySource:
    """Messages in batches of about a MiB; may be iterated more than once."""

    def __init__(self, reader: BodyReader, guids: Sequence[bytes], partition: str, encoding: str) -> None:
        self._arguments = guids, partition, encoding
        self._reader = reader

    def __iter__(self) -> Iterator[list[MessageBody]]:
        return self._reader.batches(*self._arguments)


class LargeBody:
    """A large message as an iterable of pieces; opens its pack anew each time it is iterated."""

    def __init__(
        self,
        directory: Path,
        stored: Stored,
        refresh: Callable[[Sequence[bytes]], dict[bytes, Stored]],
        encoding: str,
    ) -> None:
        self._directory = directory
        self._stored = stored
        self._refresh = refresh
        self._encoding = encoding

    def __len__(self) -> int:
        """In bytes, of all pieces together."""
        return self._stored.place.length if self._encoding == "zstd" else self._stored.size

    def __iter__(self) -> Iterator[bytes]:
        packs = PackReader(self._directory)
        try:
            stored = self._stored
            try:
                packs.descriptor(stored.place.pack)
            except FileNotFoundError:
                stored = self._refresh([stored.guid])[stored.guid]
            frame = packs.pieces(stored.place)
            yield from frame if self._encoding == "zstd" else content_pieces(frame)
        finally:
            packs.close()
