"""Letting go of what the log has kept and nobody needs any more."""

from __future__ import annotations

from collections.abc import Mapping

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.mail import SiteMail
from cyrus_sync.multisite.oplog.held import Held, not_stored
from cyrus_sync.multisite.oplog.log import Log


def prune_held(log: Log, store: SiteMail) -> None:
    """Let go of held messages for which nobody will ask this replica any more: no owner of them needs the
    held copy. One that no operation has brought yet stays."""
    useless, needed = set[bytes](), set[bytes]()
    for owner, brought in log.operations.introducers_of_held().items():
        useless.update(brought)
        try:
            needed.update(_needed(log, store, owner, brought))
        except StoreCorrupt:
            needed.update(brought)  # the owner is damaged here, so this may be the only copy
    Held(log.db).drop(sorted(useless - needed))


def _needed(log: Log, store: SiteMail, owner: Owner, brought: Mapping[bytes, tuple[str, int]]) -> list[bytes]:
    """Those held messages of an owner that the store here lacks, and whose operation is not part of the
    master's state here."""
    lacking = not_stored(store, log.places(owner), list(brought))
    if not lacking or log.operations.has_pending(owner):
        return lacking
    settled = log.masters.settled(owner)
    return [guid for guid in lacking if settled.get(brought[guid][0], 0) < brought[guid][1]]
