"""Messages of one mailbox, out of its directory or of that below the archive partition.

A file is what its GUID says or it is damaged: the SHA-1 is compared whenever a message is read. A file may
be moved to the other partition, or be removed, at any time; so both are looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from hashlib import sha1
from pathlib import Path

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.master import Unreadable
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.stores import disk
from cyrus_sync.common.stores.frames import compress_all
from cyrus_sync.spool.mailbox import MailboxFiles

LARGE = 1024 * 1024
"""Messages above this many octets are handled in pieces."""

_FIRST = 64 * 1024
"""Octets that are asked for at first: most messages are shorter, and whole then."""

_PIECE = 256 * 1024
_BATCH = 1024 * 1024
_FLAGS = os.O_RDONLY | os.O_CLOEXEC


def read_message(files: MailboxFiles, uid: int, guid: bytes, partition: str = "") -> MessageBody:
    """The message, verified. A large one is read twice: now, to verify it, and when its pieces are.

    `partition` is only passed on. Raises `StoreCorrupt`, with guid= in its address, where there is no file
    of it, or one that cannot be read or is not what its GUID says.
    """
    for path in _places(files, uid):
        try:
            return _read(path, guid, partition)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreCorrupt(disk.why(error, path)).at(guid=guid.hex()) from error
    raise StoreCorrupt(f"{files.message(uid)}: there is no such message").at(guid=guid.hex())


def _places(files: MailboxFiles, uid: int) -> Iterator[str]:
    """Where to look. Whoever moves a message copies it first: it is in one of both, but for one that is moved
    back between two looks. Paths are text here: to put one together costs as much as to read a message."""
    yield f"{files.messages}/{uid}."
    if files.archive is not None:
        yield f"{files.archive}/{uid}."
        yield f"{files.messages}/{uid}."


def _read(path: str, guid: bytes, partition: str) -> MessageBody:
    descriptor = os.open(path, _FLAGS)
    try:
        data = os.read(descriptor, _FIRST)
        if len(data) < _FIRST and sha1(data).digest() == guid:
            return MessageBody(partition, guid, len(data), data)
        size = os.fstat(descriptor).st_size
        if size > LARGE:
            digest = sha1()
            for piece in _pieces(descriptor):
                digest.update(piece)
            _compare(digest.digest(), path, guid)
            return MessageBody(partition, guid, size, LargeFile(path, guid, size))
        data = b"".join(_pieces(descriptor))
        _compare(sha1(data).digest(), path, guid)
        return MessageBody(partition, guid, len(data), data)
    finally:
        os.close(descriptor)


def _pieces(descriptor: int) -> Iterator[bytes]:
    at = 0
    while piece := os.pread(descriptor, _PIECE, at):
        at += len(piece)
        yield piece


def _compare(digest: bytes, path: str, guid: bytes) -> None:
    if digest != guid:
        what = f"{path}: its SHA-1 is {digest.hex()}, and {guid.hex()} by the index"
        raise StoreCorrupt(what).at(guid=guid.hex())


class LargeFile:
    """A large message as an iterable of pieces; opens its file anew each time it is iterated.

    Iterating raises `StoreCorrupt` where the file is not any more what it was when it was verified.
    """

    def __init__(self, path: str, guid: bytes, size: int) -> None:
        self._path = path
        self._guid = guid
        self._size = size

    def __len__(self) -> int:
        """In octets."""
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        digest = sha1()
        try:
            with Path(self._path).open("rb", buffering=0) as file:
                for piece in _pieces(file.fileno()):
                    digest.update(piece)
                    yield piece
        except OSError as error:
            raise StoreCorrupt(disk.why(error, self._path)).at(guid=self._guid.hex()) from error
        _compare(digest.digest(), self._path, self._guid)


class Messages:
    """Messages, (uid, guid), in batches of about a MiB; may be iterated more than once
    (`common.model.MessageSource`).

    For one that cannot be given `unreadable` is called and it is left out; without it `StoreCorrupt` is
    raised. With the `encoding` "zstd" those that fit into memory come as frames.
    """

    def __init__(
        self,
        files: MailboxFiles,
        wanted: Sequence[tuple[int, bytes]],
        partition: str = "",
        unreadable: Unreadable | None = None,
        encoding: str = "identity",
    ) -> None:
        self._files = files
        self._wanted = wanted
        self._partition = partition
        self._unreadable = unreadable
        self._folded = encoding == "zstd"

    def __iter__(self) -> Iterator[list[MessageBody]]:
        batch: list[MessageBody] = []
        size = 0
        usual, partition = f"{self._files.messages}/", self._partition
        for uid, guid in self._wanted:
            body: MessageBody | None
            try:
                body = _read(f"{usual}{uid}.", guid, partition)
            except (OSError, StoreCorrupt):  # looked for wherever it may be, and said what is wrong
                body = self._sought(uid, guid)
                if body is None:
                    continue
            if batch and size + body.size > _BATCH:
                yield self._given(batch)
                batch, size = [], 0
            batch.append(body)
            size += body.size
        if batch:
            yield self._given(batch)

    def _sought(self, uid: int, guid: bytes) -> MessageBody | None:
        try:
            return read_message(self._files, uid, guid, self._partition)
        except StoreCorrupt as error:
            if self._unreadable is None:
                raise
            self._unreadable(guid, error)
            return None

    def _given(self, batch: list[MessageBody]) -> list[MessageBody]:
        """The batch in the encoding that is wanted."""
        if not self._folded:
            return batch
        whole = [body.data for body in batch if isinstance(body.data, bytes)]
        frames = iter(compress_all(whole))
        return [
            MessageBody(body.partition, body.guid, body.size, next(frames), "zstd")
            if isinstance(body.data, bytes)
            else body
            for body in batch
        ]
