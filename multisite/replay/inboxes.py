"""A user who has mailboxes and no INBOX gets one from the user's master.

This happens where one site deletes a user while another makes a mailbox for that user, or where two sites
each rename the INBOX that the other keeps. No mail is lost by it; but neither IMAP nor a live replica knows a
user without INBOX. The INBOX is made when all packets at hand have been applied, since the user's own one may
be in a later packet.
"""

from __future__ import annotations

from collections.abc import Iterable

from cyrus_sync.common.errors import ReplyError, StoreCorrupt
from cyrus_sync.common.names import SERVER, Owner, inbox_of
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.oplog.operations import owner_from, owner_text
from cyrus_sync.multisite.oplog.shadows import INBOXLESS
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.names import mailboxes_left


def note_inboxless(context: ReplayContext, owners: Iterable[Owner]) -> None:
    """Note in the log those of these owners who lack an INBOX now; `give_inboxes` looks at them."""
    for owner in owners:
        if _lacks_inbox(context, owner):
            context.log.shadows.put_item(SERVER, INBOXLESS, owner_text(owner), True)


def give_inboxes(context: ReplayContext) -> None:
    """Make the INBOXes that are still missing of users whose master is here. The others are told of them."""
    for text, _ in context.log.shadows.items(SERVER, INBOXLESS):
        owner = owner_from(text)
        if context.log.is_master(owner) and _lacks_inbox(context, owner):
            left = context.external(mailboxes_left(context, owner)[0])
            try:
                context.batch.writer(owner).create(inbox_of(owner.name))
            except (ReplyError, StoreCorrupt, MultisiteError) as error:
                context.notice(f"{owner} has {left} and no INBOX, which cannot be made: {error}")
                continue
            context.to_capture.add(owner)
            context.notice(f"{owner} has {left} and had no INBOX: a new one was made")
        context.log.shadows.drop_item(SERVER, INBOXLESS, text)


def _lacks_inbox(context: ReplayContext, owner: Owner) -> bool:
    if owner.kind != "user":
        return False
    try:
        names = mailboxes_left(context, owner)
    except StoreCorrupt:
        return False  # operations on the owner are set aside, and it is looked at when they are carried out
    return bool(names) and inbox_of(owner.name) not in names
