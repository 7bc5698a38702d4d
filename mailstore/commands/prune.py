"""prune: remove from an object store what of the backups there is too old.

TARGET is as in mailstore backup. Each user keeps his backups of the last --keep, and the newest one before
that, so that every moment of that time can be restored; and his newest one, however old it is. Objects go
that no backup that is kept needs. A backup may run at the same time: what was needed, or put there, within
the last day stays.

Users who are not in this store any more keep their last backup. --forget removes everything of the users that
are named."""

from __future__ import annotations

import argparse
import time

from cyrus_sync.common.config import values
from cyrus_sync.common.errors import EX_FAILURE, UsageError
from cyrus_sync.mailstore.backup.kept import Kept, folders
from cyrus_sync.mailstore.backup.pruning import needless, remove
from cyrus_sync.mailstore.commands.backup import PATIENCE, kept_owners, name_of
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.rounds import Rounds
from cyrus_sync.objects.opening import open_objects
from cyrus_sync.objects.store import ObjectStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="where: s3:, s3:BUCKET/PREFIX or file:DIRECTORY")
    parser.add_argument("users", metavar="USER", nargs="*", help="or shared:NAME; default: everybody there")
    parser.add_argument("--keep", metavar="DURATION", help="instead of s3_keep: 30d, 12h")
    parser.add_argument("--forget", action="store_true", help="remove all that there is of each USER")
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and end")
    parser.add_argument("--yes", action="store_true", help="with --forget: do it without asking")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    keep = _keep(args, context)
    objects = open_objects(context.config, args.target, patience=PATIENCE)
    try:
        if args.forget:
            return _forget(args, context, objects)
        return _prune(args, context, objects, int(time.time()) - keep)
    finally:
        objects.close()


def _keep(args: argparse.Namespace, context: StoreContext) -> int:
    if args.forget:
        if args.keep or not args.users:
            raise UsageError("prune: --forget takes USER, and no --keep")
        return 0
    if args.yes:
        raise UsageError("prune: --yes belongs to --forget")
    if args.keep is None:
        return context.config.duration("s3_keep")
    try:
        keep = values.duration(args.keep, "d")
    except ValueError as error:
        raise UsageError(f"prune: --keep: {error}") from None
    if keep < 0:
        raise UsageError("prune: --keep: not less than nothing")
    return keep


def _prune(args: argparse.Namespace, context: StoreContext, objects: ObjectStore, before: int) -> int:
    rounds = Rounds(context)
    now = objects.now()
    backups = removed = octets = 0
    for name in rounds.watched("pruning", args.users or folders(objects)):
        for kept in kept_owners([name], context, objects, rounds) if args.users else [Kept(objects, name)]:
            with rounds.one(kept.folder):
                found = needless(kept, before=before, now=now)
                if not args.dry_run:
                    remove(kept, found)
                backups += len(found.manifests)
                removed += len(found.objects)
                octets += found.octets
    would = "would be " if args.dry_run else ""
    context.print(f"{backups} backups and {removed} objects {would}removed: {octets:,} octets")
    return rounds.status


def _forget(args: argparse.Namespace, context: StoreContext, objects: ObjectStore) -> int:
    rounds = Rounds(context)
    found = list(kept_owners(args.users, context, objects, rounds))
    for kept in found:
        octets = sum(there.size for there in kept.there.values())
        context.print(f"{name_of(kept, context)}: {len(kept.complete())} backups, {octets:,} octets")
    if args.dry_run or not found:
        return rounds.status
    if not args.yes and not _asked(context):
        context.warn("nothing was removed")
        return EX_FAILURE
    for kept in found:
        with rounds.one(kept.folder):
            _remove_all(kept)
    return rounds.status


def _remove_all(kept: Kept) -> None:
    """Manifests first, so that nothing looks whole that is not."""
    keys = sorted(kept.there, key=lambda key: not key.startswith("manifests/"))
    kept.objects.delete(f"{kept.folder}/{key}" for key in keys)


def _asked(context: StoreContext) -> bool:
    if not context.stdin.isatty():
        context.warn("prune: nobody to ask at standard input; give --yes to have it done")
        return False
    print("Remove all of it? [y/N] ", end="", file=context.stdout, flush=True)
    return context.stdin.readline().strip().lower() in (b"y", b"yes")
