"""Sealed packets: a random key encrypts the frames; each target gets that key in a box that only it opens.

A frame's nonce is made of its number, and of whether it is the last: frames that are swapped, repeated or
left out do not open. The key is new for each packet, so no nonce is used twice with it. Sealing keeps others
from reading; who wrote a packet is proved by its signature alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Self

from nacl.exceptions import CryptoError
from nacl.secret import SecretBox
from nacl.utils import random

from cyrus_sync.multisite.packet.errors import PacketDamaged, PacketSealed
from cyrus_sync.multisite.packet.keys import KEY_BYTES, PublicKeys, SecretKeys

_NONCE = b"cyrus-sync frame"
"""16 octets; 8 of number and mark follow."""
OVERHEAD = SecretBox.NONCE_SIZE + SecretBox.MACBYTES
"""Octets by which encryption makes a frame longer."""


class ContentKey:
    """The key of one packet."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._box = SecretBox(key)

    @classmethod
    def generate(cls) -> Self:
        """A new random key."""
        return cls(random(KEY_BYTES))

    def for_targets(self, targets: Mapping[str, PublicKeys]) -> dict[str, bytes]:
        """The key, sealed for each of them, by their ids."""
        return {target: keys.seal(self._key) for target, keys in targets.items()}

    @classmethod
    def open(cls, sealed: Mapping[str, bytes], secrets: Sequence[SecretKeys]) -> Self:
        """The key out of whichever box one of `secrets` opens. Raises `PacketSealed` if none does."""
        if not secrets:
            raise PacketSealed("the packet is sealed, and there are no secret keys here to open it")
        for secret, box in itertools.product(secrets, sealed.values()):
            key = secret.unseal(box)
            if key is not None and len(key) == KEY_BYTES:
                return cls(key)
        raise PacketSealed("the packet is sealed, and not for the keys of this replica")

    def lock(self, octets: bytes, number: int, last: bool) -> bytes:
        """Nonce and encryption: `OVERHEAD` octets longer."""
        return bytes(self._box.encrypt(octets, _nonce(number, last)))

    def unlock(self, octets: bytes, number: int, last: bool) -> bytes:
        """Raises `PacketDamaged` for anything but the frame of that number and place."""
        nonce = _nonce(number, last)
        try:
            if octets.startswith(nonce):
                return self._box.decrypt(octets[len(nonce) :], nonce)
        except (CryptoError, ValueError):
            pass
        raise PacketDamaged(f"frame {number} does not open: another key, or another place")


def _nonce(number: int, last: bool) -> bytes:
    return _NONCE + (number << 1 | last).to_bytes(8, "big")
