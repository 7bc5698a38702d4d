"""What is used of quota roots, as the mailboxes themselves count it."""

from __future__ import annotations

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import QuotaUsage
from cyrus_sync.spool.copying import peek
from cyrus_sync.spool.server import Server
from cyrus_sync.spool.trouble import Gone


def usage_of(server: Server, owner: Owner) -> list[QuotaUsage]:
    """Of every quota root of an owner, the sum of what the headers of its mailboxes say. Raises
    `StoreError`."""
    used = {quota.root: [0, 0, 0, 0] for quota in server.quotas.of_owner(owner)}
    for entry in server.mailboxes.of_owner(owner):
        if not entry.live or entry.intermediate:
            continue
        try:
            seen = peek(server.files(entry))
        except Gone:
            continue
        index = seen.index
        counted = used.get(seen.header.quotaroot)
        if counted is not None:
            for number, part in enumerate((index.quota_used, index.exists, index.annotation_quota_used, 1)):
                counted[number] += part
    names = ("STORAGE", "MESSAGE", "X-ANNOTATION-STORAGE", "X-NUM-FOLDERS")
    return [QuotaUsage(root, dict(zip(names, counted, strict=True))) for root, counted in used.items()]
