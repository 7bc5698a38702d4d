"""Damage of every kind is noticed by `verify`, and `items` never fails in any other way."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cyrus_sync.multisite.packet import (
    NotAPacket,
    PacketDamaged,
    PacketError,
    PacketForged,
    PacketReader,
    PacketTooNew,
)
from cyrus_sync.multisite.packet.frames import LARGEST_CONTENT, end_line
from tests.multisite.packet.kit import (
    BOSTON_KEYS,
    body,
    forge,
    forge_frames,
    header,
    mail,
    operation,
    read,
    write,
)

MANY = settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
SECTION = (
    b"MESSAGES 1 78\r\nAPPLY MESSAGE (%%{default %s 5}\r\nhello)\r\n" % body(b"hello").guid.hex().encode()
)
OPERATION = b"OPERATION origin=a id=1 time=2 owner=alice 3\r\nX\r\n"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A signed packet of several frames."""
    path = tmp_path_factory.mktemp("sound") / "packet"
    blank = [bytes([n]) * 900_000 for n in range(3)]
    write(path, mail(b"one", *blank), operation(1), mail(b"two"), operation(2), signing=BOSTON_KEYS)
    data = path.read_bytes()
    assert data.count(b"\nframe ") == 3 and len(data) < 4000
    return data


def verdict(path: Path, data: bytes) -> PacketError | None:
    """What opening and verifying says. Reading the items must not say anything else than damage."""
    path.write_bytes(data)
    try:
        packet = PacketReader(path)
    except (PacketDamaged, PacketTooNew) as error:
        return error
    with packet:
        try:
            for _ in packet.items(path.parent):
                pass
        except PacketDamaged:
            pass
        try:
            packet.verify(BOSTON_KEYS.public)
        except (PacketDamaged, PacketForged) as error:
            return error
    return None


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit >> 3] ^= 1 << (bit & 7)
    return bytes(changed)


def test_the_sound_packet_is_sound(sound: bytes, tmp_path: Path) -> None:
    assert verdict(tmp_path / "p", sound) is None


@MANY
@given(st.data())
def test_a_flipped_bit_anywhere_is_noticed(sound: bytes, tmp_path: Path, data: st.DataObject) -> None:
    bit = data.draw(st.integers(0, len(sound) * 8 - 1))
    assert verdict(tmp_path / "p", flipped(sound, bit)) is not None


def test_every_flipped_bit_of_every_line_is_noticed(sound: bytes, tmp_path: Path) -> None:
    places = [at for word in (b"frame 2", b"end ", b"signature ") for at in [sound.index(b"\n" + word) + 1]]
    for start in places:
        for bit in range(start * 8, (sound.index(b"\n", start) + 1) * 8):
            assert verdict(tmp_path / "p", flipped(sound, bit)) is not None, bit


def test_a_packet_cut_short_anywhere_is_noticed(sound: bytes, tmp_path: Path) -> None:
    for length in range(len(sound)):
        assert verdict(tmp_path / "p", sound[:length]) is not None, length


@MANY
@given(st.data())
def test_octets_put_in_or_left_out_anywhere_are_noticed(
    sound: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(sound)))
    stop = data.draw(st.integers(start, min(start + 200, len(sound))))
    put = data.draw(st.binary(max_size=20) | st.just(b"\n"))
    changed = sound[:start] + put + sound[stop:]
    assert changed == sound or verdict(tmp_path / "p", changed) is not None


def test_where_the_damage_is_stands_in_the_error(sound: bytes, tmp_path: Path) -> None:
    place = sound.index(b"\nframe 2 ") + 1
    error = verdict(tmp_path / "p", flipped(sound, (sound.index(b"\n", place) + 9) * 8))
    assert type(error) is PacketDamaged
    assert f"frame 2, at octet {place}: its SHA-256" in error.message
    assert error.address == {"packet": str(tmp_path / "p")}
    error = verdict(tmp_path / "p", sound[: place + 100])
    assert error is not None and f"ends at octet {place + 100}, in frame 2" in error.message


@pytest.mark.parametrize(
    "data", [b"", b"cyrus-sync", b"From: a@b\r\n", b"cyrus-sync packet one\n", bytes(70_000)]
)
def test_something_else_is_not_a_packet(tmp_path: Path, data: bytes) -> None:
    assert type(verdict(tmp_path / "p", data)) is NotAPacket


def test_a_newer_format_is_refused_with_advice(sound: bytes, tmp_path: Path) -> None:
    error = verdict(tmp_path / "p", sound.replace(b"packet 1\n", b"packet 3\n", 1))
    assert type(error) is PacketTooNew and "format 3" in error.message and "upgrade" in error.message


def test_a_header_without_an_end_is_damage(tmp_path: Path) -> None:
    error = verdict(tmp_path / "p", b"cyrus-sync packet 1\n" + b"#" * (17 << 20))
    assert error is not None and "no end" in error.message


def test_a_header_that_is_not_text_is_damage(tmp_path: Path) -> None:
    error = verdict(tmp_path / "p", b"cyrus-sync packet 1\n\xff\n---\n")
    assert error is not None and "not text" in error.message


def test_a_header_that_was_changed_is_noticed_before_anything_is_taken(sound: bytes, tmp_path: Path) -> None:
    changed = sound.replace(b"[1, 70]", b"[1, 71]", 1)
    error = verdict(tmp_path / "p", changed)
    assert type(error) is PacketDamaged and "SHA-256 of the packet" in error.message
    padding = verdict(tmp_path / "p", sound.replace(b"#...", b"#.-.", 1))
    assert type(padding) is PacketDamaged


def test_something_behind_the_packet_is_noticed(sound: bytes, tmp_path: Path) -> None:
    for rest in (b"\n", b"x", sound):
        error = verdict(tmp_path / "p", sound + rest)
        assert error is not None and "the file does not" in error.message


# -- streams that no writer would write, with all hashes right


def damage(path: Path) -> str:
    """What `items` says, where `verify` finds nothing wrong."""
    with PacketReader(path) as packet:
        packet.verify()
        with pytest.raises(PacketDamaged) as caught:
            list(packet.items(path.parent))
    return caught.value.message


def test_sections_and_operations_as_the_document_has_them_are_read(tmp_path: Path) -> None:
    twice = SECTION + OPERATION
    path = forge(tmp_path / "p", [twice[:30], b"", twice[30:]])
    messages, operations = read(path)
    assert messages == [("default", b"hello")] and operations[0].line == b"X\r\n"


def test_a_section_may_have_several_lines(tmp_path: Path) -> None:
    line = SECTION.partition(b"\r\n")[2]
    path = forge(tmp_path / "p", [b"MESSAGES 2 %d\r\n" % (2 * len(line)), line, line])
    assert read(path)[0] == [("default", b"hello")] * 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"MESSAGES 1", b"MESSAGES 2"),
        (b"MESSAGES 1 78", b"MESSAGES 1 77"),
        (b"MESSAGES 1 78", b"MESSAGES 1 79"),
        (b"MESSAGES 1 78", b"MESSAGES 1 99999999999"),
        (b"MESSAGES 1 78", b"MESSAGES 1 5000000"),
        (b"MESSAGES 1 78", b"MESSAGES 1 078"),
        (b"MESSAGES", b"messages"),
        (b"APPLY MESSAGE", b"APPLY MAILBOX"),
        (b"%{default", b"%{../etc"),
        (b" 5}", b" 6}"),
        (b" 5}", b" 4}"),
        (b" 5}", b" 99}"),
        (b" 5}\r\n", b" 5}  "),
        (b"hello)", b"hello "),
        (b"origin=a", b"origin=/"),
        (b"origin=a ", b""),
        (b"id=1", b"id=0"),
        (b"id=1", b"id=1e3"),
        (b"id=1", b"id=9999999999999999999"),
        (b"id=1", b"id=1 id=1"),
        (b"time=2", b"time="),
        (b"owner=alice", b"owner=%ZZ"),
        (b"owner=alice", b"owner=%FF"),
        (b"owner=alice", b"owner=%"),
        (b"owner=alice", b"owner=" + b"x" * 70_000),
        (b"owner=alice", b"owner=alice OWNER=bob"),
        (b"owner=alice 3", b"owner=alice 2"),
        (b"owner=alice 3", b"owner=alice 4"),
        (b"owner=alice 3", b"owner=alice 99999999"),
        (b"owner=alice 3", b"owner=alice 03"),
        (b"OPERATION", b"OPERATIONS"),
        (b"OPERATION", b"\r\n"),
        (b"X\r\n", b"X\n\n"),
    ],
)
def test_a_stream_that_makes_no_sense_is_damage(tmp_path: Path, old: bytes, new: bytes) -> None:
    stream = SECTION + OPERATION
    assert old in stream
    assert damage(forge(tmp_path / "p", [stream.replace(old, new, 1)]))


@MANY
@given(st.data())
def test_any_stream_is_read_or_damage(tmp_path: Path, data: st.DataObject) -> None:
    stream = (SECTION + OPERATION) * 2
    start = data.draw(st.integers(0, len(stream)))
    stop = data.draw(st.integers(start, min(start + 30, len(stream))))
    put = data.draw(
        st.binary(max_size=10) | st.sampled_from([SECTION, OPERATION, b"\r\n", b"9", b" ", b"%{"])
    )
    path = forge(tmp_path / "p", [stream[:start] + put + stream[stop:]])
    with PacketReader(path) as packet:
        packet.verify()
        try:
            for _ in packet.items(tmp_path):
                pass
        except PacketDamaged:
            pass


@pytest.mark.parametrize("end", [b")\r\n", b" \r\n", b"xxx"])
def test_a_large_message_that_does_not_end_where_it_says_is_damage(tmp_path: Path, end: bytes) -> None:
    size = LARGEST_CONTENT + 1000
    line = b"APPLY MESSAGE (%%{default %s %d}\r\n" % (bytes(20).hex().encode(), size)
    head = b"MESSAGES 1 %d\r\n" % (len(line) + size + 3)
    contents = [head + line, bytes(LARGEST_CONTENT), bytes(1000) + end]
    if end == b")\r\n":
        with PacketReader(forge(tmp_path / "p", contents)) as packet:
            assert len(list(packet.items(tmp_path))) == 1
    else:
        assert "longer than it says" in damage(forge(tmp_path / "p", contents))


def test_a_large_section_is_one_message(tmp_path: Path) -> None:
    message = b"%%{default %s 3000000}\r\n" % bytes(20).hex().encode() + bytes(3_000_000)
    line = b"APPLY MESSAGE (" + message + b" " + message + b")\r\n"
    contents = [b"MESSAGES 2 %d\r\n" % len(line), line[:4_000_000], line[4_000_000:]]
    assert "not one message" in damage(forge(tmp_path / "p", contents))


def test_the_length_of_the_stream_is_compared(tmp_path: Path) -> None:
    assert "what its end states" in damage(forge(tmp_path / "p", [OPERATION], stream=len(OPERATION) + 1))


# -- frames that no writer would write


def framed(octets: bytes, number: int = 1) -> bytes:
    return b"frame %d %d %s\n%s\n" % (
        number,
        len(octets),
        hashlib.sha256(octets).hexdigest().encode(),
        octets,
    )


@pytest.mark.parametrize(
    "octets",
    [
        b"not zstd",
        zstandard.compress(OPERATION)[:-1],
        zstandard.compress(OPERATION) + b"x",
        zstandard.compress(OPERATION) * 2,
        zstandard.ZstdCompressor(write_content_size=False).compress(OPERATION),
        b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip",
        zstandard.compress(bytes(LARGEST_CONTENT + 1)),
        zstandard.compress(bytes(1 << 30)),
    ],
    ids=["garbage", "short", "long", "two", "size unknown", "skippable", "large", "bomb"],
)
def test_a_frame_that_is_not_one_zstd_frame_of_bounded_size_is_damage(tmp_path: Path, octets: bytes) -> None:
    assert "frame 1" in damage(forge_frames(tmp_path / "p", [framed(octets)], len(OPERATION)))


def test_a_frame_that_lies_about_its_size_is_damage(tmp_path: Path) -> None:
    octets = bytearray(zstandard.ZstdCompressor(write_checksum=False).compress(bytes(100)))
    assert octets[5] == 100
    octets[5] = 99
    assert "frame 1" in damage(forge_frames(tmp_path / "p", [framed(bytes(octets))], 99))


@pytest.mark.parametrize("numbers", [(2,), (1, 1), (1, 3), (2, 1), (0, 1)])
def test_frames_count_from_one(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    frames = [framed(zstandard.compress(OPERATION), number) for number in numbers]
    path = forge_frames(tmp_path / "p", frames, len(OPERATION) * len(numbers))
    with PacketReader(path) as packet, pytest.raises(PacketDamaged, match="not the line of frame"):
        packet.verify()


@pytest.mark.parametrize("frames", [2, 0])
def test_the_number_of_frames_is_compared(tmp_path: Path, frames: int) -> None:
    folded = [framed(zstandard.compress(OPERATION))]
    path = forge_frames(tmp_path / "p", folded, len(OPERATION), frames=2)
    if not frames:
        data = path.read_bytes()
        path.write_bytes(data[: data.rindex(b"end ")] + end_line(0, 0) + b"0" * 64 + b"\n")
    with PacketReader(path) as packet, pytest.raises(PacketDamaged, match="not the end of a packet of 1"):
        packet.verify()


def test_a_packet_without_frames_is_damage(tmp_path: Path) -> None:
    with PacketReader(forge_frames(tmp_path / "p", [], 0, frames=0)) as packet:
        assert packet.header == header()
        with pytest.raises(PacketDamaged, match="not the line of frame 1"):
            packet.verify()
