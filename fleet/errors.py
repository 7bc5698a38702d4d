"""What goes wrong between a node and what it depends on. All of it passes, so a peer is told to come
again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from cyrus_sync.common.errors import MailboxLocked, ObjectsUnavailable, StoreCorrupt, StoreError


class Away(MailboxLocked):
    """PostgreSQL, or the object store, cannot be reached now, or does not answer in time. A client defers;
    nothing was changed as far as anybody knows."""


@contextmanager
def away() -> Iterator[None]:
    """An object store that cannot be had is `Away`. One that lacks an object is not."""
    try:
        yield
    except ObjectsUnavailable as error:
        raise Away(str(error)) from error


class Elsewhere(MailboxLocked):
    """An owner is in the directories of a machine whose users go into the fleet, or have come out of it. A
    client defers, and is served by that machine."""

    def __init__(self, machine: str) -> None:
        """`machine`: its word for itself (`machine`)."""
        super().__init__(f"is on {machine.partition(' ')[0]}, and not in the fleet")


class Torn(StoreCorrupt):
    """An owner has moved, without what was lost of him before."""


class Misfit(StoreError):
    """What PostgreSQL, the object store and the configuration say does not go together."""
