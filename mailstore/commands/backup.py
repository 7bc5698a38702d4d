"""backup: copy users into an object store (S3, or a directory), what is new of them, checked.

TARGET is s3: (the s3_bucket of imapd.conf), s3:BUCKET/PREFIX or file:DIRECTORY. Of each user only what has
changed since the last backup is sent: what is new in his packs, and his index, as they are at one moment,
while mail goes on arriving. Each object is read back and its SHA-256 compared. The manifest, which makes it a
backup, is put last: if this is killed, all older backups are as they were, and the next run goes on where
this one was. It changes nothing in the store, takes no locks, and runs on a replica as well. A TARGET that
had backups of this store and has none any more is refused: a disk that is not mounted looks like that.

Who fails is named, all others are backed up, and the exit status is 1. So it is where a message could not be
read (mailstore verify says which): the rest of the user is backed up.

mailstore restore --from TARGET brings it back, mailstore verify TARGET reads all of it, mailstore prune
TARGET removes what is too old. docs/backup-format.md says how to read it without any of these.

With --list the backups of each USER (or of everybody) are shown, and nothing is copied."""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from cyrus_sync.common.counted import counted
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, ObjectsUnavailable, StoreError, UsageError
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.mailstore.backup.checking import Checked, check
from cyrus_sync.mailstore.backup.crowd import all_of
from cyrus_sync.mailstore.backup.fetching import scratch_of
from cyrus_sync.mailstore.backup.figures import write_backups
from cyrus_sync.mailstore.backup.kept import Kept, folders, kept_of, owner_in
from cyrus_sync.mailstore.backup.places import place_of
from cyrus_sync.mailstore.backup.sending import Sender
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import NoSuchUser
from cyrus_sync.mailstore.moments import shown
from cyrus_sync.mailstore.rounds import Rounds
from cyrus_sync.objects.opening import open_objects
from cyrus_sync.objects.store import ObjectStore

PATIENCE = 60.0
"""Seconds for which a request is repeated: nobody waits for a backup."""

_CHECKED_AT_ONCE = 4

_MOST_AWAY = 3
"""So often, times the users at once, may the object store be away in a row: each try takes `PATIENCE`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="TARGET", help="where: s3:, s3:BUCKET/PREFIX or file:DIRECTORY")
    parser.add_argument("users", metavar="USER", nargs="*", help="or shared:NAME")
    parser.add_argument("--everybody", action="store_true", help="all users and shared mailboxes")
    parser.add_argument("--jobs", metavar="N", type=int, default=8, help="users at once (8)")
    parser.add_argument("--list", action="store_true", help="show which backups there are")
    parser.add_argument("-v", dest="verbose", action="store_true", help="name each user that has changed")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    if args.jobs < 1:
        raise UsageError("backup: --jobs: at least 1")
    if bool(args.users) == args.everybody and not (args.list and not args.users):
        raise UsageError("backup: whom? Give USER or --everybody")
    objects = open_objects(context.config, args.target, patience=PATIENCE)
    try:
        if args.list:
            return _list(args, context, objects)
        return _backup(args, context, objects)
    finally:
        objects.close()


def _backup(args: argparse.Namespace, context: StoreContext, objects: ObjectStore) -> int:
    care = context.care(readonly=True)
    care.check()
    began = time.time()
    place = place_of(context.config.configdirectory, objects)
    place.check(objects)
    objects.now()  # Says at once, and once, if the store cannot be had.
    rounds = Rounds(context)
    owners: Iterable[Owner]
    if args.everybody:  # those who are lost, too, so that they are named
        owners = everybody = [*care.everybody(), *[SERVER] * care.is_stored(SERVER)]
        total = len(everybody)
    else:
        owners, total = rounds.owners(args.users, context.store(readonly=True)), len(args.users)
    with context.progress("backing up", total=total, unit="owners") as meter:
        sender = Sender(care, objects, scratch_of(care), context.config.servername)
        changed = unchanged = octets = away = 0
        lacking = False
        for owner, sent, error in all_of(owners, sender.send, args.jobs):
            meter.at(context.owner_name(owner))
            meter.advance()
            if sent is None:
                assert error is not None
                rounds.failed(owner, error)
                away = away + 1 if isinstance(error, ObjectsUnavailable) else 0
                if away > _MOST_AWAY * args.jobs:
                    raise ObjectsUnavailable(
                        f"{objects.place} has been away for {away} owners, so nobody else was tried"
                    )
                continue
            away = 0
            rounds.done()
            changed += sent.changed
            unchanged += not sent.changed
            octets += sent.octets
            for text in sent.lacks:
                lacking = True
                context.warn(f"{context.owner_name(owner)}: not in the backup: {text}")
            if args.verbose and sent.changed:
                context.print(f"{context.owner_name(owner)}: {sent.octets:,} octets")
    context.print(
        f"{counted(changed, 'owner')} backed up to {objects.place}, {unchanged} had not changed;"
        f" {octets:,} octets sent"
    )
    status = rounds.status or (EX_FAILURE if lacking else EX_OK)
    if changed or unchanged:
        try:
            place.backed_up(began, everybody=args.everybody and status == EX_OK)
        except OSError as error:
            context.warn(f"{place.path}: {error.strerror}; the next backup will not know of this one")
        else:
            _tell(context)
    return status


def _tell(context: StoreContext) -> None:
    """Prometheus. The backup is there, whatever becomes of that."""
    try:
        write_backups(context.config)
    except OSError as error:
        context.warn(f"sync_metrics_file: cannot write {error.filename}: {error.strerror}")


# -- looking


def kept_owners(
    typed: list[str], context: StoreContext, objects: ObjectStore, rounds: Rounds
) -> Iterator[Kept]:
    """What the object store has of those who were named, or of everybody. A name that it does not have counts
    as failed."""
    if not typed:
        for folder in folders(objects):
            yield Kept(objects, folder)
    for name in typed:
        kept = None
        with rounds.naming(name):
            kept = kept_of(objects, context.owner(name))
            if not kept.there:
                kept = None
                raise NoSuchUser(f"{objects.place} has nothing of {name}")
        if kept is not None:
            yield kept


def name_of(kept: Kept, context: StoreContext) -> str:
    """Who it is, as one types it; the folder where that cannot be read."""
    owner = owner_in(kept)
    return kept.folder if owner is None else context.owner_name(owner)


def _list(args: argparse.Namespace, context: StoreContext, objects: ObjectStore) -> int:
    rounds = Rounds(context)
    for kept in kept_owners(args.users, context, objects, rounds):
        with rounds.one(kept.folder):
            name = name_of(kept, context)
            complete = kept.complete()
            size = sum(there.size for there in kept.there.values())
            context.print(f"{name}: {len(complete)} backups, {len(kept.there)} objects, {size:,} octets")
            for one in complete if args.users else complete[-1:]:
                context.print(f"  {shown(one.taken)}")
            if not complete:
                raise StoreError("there is no complete backup")
    return rounds.status


# -- checking, for `verify`


def verify_backups(target: str, users: list[str], context: StoreContext, *, quick: bool) -> int:
    """Check the backups of everybody, or of those who are named, and print what is wrong."""
    objects = open_objects(context.config, target, patience=PATIENCE)
    rounds = Rounds(context)
    problems = damaged = owners = backups = octets = messages = 0

    def look(kept: Kept) -> tuple[str, Checked]:
        with tempfile.TemporaryDirectory(prefix="verify.") as scratch:
            return name_of(kept, context), check(kept, Path(scratch), quick=quick)

    with contextlib.closing(objects), context.progress("checking", unit="owners") as meter:
        for kept, found, error in all_of(
            kept_owners(users, context, objects, rounds), look, _CHECKED_AT_ONCE
        ):
            meter.advance()
            if found is None:
                assert error is not None
                rounds.failed(kept.folder, error)
                continue
            rounds.done()
            name, checked = found
            owners += 1
            problems += len(checked.problems)
            damaged += checked.damaged
            backups += checked.backups
            octets += checked.octets
            messages += checked.messages
            for text in checked.problems:
                context.print(f"{name}: {text}")
    verdict = counted(problems, "problem") if problems else "nothing wrong"
    if damaged:
        context.warn(f"mailstore backup {target} puts anew what the store here still has")
    read = "" if quick else f", {messages} messages, {octets:,} octets read"
    context.print(f"{counted(owners, 'owner')}, {counted(backups, 'backup')}{read}: {verdict}")
    return rounds.status or (EX_FAILURE if problems else EX_OK)
