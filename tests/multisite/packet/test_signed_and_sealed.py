"""Signatures prove the sender, seals keep others out."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cyrus_sync.multisite.packet import PacketDamaged, PacketForged, PacketReader, PacketSealed, SecretKeys
from cyrus_sync.multisite.packet.frames import end_line
from tests.multisite.packet.kit import (
    BANGALORE,
    BANGALORE_KEYS,
    BOSTON_KEYS,
    OTHER_KEYS,
    PARIS,
    header,
    mail,
    operation,
    read,
    sealed_frames,
    write,
)

SECRET = b"the plans " * 300_000
SEALED = {BANGALORE: BANGALORE_KEYS.public, PARIS: OTHER_KEYS.public}


def verify(path: Path, keys: SecretKeys | None) -> None:
    with PacketReader(path) as packet:
        packet.verify(keys.public if keys else None)


def test_a_signed_packet_is_taken_with_the_key_of_its_sender_and_without_any(tmp_path: Path) -> None:
    path = write(tmp_path / "p", operation(), signing=BOSTON_KEYS)
    verify(path, BOSTON_KEYS)
    verify(path, None)


def test_a_packet_signed_by_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PacketForged, match="not that of"):
        verify(write(tmp_path / "p", operation(), signing=OTHER_KEYS), BOSTON_KEYS)


def test_an_unsigned_packet_is_refused_where_signatures_are_demanded(tmp_path: Path) -> None:
    path = write(tmp_path / "p", operation())
    verify(path, None)
    with pytest.raises(PacketForged, match="not signed"):
        verify(path, BOSTON_KEYS)


def test_a_signature_cannot_be_taken_off(tmp_path: Path) -> None:
    path = write(tmp_path / "p", operation(), signing=BOSTON_KEYS)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"signature ")])
    with pytest.raises(PacketForged, match="not signed"):
        verify(path, BOSTON_KEYS)


def test_a_signature_of_another_packet_does_not_hold(tmp_path: Path) -> None:
    one = write(tmp_path / "1", operation(1), signing=BOSTON_KEYS).read_bytes()
    two = write(tmp_path / "2", operation(2), signing=BOSTON_KEYS).read_bytes()
    (tmp_path / "3").write_bytes(one[: one.rindex(b"signature ")] + two[two.rindex(b"signature ") :])
    with pytest.raises(PacketForged):
        verify(tmp_path / "3", BOSTON_KEYS)


def test_whoever_signs_is_the_sender_of_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "p", operation(), signing=BOSTON_KEYS)
    path.write_bytes(path.read_bytes().replace(b"\nsignature b", b"\nsignature c"))
    for keys in (BOSTON_KEYS, None):
        with pytest.raises(PacketForged, match="signed by c0570"):
            verify(path, keys)


def test_a_changed_packet_with_all_hashes_made_anew_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path / "p", operation(), signing=BOSTON_KEYS).read_bytes()
    changed = data[: data.rindex(b"signature ") - 65].replace(b"[1, 70]", b"[1, 71]")
    changed += hashlib.sha256(changed).hexdigest().encode() + b"\n" + data[data.rindex(b"signature ") :]
    (tmp_path / "p").write_bytes(changed)
    verify(tmp_path / "p", None)
    with pytest.raises(PacketForged, match="not that of"):
        verify(tmp_path / "p", BOSTON_KEYS)


@pytest.mark.parametrize("secret", [BANGALORE_KEYS, OTHER_KEYS])
def test_a_sealed_packet_is_opened_by_each_of_its_targets(tmp_path: Path, secret: SecretKeys) -> None:
    path = write(tmp_path / "p", mail(SECRET), operation(), seal_to=SEALED)
    assert read(path, secret) == ([("default", SECRET)], [operation()])


@pytest.mark.parametrize("secret", [None, BOSTON_KEYS])
def test_nobody_else_opens_it(tmp_path: Path, secret: SecretKeys | None) -> None:
    path = write(tmp_path / "p", mail(SECRET), operation(), seal_to=SEALED)
    with PacketReader(path, secrets=[secret] if secret else []) as packet:
        assert set(packet.header.sealed) == {BANGALORE, PARIS}
        with pytest.raises(PacketSealed):
            next(packet.items(tmp_path))


def test_a_sealed_packet_is_verified_without_a_key_to_open_it(tmp_path: Path) -> None:
    verify(write(tmp_path / "p", mail(SECRET), seal_to=SEALED, signing=BOSTON_KEYS), BOSTON_KEYS)


def test_nothing_of_the_stream_is_in_a_sealed_file(tmp_path: Path) -> None:
    path = write(tmp_path / "p", mail(b"short secret"), operation(), seal_to=SEALED)
    data = path.read_bytes()
    assert b"secret" not in data and b"alice" not in data and b"\x28\xb5\x2f\xfd" not in data


def test_the_same_packet_is_sealed_differently_each_time(tmp_path: Path) -> None:
    one = sealed_frames(write(tmp_path / "1", operation(), seal_to=SEALED))
    two = sealed_frames(write(tmp_path / "2", operation(), seal_to=SEALED))
    assert one[1] != two[1]


def test_a_packet_sealed_for_nobody_is_not_begun(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nobody"):
        write(tmp_path / "p", seal_to={})
    assert list(tmp_path.iterdir()) == []


def renumbered(frame: bytes, number: int) -> bytes:
    return b"frame %d %s" % (number, frame.split(b" ", 2)[2])


@pytest.mark.parametrize("order", [(1, 0, 2), (0, 2, 1), (0, 1), (1, 2), (0, 1, 1, 2), (0, 1, 2, 2), (0,)])
def test_frames_that_are_swapped_repeated_or_left_out_do_not_open(
    tmp_path: Path, order: tuple[int, ...]
) -> None:
    path = write(tmp_path / "p", mail(SECRET), seal_to=SEALED)
    _, frames = sealed_frames(path)
    assert len(frames) == 3
    data = path.read_bytes()
    data = data[: data.index(b"\n---\n") + 5]
    data += b"".join(renumbered(frames[one], n) for n, one in enumerate(order, 1))
    data += end_line(len(order), len(SECRET) + 81)
    path.write_bytes(data + hashlib.sha256(data).hexdigest().encode() + b"\n")
    with PacketReader(path, secrets=[BANGALORE_KEYS]) as packet:
        packet.verify()
        with pytest.raises(PacketDamaged, match="does not open"):
            list(packet.items(tmp_path))


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_in_a_sealed_packet_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "p"
    if not path.exists():
        write(path, mail(b"one"), operation(), seal_to=SEALED, signing=BOSTON_KEYS)
    octets = bytearray(path.read_bytes())
    start = octets.index(b"\nsealed:")
    bit = data.draw(st.integers(start * 8, len(octets) * 8 - 1))
    octets[bit >> 3] ^= 1 << (bit & 7)
    (tmp_path / "changed").write_bytes(octets)
    with pytest.raises((PacketDamaged, PacketForged)), PacketReader(tmp_path / "changed") as packet:
        packet.verify(BOSTON_KEYS.public)
    with contextlib.suppress(PacketDamaged, PacketSealed):
        read(tmp_path / "changed", BANGALORE_KEYS)


def test_a_header_says_for_whom_it_is_sealed_whatever_the_caller_says(tmp_path: Path) -> None:
    path = write(tmp_path / "p", head=header(sealed={PARIS: bytes(80)}))
    with PacketReader(path) as packet:
        assert packet.header.sealed == {}
