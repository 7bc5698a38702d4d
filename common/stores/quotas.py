"""Whether there is room for one more message under a quota root."""

from __future__ import annotations

from cyrus_sync.common.stores.mailstore import OwnerReader


def excess(reader: OwnerReader, mailbox: str, *, octets: int, messages: int) -> tuple[str, str]:
    """The quota root of `mailbox` and the limit that would be exceeded by so much more, as ``1024 KiB`` or
    ``10 messages``; ("", "") where there is room. More of nothing is too much where a limit is exceeded
    already, and fits where it is just reached (as in Cyrus)."""
    roots = {quota.root: quota.limits for quota in reader.quotas()}
    root = mailbox
    while root and root not in roots:
        root = root.rpartition(".")[0]
    if not root:
        return "", ""
    used = next(usage.used for usage in reader.usage() if usage.root == root)
    storage = roots[root].get("STORAGE")
    if storage is not None and used.get("STORAGE", 0) + octets > storage * 1024:
        return root, f"{storage} KiB"
    most = roots[root].get("MESSAGE")
    if most is not None and used.get("MESSAGE", 0) + messages > most:
        return root, f"{most} messages"
    return "", ""
