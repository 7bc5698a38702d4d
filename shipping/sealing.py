"""What two hosts with the family key say to one another, sealed: nobody else reads it or changes it.

Both sides make a key pair for each connection (X25519). The public halves, 64 hexadecimal digits each, are
said first and serve as nonces of the proofs (`cyrus_sync.shipping.key`), so a proof is for these two alone.
What the two agree on makes, with the family key, a key for each direction. Hence

- whoever has not the family key is no end of such a connection, and reads nothing of it;
- nothing that was recorded fits another connection, since both pairs are new each time;
- whoever gets the family key later reads nothing that was recorded before: the secret halves are gone.

What is sealed travels as records: four octets of length, then at most `RECORD` octets and a tag (AEGIS-256 of
libsodium). The nonce is the number of the record in its direction, so a record that was changed, left out,
doubled or moved does not open.

    >>> here, there = KeyPair(), KeyPair()
    >>> wire = Sealer(here.keys(b"k" * 32, here.public, there.public)[0]).seal(b"hello")
    >>> list(Opener(there.keys(b"k" * 32, here.public, there.public)[0]).feed(wire))
    [b'hello']
"""

from __future__ import annotations

from collections.abc import Iterator

from nacl.bindings import crypto_aead_aegis256_decrypt as _decrypt
from nacl.bindings import crypto_aead_aegis256_encrypt as _encrypt
from nacl.bindings import crypto_scalarmult
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, PublicKey

from cyrus_sync.shipping.errors import Refused
from cyrus_sync.shipping.key import proof

RECORD = 120 * 1024
"""Octets that a record holds at most. Larger ones leave the caches of a processor before they are sent;
and from 128 KiB on malloc(3) asks the system for fresh memory for each."""

TAG = 32
_LENGTH = 4
_NONCE = 32


class KeyPair:
    """The keys of one side for one connection."""

    def __init__(self) -> None:
        self._secret = PrivateKey.generate()

    @property
    def public(self) -> str:
        return bytes(self._secret.public_key).hex()

    def keys(self, family: bytes, client: str, server: str) -> tuple[bytes, bytes]:
        """The keys for what the client says, and for what the server says. `client`, `server`: what they have
        shown, one of them `public`. `Refused` if the other one is no key."""
        other = server if client == self.public else client
        try:
            # A PublicKey has looked at the length: libsodium would read on.
            shared = crypto_scalarmult(bytes(self._secret), bytes(PublicKey(bytes.fromhex(other))))
        except (CryptoError, ValueError, TypeError):
            raise Refused("the other side has shown what is no key") from None
        said = client.encode(), server.encode(), shared
        to_server, to_client = (proof(family, label, *said) for label in ("to server", "to client"))
        return bytes.fromhex(to_server), bytes.fromhex(to_client)


class Sealer:
    """Makes the records of one direction."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._number = 0

    def seal(self, data: bytes) -> bytes:
        """Records that hold `data`."""
        return b"".join(self.records(data))

    def records(self, data: bytes) -> list[bytes]:
        """The same, in pieces."""
        pieces: list[bytes] = []
        for at in range(0, len(data), RECORD):
            part = data[at : at + RECORD]
            nonce = self._number.to_bytes(_NONCE, "big")
            self._number += 1
            pieces.append((len(part) + TAG).to_bytes(_LENGTH, "big"))
            pieces.append(_encrypt(part, b"", nonce, self._key))
        return pieces


class Records:
    """Finds the records in what comes, however it is cut."""

    def __init__(self) -> None:
        self._held: list[bytes] = []
        self._bytes = 0
        self._is_length = True
        self._needed = _LENGTH

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Those that are whole with `data`, still sealed. `Refused` for a length that cannot be."""
        view = memoryview(data)
        at = 0
        while (end := at + self._needed - self._bytes) <= len(data):
            # Each octet is moved once: a record is cut from what comes, and put together by the same step.
            whole = b"".join((*self._held, view[at:end]))
            self._held, self._bytes, at = [], 0, end
            if self._is_length:
                self._needed = int.from_bytes(whole, "big")
                if not TAG <= self._needed <= RECORD + TAG:
                    raise Refused("what comes is not sealed with our key")
            else:
                self._needed = _LENGTH
            self._is_length = not self._is_length
            if self._is_length:
                yield whole
        if at < len(data):
            self._held.append(data[at:])
            self._bytes += len(data) - at


class Opener:
    """Opens the records of one direction."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._number = 0
        self._records = Records()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What is whole with `data`. `Refused` if it was not sealed by the other side, or not as the next."""
        for record in self._records.feed(data):
            yield self.open(record)

    def split(self, data: bytes) -> Iterator[bytes]:
        """The same, not opened yet: each goes to `open`, in order."""
        return self._records.feed(data)

    def open(self, record: bytes) -> bytes:
        """What a record holds."""
        nonce = self._number.to_bytes(_NONCE, "big")
        self._number += 1
        try:
            return _decrypt(record, b"", nonce, self._key)
        except CryptoError:
            raise Refused("what comes is not sealed with our key, or was changed on its way") from None
