"""The reserve list: bounded memory, checked messages, nothing left over."""

from __future__ import annotations

import os

import pytest
import zstandard

from cyrus_sync.common.errors import ProtocolError, StoreError
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.stores.frames import frame_content, make_frame, whole_frame, whole_frames
from cyrus_sync.common.stores.staging import Staging, remove_left_overs
from tests.common.stores.tools import guid_of, message, text_of


def body_of(raw: bytes, **more: object) -> MessageBody:
    return MessageBody("default", guid_of(raw), len(raw), raw)._replace(**more)


def content(staging: Staging, raw: bytes) -> bytes:
    body = staging.get(guid_of(raw))
    assert body is not None
    assert body.encoding == "zstd"
    return frame_content(text_of(body), body.size)


def test_what_was_staged_is_found_by_guid(tmp_path):
    staging = Staging(tmp_path)
    staging.add([body_of(message(1)), body_of(message(2))])
    assert guid_of(message(1)) in staging
    assert guid_of(message(3)) not in staging
    assert staging.get(guid_of(message(3))) is None
    assert content(staging, message(2)) == message(2)
    assert staging.get(guid_of(message(2))).partition == "default"
    assert list(tmp_path.iterdir()) == []


def test_memory_is_bounded_and_the_rest_goes_to_a_file_without_a_name(tmp_path):
    noise = [os.urandom(5000) for _ in range(50)]
    staging = Staging(tmp_path / "sync.", memory=20_000)
    for raw in noise:
        staging.add([body_of(raw)])
        assert staging.memory <= 20_000
    assert staging.spilled > 200_000
    assert [content(staging, raw) for raw in noise] == noise
    assert list((tmp_path / "sync.").iterdir()) == []
    staging.close()


def test_a_large_message_goes_straight_to_the_file(tmp_path):
    raw = os.urandom(3_000_000)
    staging = Staging(tmp_path)
    staging.add([body_of(raw, data=[raw[:7], raw[7:]])])
    assert staging.memory == 0
    assert not isinstance(staging.get(guid_of(raw)).data, bytes)
    assert content(staging, raw) == raw
    staging.close()


def test_a_wrong_sha1_is_staged_and_marked(tmp_path):
    staging = Staging(tmp_path)
    staging.add([body_of(message(1), data=b"x" * len(message(1)))])
    assert guid_of(message(1)) in staging
    assert not staging.is_good(guid_of(message(1)))
    staging.add([body_of(message(1))])
    assert staging.is_good(guid_of(message(1)))


@pytest.mark.parametrize("size", [3, 3_000_000])
def test_another_length_than_announced_is_refused(tmp_path, size):
    raw = b"x" * size
    staging = Staging(tmp_path)
    for announced in (size - 1, size + 1):
        with pytest.raises(ProtocolError):
            staging.add([body_of(raw, size=announced)])
    staging.add([body_of(raw)])
    assert content(staging, raw) == raw


def test_frames_are_taken_as_they_are_if_they_are_sound(tmp_path):
    raw = message(1, 5000)
    made = make_frame(raw)
    staging = Staging(tmp_path)
    staging.add([body_of(raw, data=made.frame, encoding="zstd")])
    assert staging.get(guid_of(raw)).data == made.frame
    staging.clear()
    for bad in (made.frame[:-1], made.frame + b"x", b"junk", make_frame(message(2, 5000)).frame):
        with pytest.raises(ProtocolError):
            staging.add([body_of(raw, data=bad, encoding="zstd"), body_of(message(3))])
        assert guid_of(raw) not in staging
        assert staging.is_good(guid_of(message(3)))


def test_many_frames_at_once_are_looked_at_as_each_alone_is():
    """One in fifty is something else than a frame of ours that holds what was announced."""
    unsized = zstandard.ZstdCompressor(write_checksum=True, write_content_size=False)
    unchecked = zstandard.ZstdCompressor()
    sound = [message(number, 3000) for number in range(12)] + [os.urandom(200_000), b"x"]
    good = [(make_frame(raw).frame, len(raw)) for raw in sound]
    frame, size = good[0]
    block = frame[:4] + b"\x24\x64" + (1 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b"a" * 5
    strange = [
        (frame[:-1], size),
        (frame + b"x", size),
        (frame + frame, size),
        (frame[:9] + bytes([frame[9] ^ 1]) + frame[10:], size),
        (frame[:-1] + bytes([frame[-1] ^ 1]), size),
        (frame, size + 1),
        (frame, 0),
        (b"", 1),
        (b"junk", 4),
        (unsized.compress(sound[0]), size),
        (unchecked.compress(sound[0]), size),
        (block, 100),
        (block[:6] + (1000 << 3 | 1 << 1 | 1).to_bytes(3, "little") + bytes(1004), 100),
        (b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + frame, size),
    ]
    for one in strange:
        mixed = [*good, one, *good]
        assert whole_frames(mixed) == [whole_frame(*each) for each in mixed], one
    assert whole_frames([]) == []
    assert None not in whole_frames(good)


def test_clearing_forgets_everything_and_the_stage_goes_on(tmp_path):
    staging = Staging(tmp_path, memory=10)
    staging.add([body_of(os.urandom(100))])
    staging.clear()
    assert (len(staging), staging.memory, staging.spilled) == (0, 0, 0)
    staging.add([body_of(message(1))])
    assert content(staging, message(1)) == message(1)
    staging.close()


def test_a_place_that_cannot_be_written_is_a_store_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    staging = Staging(tmp_path / "file" / "sync.", memory=10)
    with pytest.raises(StoreError):
        staging.add([body_of(os.urandom(100))])


def test_what_dead_processes_left_is_removed_and_what_lives_stays(tmp_path):
    for name in (f"staged-{os.getpid()}-a", "staged-999999999-b", "other"):
        (tmp_path / name).write_bytes(b"")
    assert remove_left_overs(tmp_path) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", f"staged-{os.getpid()}-a"]
    assert remove_left_overs(tmp_path / "nowhere") == 0
