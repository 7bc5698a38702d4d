"""Writing a packet: messages and operations in, a file that is there whole or not at all.

>>> with PacketWriter(path, header) as packet:
...     packet.messages([MessageBody("default", guid, 5, b"hello")])
...     packet.operation(Operation(origin, 1, now, "alice", b"APPLY SUB %(…)\\r\\n"))
...     packet.close(header)

Frames are compressed in two threads while the next one is collected. Memory is a few frames, whatever the
size of a message.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from cyrus_sync.common.directory import Directory
from cyrus_sync.common.files import named
from cyrus_sync.common.model import MessageBody
from cyrus_sync.multisite.packet import prologue, signature
from cyrus_sync.multisite.packet.frames import (
    FRAME,
    FRAME_LINE,
    compress,
    end_line,
    fold,
    folded_at_most,
    framed,
)
from cyrus_sync.multisite.packet.header import Header
from cyrus_sync.multisite.packet.items import (
    BEGIN,
    BETWEEN,
    CLOSE,
    Operation,
    State,
    message_head,
    section_head,
)
from cyrus_sync.multisite.packet.keys import PublicKeys, SecretKeys
from cyrus_sync.multisite.packet.sealing import OVERHEAD, ContentKey

SMALL_MESSAGE = 1 << 20
"""Larger ones have a section of their own."""
SECTION_BYTES = 1 << 20
SECTION_MESSAGES = 1024
_SECTION_HEAD = 64
_LONGEST_END = 128
_THREADS = 2
_IN_FLIGHT = 3
_WORTH_A_LOOK = 1 / 24
"""Part of a packet that has to be gained before all that is pending is compressed together once more."""


class PacketWriter:
    """One packet on its way to `path`. Whatever fails, the temporary file is removed and the writer is
    closed. The same happens when a `with` block is left without `close`."""

    def __init__(
        self,
        path: Path,
        reserve: Header,
        *,
        signing: SecretKeys | None = None,
        seal_to: Mapping[str, PublicKeys] | None = None,
        adopt: Callable[[int], object] | None = None,
    ) -> None:
        """Begins a temporary file beside `path`.

        `reserve` has at least the replicas and texts of the header that `close` will be given; its numbers do
        not matter. `seal_to`: the keys of those who can open the packet, by id. `adopt(descriptor)` gives the
        open file its owner, group and mode, before anybody can find it under its name.

        Raises `FileExistsError` if `path` is there, ValueError for a header that is too large."""
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        if seal_to is not None and not seal_to:
            raise ValueError("a packet that is sealed for nobody")
        self.path = path
        self._signing = signing
        self._key = ContentKey.generate() if seal_to else None
        self._sealed = self._key.for_targets(seal_to) if self._key and seal_to else {}
        self._room = prologue.room_for(replace(reserve, sealed=self._sealed))
        self._frames = self._stream = 0
        self._small: list[tuple[bytes, bytes]] = []
        self._small_bytes = 0
        self._pending = bytearray()
        self._measured: tuple[int, int] | None = None
        """How many of the pending octets were compressed, piece by piece, and what they take at most."""
        self._folded: tuple[int, bytes] | None = None
        """How many of the pending octets were compressed together at last, and what came of it."""
        self._folding: deque[tuple[int, Future[bytes]]] = deque()
        self._folders = ThreadPoolExecutor(_THREADS, "packet")
        self._closed = False
        self._adopt = adopt
        self._directory = Directory.of(path)
        try:
            self._unfinished = self._directory.new_file()
        except BaseException:
            os.close(self._directory.descriptor)
            raise
        self._file = os.fdopen(self._unfinished.descriptor, "w+b")
        self._written = self._file.seek(self._room)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    # -- what goes in

    def messages(self, bodies: Iterable[MessageBody]) -> None:
        """Messages that later operations need; `encoding` identity. A large one may come in pieces.

        Raises ValueError for one that is not as long as it says."""
        with self._all_or_nothing():
            for body in bodies:
                head = message_head(body)
                if body.size > SMALL_MESSAGE:
                    self._end_section()
                    self._put(section_head(1, len(BEGIN) + len(head) + body.size + len(CLOSE)) + BEGIN + head)
                    for piece in _pieces(body):
                        self._put(piece)
                    self._put(CLOSE)
                    continue
                data = body.data if isinstance(body.data, bytes) else b"".join(_pieces(body))
                if len(data) != body.size:
                    raise ValueError(f"the message {body.guid.hex()} does not have its size of {body.size}")
                self._small.append((head, data))
                self._small_bytes += len(head) + len(data) + len(BETWEEN)
                if self._small_bytes >= SECTION_BYTES or len(self._small) >= SECTION_MESSAGES:
                    self._end_section()

    def operation(self, operation: Operation) -> None:
        """An operation, behind all that it needs."""
        with self._all_or_nothing():
            self._end_section()
            self._put(operation.head())
            self._put(operation.line)

    def state(self, state: State) -> None:
        """A piece of a snapshot."""
        with self._all_or_nothing():
            self._end_section()
            self._put(state.head())
            self._put(state.data)

    # -- how large it is

    @property
    def size(self) -> int:
        """Octets that the file would have at most if it were closed now. Frames that are written count as
        they are; what is not compressed yet counts as if it could not be."""
        waiting = len(self._pending) + self._small_bytes + (_SECTION_HEAD if self._small else 0)
        if self._measured is None:
            pending = folded_at_most(waiting)
        else:
            known, pending = self._measured
            pending += FRAME_LINE + (OVERHEAD if self._key else 0)
            if waiting > known:
                # The more there is, the better it is compressed; a little is left for exceptions.
                pending += folded_at_most(waiting - known) + (pending >> 5)
        folding = sum(folded_at_most(content) for content, _ in self._folding)
        return self._written + folding + pending + _LONGEST_END + (signature.LONGEST if self._signing else 0)

    def fits(self, limit: int, more: int = 0) -> bool:
        """Whether the file has at most `limit` octets if it is closed when `more` octets have been added:
        lines and messages before compression, and 256 for the head of each. Looks closely, and compresses
        what there is, only near the limit."""
        if self.surely_fits(limit, more):
            return True
        with self._all_or_nothing():
            self._end_section()
            self._collect(0)
            self._measure()
            if not self.surely_fits(limit, more) and self._gain() > limit * _WORTH_A_LOOK:
                self._fold()
        return self.surely_fits(limit, more)

    def _measure(self) -> None:
        """See what is pending at most when it is compressed: what came last is compressed by itself."""
        if self._measured is None:
            self._fold()
        elif self._measured[0] < len(self._pending):
            known, octets = self._measured
            self._measured = len(self._pending), octets + len(compress(self._pending[known:]))

    def _gain(self) -> float:
        """Octets by which all that is pending is likely to be smaller, together, than it was measured."""
        if self._folded is None or self._measured is None:
            return 0.0
        together, octets = self._folded
        return self._measured[1] - len(octets) * len(self._pending) / max(together, 1)

    def _fold(self) -> None:
        octets = compress(self._pending)
        self._folded = len(self._pending), octets
        self._measured = len(self._pending), len(octets)

    def surely_fits(self, limit: int, more: int = 0) -> bool:
        """`fits`, without a close look: False may be wrong."""
        return self.size + (folded_at_most(more) if more else 0) <= limit

    # -- the end

    def close(self, header: Header) -> Path:
        """Make it a packet with this header. When this returns, it is on disk under its name.

        Raises `FileExistsError` if there is something of that name by now, ValueError if the header does not
        fit into its room, OSError; then there is no packet."""
        with self._all_or_nothing():
            self._end_section()
            self._cut(last=True)
            self._collect(0)
            self._file.seek(0)
            self._file.write(prologue.fill(replace(header, sealed=self._sealed), self._room))
            self._file.seek(0)
            # Only now are all octets known in their order; they are still in the system's cache.
            digest = hashlib.file_digest(self._file, "sha256")
            end = end_line(self._frames, self._stream)
            digest.update(end)
            rest = digest.hexdigest().encode() + b"\n"
            digest.update(rest)
            self._file.write(end + rest)
            if self._signing is not None:
                self._file.write(signature.make(header.sender, digest.digest(), self._signing))
            self._file.flush()
            if self._adopt is not None:
                self._adopt(self._file.fileno())
            os.fsync(self._file.fileno())
            self._unfinished.rename(self.path.name)
            self._directory.sync()
        self._leave()
        return self.path

    def abort(self) -> None:
        """Remove what was written. Nothing happens if it was closed, or given up before."""
        if not self._closed:
            self._unfinished.discard()
            self._leave()

    def _leave(self) -> None:
        self._closed = True
        self._folders.shutdown(wait=True, cancel_futures=True)
        self._folding.clear()
        with contextlib.suppress(OSError):  # what matters has been synced
            self._file.close()
        os.close(self._directory.descriptor)

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        if self._closed:
            raise ValueError(f"{self.path}: the packet is closed or was given up")
        try:
            with named(self.path):
                yield
        except BaseException:
            self.abort()
            raise

    # -- stream and frames

    def _end_section(self) -> None:
        if not self._small:
            return
        small, self._small, self._small_bytes = self._small, [], 0
        parts = [BEGIN]
        for head, data in small:
            parts += (head, data, BETWEEN)
        parts[-1] = CLOSE
        content = b"".join(parts)
        self._put(section_head(len(small), len(content)))
        self._put(content)

    def _put(self, data: bytes) -> None:
        """More of the stream. A frame is cut when there is something for the next: so the last has
        content."""
        view = memoryview(data)
        while view:
            if len(self._pending) == FRAME:
                self._cut(last=False)
            taken = FRAME - len(self._pending)
            self._pending += view[:taken]
            view = view[taken:]

    def _cut(self, last: bool) -> None:
        self._frames += 1
        self._stream += len(self._pending)
        if self._folded is not None and self._folded[0] == len(self._pending):
            made = self._folders.submit(framed, self._folded[1], self._frames, last, self._key)
        else:
            made = self._folders.submit(fold, self._pending, self._frames, last, self._key)
        self._folding.append((len(self._pending), made))
        self._pending, self._measured, self._folded = bytearray(), None, None
        self._collect(_IN_FLIGHT)

    def _collect(self, still: int) -> None:
        """Write the frames that are ready, until at most `still` of them are not."""
        while self._folding and (len(self._folding) > still or self._folding[0][1].done()):
            self._written += self._file.write(self._folding.popleft()[1].result())


def _pieces(body: MessageBody) -> Iterator[bytes]:
    """Exactly as many octets as the message has. Raises ValueError."""
    left = body.size
    for piece in (body.data,) if isinstance(body.data, bytes) else body.data:
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise ValueError(f"the message {body.guid.hex()} does not have its size of {body.size} octets")
