"""Users who have mailboxes and no INBOX: their master gives them one.

A user is deleted at one site while another makes a mailbox of his, or two sites each rename the INBOX that
the other holds to. Nothing of his is lost by that; but neither IMAP nor a live replica knows a user without
INBOX. He is given one when all packets at hand are applied: his own may be among them.
"""

from __future__ import annotations

from collections.abc import Iterable

from cyrus_sync.common.errors import ReplyError, StoreCorrupt
from cyrus_sync.common.names import SERVER, Owner, inbox_of
from cyrus_sync.multisite.oplog.operations import owner_from, owner_text
from cyrus_sync.multisite.oplog.shadows import INBOXLESS
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.names import mailboxes_left


def note_inboxless(context: ReplayContext, owners: Iterable[Owner]) -> None:
    """Remember, in the log, which of these `give_inboxes` has to look at."""
    for owner in owners:
        if _lacks_inbox(context, owner):
            context.log.shadows.put_item(SERVER, INBOXLESS, owner_text(owner), True)


def give_inboxes(context: ReplayContext) -> None:
    """Make what is still missing; everybody is told of it."""
    for text, _ in context.log.shadows.items(SERVER, INBOXLESS):
        owner = owner_from(text)
        if context.log.is_master(owner) and _lacks_inbox(context, owner):
            left = mailboxes_left(context, owner)
            try:
                context.batch.writer(owner).create(inbox_of(owner.name))
            except (ReplyError, StoreCorrupt) as error:
                context.notice(f"{owner} has {left[0]} and no INBOX, which cannot be made: {error}")
                continue
            context.to_capture.add(owner)
            context.notice(f"{owner} has {left[0]} and had no INBOX: he was given a new one")
        context.log.shadows.drop_item(SERVER, INBOXLESS, text)


def _lacks_inbox(context: ReplayContext, owner: Owner) -> bool:
    if owner.kind != "user":
        return False
    try:
        names = mailboxes_left(context, owner)
    except StoreCorrupt:
        return False  # his operations are set aside, and he is looked at when they are carried out
    return bool(names) and inbox_of(owner.name) not in names
