"""What becomes of an item that failed: Cyrus's escalation table, as one pure function.

The rule it guards: a failure makes the work bigger, puts it off or gives it up *for now*; it never makes
it go away, and it never stops anybody else's work.

| item | becomes |
|---|---|
| any, mailbox locked | deferred: back to the log |
| mailbox group | USER of every owner in it; shared mailboxes one by one |
| QUOTA, ANNOTATION | USER of the owner |
| SEEN | META; USER when the mailbox is that user's own |
| SUB | META |
| META | USER |
| any, `LeftOut` or `OwnersTrouble` | given up until the next try |
| USER, UNMAILBOX, UNUSER, one shared mailbox, the server's annotations | given up until the next try |

Where Cyrus would abort the whole run, the one item is given up; its owner is set aside if that goes on.
"""

from __future__ import annotations

from collections.abc import Callable

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import InvalidUser, MailboxLocked
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.sync_client.engine.errors import ItemsFailed, LeftOut, OwnersTrouble
from cyrus_sync.sync_client.work import Item, Kind


@dataclass(frozen=True, slots=True)
class Promoted:
    """Do these instead."""

    items: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Deferred:
    """`item` goes back to the log: somebody else holds the lock."""

    item: Item


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Nothing bigger than `item` is left to try in this run."""

    item: Item


Decision = Promoted | Deferred | GivenUp

OwnerOfUniqueid = Callable[[str], Owner | None]


def promote(item: Item, error: Exception, owner_of_uniqueid: OwnerOfUniqueid = lambda _id: None) -> Decision:
    """What to do about `item`, which failed with `error`."""
    if isinstance(error, MailboxLocked):
        return Deferred(item)
    if isinstance(error, (LeftOut, OwnersTrouble)):
        return GivenUp(item)
    if isinstance(error, ItemsFailed):
        item = _only_failed(item, error)
        if all(isinstance(single, MailboxLocked) for _, single in error.failures):
            return Deferred(item)
    match item.kind:
        case Kind.MAILBOXES:
            return _promote_group(item)
        case Kind.QUOTA | Kind.ANNOTATION:
            return _to_user(item)
        case Kind.SEEN:
            userid, uniqueid = item.args
            if owner_of_uniqueid(uniqueid) == item.owner:
                return Promoted((Item.user(userid),))
            return Promoted((Item.meta(userid),))
        case Kind.SUB:
            return Promoted((Item.meta(item.args[0]),))
        case Kind.META:
            return GivenUp(item) if isinstance(error, InvalidUser) else _to_user(item)
        case _:
            return GivenUp(item)


def _only_failed(item: Item, error: ItemsFailed) -> Item:
    """A mailbox group without the mailboxes that were done."""
    failed = {name for name, _ in error.failures}
    left = tuple(name for name in item.args if name in failed)
    return item._replace(args=left) if item.kind is Kind.MAILBOXES and left else item


def _to_user(item: Item) -> Decision:
    owner = item.owner
    return Promoted((Item.user(owner.name),)) if owner.kind == "user" else GivenUp(item)


def _promote_group(item: Item) -> Decision:
    by_owner: dict[Owner, list[str]] = {}
    for name in item.args:
        by_owner.setdefault(owner_of(name), []).append(name)
    items = [Item.user(owner.name) for owner in by_owner if owner.kind == "user"]
    shared = [(owner, name) for owner, names in by_owner.items() if owner.kind != "user" for name in names]
    if items or len(item.args) > 1:
        items += [Item(Kind.MAILBOXES, owner, (name,)) for owner, name in shared]
    return Promoted(tuple(items)) if items else GivenUp(item)
