"""rename: rename a mailbox with all that is below it, or a whole user; or move it to another partition.

rename user/alice user/alicia makes the user another one, with folders, subscriptions, seen state, Sieve
scripts and quotas. rename X X --partition P moves X and what is below it to the partition P. A rename of
several mailboxes that was interrupted can be run again."""

from __future__ import annotations

import argparse

from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.names import is_deleted, is_inbox, owner_of, owner_user
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import BadInput, NoSuchMailbox

_TIMEOUT = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("new", metavar="NEW")
    parser.add_argument("-p", "--partition", metavar="NAME", default="", help="and move to this partition")
    parser.add_argument("--only", action="store_true", help="not what is below it")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    old = context.internal(args.old)
    new = old if context.internal(args.new) == old else context.new_mailbox(args.new)
    if old == new:
        if not args.partition:
            raise UsageError(f"rename: {args.old} has that name already")
    elif is_inbox(old) != is_inbox(new):
        raise UsageError("rename: a user can only become a user, a folder only a folder")
    elif new.startswith(old + "."):
        raise UsageError("rename: a mailbox cannot go below itself")
    elif is_inbox(old):
        return _rename_user(old, new, args, context)
    names = _names(old, args, context)
    pairs = [(name, new + name[len(old) :]) for name in names]
    if old != new:
        _check_free([target for _, target in pairs], context)
    for source, target in pairs:
        context.store().rename(source, target, partition=args.partition, log=True, timeout=_TIMEOUT)
    return 0


def _rename_user(old: str, new: str, args: argparse.Namespace, context: StoreContext) -> int:
    if args.partition or args.only:
        raise UsageError("rename: a user is renamed as a whole, and moved in a second step")
    with context.reading(args.old):  # NoSuchMailbox in the administrator's words
        pass
    context.care().rename_user(owner_user(old), owner_user(new))
    return 0


def _names(old: str, args: argparse.Namespace, context: StoreContext) -> list[str]:
    with context.store(readonly=True).read(owner_of(old)) as reader:
        there = [m.name for m in reader.mailboxes() if not m.intermediate and not m.tombstone]
    wanted = [name for name in there if name == old or (name.startswith(old + ".") and not args.only)]
    if is_deleted(old):
        wanted = [name for name in wanted if name == old]
    if not wanted:
        raise NoSuchMailbox(f"no such mailbox: {args.old}")
    return wanted


def _check_free(names: list[str], context: StoreContext) -> None:
    """Nothing is renamed if one of the new names is taken."""
    with context.store(readonly=True).read(owner_of(names[0])) as reader:
        for name in names:
            there = reader.mailbox(name)
            if there is not None and not there.intermediate:
                raise BadInput(f"there is a mailbox {context.external(name)} already")
