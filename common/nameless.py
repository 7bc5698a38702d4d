"""`NamelessFile`: a message that is too large for memory, in a file without a name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Self

from cyrus_sync.common.files import named

PIECE = 1 << 20
"""Octets that iterating gives at once."""


class NamelessFile:
    """Octets that are written once. Iterating gives them in pieces, as often as wanted, until `close`.

    Every call may block on the disk. The file is gone with the last reference to it, or with the process.
    """

    def __init__(self, directory: Path) -> None:
        """The file lies in `directory`. Raises OSError."""
        self._directory = directory
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 (closed by `close`)

    @classmethod
    def filled(cls, directory: Path, pieces: Iterable[bytes]) -> Self:
        """One with all `pieces` in it. OSError when the disk is full; then nothing is left open."""
        made = cls(directory)
        try:
            for piece in pieces:
                made.write(piece)
        except BaseException:
            made.close()
            raise
        return made

    def write(self, data: bytes | bytearray) -> None:
        """Append. OSError when the disk is full."""
        view = memoryview(data)
        with named(self._directory):
            while view:
                view = view[self._file.write(view) :]

    def __iter__(self) -> Iterator[bytes]:
        position = 0
        while piece := os.pread(self._file.fileno(), PIECE, position):
            position += len(piece)
            yield piece

    def close(self) -> None:
        """Give the disk its space back."""
        self._file.close()
