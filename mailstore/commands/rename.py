"""rename: rename a mailbox with all that is below it, or a whole user.

rename user/alice user/alicia makes the user another one, with folders, subscriptions, seen state, Sieve
scripts and quotas. A rename of several mailboxes that was interrupted can be run again. As cyradm has it,
rename user/alice user/alice --partition P is mailstore move alice P. A folder is where its user is."""

from __future__ import annotations

import argparse

from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.names import is_deleted, is_inbox, owner_of, owner_user, root_of
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import BadInput, NoSuchMailbox

_TIMEOUT = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD")
    parser.add_argument("new", metavar="NEW")
    parser.add_argument(
        "-p", "--partition", metavar="NAME", default="", help="OLD and NEW are one: where all of it goes"
    )
    parser.add_argument("--only", action="store_true", help="not what is below it")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    old = context.internal(args.old)
    new = old if context.internal(args.new) == old else context.new_mailbox(args.new)
    if old == new:
        return _move(old, args, context)
    if args.partition:
        raise UsageError("rename: what goes to another partition keeps its name for that")
    if is_inbox(old) != is_inbox(new):
        raise UsageError("rename: a user can only become a user, a folder only a folder")
    elif new.startswith(old + "."):
        raise UsageError("rename: a mailbox cannot go below itself")
    elif is_inbox(old):
        return _rename_user(old, new, args, context)
    names = _names(old, args, context)
    pairs = [(name, new + name[len(old) :]) for name in names]
    _check_free([target for _, target in pairs], context)
    for source, target in pairs:
        context.store().rename(source, target, log=True, timeout=_TIMEOUT)
    return 0


def _move(name: str, args: argparse.Namespace, context: StoreContext) -> int:
    """`mailstore move` as cyradm spells it."""
    if not args.partition:
        raise UsageError(f"rename: {args.old} has that name already")
    owner = owner_of(name)
    if name != root_of(owner) or args.only:
        whole = context.owner_name(owner)
        raise UsageError(f"rename: {args.old} is where all of {whole} is: mailstore move {whole} moves that")
    with context.reading(args.old):  # NoSuchMailbox in the administrator's words
        pass
    if not context.care().move(owner, args.partition, lambda octets: None):
        raise BadInput(f"{args.old} is on partition {args.partition} already")
    return 0


def _rename_user(old: str, new: str, args: argparse.Namespace, context: StoreContext) -> int:
    if args.only:
        raise UsageError("rename: a user is renamed as a whole")
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
