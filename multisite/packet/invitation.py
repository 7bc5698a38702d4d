"""What a creation packet brings to the new replica besides mail: the secret keys of its birth.

The maker of a replica also makes the replica's first keys and tells the family of them, so nobody in the
family is ever without keys. The new replica changes them for keys of its own as soon as it stands. The packet
is signed by its maker, which the new replica does not know yet. So either a person compares a fingerprint, or
both ends know a passphrase:

    clear <keys>                the birth keys as they are: who reads the packet could read the mail, too
    sealed <salt> <box>         the birth keys and the maker's public keys, under the passphrase

>>> maker, birth = SecretKeys.generate(), SecretKeys.generate()
>>> Invitation(birth, None).text() == Invitation.parse(Invitation(birth, None).text()).text()
True
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Self

from nacl import pwhash
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from nacl.utils import random

from cyrus_sync.multisite.packet.errors import BadKeys, PacketForged
from cyrus_sync.multisite.packet.keys import KEY_BYTES, PublicKeys, SecretKeys, decode64, encode64

_SALT_BYTES = pwhash.argon2id.SALTBYTES
_PLAIN_BYTES = 4 * KEY_BYTES
LEAST_PASSPHRASE = 12
"""Characters. A shorter one is guessed by whoever has the packet."""


@dataclass(frozen=True, slots=True)
class Invitation:
    """`birth`: the new replica's first keys. `maker`: the public keys of who made the packet, as far as the
    invitation itself proves them; None where a person has to compare the fingerprint."""

    birth: SecretKeys
    maker: PublicKeys | None

    def text(self) -> str:
        """In clear."""
        return f"clear {encode64(self.birth.signing + self.birth.box)}"

    def sealed(self, passphrase: str) -> str:
        """Under a passphrase; `maker` has to be there. Raises `BadKeys` for one that is too short."""
        if self.maker is None:
            raise ValueError("a sealed invitation names its maker's keys")
        salt = random(_SALT_BYTES)
        plain = self.birth.signing + self.birth.box + self.maker.verify + self.maker.box
        return f"sealed {encode64(salt)} {encode64(bytes(_box(passphrase, salt).encrypt(plain)))}"

    @classmethod
    def parse(cls, text: str, passphrase: str | None = None) -> Self:
        """Read it. Raises `BadKeys` for what is none, or where the passphrase is lacking, `PacketForged`
        where it is another one."""
        kind, *words = text.split(" ")
        try:
            if (kind, len(words)) == ("clear", 1):
                return cls(_secret(decode64(words[0], 2 * KEY_BYTES)), None)
            if (kind, len(words)) == ("sealed", 2):
                salt, box = decode64(words[0], _SALT_BYTES), base64.b64decode(words[1], validate=True)
            else:
                raise BadKeys("the packet holds no invitation that this release can read")
        except (ValueError, binascii.Error):
            raise BadKeys("the invitation in the packet cannot be read") from None
        if passphrase is None:
            raise BadKeys("the packet was made with a passphrase: -secret FILE names the file with it")
        try:
            plain = _box(passphrase, salt).decrypt(box)
        except (CryptoError, ValueError):
            raise PacketForged("the passphrase is not the one with which the packet was made") from None
        if len(plain) != _PLAIN_BYTES:
            raise BadKeys("the invitation in the packet cannot be read")
        half = 2 * KEY_BYTES
        return cls(_secret(plain[:half]), PublicKeys(plain[half:-KEY_BYTES], plain[-KEY_BYTES:]))


def _secret(both: bytes) -> SecretKeys:
    return SecretKeys(both[:KEY_BYTES], both[KEY_BYTES:])


def _box(passphrase: str, salt: bytes) -> SecretBox:
    if len(passphrase) < LEAST_PASSPHRASE:
        raise BadKeys(f"a passphrase has {LEAST_PASSPHRASE} characters at least")
    key = pwhash.argon2id.kdf(
        KEY_BYTES,
        passphrase.encode(),
        salt,
        opslimit=pwhash.argon2id.OPSLIMIT_MODERATE,
        memlimit=pwhash.argon2id.MEMLIMIT_MODERATE,
    )
    return SecretBox(key)
