"""What exports have told a sibling and no packet has shown to have arrived there.

An export believes that its packets arrive. So what lies on a stick for a month, or was lost, is not among
what is to be sent; but it is not among what the sibling has shown to have, either (`multisite.oplog.heard`).
"""

from __future__ import annotations

from typing import NamedTuple

from cyrus_sync.multisite.oplog.epochs import Epochs
from cyrus_sync.multisite.oplog.heard import Hearsay


class OnTheWay(NamedTuple):
    """So many `operations`; the first export that has told any of them was made at `since` (Unix seconds,
    None if none is known). `heard`: whether anything was ever heard of the sibling."""

    operations: int
    since: int | None
    heard: bool


def on_the_way(epochs: Epochs, heard: Hearsay, sibling: str, incarnation: int) -> OnTheWay:
    """For the replica `sibling` (id) in its `incarnation`. What it had before a restore is not shown."""
    known = heard.of(sibling)
    shown = known.row if known is not None and known.incarnation == incarnation else {}
    told = epochs.row(sibling)
    lacking = {origin: number for origin, number in told.items() if number > shown.get(origin, 0)}
    lacking.pop(sibling, None)
    since = None
    for export in reversed(epochs.exports(sibling)) if lacking else ():
        since = export.time
        if all(export.row.get(origin, 0) <= shown.get(origin, 0) for origin in lacking):
            break
    count = sum(number - shown.get(origin, 0) for origin, number in lacking.items())
    return OnTheWay(count, since, known is not None)
