"""What comes of a file is written and digested in a thread beside the conversation that brings it."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.files import begin_writing_back, write_all
from cyrus_sync.shipping.digest import BLOCK, Growing

_PIECES = 32
"""Pieces that may wait for the disk. Whoever brings more of them waits, too: nothing else is at work here."""

_WRITE_BACK = 32 * 1024 * 1024


class Landing:
    """Takes the pieces of a file of `size` octets into the open file `descriptor`, in which its first `start`
    octets are already."""

    def __init__(
        self,
        descriptor: int,
        size: int,
        algorithm: str,
        open_piece: Callable[[bytes], bytes],
        *,
        start: int = 0,
    ) -> None:
        self._left = size - start
        self._size = size
        self._start = start
        self._descriptor = descriptor
        self._write = writer(descriptor, start)
        self._digest = Growing(algorithm)
        self._open_piece = open_piece
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_PIECES)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def put(self, piece: bytes) -> None:
        """The next piece, as it came. Raises what a former one came to: OSError, `Refused`."""
        if self._failure is not None:
            raise self._failure
        self._pieces.put(piece)

    def end(self) -> tuple[int, str]:
        """All that has come is written, not yet on disk: how many octets, and their digest. Raises like
        `put`. Is called in any case."""
        if self._thread.is_alive():
            self._pieces.put(None)
            self._thread.join()
        if self._failure is not None:
            raise self._failure
        return self._size - self._left, self._digest.text()

    def _work(self) -> None:
        try:
            self._digest_what_is_there()
        except OSError as error:
            self._failure = error
        while (piece := self._pieces.get()) is not None:
            if self._failure is not None:
                continue
            try:
                data = memoryview(self._open_piece(piece))[: self._left]
                self._left -= len(data)
                self._write(data)
                self._digest.update(data)
            except (OSError, CyrusSyncError, MemoryError) as error:
                self._failure = error

    def _digest_what_is_there(self) -> None:
        at = 0
        while at < self._start and (block := os.pread(self._descriptor, min(BLOCK, self._start - at), at)):
            self._digest.update(block)
            at += len(block)


def writer(descriptor: int, start: int = 0) -> Callable[[memoryview], None]:
    """Writes blocks one after the other, the first at `start`; the disk is at work meanwhile, not only at the
    end."""
    written = begun = start
    if start:
        os.lseek(descriptor, start, os.SEEK_SET)

    def write(block: memoryview) -> None:
        nonlocal written, begun
        write_all(descriptor, block)
        written += len(block)
        if written - begun >= _WRITE_BACK:
            begin_writing_back(descriptor, begun, written - begun)
            begun = written

    return write
