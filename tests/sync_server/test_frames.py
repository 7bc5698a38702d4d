"""Messages as zstd frames: agreed on, taken as they are, and never believed."""

from __future__ import annotations

import hashlib
import random
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from twisted.internet.defer import Deferred, maybeDeferred

from cyrus_sync.common.model import MessageSource
from cyrus_sync.common.stores.staging import Staging
from tests.sync_server.conversation import Conversation, NotingReplica

MESSAGE = b"Subject: hello\r\n\r\nNOOP\r\nGET USER nobody\r\n" * 20
IN_DOUBT = b"message does not match its GUID, cannot tell content from commands"
REFUSED = b"NO IMAP_PROTOCOL_ERROR "


def frame_of(message: bytes, **options: Any) -> bytes:
    return zstandard.ZstdCompressor(level=1, **{"write_checksum": True, **options}).compress(message)


def file(frame: bytes, size: int | None = None, message: bytes = MESSAGE) -> bytes:
    """One item of an APPLY XFRAME: `frame`, announced to hold `message`, or `size` bytes."""
    guid = hashlib.sha1(message).hexdigest().encode()
    return b"%d %%{default %s %d}\r\n%s" % (len(message) if size is None else size, guid, len(frame), frame)


class StagingReplica(NotingReplica):
    """Takes messages as the real one does."""

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.stage = Staging(directory)

    def message(self, messages: MessageSource) -> Deferred[None]:
        def stage() -> None:
            for batch in messages:
                self.stage.add(batch)

        return maybeDeferred(stage)


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Conversation]:
    talk = Conversation(tmp_path, login=False)
    talk.replica = StagingReplica(tmp_path / "stage")
    talk.login("repl", "s3cret")
    assert talk.ask(b"APPLY CAPABILITIES (X-CYRUS-SYNC-ZSTD)").startswith(b"* ENABLED (X-CYRUS-SYNC-ZSTD)")
    yield talk
    talk.replica.stage.close()


def staged(talk: Conversation, message: bytes = MESSAGE) -> bytes | None:
    """The frame that is staged for `message`."""
    assert isinstance(talk.replica, StagingReplica)
    body = talk.replica.stage.get(hashlib.sha1(message).digest())
    if body is None:
        return None
    return body.data if isinstance(body.data, bytes) else b"".join(body.data)


def upload(talk: Conversation, *items: bytes, end: bytes = b"OK Noop completed") -> bytes:
    """APPLY XFRAME, and a NOOP that shows whether the stream is still in step; the answer to the first."""
    wire = b"APPLY XFRAME (" + b" ".join(items) + b")\r\nNOOP\r\n"
    said = b"".join(talk.send(wire[at : at + 60_000]) for at in range(0, len(wire), 60_000))
    first, last = said.splitlines()
    assert last == end
    return first


@pytest.mark.covers("Capabilities", "X-CYRUS-SYNC-ZSTD")
@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY XFRAME")
def test_frames_are_staged_as_they_came(talk: Conversation) -> None:
    other = b"Subject: other\r\n\r\n"
    first, second = frame_of(MESSAGE), frame_of(other)
    assert upload(talk, file(first), file(second, message=other)) == b"OK success"
    assert (staged(talk), staged(talk, other)) == (first, second)


def test_a_large_frame_goes_through_a_file_as_it_came(talk: Conversation) -> None:
    message = random.Random(5).randbytes(3_000_000) + bytes(2_000_000)
    pack = zstandard.ZstdCompressor(level=1, write_checksum=True).compressobj(size=len(message))
    frame = pack.compress(message) + pack.flush()
    assert upload(talk, file(frame, message=message), file(frame_of(MESSAGE))) == b"OK success"
    assert staged(talk, message) == frame
    assert staged(talk) == frame_of(MESSAGE)


@pytest.mark.covers("Capabilities", "X-CYRUS-SYNC-ZSTD")
def test_without_the_capability_frames_are_refused(tmp_path: Path) -> None:
    assert upload(Conversation(tmp_path), file(frame_of(MESSAGE))).startswith(REFUSED)


def test_what_is_damaged_does_not_take_its_neighbours_along(talk: Conversation) -> None:
    other = b"Subject: other\r\n\r\n"
    damaged = bytearray(frame_of(MESSAGE))
    damaged[-1] ^= 1
    assert upload(talk, file(bytes(damaged)), file(frame_of(other), message=other)).startswith(REFUSED)
    assert staged(talk) is None
    assert staged(talk, other) == frame_of(other)


DICTIONARY = zstandard.ZstdCompressionDict(MESSAGE[:200] + bytes(range(256)), dict_type=0)
SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
GOOD = frame_of(MESSAGE)
WIDE = zstandard.ZstdCompressionParameters(window_log=27, write_checksum=True)


def endless(size: int, announce: bool = True, **options: Any) -> bytes:
    """A frame of `size` zeros, which is next to nothing on the wire."""
    maker = zstandard.ZstdCompressor(**(options or {"level": 1, "write_checksum": True}))
    pack = maker.compressobj(**({"size": size} if announce else {}))
    return b"".join(pack.compress(bytes(1 << 20)) for _ in range(size >> 20)) + pack.flush()


HOSTILE: dict[str, tuple[Callable[[], bytes], int]] = {
    "a gigabyte, announced as 10 bytes": (lambda: endless(1 << 30), 10),
    "a gigabyte of unsaid size, announced as 10 bytes": (lambda: endless(1 << 30, False), 10),
    "a gigabyte, announced as two megabytes": (lambda: endless(1 << 30), 2 << 20),
    "a gigabyte of unsaid size, announced as two megabytes": (lambda: endless(1 << 30, False), 2 << 20),
    "a gigabyte of something else": (lambda: endless(1 << 30), 1 << 30),
    "a header that lies": (
        lambda: GOOD[:5] + (2 * len(MESSAGE) - 256).to_bytes(2, "little") + GOOD[7:],
        2 * len(MESSAGE),
    ),
    "a byte less than announced": (lambda: GOOD, len(MESSAGE) + 1),
    "a byte more than announced": (lambda: GOOD, len(MESSAGE) - 1),
    "no zstd": (lambda: MESSAGE, len(MESSAGE)),
    "no zstd, and large": (lambda: bytes(2 << 20), 2 << 20),
    "nothing": (lambda: b"", len(MESSAGE)),
    "another message": (lambda: frame_of(MESSAGE[::-1]), len(MESSAGE)),
    "a skippable frame": (lambda: SKIPPABLE, 4),
    "a skippable frame before it": (lambda: SKIPPABLE + GOOD, len(MESSAGE)),
    "a skippable frame behind it": (lambda: GOOD + SKIPPABLE, len(MESSAGE)),
    "two frames": (lambda: frame_of(MESSAGE[:100]) + frame_of(MESSAGE[100:]), len(MESSAGE)),
    "two large frames": (lambda: endless(1 << 20) * 2, 2 << 20),
    "large, and a byte behind it": (lambda: endless(2 << 20) + b"x", 2 << 20),
    "large, without a checksum": (lambda: frame_of(bytes(2 << 20), write_checksum=False), 2 << 20),
    "large, with a window of 128 MB": (lambda: endless(200 << 20, compression_params=WIDE), 200 << 20),
    "a dictionary": (lambda: frame_of(MESSAGE, dict_data=DICTIONARY), len(MESSAGE)),
    "blown up with empty blocks": (lambda: GOOD[:7] + bytes(3) * 5000 + GOOD[7:], len(MESSAGE)),
}


@pytest.mark.covers("GET, APPLY, RESTORE", "APPLY XFRAME")
@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_hostile_frame_is_refused_within_bounds_and_in_step(talk: Conversation, hostile: str) -> None:
    make, size = HOSTILE[hostile]
    frame = make()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert upload(talk, file(frame, size)).startswith(REFUSED)
    assert staged(talk) is None
    assert upload(talk, file(GOOD)) == b"OK success"
    assert staged(talk) == GOOD
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024


@pytest.mark.parametrize(
    ("frame", "size"),
    [(GOOD[:-5], len(MESSAGE)), (endless(2 << 20)[:-1], 2 << 20)],
)
def test_behind_a_frame_that_is_cut_short_nothing_is_carried_out(
    talk: Conversation, frame: bytes, size: int
) -> None:
    """Its end may be what follows, and hold text of the message as it is."""
    assert upload(talk, file(frame, size), end=b"* Fatal error: " + IN_DOUBT).startswith(REFUSED)
    assert staged(talk) is None and talk.closed


@pytest.mark.parametrize(
    "items",
    [
        file(GOOD).partition(b" ")[2],
        b"NIL " + file(GOOD).partition(b" ")[2],
        b"0 " + file(GOOD).partition(b" ")[2],
        b"4294967296 " + file(GOOD).partition(b" ")[2],
        b"-5 " + file(GOOD).partition(b" ")[2],
        b"(5) " + file(GOOD).partition(b" ")[2],
        b"5 " + file(GOOD),
        file(GOOD) + b" 5",
        b"x",
    ],
)
@pytest.mark.parametrize("step", [1, 100_000])
def test_a_list_of_something_else_is_refused_however_it_is_cut(
    talk: Conversation, items: bytes, step: int
) -> None:
    wire = b"APPLY XFRAME (" + items + b")\r\nNOOP\r\n"
    said = b"".join(talk.send(wire[at : at + step]) for at in range(0, len(wire), step))
    assert said == b"BAD IMAP_PROTOCOL_ERROR Failed to parse APPLY line\r\nOK Noop completed\r\n"


def test_frames_may_come_byte_by_byte(talk: Conversation) -> None:
    wire = b"APPLY XFRAME (" + file(GOOD) + b" " + file(frame_of(b"x"), message=b"x") + b")\r\n"
    assert b"".join(talk.send(wire[at : at + 1]) for at in range(len(wire))) == b"OK success\r\n"
    assert (staged(talk), staged(talk, b"x")) == (GOOD, frame_of(b"x"))
