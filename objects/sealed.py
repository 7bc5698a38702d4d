"""`SealedObjects`: objects that their store cannot read. Encrypted here, each part with the key's name.

An object is a header of 32 octets, then chunks. The header is ``CYRSEAL1``, eight octets that tell one secret
from another, and sixteen by chance. A chunk is 65,536 octets (the last one: up to so many) encrypted by
XChaCha20-Poly1305 (IETF), 16 octets longer. Its nonce is the sixteen octets by chance and its number, eight
octets, big-endian. What is authenticated with it is ``L`` for the last chunk, ``M`` for any other, and the
object's key as whoever put it knows it (without ``s3_prefix``). So no chunk can be changed, left out, moved
within an object or to another, and no object can be cut off or be given another name. An older object under
the same name is not noticed.

Ranges can be read: each chunk can be opened alone. Names, sizes and times of objects are for everybody to see
who sees the store.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from threading import Lock

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt as _open,
)
from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_encrypt as _seal,
)
from nacl.exceptions import CryptoError

from cyrus_sync.common.errors import ConfigError, ObjectDamaged
from cyrus_sync.objects.store import Content, Counted, Listed, ObjectStore, Put, check_back, in_pieces

MAGIC = b"CYRSEAL1"
HEADER = 32
CHUNK = 65536
TAG = 16
_LONG = CHUNK + TAG
_HEADERS_KEPT = 1024
_SECRET = re.compile(r"[0-9A-Fa-f]{64}")


def read_secret(path: Path) -> bytes:
    """The 32 octets of a key file: 64 hexadecimal digits. ConfigError where it is something else, or where
    others may read it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(4096).decode("ascii", "replace").strip()
    except OSError as error:
        raise ConfigError(f"s3_encrypt: {path}: {error.strerror}") from error
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise ConfigError(f"s3_encrypt: {path}: everybody may read or write this key; chmod o-rw")
    if not _SECRET.fullmatch(text):
        raise ConfigError(f"s3_encrypt: {path}: not a key of 64 hexadecimal digits (openssl rand -hex 32)")
    return bytes.fromhex(text)


class SealedObjects:
    """`ObjectStore` that seals what it hands to another. Sizes and SHA-256 are those of what was put.
    `ObjectDamaged` for what does not open."""

    def __init__(self, objects: ObjectStore, secret: bytes) -> None:
        self._objects = objects
        self._secret = secret
        self._mark = hashlib.blake2b(secret, digest_size=8, person=b"cyrus-sync key").digest()
        self._headers: OrderedDict[str, bytes] = OrderedDict()
        self._lock = Lock()

    @property
    def place(self) -> str:
        return self._objects.place

    def put(self, key: str, content: Content, *, check: bool = False) -> Put:
        counted = Counted(in_pieces(content))
        self._forget(key)
        self._objects.put(key, self._sealed(key, counted))
        if check:
            check_back(self, key, counted.total)
        return counted.total

    def _sealed(self, key: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
        header = MAGIC + self._mark + os.urandom(16)
        out = bytearray(header)
        waiting, number = bytearray(), 0
        for piece in pieces:
            waiting += piece
            whole = (len(waiting) - 1) // CHUNK  # one that may be the last one waits
            for start in range(0, whole * CHUNK, CHUNK):
                out += self._seal(key, header, number, bytes(waiting[start : start + CHUNK]), last=False)
                number += 1
            del waiting[: whole * CHUNK]
            yield bytes(out)
            out.clear()
        yield bytes(out) + self._seal(key, header, number, bytes(waiting), last=True)

    def _seal(self, key: str, header: bytes, number: int, data: bytes, *, last: bool) -> bytes:
        return _seal(data, _bound(key, last=last), header[16:] + number.to_bytes(8, "big"), self._secret)

    def get(self, key: str) -> bytes:
        return b"".join(self.pieces(key))

    def pieces(self, key: str) -> Iterator[bytes]:
        waiting, header, number = bytearray(), b"", 0
        for piece in self._objects.pieces(key):
            waiting += piece
            if not header:
                if len(waiting) < HEADER:
                    continue
                header = self._checked(key, bytes(waiting[:HEADER]))
                del waiting[:HEADER]
            whole = (len(waiting) - 1) // _LONG
            opened = []
            for start in range(0, whole * _LONG, _LONG):
                opened.append(
                    self._open(key, header, number, bytes(waiting[start : start + _LONG]), (False,))
                )
                number += 1
            del waiting[: whole * _LONG]
            if opened:
                yield b"".join(opened)
        if not header:
            raise self._damaged(key, "it has no header")
        if data := self._open(key, header, number, bytes(waiting), (True,)):
            yield data

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        if not length:
            return b""
        header = self._header(key)
        first, last = offset // CHUNK, (offset + length - 1) // CHUNK
        data = self._objects.get_range(key, HEADER + first * _LONG, (last - first + 1) * _LONG)
        opened = []
        for number in range(first, last + 1):
            chunk = data[(number - first) * _LONG : (number - first + 1) * _LONG]
            if not chunk:
                break
            opened.append(self._open(key, header, number, chunk, (False, True)))
        start = offset - first * CHUNK
        return b"".join(opened)[start : start + length]

    def _header(self, key: str) -> bytes:
        with self._lock:
            if key in self._headers:
                self._headers.move_to_end(key)
                return self._headers[key]
        header = self._checked(key, self._objects.get_range(key, 0, HEADER))
        with self._lock:
            self._headers[key] = header
            while len(self._headers) > _HEADERS_KEPT:
                self._headers.popitem(last=False)
        return header

    def _forget(self, key: str) -> None:
        with self._lock:
            self._headers.pop(key, None)

    def _checked(self, key: str, header: bytes) -> bytes:
        if len(header) < HEADER or not header.startswith(MAGIC):
            raise self._damaged(key, "it is not encrypted, and s3_encrypt says that it is")
        if header[8:16] != self._mark:
            raise self._damaged(key, "it was encrypted with another key than the one of s3_encrypt")
        return header

    def _open(
        self, key: str, header: bytes, number: int, chunk: bytes, may_be_last: tuple[bool, ...]
    ) -> bytes:
        for last in may_be_last:
            try:
                nonce = header[16:] + number.to_bytes(8, "big")
                return bytes(_open(chunk, _bound(key, last=last), nonce, self._secret))
            except (CryptoError, ValueError):
                pass
        raise self._damaged(key, f"chunk {number} is not what was encrypted under this name")

    def _damaged(self, key: str, text: str) -> ObjectDamaged:
        return ObjectDamaged(f"{self.place}: {key}: {text}")

    def size(self, key: str) -> int:
        return _plain(self._objects.size(key))

    def listed(self, folder: str = "") -> Iterator[Listed]:
        for one in self._objects.listed(folder):
            yield one._replace(size=_plain(one.size))

    def folders(self, folder: str = "") -> list[str]:
        return self._objects.folders(folder)

    def delete(self, keys: Iterable[str]) -> None:
        self._objects.delete(keys)

    def now(self) -> datetime:
        return self._objects.now()

    def close(self) -> None:
        self._objects.close()


def _bound(key: str, *, last: bool) -> bytes:
    """What is authenticated with a chunk."""
    return (b"L" if last else b"M") + key.encode()


def _plain(size: int) -> int:
    """How much was sealed to so many octets; 0 for what was not."""
    sealed = max(size - HEADER, 0)
    return max(sealed - TAG * -(-sealed // _LONG), 0)
