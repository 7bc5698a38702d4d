"""What is to be restored: mailboxes of this store, each with the name that it shall have at the target.

A *wish* says nothing yet of the target. `Names` maps what belongs to one user to another, when a user is
restored under another name: mailbox names, quota roots, subscriptions and his own entries in ACLs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cyrus_sync.common.model import MailboxState, Quota, Record, UserMeta
from cyrus_sync.common.names import Owner, inbox_of, is_deleted, owner_of
from cyrus_sync.common.stores.mailstore import OwnerReader
from cyrus_sync.mailstore.source import Source


@dataclass(frozen=True, slots=True)
class Names:
    """From a user to another; with both the same nothing changes."""

    old: str
    new: str

    def mailbox(self, name: str) -> str:
        old, new = inbox_of(self.old), inbox_of(self.new)
        if name == old or name.startswith(old + "."):
            return new + name[len(old) :]
        return name

    def acl(self, acl: str) -> str:
        """An ACL (identifier TAB rights TAB …) in which the old user's own entry is the new one's."""
        words = acl.split("\t")
        words[::2] = [self.new if word == self.old else word for word in words[::2]]
        return "\t".join(words)


@dataclass(frozen=True, slots=True)
class Revive:
    """Bring back what was expunged between these times (Unix seconds, both included)."""

    since: int = 0
    until: int = 2**62

    def wants(self, record: Record) -> bool:
        """An expunged record was last updated when it was expunged."""
        return record.expunged and self.since <= record.last_updated <= self.until


@dataclass(frozen=True, slots=True)
class Wish:
    """A mailbox of the store, and what it shall be called at the target."""

    owner: Owner
    state: MailboxState
    target: str
    acl: str

    @property
    def renamed(self) -> bool:
        """True for a copy in another place."""
        return self.target != self.state.name


@dataclass(frozen=True, slots=True)
class UserWish:
    """A whole user: his mailboxes, parents first, and what he has besides."""

    userid: str
    mailboxes: tuple[Wish, ...]
    quotas: tuple[Quota, ...]
    meta: UserMeta
    """With his scripts, whether or not they are in a mailbox too."""


def wish_for_user(store: Source, userid: str, target: str) -> UserWish | None:
    """All of `userid`, for the user `target`; None if he has no INBOX. What delayed delete has set aside
    goes along only under the same name."""
    names = Names(userid, target)
    owner = Owner("user", userid)
    with store.read(owner) as reader:
        if reader.mailbox(inbox_of(userid)) is None:
            return None
        wishes = tuple(
            Wish(owner, state, names.mailbox(state.name), names.acl(state.acl))
            for state in reader.mailboxes()
            if userid == target or not is_deleted(state.name)
        )
        quotas = tuple(Quota(names.mailbox(q.root), q.limits) for q in reader.quotas())
        meta = reader.meta(with_sieve=True)
    subscriptions = tuple(names.mailbox(name) for name in meta.subscriptions)
    return UserWish(target, wishes, quotas, UserMeta(meta.seen, subscriptions, meta.sieve))


def wish_for_mailbox(reader: OwnerReader, state: MailboxState, target: str) -> Wish:
    """One mailbox alone."""
    acl, new = state.acl, owner_of(target)
    if reader.owner.kind == new.kind == "user":
        acl = Names(reader.owner.name, new.name).acl(acl)
    return Wish(reader.owner, state, target, acl)


def find_records(reader: OwnerReader, uniqueid: str, uids: Sequence[int]) -> dict[int, Record]:
    """The records with these UIDs."""
    wanted = set(uids)
    found: dict[int, Record] = {}
    for batch in reader.records(uniqueid, above_uid=min(wanted, default=0) - 1):
        found.update((record.uid, record) for record in batch if record.uid in wanted)
        if len(found) == len(wanted) or batch[-1].uid > max(wanted):
            break
    return found
