"""What is sealed opens only as what it was, under its name, with its key."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cyrus_sync.common.errors import ConfigError, ObjectDamaged
from cyrus_sync.objects.directory import DirectoryObjects
from cyrus_sync.objects.sealed import CHUNK, HEADER, MAGIC, TAG, SealedObjects, read_secret

SECRET = bytes(range(32))
PLAIN = b"".join(bytes([number]) * CHUNK for number in range(3)) + b"and a little more"
LONG = CHUNK + TAG


@pytest.fixture
def below(tmp_path: Path) -> DirectoryObjects:
    return DirectoryObjects(tmp_path)


@pytest.fixture
def sealed(below: DirectoryObjects) -> SealedObjects:
    sealed = SealedObjects(below, SECRET)
    sealed.put("alice/pack", PLAIN)
    return sealed


def _refused(sealed: SealedObjects, key: str = "alice/pack") -> None:
    with pytest.raises(ObjectDamaged, match=key):
        sealed.get(key)


def test_nothing_of_what_was_put_can_be_read_below(below: DirectoryObjects, sealed: SealedObjects) -> None:
    raw = below.get("alice/pack")
    assert len(raw) == HEADER + len(PLAIN) + 4 * TAG
    assert b"and a little more" not in raw
    assert b"\1" * 16 not in raw


@pytest.mark.parametrize(
    "harm",
    [
        lambda raw: raw[:100] + bytes([raw[100] ^ 1]) + raw[101:],
        lambda raw: raw[:20] + bytes([raw[20] ^ 1]) + raw[21:],
        lambda raw: raw[:-1],
        lambda raw: raw[: HEADER + LONG],
        lambda raw: raw[: HEADER + 3 * LONG],
        lambda raw: raw[:HEADER],
        lambda raw: raw[:10],
        lambda raw: b"",
        lambda raw: raw + b"x",
        lambda raw: raw[:HEADER] + raw[HEADER + LONG :],
        lambda raw: (
            raw[:HEADER]
            + raw[HEADER + LONG : HEADER + 2 * LONG]
            + raw[HEADER : HEADER + LONG]
            + raw[HEADER + 2 * LONG :]
        ),
    ],
)
def test_whatever_is_changed_cut_or_moved_is_noticed(
    below: DirectoryObjects, sealed: SealedObjects, harm: Callable[[bytes], bytes]
) -> None:
    below.put("alice/pack", harm(below.get("alice/pack")))
    _refused(SealedObjects(below, SECRET))


def test_an_object_under_another_name_does_not_open(below: DirectoryObjects, sealed: SealedObjects) -> None:
    below.put("bob/pack", below.get("alice/pack"))
    _refused(sealed, "bob/pack")
    with pytest.raises(ObjectDamaged, match="bob/pack"):
        sealed.get_range("bob/pack", CHUNK, 5)


def test_another_key_is_told_from_damage(below: DirectoryObjects, sealed: SealedObjects) -> None:
    with pytest.raises(ObjectDamaged, match="another key than the one of s3_encrypt"):
        SealedObjects(below, os.urandom(32)).get("alice/pack")
    below.put("plain", b"not encrypted, but longer than a header")
    with pytest.raises(ObjectDamaged, match="it is not encrypted"):
        sealed.get("plain")


def test_the_same_content_looks_different_each_time(below: DirectoryObjects, sealed: SealedObjects) -> None:
    first = below.get("alice/pack")
    sealed.put("alice/pack", PLAIN)
    assert below.get("alice/pack")[HEADER : HEADER + 64] != first[HEADER : HEADER + 64]


def test_it_opens_with_pynacl_alone_as_it_is_described(
    below: DirectoryObjects, sealed: SealedObjects
) -> None:
    from nacl.bindings import crypto_aead_xchacha20poly1305_ietf_decrypt as decrypt

    raw = below.get("alice/pack")
    header, chunks = raw[:32], [raw[at : at + 65552] for at in range(32, len(raw), 65552)]
    assert header[:8] == MAGIC
    assert header[8:16] == hashlib.blake2b(SECRET, digest_size=8, person=b"cyrus-sync key").digest()
    plain = b"".join(
        decrypt(
            chunk,
            (b"L" if number == len(chunks) - 1 else b"M") + b"alice/pack",
            header[16:] + number.to_bytes(8, "big"),
            SECRET,
        )
        for number, chunk in enumerate(chunks)
    )
    assert plain == PLAIN


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 200 * CHUNK + 7])
def test_sizes_at_the_edges_of_chunks(below: DirectoryObjects, size: int) -> None:
    sealed = SealedObjects(below, SECRET)
    data = os.urandom(size)
    sealed.put("edge", iter([data[: size // 2], data[size // 2 :]]), check=True)
    assert sealed.get("edge") == data
    assert sealed.size("edge") == size
    assert [one.size for one in sealed.listed()] == [size]
    assert sealed.get_range("edge", max(size - 3, 0), 9) == data[-3:]


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("00" * 31, 0o600, "64 hexadecimal digits"),
        ("", 0o600, "64 hexadecimal digits"),
        ("00" * 32, 0o644, "everybody may read"),
    ],
)
def test_a_key_file_that_will_not_do_is_said(tmp_path: Path, text: str, mode: int, said: str) -> None:
    path = tmp_path / "key"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=said):
        read_secret(path)
    with pytest.raises(ConfigError, match="No such file"):
        read_secret(tmp_path / "none")


def test_a_key_as_openssl_writes_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("0f" * 32 + "\n")
    path.chmod(0o640)
    assert read_secret(path) == b"\x0f" * 32
