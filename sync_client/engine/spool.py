"""A temporary file for messages that were fetched from the replica, so that memory stays bounded."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import StoreError, SyncChecksum
from cyrus_sync.common.model import MessageBody

PIECE = 1 << 20


class _Pieces:
    """The octets of one spooled message, as pieces; may be iterated more than once."""

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        self._descriptor = descriptor
        self._offset = offset
        self._length = length

    def __iter__(self) -> Iterator[bytes]:
        position, end = self._offset, self._offset + self._length
        while position < end:
            piece = os.pread(self._descriptor, min(PIECE, end - position), position)
            if not piece:
                raise StoreError("the spool of fetched messages is cut short")
            position += len(piece)
            yield piece


class BodySpool:
    """Messages by GUID, in one nameless file. Blocks on a disk: use it in threads, of which several may
    add at the same time."""

    def __init__(self, directory: Path | None) -> None:
        try:
            self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 (closed by `close`)
        except OSError as error:
            raise StoreError(f"cannot make a spool for fetched messages: {reason(error)}") from error
        self._places: dict[bytes, tuple[int, int, MessageBody]] = {}
        self._end = 0
        self._adding = threading.Lock()

    def __contains__(self, guid: object) -> bool:
        return guid in self._places

    def add(self, body: MessageBody) -> None:
        """Keep `body`. Raises `SyncChecksum` if its octets are not what its GUID says."""
        with self._adding:
            self._add(body)

    def _add(self, body: MessageBody) -> None:
        pieces = (body.data,) if isinstance(body.data, bytes) else body.data
        digest = hashlib.sha1(usedforsecurity=False)
        offset = self._end
        try:
            for piece in pieces:
                digest.update(piece)
                self._file.write(piece)
                self._end += len(piece)
            self._file.flush()
        except OSError as error:
            raise StoreError(f"cannot spool a fetched message: {reason(error)}") from error
        if body.encoding == "identity" and digest.digest() != body.guid:
            raise SyncChecksum(f"the replica sent other octets than those of {body.guid.hex()}")
        self._places[body.guid] = (offset, self._end - offset, body._replace(data=b""))

    def get(self, guid: bytes) -> MessageBody | None:
        """The message, None if it was not fetched."""
        if guid not in self._places:
            return None
        offset, length, body = self._places[guid]
        if length <= PIECE:
            return body._replace(data=os.pread(self._file.fileno(), length, offset))
        return body._replace(data=_Pieces(self._file.fileno(), offset, length))

    def close(self) -> None:
        """Forget all."""
        self._file.close()
