"""What mail daemons do to mailboxes: create, delete, ACL, quota, subscriptions, seen state."""

from __future__ import annotations

from typing import NamedTuple

from cyrus_sync.common.acl import acl_can_hold
from cyrus_sync.common.errors import UnknownFailure
from cyrus_sync.common.model import MAX_UID, QUOTA_RESOURCES, UNLIMITED, MailboxState, Seen
from cyrus_sync.common.names import (
    check_mailbox_name,
    deleted_name,
    is_deleted,
    is_inbox,
    login_of,
    owner_of,
    parent_of,
)
from cyrus_sync.common.newnames import new_uniqueid
from cyrus_sync.common.stores.native.rows import Box
from cyrus_sync.common.stores.native.tables.boxes import (
    find_box,
    folder_changed,
    get_box,
    get_real_box,
    insert_box,
    remove_box,
    rename_box,
)
from cyrus_sync.common.stores.native.tables.counters import next_modseq, next_uidvalidity, raise_owner
from cyrus_sync.common.stores.native.tables.personal import forget_user, put_seen, put_subscription
from cyrus_sync.common.stores.native.tables.quotas import assign_quotaroots, put_quota, remove_quota
from cyrus_sync.common.stores.native.transaction import Transaction

ALL_RIGHTS = "lrswipkxtecdan"
DEFAULT_ACL = "anyone\tlrs\t"
"""What a new shared mailbox at the top allows."""


def acl_with(acl: str, identifier: str, rights: str) -> str:
    """`acl` with the entry of `identifier` set; without it, if `rights` is empty."""
    fields = acl.split("\t")
    entries = dict(zip(fields[0::2], fields[1::2], strict=False))
    entries.pop(identifier, None) if not rights else entries.update({identifier: rights})
    return "".join(f"{name}\t{granted}\t" for name, granted in entries.items())


class NewBox(NamedTuple):
    """What is wanted of a new mailbox; what is not given comes from the nearest one above."""

    partition: str = ""
    acl: str | None = None
    mbtype: str = ""
    uidvalidity: int = 0


def create(
    transaction: Transaction,
    name: str,
    *,
    partition: str = "",
    acl: str | None = None,
    mbtype: str = "",
    uidvalidity: int = 0,
) -> MailboxState:
    """Make a mailbox. Partition and ACL come from the nearest one above unless they are given. Raises
    `BadName`, `PartitionUnknown`; `UnknownFailure` for a name that is taken, or another owner's, or where
    the user has no INBOX."""
    box = create_box(transaction, name, NewBox(partition, acl, mbtype, uidvalidity))
    transaction.log("MAILBOX", name)
    return box.state


def create_box(transaction: Transaction, name: str, wanted: NewBox) -> Box:
    """`create` without a line for the action log."""
    _check_name(transaction, name)
    there = find_box(transaction, name)
    if there and not there.state.intermediate:
        raise UnknownFailure("Mailbox already exists").at(mailbox=name)
    above = _nearest_above(transaction, name)
    if transaction.owner.kind == "user" and not (above or is_inbox(name) or is_deleted(name)):
        raise UnknownFailure(f"{transaction.owner} has no INBOX").at(mailbox=name)
    if there:
        remove_box(transaction, there, tombstone=False)
    if wanted.partition or above is None:
        partition = transaction.around.check_partition(wanted.partition)
    else:
        partition = above.state.partition
    transaction.change(partition)
    modseq = next_modseq(transaction)
    return insert_box(
        transaction,
        MailboxState(
            uniqueid=new_uniqueid(),
            name=name,
            mbtype=wanted.mbtype,
            highestmodseq=modseq,
            uidvalidity=wanted.uidvalidity or next_uidvalidity(transaction),
            partition=partition,
            acl=_first_acl(transaction, above) if wanted.acl is None else wanted.acl,
            options="P",
            createdmodseq=modseq,
            foldermodseq=modseq,
        ),
    )


def _check_name(transaction: Transaction, name: str) -> None:
    if owner_of(check_mailbox_name(name)) != transaction.owner:
        raise UnknownFailure(f"{name} does not belong to {transaction.owner}").at(mailbox=name)


def _nearest_above(transaction: Transaction, name: str) -> Box | None:
    parent = parent_of(name)
    while parent:
        box = find_box(transaction, parent)
        if box and not box.state.intermediate:
            return box
        parent = parent_of(parent)
    return None


def _first_acl(transaction: Transaction, above: Box | None) -> str:
    if above:
        return above.state.acl
    owner = transaction.owner
    return f"{login_of(owner.name)}\t{ALL_RIGHTS}\t" if owner.kind == "user" else DEFAULT_ACL


def delete(transaction: Transaction, name: str, *, delayed: bool = True) -> None:
    """Delete a mailbox, at once or (`delayed`) by giving it a name below DELETED; with an INBOX all that
    the user has. Raises `MailboxNonexistent`."""
    box = get_real_box(transaction, name)
    _delete_one(transaction, box, delayed and not is_deleted(name))
    if is_inbox(name):
        _delete_user(transaction, delayed)


def _delete_one(transaction: Transaction, box: Box, delayed: bool) -> None:
    name = box.state.name
    if not delayed:
        remove_box(transaction, box, modseq=next_modseq(transaction))
        transaction.log("UNMAILBOX", name)
        transaction.log("MAILBOX", name)
        return
    when = transaction.around.now()
    while find_box(transaction, aside := deleted_name(name, when)):
        when += 1
    check_mailbox_name(aside)
    modseq = next_modseq(transaction)
    rename_box(transaction, box, aside, highestmodseq=modseq, foldermodseq=modseq)
    transaction.log("RENAME", name, aside)
    transaction.log("MAILBOX", name)
    transaction.log("MAILBOX", aside)


def _delete_user(transaction: Transaction, delayed: bool) -> None:
    """Deleting an INBOX deletes the user: what is below it, then subscriptions, seen state, quotas."""
    for state in transaction.reader.mailboxes():
        if not is_deleted(state.name):
            if state.intermediate:
                remove_box(transaction, get_box(transaction, state.name), tombstone=False)
            else:
                _delete_one(transaction, get_box(transaction, state.name), delayed)
    forget_user(transaction)
    transaction.log("UNUSER", transaction.owner.name)


def renew(transaction: Transaction, name: str, uidvalidity: int, *, delayed: bool = True) -> MailboxState:
    """Put a new, empty mailbox with another uniqueid in the place of one, which goes as `delete` lets it go;
    nothing else of the user does, if it is an INBOX. Raises `MailboxNonexistent`; `UnknownFailure` for what
    is no UIDVALIDITY."""
    box = get_real_box(transaction, name)
    if not 0 < uidvalidity <= MAX_UID:
        raise UnknownFailure(f"UIDVALIDITY {uidvalidity} cannot be").at(mailbox=name)
    state = box.state
    _delete_one(transaction, box, delayed)
    transaction.change(state.partition)
    modseq = next_modseq(transaction)
    made = insert_box(
        transaction,
        MailboxState(
            uniqueid=new_uniqueid(),
            name=name,
            mbtype=state.mbtype,
            highestmodseq=modseq,
            usergroups=state.usergroups,
            uidvalidity=uidvalidity,
            partition=state.partition,
            acl=state.acl,
            options=state.options,
            createdmodseq=modseq,
            foldermodseq=modseq,
            annotations=tuple(note._replace(modseq=modseq) for note in state.annotations),
        ),
    )
    transaction.log("MAILBOX", name)
    return made.state


def number_anew(transaction: Transaction, mailbox: str, uidvalidity: int) -> None:
    """Give a mailbox that never held a message another UIDVALIDITY. Raises `UnknownFailure` for one that
    did."""
    box = get_real_box(transaction, mailbox)
    if box.state.last_uid or not 0 < uidvalidity <= MAX_UID:
        raise UnknownFailure("the mailbox has given out UIDs already").at(mailbox=mailbox)
    if uidvalidity == box.state.uidvalidity:
        return
    folder_changed(transaction, box, uidvalidity=uidvalidity)
    raise_owner(transaction, uidvalidity=uidvalidity)


def set_acl(transaction: Transaction, name: str, identifier: str, rights: str) -> None:
    """Give an identifier rights; "" takes them. Raises `MailboxNonexistent`; `UnknownFailure` for what no
    ACL can hold."""
    box = get_real_box(transaction, name)
    if not acl_can_hold(identifier, rights):
        raise UnknownFailure("Invalid ACL identifier or rights").at(mailbox=name)
    acl = acl_with(box.state.acl, identifier, rights)
    if acl != box.state.acl:
        folder_changed(transaction, box, acl=acl)


def set_quota(transaction: Transaction, root: str, limits: dict[str, int] | None) -> None:
    """Set limits by resource (STORAGE in KiB), or remove the root (None). Raises `UnknownFailure`."""
    _check_name(transaction, root)
    if limits is None:
        transaction.change()
        remove_quota(transaction, root)
    else:
        for resource, limit in limits.items():
            if resource not in QUOTA_RESOURCES or not 0 <= limit < UNLIMITED:
                raise UnknownFailure(f"Invalid quota limit {resource} {limit}").at(mailbox=root)
        put_quota(transaction, root, limits, next_modseq(transaction))
    assign_quotaroots(transaction)
    transaction.log("QUOTA", root)


def subscribe(transaction: Transaction, mailbox: str, subscribed: bool = True) -> None:
    """Subscribe to a mailbox, which need not exist, or unsubscribe. Raises `BadName`."""
    put_subscription(transaction, mailbox, subscribed)
    transaction.log("SUB", transaction.owner.name, mailbox)


def set_seen(transaction: Transaction, seen: Seen) -> None:
    """Write what this user has seen in somebody else's mailbox."""
    put_seen(transaction, seen)
    transaction.log("SEEN", transaction.owner.name, seen.uniqueid)
