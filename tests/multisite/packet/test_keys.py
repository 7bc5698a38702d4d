"""Keys of a replica: files, texts, signatures, boxes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from cyrus_sync.multisite.packet import BadKeys, PublicKeys, SecretKeys
from cyrus_sync.multisite.packet.keys import decode64, encode64


def test_keys_come_back_from_their_file(tmp_path: Path) -> None:
    keys = SecretKeys.generate()
    keys.save(tmp_path / "keys")
    assert SecretKeys.load(tmp_path / "keys") == keys
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


def test_keys_are_never_replaced(tmp_path: Path) -> None:
    keys = SecretKeys.generate()
    keys.save(tmp_path / "keys")
    with pytest.raises(FileExistsError):
        SecretKeys.generate().save(tmp_path / "keys")
    assert SecretKeys.load(tmp_path / "keys") == keys


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    SecretKeys.generate().save(tmp_path / "keys")
    (tmp_path / "keys").chmod(0o640)
    with pytest.raises(BadKeys, match="chmod 600"):
        SecretKeys.load(tmp_path / "keys")


@pytest.mark.parametrize(
    "text", [b"", b"\xff\n\n", b"cyrus-sync replica keys 2\nsign A\nbox A\n", b"x" * 5000]
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "keys"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(BadKeys, match="is not a file of secret keys"):
        SecretKeys.load(path)


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    SecretKeys.generate().save(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(BadKeys):
        SecretKeys.load(path)


def test_a_missing_file_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BadKeys, match="cannot be read"):
        SecretKeys.load(tmp_path / "keys")


def test_public_keys_are_one_word() -> None:
    public = SecretKeys.generate().public
    assert PublicKeys.parse(public.text()) == public and len(public.text().split()) == 1


@pytest.mark.parametrize("text", ["", "AAAA", "é" * 88, "A" * 88, "*" * 88])
def test_a_word_that_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(BadKeys, match="not the public keys"):
        PublicKeys.parse(text)


def test_base64_is_read_in_one_spelling_only() -> None:
    text = encode64(b"x" * 64)
    assert text.endswith("A==") and decode64(text, 64) == b"x" * 64
    for other in (text[:-3] + "B==", text[:-2], text + "\n", text[:4] + "\n" + text[4:], text + "===="):
        with pytest.raises(ValueError, match="base64"):
            decode64(other, 64)


def test_a_signature_holds_for_its_message_and_its_key_only() -> None:
    keys, others = SecretKeys.generate(), SecretKeys.generate()
    signature = keys.sign(b"message")
    assert keys.public.verifies(b"message", signature)
    assert not keys.public.verifies(b"Message", signature)
    assert not others.public.verifies(b"message", signature)
    assert not keys.public.verifies(b"message", b"short")


def test_a_box_opens_for_its_target_only() -> None:
    keys, others = SecretKeys.generate(), SecretKeys.generate()
    sealed = keys.public.seal(b"secret")
    assert keys.unseal(sealed) == b"secret"
    assert others.unseal(sealed) is None
    assert keys.unseal(b"short") is None


def test_secrets_are_not_printed() -> None:
    keys = SecretKeys(b"s" * 32, b"b" * 32)
    assert "sss" not in repr(keys) and "bbb" not in repr(keys)
