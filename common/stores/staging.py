"""A connection's stage: messages that were uploaded or reserved and not yet made part of a mailbox.

Messages are compressed and hashed when they come, and kept as the frames that a pack will hold. Up to
`memory` bytes of frames stay in memory. The rest goes to one temporary file without a name, which is gone
with the process however that ends. Nothing here is ever synced. A message is found by its GUID; the partition
for which it was sent is remembered with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.batches import in_batches
from cyrus_sync.common.errors import ProtocolError, StoreCorrupt, StoreError
from cyrus_sync.common.files import make_directories
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.numbers import decimal
from cyrus_sync.common.stores import disk
from cyrus_sync.common.stores.frames import (
    LARGE,
    compress_all,
    pass_frame,
    split,
    whole_frames,
    write_frame,
)

DEFAULT_MEMORY = 4 * 1024 * 1024
_PREFIX = "staged-"
_BATCH = 4 * 1024 * 1024
_SPILL = 512
"""Frames that are moved into the file at once: all of them together would be in memory twice."""
_AHEAD = 512 * 1024
"""Octets that are read from the file at once where frames are asked for in their order."""


class _Staged(NamedTuple):
    partition: str
    size: int
    good: bool
    frame: bytes | None
    offset: int = 0
    length: int = 0


class Made(NamedTuple):
    """A message as it is staged: its frame, and whether that holds what the GUID says."""

    body: MessageBody
    frame: bytes
    good: bool


class Making(NamedTuple):
    """Messages that were made into frames, and what was wrong with one that was not."""

    made: list[Made]
    refused: ProtocolError | None


def make_all(bodies: Sequence[MessageBody]) -> Making:
    """Compress or decompress, and hash, messages that are `is_small`, of less than a few MiB together. Needs
    nothing of a stage, so that a thread may do it.

    Refused is a message of another length than announced, and a frame that does not hold just what it should.
    """
    made: list[Made] = []
    refused: ProtocolError | None = None
    plain = [(body, body.data) for body in bodies if body.encoding != "zstd" and isinstance(body.data, bytes)]
    for (body, text), frame in zip(plain, compress_all([text for _, text in plain]), strict=True):
        if len(text) == body.size:
            made.append(Made(body, frame, hashlib.sha1(text).digest() == body.guid))
        else:
            refused = refused or _refused("message is not of the announced size", body)
    framed = [body for body in bodies if body.encoding == "zstd"]
    checked = whole_frames((body.data, body.size) for body in framed if isinstance(body.data, bytes))
    for body, whole in zip(framed, checked, strict=True):
        if whole is not None and whole.digest == body.guid:
            made.append(Made(body, whole.frame, True))
        else:
            refused = refused or _refused("frame does not hold its message", body)
    return Making(made, refused)


def _refused(why: str, body: MessageBody) -> ProtocolError:
    return ProtocolError(why).at(guid=body.guid.hex())


class Staging:
    """The reserve list of one connection (`mailstore.StagedMessages`). Used by one thread at a time."""

    checked = True

    def __init__(self, directory: Path, memory: int = DEFAULT_MEMORY, *, make: bool = True) -> None:
        """`directory`: where the temporary file goes. The directory is made when it is needed, unless `make`
        is False: where its disk has gone away, it would be made on what is underneath."""
        self._directory = directory
        self._make = make
        self._limit = memory
        self._messages: dict[bytes, _Staged] = {}
        self.reserved: set[bytes] = set()
        """GUIDs that came from the store, where they were read and found sound."""
        self._in_memory = 0
        self._resident: list[bytes] = []
        self._descriptor = -1
        self._end = 0
        self._window = b""
        self._window_start = self._read_up_to = 0

    def __len__(self) -> int:
        return len(self._messages)

    def __contains__(self, guid: object) -> bool:
        return guid in self._messages

    @property
    def memory(self) -> int:
        """Bytes of frames in memory."""
        return self._in_memory

    @property
    def spilled(self) -> int:
        """Bytes in the temporary file."""
        return self._end

    def add(self, bodies: Iterable[MessageBody]) -> None:
        """Stage messages as they came; one staged before under the same GUID is replaced.

        A message that does not match its GUID is staged too, as a real server does, but `is_good` is
        False for it. A frame that does not hold just what it should is not staged; the others are. Raises
        `ProtocolError` for such a frame and for a message of another length than announced, `StoreError`
        if the temporary file cannot be written.
        """
        refused: ProtocolError | None = None
        for batch in in_batches(bodies, _BATCH):
            making = make_all([body for body in batch if is_small(body)])
            refused = refused or making.refused
            with self._writing():
                self._keep_all(making.made)
                for body in batch:
                    if not is_small(body):
                        try:
                            self._add_frame(body) if body.encoding == "zstd" else self._add_large(body)
                        except ProtocolError as error:
                            refused = refused or error
        if refused is not None:
            raise refused

    def add_stored(self, bodies: Iterable[MessageBody]) -> None:
        """Stage frames out of a store, whose content has been checked."""
        with self._writing():
            for body in bodies:
                if isinstance(body.data, bytes):
                    self._keep(body, body.data, True)
                else:
                    self._spill_pieces(body)
                self.reserved.add(body.guid)

    def add_made(self, making: Making) -> None:
        """Stage what `make_all` has made. Raises as `add` does."""
        with self._writing():
            self._keep_all(making.made)
        if making.refused is not None:
            raise making.refused

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(f"cannot stage messages: {disk.why(error, str(self._directory))}") from error

    def _keep_all(self, made: Iterable[Made]) -> None:
        for body, frame, good in made:
            self._keep(body, frame, good)

    def _add_frame(self, body: MessageBody) -> None:
        """Stage a large frame as it is. Nothing in it is believed: it is decompressed within bounds, and
        hashed."""
        start = self._end
        try:
            length, digest = pass_frame(_pieces(body), body.size, self._write)
            if digest != body.guid:
                raise StoreCorrupt("frame holds another message")
        except StoreCorrupt as error:
            self._end = start
            raise _refused(error.message, body) from error
        except BaseException:
            self._end = start
            raise
        self._set(body.guid, _Staged(body.partition, body.size, True, None, start, length))

    def _add_large(self, body: MessageBody) -> None:
        """Compress into the file, piece by piece."""
        start = self._end
        try:
            length, digest = write_frame(_pieces(body), body.size, self._write)
        except ValueError as error:
            self._end = start
            raise _refused(str(error), body) from error
        except BaseException:
            self._end = start
            raise
        good = digest == body.guid
        self._set(body.guid, _Staged(body.partition, body.size, good, None, start, length))

    def _spill_pieces(self, body: MessageBody) -> None:
        start = self._end
        for piece in body.data if not isinstance(body.data, bytes) else [body.data]:
            self._write(piece)
        self._set(body.guid, _Staged(body.partition, body.size, True, None, start, self._end - start))

    def _keep(self, body: MessageBody, frame: bytes, good: bool) -> None:
        self._set(body.guid, _Staged(body.partition, body.size, good, frame))
        self._resident.append(body.guid)
        if self._in_memory > self._limit:
            self._spill()

    def _set(self, guid: bytes, staged: _Staged) -> None:
        old = self._messages.get(guid)
        if old and old.frame is not None:
            self._in_memory -= len(old.frame)
        if staged.frame is not None:
            self._in_memory += len(staged.frame)
        self._messages[guid] = staged

    def _spill(self) -> None:
        """Move all that is in memory into the file."""
        for start in range(0, len(self._resident), _SPILL):
            begun = position = self._end
            moved: dict[bytes, _Staged] = {}
            frames: list[bytes] = []
            for guid in self._resident[start : start + _SPILL]:
                partition, size, good, frame, _, _ = self._messages[guid]
                if frame is None or guid in moved:
                    continue
                frames.append(frame)
                moved[guid] = _Staged(partition, size, good, None, position, len(frame))
                position += len(frame)
            self._write(b"".join(frames))
            self._messages.update(moved)
            self._in_memory -= position - begun
        self._resident.clear()

    def _write(self, data: bytes) -> None:
        """Append to the temporary file."""
        self._window = b""
        if self._descriptor < 0:
            if self._make:
                make_directories(self._directory)
            with tempfile.TemporaryFile(prefix=f"{_PREFIX}{os.getpid()}-", dir=self._directory) as file:
                self._descriptor = os.dup(file.fileno())
        view = memoryview(data)
        position = self._end
        while view:
            count = os.pwrite(self._descriptor, view, position)
            position += count
            view = view[count:]
        self._end = position

    def is_good(self, guid: bytes) -> bool:
        """Whether the staged bytes have the SHA-1 that their GUID says."""
        staged = self._messages.get(guid)
        return staged is not None and staged.good

    def get(self, guid: bytes) -> MessageBody | None:
        """The message as a zstd frame; a large one in pieces."""
        staged = self._messages.get(guid)
        if staged is None:
            return None
        data: bytes | Iterable[bytes]
        if staged.frame is not None:
            data = staged.frame
        elif staged.length > LARGE:
            data = _Pieces(self._descriptor, staged.offset, staged.length)
        else:
            data = self._read(staged.offset, staged.length)
        return MessageBody(staged.partition, guid, staged.size, data, "zstd")

    def _read(self, offset: int, length: int) -> bytes:
        """A frame out of the temporary file. What follows is read with it if frames are asked for in their
        order."""
        start = offset - self._window_start
        if start < 0 or start + length > len(self._window):
            more = _AHEAD if offset == self._read_up_to else 0
            self._window = os.pread(self._descriptor, max(length, more), offset)
            self._window_start, start = offset, 0
        self._read_up_to = offset + length
        data = self._window[start : start + length]
        if len(data) != length:
            raise StoreError("staged message is shorter than it was")
        return data

    def clear(self) -> None:
        """Forget everything (RESTART)."""
        self._window = b""
        self._messages.clear()
        self.reserved.clear()
        self._in_memory = 0
        self._resident.clear()
        self._end = 0
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    close = clear


def is_small(body: MessageBody) -> bool:
    """Whether a message is in memory, and small enough to be made as a whole."""
    return isinstance(body.data, bytes) and max(body.size, len(body.data)) <= LARGE


def _pieces(body: MessageBody) -> Iterable[bytes]:
    return split(body.data) if isinstance(body.data, bytes) else body.data


class _Pieces:
    """Part of the temporary file; may be iterated more than once."""

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        self._place = descriptor, offset, length

    def __iter__(self) -> Iterator[bytes]:
        descriptor, offset, length = self._place
        end = offset + length
        while offset < end:
            piece = os.pread(descriptor, min(256 * 1024, end - offset), offset)
            if not piece:
                raise StoreError("staged message is shorter than it was")
            yield piece
            offset += len(piece)


def remove_left_overs(directory: Path) -> int:
    """Remove what processes that were killed have left in a staging directory. That happens on a file system
    without nameless files, between making a file and unlinking it. Returns how many files went."""
    removed = 0
    for path in directory.glob(f"{_PREFIX}*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        if decimal(pid) is not None and not Path(f"/proc/{pid}").exists():
            path.unlink(missing_ok=True)
            removed += 1
    return removed
