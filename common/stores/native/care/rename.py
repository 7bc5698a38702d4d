"""`rename_user`: one user becomes another, mailbox by mailbox."""

from __future__ import annotations

from cyrus_sync.common.errors import MailboxNonexistent
from cyrus_sync.common.names import Owner, inbox_of, is_deleted
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.native.tables.boxes import folder_changed, get_box
from cyrus_sync.common.stores.native.tables.counters import next_modseq
from cyrus_sync.common.stores.native.tables.personal import forget_user, put_seen, put_subscription
from cyrus_sync.common.stores.native.tables.quotas import assign_quotaroots, put_quota
from cyrus_sync.common.stores.native.verbs.rename import was_renamed


def _renamed_acl(acl: str, old: str, new: str) -> str:
    """`acl` with the rights of `old` given to `new`."""
    fields = acl.split("\t")
    return "\t".join(new if number % 2 == 0 and name == old else name for number, name in enumerate(fields))


def rename_user(store: NativeStore, old: str, new: str, *, timeout: float = 5.0) -> None:
    """Make user `old` user `new`: every mailbox in the order of the list (INBOX first), then ACLs,
    subscriptions, seen state and quota limits. What delayed delete has set aside stays with `old`.

    A local change; ends with ``UNUSER old`` and ``USER new`` in the log. If it was interrupted, doing it
    again ends it. Raises `MailboxNonexistent` if there is no such user, `UnknownFailure` if `new` is taken.
    """
    source, target = Owner("user", old), Owner("user", new)
    old_inbox, new_inbox = inbox_of(old), inbox_of(new)

    def moved(name: str) -> str:
        inside = name == old_inbox or name.startswith(old_inbox + ".")
        return new_inbox + name[len(old_inbox) :] if inside else name

    with store.read(source) as reader:
        there = [state for state in reader.mailboxes() if not is_deleted(state.name)]
        names = [state.name for state in there if not state.intermediate]
        meta, quotas = reader.meta(with_sieve=False), reader.quotas()
    with store.read(target) as reader:
        begun = was_renamed(reader, old_inbox, new_inbox)
    if old_inbox not in names and not begun:
        raise MailboxNonexistent().at(user=old)
    for name in names:
        store.rename(name, moved(name), log=True, timeout=timeout)
    with store.transaction(target, timeout=timeout) as transaction:
        for state in transaction.reader.mailboxes():
            acl = _renamed_acl(state.acl, old, new)
            if acl != state.acl:
                folder_changed(transaction, get_box(transaction, state.name), acl=acl)
        for name in meta.subscriptions:
            put_subscription(transaction, moved(name), True)
        for seen in meta.seen:
            put_seen(transaction, seen)
        for quota in quotas:
            put_quota(transaction, moved(quota.root), quota.limits, next_modseq(transaction))
        assign_quotaroots(transaction)
    with store.transaction(source, timeout=timeout) as transaction:
        transaction.change()
        forget_user(transaction)
        transaction.log("UNUSER", old)
        transaction.log("USER", new)
