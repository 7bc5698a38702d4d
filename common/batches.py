"""Messages in batches, as a `common.model.MessageSource` gives them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cyrus_sync.common.model import MessageBody

MIB = 1 << 20


def in_batches(bodies: Iterable[MessageBody], octets: int = MIB) -> Iterator[list[MessageBody]]:
    """`bodies` in lists; each but the last is the shortest that has so many octets."""
    batch: list[MessageBody] = []
    size = 0
    for body in bodies:
        batch.append(body)
        size += body.size
        if size >= octets:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
