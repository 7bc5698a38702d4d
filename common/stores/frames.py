"""Messages as zstd frames: compressing, checking, and large ones in pieces.

A frame here always holds its content size and a checksum, so a damaged one is noticed when it is read. The
GUID of a message is the SHA-1 of its raw bytes. Making a frame of a message that came from elsewhere gives
that SHA-1, too.

>>> made = make_frame(b"Subject: a\\r\\n\\r\\nfirst\\r\\n")
>>> made.digest.hex()
'cd081e01676d96c437b3d729301bebdaf4c14102'
>>> frame_content(made.frame, made.size)
b'Subject: a\\r\\n\\r\\nfirst\\r\\n'
"""

from __future__ import annotations

import hashlib
import os
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import zstandard

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.stores.frame_blocks import MAX_WINDOW, blocks, check_head, is_one_block

LEVEL = 1
LARGE = 1024 * 1024
"""Messages above this many bytes are handled in pieces."""

_PIECE = 256 * 1024
_WORTH_THREADS = 48
"""Messages in a batch from which on a second thread pays."""

_IN_TURN = 2047
"""Octets that hashlib hashes without giving up the interpreter's lock."""

_AT_ONCE = 256 * 1024
"""Octets that are decompressed in one call: few enough to be in a processor's cache when they are hashed."""

_local = threading.local()


class Frame(NamedTuple):
    """A message compressed, with the length and the SHA-1 of what is in it."""

    frame: bytes
    size: int
    digest: bytes


def body_of(pieces: Iterable[bytes]) -> bytes | MessageBody:
    """The message that `pieces` make: its octets, or where they are many, what will read them again. Raises
    what reading them does."""
    digest = hashlib.sha1()
    size = 0
    held: list[bytes] = []
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
        if size <= LARGE:
            held.append(piece)
        else:
            held.clear()
    return b"".join(held) if size <= LARGE else MessageBody("", digest.digest(), size, pieces)


def _compressor() -> zstandard.ZstdCompressor:
    made: zstandard.ZstdCompressor | None = getattr(_local, "compressor", None)
    if made is None:
        made = _local.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
    return made


def _decompressor() -> zstandard.ZstdDecompressor:
    made: zstandard.ZstdDecompressor | None = getattr(_local, "decompressor", None)
    if made is None:
        made = _local.decompressor = zstandard.ZstdDecompressor()
    return made


def make_frame(message: bytes) -> Frame:
    """Compress one message that is in memory."""
    return Frame(_compressor().compress(message), len(message), hashlib.sha1(message).digest())


def compress_all(messages: Sequence[bytes]) -> list[bytes]:
    """Frames of many messages that are in memory; where there are two processors, both work at it."""
    if len(messages) < _WORTH_THREADS or len(os.sched_getaffinity(0)) < 2:
        compress = _compressor().compress
        return [compress(message) for message in messages]
    made = _compressor().multi_compress_to_buffer(list(messages), threads=2)
    return [made[number].tobytes() for number in range(len(made))]


def frame_content(frame: bytes, size: int) -> bytes:
    """The message in `frame`, which must have `size` bytes; raises `StoreCorrupt`."""
    try:
        if zstandard.frame_content_size(frame) != size:
            raise StoreCorrupt("frame holds a message of another size")
        return _decompressor().decompress(frame, max_output_size=size)
    except zstandard.ZstdError as error:
        raise StoreCorrupt(f"damaged frame: {error}") from error


def contents(frames: list[bytes], sizes: list[int]) -> list[bytes]:
    """The messages in many frames; raises `StoreCorrupt`."""
    decompress = _decompressor().decompress
    try:
        messages = [decompress(frame) for frame in frames]
    except zstandard.ZstdError as error:
        raise StoreCorrupt(f"damaged frame: {error}") from error
    if list(map(len, messages)) != sizes:
        raise StoreCorrupt("frame holds a message of another size")
    return messages


def content_pieces(frame: Iterable[bytes]) -> Iterator[bytes]:
    """The message of a large frame in pieces of bounded size; raises `StoreCorrupt`."""
    unpack = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    try:
        for block in blocks(frame):
            data = unpack.decompress(block)
            if data:
                yield data
    except zstandard.ZstdError as error:
        raise StoreCorrupt(f"damaged frame: {error}") from error
    if not unpack.eof:
        raise StoreCorrupt("frame ends too early")


def write_frame(message: Iterable[bytes], size: int, write: Callable[[bytes], object]) -> tuple[int, bytes]:
    """Compress a message that comes in pieces and must have `size` bytes, giving the frame to `write`.

    Returns the frame's length and the message's SHA-1; raises ValueError for another size.
    """
    pack = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj(size=size)
    digest = hashlib.sha1()
    length = seen = 0
    try:
        for piece in message:
            digest.update(piece)
            seen += len(piece)
            out = pack.compress(piece)
            if out:
                length += len(out)
                write(out)
        if seen != size:
            raise ValueError(f"message of {seen} octets was announced as {size}")
        out = pack.flush()
    except zstandard.ZstdError as error:
        raise ValueError(f"message is not of the announced size: {error}") from error
    write(out)
    return length + len(out), digest.digest()


def split(message: bytes) -> Iterator[bytes]:
    """A message in memory as pieces."""
    for start in range(0, len(message), _PIECE):
        yield message[start : start + _PIECE]


def whole_frame(frame: bytes, size: int) -> Frame | None:
    """A peer's frame of a message of `size` bytes, as we keep frames. None if it is damaged or of another
    size. A frame without checksum or content size is made anew.

    Whatever the frame says, it is decompressed into no more than `size` bytes.
    """
    try:
        parameters = zstandard.get_frame_parameters(frame)
        if parameters.content_size not in (size, zstandard.CONTENTSIZE_UNKNOWN) or not size:
            return None
        if len(frame) > longest_frame(size):
            return None
        message = _decompressor().decompress(frame, max_output_size=size, allow_extra_data=False)
    except zstandard.ZstdError:
        return None
    if len(message) != size or frame[:4] != zstandard.FRAME_HEADER:
        return None
    if not parameters.has_checksum or parameters.content_size != size:
        return make_frame(message)
    return Frame(frame, size, hashlib.sha1(message).digest())


def whole_frames(frames: Iterable[tuple[bytes, int]]) -> list[Frame | None]:
    """What `whole_frame` says of each of many frames with their sizes. Some dozens that look like ours are
    decompressed in one call, in which other threads can work."""
    found: list[Frame | None] = []
    ours: list[tuple[bytes, int]] = []
    octets = 0
    for frame, size in frames:
        looks_good = _looks_like_ours(frame, size)
        if ours and (octets >= _AT_ONCE or not looks_good):
            found += _frames_like_ours(ours)
            ours, octets = [], 0
        if looks_good:
            ours.append((frame, size))
            octets += size
        else:
            found.append(whole_frame(frame, size))
    return found + _frames_like_ours(ours) if ours else found


def _frames_like_ours(frames: Sequence[tuple[bytes, int]]) -> list[Frame | None]:
    sizes = array("Q", [size for _, size in frames])
    try:
        messages = _decompressor().multi_decompress_to_buffer(
            [frame for frame, _ in frames], decompressed_sizes=memoryview(sizes).cast("B")
        )
    except zstandard.ZstdError:  # at least one of them is damaged
        return [whole_frame(frame, size) for frame, size in frames]
    return [
        Frame(frame, size, _sha1_in_turn(messages[number].tobytes()))
        for number, (frame, size) in enumerate(frames)
    ]


def _sha1_in_turn(message: bytes) -> bytes:
    """The SHA-1 of a small message, without letting other threads go on meanwhile, which hashlib does from
    2 KiB on: who gives up the turn hundreds of times, for microseconds each, mostly waits to get it back."""
    octets = memoryview(message)
    digest = hashlib.sha1()
    for start in range(0, len(octets), _IN_TURN):
        digest.update(octets[start : start + _IN_TURN])
    return digest.digest()


def _looks_like_ours(frame: bytes, size: int) -> bool:
    try:
        head = zstandard.get_frame_parameters(frame)
        return (
            head.content_size == size > 0
            and head.has_checksum
            and not head.dict_id
            and frame[:4] == zstandard.FRAME_HEADER
            and is_one_block(frame)
        )
    except zstandard.ZstdError:
        return False


def pass_frame(frame: Iterable[bytes], size: int, write: Callable[[bytes], object]) -> tuple[int, bytes]:
    """Check a peer's large frame of a message of `size` bytes, and give it to `write` as it is.

    Returns the frame's length and the message's SHA-1. Raises `StoreCorrupt` for anything but one frame as we
    keep them, of just that size."""
    unpack = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW).decompressobj()
    digest = hashlib.sha1()
    length = seen = 0
    try:
        for block in blocks(frame):
            if not length:
                check_head(block, size)
            length += len(block)
            message = unpack.decompress(block)
            seen += len(message)
            if seen > size or length > longest_frame(size):
                break
            digest.update(message)
            write(block)
    except zstandard.ZstdError as error:
        raise StoreCorrupt(f"damaged frame: {error}") from error
    if seen != size or not unpack.eof:
        raise StoreCorrupt("frame holds a message of another size")
    return length, digest.digest()


def longest_frame(size: int) -> int:
    """No frame of a message of `size` bytes need be longer."""
    return size + size // 128 + 512
