"""The keys of a replica: one pair to sign packets, one pair to have packets sealed for it.

The secret halves are a file of three lines that only its owner may read; the public halves are one word of
text, for the file of the family. The cryptography is libsodium's (PyNaCl): Ed25519, X25519 sealed boxes.

>>> secret = SecretKeys.generate()
>>> PublicKeys.parse(secret.public.text()) == secret.public
True
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey, SealedBox
from nacl.signing import SigningKey, VerifyKey

from cyrus_sync.common.commands import reason
from cyrus_sync.common.files import write_new
from cyrus_sync.multisite.packet.errors import BadKeys

FIRST_LINE = "cyrus-sync replica keys 1"
KEY_BYTES = 32
SIGNATURE_BYTES = 64


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """What everybody may know of a replica's keys: 32 bytes to verify with, 32 bytes to seal with."""

    verify: bytes
    box: bytes

    def __post_init__(self) -> None:
        if len(self.verify) != KEY_BYTES or len(self.box) != KEY_BYTES:
            raise ValueError(f"public keys are {KEY_BYTES} bytes each")

    def text(self) -> str:
        """One word of 88 characters."""
        return encode64(self.verify + self.box)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read that word. Raises `BadKeys`."""
        try:
            both = decode64(text.strip(), 2 * KEY_BYTES)
        except ValueError as error:
            raise BadKeys(f"'{text[:20]}' is not the public keys of a replica: {error}") from None
        return cls(both[:KEY_BYTES], both[KEY_BYTES:])

    def fingerprint(self) -> str:
        """What two people compare: 32 hexadecimal digits of a SHA-256, in groups of four."""
        digits = hashlib.sha256(b"cyrus-sync fingerprint 1\n" + self.verify + self.box).hexdigest()[:32]
        return " ".join(digits[n : n + 4] for n in range(0, 32, 4))

    def has_fingerprint(self, typed: str) -> bool:
        """Whether `typed`, with blanks, colons and capitals or without, is the `fingerprint`."""
        digits = re.sub(r"[\s:-]", "", typed).lower()
        return hmac.compare_digest(digits.encode(), self.fingerprint().replace(" ", "").encode())

    def verifies(self, message: bytes, signature: bytes) -> bool:
        """True if `signature` (64 bytes) over `message` was made with the secret half."""
        try:
            VerifyKey(self.verify).verify(message, signature)
        except (CryptoError, ValueError):
            return False
        return True

    def seal(self, content: bytes) -> bytes:
        """`content` such that only the secret half opens it; 48 bytes longer. Different every time."""
        return bytes(SealedBox(PublicKey(self.box)).encrypt(content))


@dataclass(frozen=True, slots=True, repr=False)
class SecretKeys:
    """What only the replica itself may know: two secrets of 32 bytes."""

    signing: bytes
    box: bytes

    def __post_init__(self) -> None:
        if len(self.signing) != KEY_BYTES or len(self.box) != KEY_BYTES:
            raise ValueError(f"secret keys are {KEY_BYTES} bytes each")

    @classmethod
    def generate(cls) -> Self:
        """New random keys."""
        return cls(bytes(SigningKey.generate()), bytes(PrivateKey.generate()))

    @property
    def public(self) -> PublicKeys:
        """Their public halves."""
        return PublicKeys(bytes(SigningKey(self.signing).verify_key), bytes(PrivateKey(self.box).public_key))

    def sign(self, message: bytes) -> bytes:
        """64 bytes, always the same for the same message."""
        return SigningKey(self.signing).sign(message).signature

    def unseal(self, sealed: bytes) -> bytes | None:
        """What was sealed for us; None if it was sealed for somebody else."""
        try:
            return SealedBox(PrivateKey(self.box)).decrypt(sealed)
        except (CryptoError, ValueError):
            return None

    # -- the file

    def save(self, path: Path) -> None:
        """Write them to `path`, mode 0600, durably. `FileExistsError` if there is one: never replaced."""
        lines = (FIRST_LINE, f"sign {encode64(self.signing)}", f"box {encode64(self.box)}")
        write_new(path, ("\n".join(lines) + "\n").encode("ascii"))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file. Raises `BadKeys` if it is missing, open to others, or holds something else."""
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                words = [line.split(b" ") for line in file.read(1024).splitlines()]
        except OSError as error:
            raise BadKeys(f"the keys of this replica cannot be read: {reason(error)}") from None
        if mode & 0o077:
            raise BadKeys(f"{path}: mode {mode:04o} opens the secret keys to others; chmod 600 it")
        try:
            first, (sign, signing), (box, boxing) = words
            if (b" ".join(first), sign, box) != (FIRST_LINE.encode(), b"sign", b"box"):
                raise ValueError
            return cls(decode64(signing.decode(), KEY_BYTES), decode64(boxing.decode(), KEY_BYTES))
        except ValueError:
            raise BadKeys(f"{path}: is not a file of secret keys of this release") from None


def encode64(data: bytes) -> str:
    """Base64, as `decode64` reads it."""
    return base64.b64encode(data).decode("ascii")


def decode64(text: str, length: int) -> bytes:
    """`length` bytes out of their base64. ValueError for anything but the one text that `encode64` gives."""
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise ValueError(f"not base64 ({error})") from None
    # The last letter has bits to spare: changed in them, the text would mean the same bytes.
    if len(data) != length or encode64(data) != text:
        raise ValueError(f"not the base64 of {length} octets")
    return data
