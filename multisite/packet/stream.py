"""The stream of a packet out of the contents of its frames, wherever they were cut: lines, counted octets."""

from __future__ import annotations

from collections.abc import Iterator

from cyrus_sync.multisite.packet.errors import PacketDamaged


class Stream:
    """Reads from `contents`, holding one piece of it at a time. `PacketDamaged` where it ends early."""

    def __init__(self, contents: Iterator[bytes]) -> None:
        self._contents = contents
        self._held = b""
        self._position = 0
        self._passed = 0

    @property
    def position(self) -> int:
        """Octets that were read."""
        return self._passed + self._position

    def at_end(self) -> bool:
        """Whether nothing follows. Raises what reading the contents raises."""
        return not self._fill()

    def line(self, longest: int) -> bytes:
        """The next line with its LF; it has at most `longest` octets."""
        line = b""
        while self._fill():
            end = self._held.find(b"\n", self._position, self._position + longest - len(line)) + 1
            line += self._take(end - self._position if end else longest - len(line))
            if end:
                return line
            if len(line) >= longest:
                raise PacketDamaged(f"the stream has no line at its octet {self.position - len(line)}")
        raise self._too_short()

    def pieces(self, count: int) -> Iterator[bytes]:
        """The next `count` octets."""
        while count:
            if not self._fill():
                raise self._too_short()
            piece = self._take(count)
            count -= len(piece)
            yield piece

    def exactly(self, count: int) -> bytes:
        """The next `count` octets together."""
        return b"".join(self.pieces(count))

    def _fill(self) -> bool:
        while self._position == len(self._held):
            self._passed += len(self._held)
            self._position, self._held = 0, b""
            following = next(self._contents, None)
            if following is None:
                return False
            self._held = following
        return True

    def _take(self, most: int) -> bytes:
        taken = self._held[self._position : self._position + most]
        self._position += len(taken)
        return taken

    def _too_short(self) -> PacketDamaged:
        return PacketDamaged(f"the stream ends at its octet {self.position}, in the middle of something")
