"""The family key: 32 random bytes that every host of the family has, and the proofs made with it.

A proof is HMAC-SHA256 over a label and its parts, each with its length in front, so that no two lists of
parts give the same bytes. Comparison takes constant time. The file holds 64 hexadecimal digits and may
be read by nobody but its owner (and its group, if that is what the administrator wants).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.common.files import make_directories, write_new
from cyrus_sync.shipping.errors import ShippingError

KEY_BYTES = 32
_HEX = re.compile(rb"[0-9A-Fa-f]{64}")


def make_key(path: Path) -> None:
    """Write a new key to `path`, mode 0600. `FileExistsError` if there is one: it is never replaced."""
    make_directories(path.parent)
    write_new(path, secrets.token_hex(KEY_BYTES).encode() + b"\n")


def load_key(path: Path) -> bytes:
    """The key. `ShippingError` if it is missing, open to others, or not a key."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            data = file.read(200).strip()
    except OSError as error:
        raise ShippingError(f"the family key cannot be read: {reason(error)}") from None
    if mode & 0o027:
        raise ShippingError(f"{path}: mode {mode:04o} opens the family key to others; chmod 600 it")
    if not _HEX.fullmatch(data):
        raise ShippingError(f"{path}: is not a family key (64 hexadecimal digits)")
    return bytes.fromhex(data.decode())


def proof(key: bytes, label: str, *parts: bytes) -> str:
    """Hexadecimal proof that whoever made it has `key`."""
    made = hmac.new(key, digestmod=hashlib.sha256)
    for part in (b"cyrus-sync shipping 1", label.encode(), *parts):
        made.update(len(part).to_bytes(8, "big") + part)
    return made.hexdigest()


def proves(key: bytes, shown: str, label: str, *parts: bytes) -> bool:
    """True if `shown` is the proof of these parts."""
    return hmac.compare_digest(shown.encode("utf-8", "replace"), proof(key, label, *parts).encode())
