"""What every format offers: look-ups by key, and all entries in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

Order = Callable[[bytes], bytes]
"""What keys are compared by: the octets that it makes of a key."""


class Database(Protocol):
    """One database, open for reading. A view of the moment: what daemons commit shows at the next call."""

    path: Path
    kind: str
    """twoskip, skiplist, flat, twom, quotalegacy or sql."""

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, None if there is none. Raises `SpoolDamaged`, `StoreError`."""

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Entries whose keys begin with `prefix`, in the order of the database.

        What is changed meanwhile may be seen as before or as after, each entry for itself; nobody is seen
        twice, and who was there all the time is seen.
        """

    def is_current(self) -> bool:
        """False if another file has taken its name: it may be of another kind. Open it anew."""

    def close(self) -> None:
        """Give up the file. May be called twice."""


def raw_order(key: bytes) -> bytes:
    """Octet by octet, the shorter first."""
    return key


def signed_order(key: bytes) -> bytes:
    """By octets that count from -128 to 127: skiplist's own."""
    return key.translate(_SIGNED)


def mailbox_order(key: bytes) -> bytes:
    """With a dot before everything else: `improved_mboxlist_sort` of releases before 3.6."""
    return key.translate(_MAILBOX)


_SIGNED = bytes((octet + 128) % 256 for octet in range(256))
_MAILBOX = bytes(
    {0: 0, 9: 1, 10: 1, 46: 2}.get(octet, octet + 2 if octet < 9 else octet if octet > 10 else 0)
    for octet in range(256)
)
