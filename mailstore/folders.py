"""Make a mailbox with what is missing above it, as imapd's CREATE does."""

from __future__ import annotations

from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import parent_of
from cyrus_sync.common.stores.mailstore import MailWriter


def create_with_parents(
    writer: MailWriter, name: str, *, partition: str = "", acl: str | None = None, uidvalidity: int = 0
) -> MailboxState:
    """The mailbox `name`, made if it is missing. `acl` and `uidvalidity` (0 = a new one) are for it alone;
    those above inherit their ACL."""
    there = writer.mailbox(name)
    if there is not None and not there.intermediate:
        return there
    parent = parent_of(name)
    if parent is not None:
        create_with_parents(writer, parent, partition=partition)
    return writer.create(name, partition=partition, acl=acl, uidvalidity=uidvalidity)
