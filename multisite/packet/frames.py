"""Frames: the stream of a packet in compressed pieces, each with its number, its length and its SHA-256.

    frame <n> <octets> <sha256 of these octets>
    <octets>
    …
    end <frames> <stream octets> <sha256 of all that stands in front of these 64 digits>
    signature <sender> <base64>

The rule guarded here: **one octet more, less or other is `PacketDamaged`**, and never more memory than a
frame may take. A frame is one zstd frame; in a sealed packet it is the encryption of one.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import zstandard

from cyrus_sync.multisite.packet.errors import PacketDamaged
from cyrus_sync.multisite.packet.sealing import ContentKey

FRAME = 1 << 20
"""Octets of the stream in a frame that we write."""
LARGEST_CONTENT = 4 << 20
"""Octets of the stream in a frame that anybody may write."""
LARGEST_FRAME = LARGEST_CONTENT + 65536
"""Octets in the file: what cannot be compressed becomes a little longer."""
LEVEL = 3

_LINE = re.compile(rb"frame ([1-9][0-9]{0,9}) ([1-9][0-9]{0,7}) ([0-9a-f]{64})\n")
_END = re.compile(rb"(end ([1-9][0-9]{0,9}) (0|[1-9][0-9]{0,17}) )([0-9a-f]{64})\n")
_LONGEST_LINE = 1024
FRAME_LINE = 128
"""Octets that stand around a frame, at most."""
_own = threading.local()


class PacketFrame(NamedTuple):
    """`octets` as they are in the file; `last` if the end follows."""

    number: int
    octets: bytes
    last: bool


class End(NamedTuple):
    """The line behind the frames. `hashed` is the part of it that `sha256` (hex) covers too."""

    line: bytes
    hashed: bytes
    frames: int
    stream: int
    sha256: str


def fold(content: bytes | bytearray, number: int, last: bool, key: ContentKey | None) -> bytes:
    """`content` as a frame with its line. May be called in several threads at once."""
    return framed(compress(content), number, last, key)


def framed(octets: bytes, number: int, last: bool, key: ContentKey | None) -> bytes:
    """What `compress` has made as a frame with its line."""
    if key is not None:
        octets = key.lock(octets, number, last)
    digest = hashlib.sha256(octets).hexdigest().encode()
    return b"frame %d %d %s\n%s\n" % (number, len(octets), digest, octets)


def compress(content: bytes | bytearray) -> bytes:
    """One zstd frame that states its size and carries a checksum."""
    compressor: zstandard.ZstdCompressor | None = getattr(_own, "compressor", None)
    if compressor is None:
        compressor = _own.compressor = zstandard.ZstdCompressor(
            level=LEVEL, write_checksum=True, write_content_size=True
        )
    return compressor.compress(content)


def folded_at_most(content: int) -> int:
    """Octets that the frames of `content` octets of stream take at most, lines and encryption included."""
    return content + (content >> 8) + 256 * (content // FRAME + 1)


def end_line(frames: int, stream: int) -> bytes:
    """The part of the end that is hashed; the SHA-256 and a line feed are to follow."""
    return b"end %d %d " % (frames, stream)


def unfold(frame: PacketFrame, key: ContentKey | None) -> bytes:
    """The content of a frame. Raises `PacketDamaged`."""
    octets = frame.octets if key is None else key.unlock(frame.octets, frame.number, frame.last)
    try:
        size = zstandard.get_frame_parameters(octets).content_size
        if size > LARGEST_CONTENT:  # unknown is the largest number
            raise PacketDamaged(f"frame {frame.number} would unfold to more than {LARGEST_CONTENT} octets")
        content = zstandard.ZstdDecompressor().decompress(octets, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise PacketDamaged(f"frame {frame.number} is no zstd frame: {error}") from None
    if len(content) != size:
        raise PacketDamaged(f"frame {frame.number} does not have the length that it states")
    return content


class Octets:
    """An open file from a place on; `position` is the next octet. Others may read it at other places."""

    def __init__(self, descriptor: int, position: int) -> None:
        self._descriptor = descriptor
        self.position = position

    def line(self, what: str) -> bytes:
        """The next line with its end. `PacketDamaged` if there is none of a sensible length."""
        start = os.pread(self._descriptor, _LONGEST_LINE, self.position)
        end = start.find(b"\n") + 1
        if not end:
            state = "ends" if len(start) < _LONGEST_LINE else "has no line"
            raise PacketDamaged(f"the file {state} at octet {self.position}, where {what} should be")
        self.position += end
        return start[:end]

    def exactly(self, count: int, what: str) -> bytes:
        """The next `count` octets. `PacketDamaged` if the file ends within `what`."""
        parts: list[bytes] = []
        missing = count
        while missing:
            part = os.pread(self._descriptor, missing, self.position)
            if not part:
                raise PacketDamaged(f"the file ends at octet {self.position}, in {what}")
            parts.append(part)
            missing -= len(part)
            self.position += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def at_end(self) -> bool:
        """Whether nothing follows."""
        return not os.pread(self._descriptor, 1, self.position)


def _unnoticed(_: bytes) -> None:
    pass


class Frames:
    """All frames in their order, each checked by its hash. `end` is there when they have been read.

    `passed` is given every octet up to the end's line. Raises `PacketDamaged`.
    """

    def __init__(self, octets: Octets, passed: Callable[[bytes], object] = _unnoticed) -> None:
        self._octets = octets
        self._passed = passed
        self.end: End | None = None

    def __iter__(self) -> Iterator[PacketFrame]:
        number, place = 1, self._octets.position
        line = self._octets.line("frame 1")
        while True:
            octets = self._read(line, number, place)
            place = self._octets.position
            line = self._octets.line(f"frame {number + 1} or the end")
            last = line.startswith(b"end ")
            yield PacketFrame(number, octets, last)
            if last:
                break
            number += 1
        self.end = self._read_end(line, number, place)

    def _read(self, line: bytes, number: int, place: int) -> bytes:
        found = _LINE.fullmatch(line)
        if found is None or int(found[1]) != number or int(found[2]) > LARGEST_FRAME:
            raise PacketDamaged(f"at octet {place}: not the line of frame {number}")
        what = f"frame {number}"
        octets = self._octets.exactly(int(found[2]), what)
        if hashlib.sha256(octets).hexdigest().encode() != found[3]:
            raise PacketDamaged(f"{what}, at octet {place}: its SHA-256 is not the one that its line states")
        if self._octets.exactly(1, what) != b"\n":
            raise PacketDamaged(f"{what}, at octet {place}: longer than its line states")
        self._passed(line)
        self._passed(octets)
        self._passed(b"\n")
        return octets

    @staticmethod
    def _read_end(line: bytes, frames: int, place: int) -> End:
        found = _END.fullmatch(line)
        if found is None or int(found[2]) != frames:
            raise PacketDamaged(f"at octet {place}: not the end of a packet of {frames} frames")
        return End(line, found[1], frames, int(found[3]), found[4].decode())
