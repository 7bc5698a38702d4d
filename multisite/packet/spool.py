"""A file without a name for a message that is too large for memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

PIECE = 1 << 20


class Spool:
    """The octets of one message. Iterating gives them in pieces, as often as wanted, until `close`."""

    def __init__(self, directory: Path, pieces: Iterable[bytes]) -> None:
        """Takes all `pieces` in. OSError if the disk is full; then nothing is left open."""
        self._file = tempfile.TemporaryFile(dir=directory)  # noqa: SIM115 (closed by `close`)
        try:
            for piece in pieces:
                self._file.write(piece)
            self._file.flush()
        except BaseException:
            self._file.close()
            raise

    def __iter__(self) -> Iterator[bytes]:
        position = 0
        while piece := os.pread(self._file.fileno(), PIECE, position):
            position += len(piece)
            yield piece

    def close(self) -> None:
        self._file.close()
