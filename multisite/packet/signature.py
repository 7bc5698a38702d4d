"""The line behind the end, with which the sender proves that it has written the packet.

    signature <sender> <base64 of an Ed25519 signature>

Signed are a fixed text and the SHA-256 of every octet in front of that line.
"""

from __future__ import annotations

import re

from cyrus_sync.multisite.packet.errors import PacketDamaged, PacketForged
from cyrus_sync.multisite.packet.keys import SIGNATURE_BYTES, PublicKeys, SecretKeys, decode64, encode64

LONGEST = 256
"""Octets of the line, at most."""

_PREFIX = b"cyrus-sync packet 1 signature\n"
_LINE = re.compile(rb"signature ([0-9A-Za-z_-]{1,64}) ([0-9A-Za-z+/=]{1,100})\n")


def make(sender: str, digest: bytes, keys: SecretKeys) -> bytes:
    """The line, for a packet whose octets have the SHA-256 `digest`."""
    return f"signature {sender} {encode64(keys.sign(_PREFIX + digest))}\n".encode("ascii")


def check(line: bytes | None, sender: str, digest: bytes, keys: PublicKeys | None) -> None:
    """`line` None: there is none. Without `keys` only its form is looked at.

    Raises `PacketDamaged` or `PacketForged`."""
    signature = None
    if line is not None:
        found = _LINE.fullmatch(line)
        if found is None:
            raise PacketDamaged("what follows the end of the packet is not a signature")
        try:
            signature = decode64(found[2].decode(), SIGNATURE_BYTES)
        except ValueError as error:
            raise PacketDamaged(f"the signature of the packet cannot be read: {error}") from None
        if found[1].decode() != sender:
            raise PacketForged(f"the packet is sent by {sender}, and signed by {found[1].decode()}")
    if keys is None:
        return
    if signature is None:
        raise PacketForged(f"the packet is not signed, and those of {sender} have to be")
    if not keys.verifies(_PREFIX + digest, signature):
        raise PacketForged(f"the signature is not that of {sender}: forged, or {sender} has new keys")
