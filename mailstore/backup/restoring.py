"""`restore --from`: out of a backup into this store, a csync server, or a store of its own in a directory.

Whoever is not in the store comes back as he was. All else goes the way of every restore: out of a store that
holds the backup for that moment, by the verbs of replication, adding only.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.config import Config
from cyrus_sync.common.counted import counted
from cyrus_sync.common.errors import (
    EX_FAILURE,
    EX_OK,
    NotRemembered,
    ObjectDamaged,
    ObjectMissing,
    StoreCorrupt,
    StoreError,
    UsageError,
)
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.stores import KeptStore, open_kept
from cyrus_sync.common.wire.client import ClientSettings
from cyrus_sync.mailstore.backup.fetching import bring_back, make_mini_store
from cyrus_sync.mailstore.backup.kept import Kept, folders, kept_of
from cyrus_sync.mailstore.backup.manifest import Manifest
from cyrus_sync.mailstore.backup.names import ManifestName
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import NoSuchUser
from cyrus_sync.mailstore.moments import moment_of, shown
from cyrus_sync.mailstore.restoring.target import ServerTarget, StoreTarget, Target
from cyrus_sync.mailstore.rounds import Rounds
from cyrus_sync.mailstore.source import NATIVE
from cyrus_sync.objects.opening import open_objects
from cyrus_sync.objects.store import ObjectStore

DEFAULT = "default"
"""The partition of a store of its own."""

PATIENCE = 60.0
"""Seconds for which a request is repeated."""

Carry = Callable[[argparse.Namespace, StoreContext, Target], int]
"""Restores the names of a command line, out of the store that the context reads, to a target."""


def restore_from(args: argparse.Namespace, context: StoreContext, carry: Carry) -> int:
    """Run the command; its exit status."""
    _check(args)
    moment = moment_of(args.as_of, time.time(), option="restore: --as-of", end=True) if args.as_of else None
    with contextlib.closing(open_objects(context.config, args.origin, patience=PATIENCE)) as objects:
        backup = _Backup(objects, context, moment)
        if args.into:
            return _into_directory(args, context, backup)
        if args.everybody:
            return _everybody_here(args, context, backup)
        if args.to or args.channel:
            settings = ClientSettings.from_config(context.config, args.channel, args.to, option="--to")
            return _by_verbs(args, context, backup, carry, ServerTarget(settings))
        return _here(args, context, backup, carry)


def _check(args: argparse.Namespace) -> None:
    if args.source != NATIVE:
        raise UsageError("restore: --source does not go with --from")
    if bool(args.names) == args.everybody:
        raise UsageError("restore: whom? Give USER, MAILBOX or --everybody")
    if args.into and (args.to or args.channel or args.target or args.expunged or args.dry_run):
        raise UsageError("restore: with --into everything of a user is brought back, as it was")
    if args.everybody and (args.to or args.channel or args.target or args.expunged):
        raise UsageError("restore: --everybody goes into this store, or with --into")


class _Choice(NamedTuple):
    """A backup; with `moment` (Unix seconds) turned back to that, by its history."""

    name: ManifestName
    moment: int | None = None


class _Backup:
    """An object store with backups, as of a moment."""

    def __init__(self, objects: ObjectStore, context: StoreContext, moment: int | None) -> None:
        self._objects = objects
        self._context = context
        self._moment = moment

    def of(self, owner: Owner) -> Kept:
        return kept_of(self._objects, owner)

    def folders(self) -> Iterator[str]:
        """Of everybody who is in it, for `in_folder`."""
        return folders(self._objects)

    def in_folder(self, folder: str) -> Kept:
        return Kept(self._objects, folder)

    def _choices(self, kept: Kept, name: str) -> Iterator[_Choice]:
        """What may tell of the moment, the best first: the first backup after it, by its history, or the next
        one if it is damaged; then the newest of that moment or before. `NoSuchUser`."""
        complete = kept.complete()
        if not complete:
            raise NoSuchUser(f"{self._objects.place}: {name}: there is no backup")
        if self._moment is None:
            yield from (_Choice(one) for one in reversed(complete))
            return
        moment = self._moment
        yield from (_Choice(one, moment) for one in complete if one.taken > moment)
        yield from (_Choice(one) for one in reversed(complete) if one.taken <= moment)

    def bring(
        self, kept: Kept, there: KeptStore, partition: str, *, name: str = "", dry_run: bool = False
    ) -> bool:
        """Bring an owner into a store that does not have him: as he was in the newest backup whose index can
        be read, or at the moment that is wanted. Whether nothing is wrong with it; what is, is said."""
        sound = True
        name = name or kept.folder
        unknown: NotRemembered | None = None
        choices = list(self._choices(kept, name))
        for choice in choices:
            if choice.moment is not None and unknown is not None:
                continue  # the history of a later one begins no earlier
            one = choice.name
            try:
                manifest = kept.read(one)
                name = self._context.owner_name(manifest.owner)
                if not _is_absent(there, manifest.owner):
                    raise StoreError(f"{name} is there already: nothing was changed")
                wrong = self._make(kept, manifest, there, partition, choice.moment, dry_run=dry_run)
            except (ObjectDamaged, ObjectMissing, StoreCorrupt) as error:
                if choice is choices[-1]:
                    raise
                self._context.warn(f"{name}: the backup of {shown(one.taken)} is damaged: {error.message}")
                sound = False
                continue
            except NotRemembered as error:
                unknown = error
                continue
            self._say_what_it_is(name, manifest.taken, choice.moment, unknown)
            for text in (*manifest.lacks, *wrong):
                self._context.warn(f"{name}: damaged in the backup: {text}")
            if not dry_run and (manifest.lacks or wrong):
                self._say_what_is_damaged(there, manifest.owner, name)
            return sound and not manifest.lacks and not wrong
        first = shown(kept.complete()[0].taken)
        why = f", and of it {unknown.message}" if unknown is not None else ""
        raise StoreError(
            f"{self._objects.place}: {name}: there is no backup that old: the first one is of {first}{why}"
        )

    def _say_what_it_is(
        self, name: str, taken: int, moment: int | None, unknown: NotRemembered | None
    ) -> None:
        if moment is not None:
            text = f"as of {shown(moment)}, by the history in the backup of {shown(taken)}"
            self._context.print(f"{name}: {text}")
            return
        self._context.print(f"{name}: the backup of {shown(taken)}")
        if unknown is not None and self._moment is not None and self._moment > taken:
            text = f"what was changed from then until {shown(self._moment)} is lacking"
            self._context.warn(f"{name}: {text}: of the next backup {unknown.message}")

    def _make(
        self,
        kept: Kept,
        manifest: Manifest,
        there: KeptStore,
        partition: str,
        moment: int | None,
        *,
        dry_run: bool,
    ) -> list[str]:
        if dry_run and moment is None:
            return []
        wanted = partition or (
            manifest.partition if manifest.partition in self._context.config.partitions else ""
        )
        return bring_back(kept, manifest, there.care, wanted, moment=moment, dry_run=dry_run)

    def _say_what_is_damaged(self, there: KeptStore, owner: Owner, name: str) -> None:
        """Name the messages that cannot be read, and mark them, so that another server can give them back."""
        for problem in there.care.verify(owner):
            self._context.warn(f"{name}: {problem}")


# -- whole owners


def _into_directory(args: argparse.Namespace, context: StoreContext, backup: _Backup) -> int:
    """Into a store of its own."""
    directory = Path(args.into).absolute()
    conf = make_mini_store(directory, context.config.switch("unixhierarchysep"))
    with contextlib.closing(open_kept(Config.load(conf, "mailstore"), log=False)) as kept:
        status = _bring_all(args, context, backup, kept)
    context.print(f"look at it: mailstore -C {conf} ls")
    return status


def _everybody_here(args: argparse.Namespace, context: StoreContext, backup: _Backup) -> int:
    context.check_changes()
    return _bring_all(args, context, backup, KeptStore(context.store(), context.care()))


def _bring_all(args: argparse.Namespace, context: StoreContext, backup: _Backup, kept: KeptStore) -> int:
    """Everybody who was named, or is in the backup; those who are there already are named, and left alone."""
    rounds = Rounds(context)
    brought, sound = 0, True
    partition = DEFAULT if args.into else args.partition

    def bring(folder: Kept, name: str = "") -> None:
        nonlocal brought, sound
        sound = backup.bring(folder, kept, partition, name=name, dry_run=args.dry_run) and sound
        brought += 1

    if args.everybody:
        for place in rounds.watched("restoring", backup.folders()):
            folder = backup.in_folder(place)
            with rounds.one(place):
                bring(folder)
    for name in args.names:
        with rounds.one(name):
            bring(backup.of(context.owner(name)), name)
    context.print(f"{counted(brought, 'owner')} {'would be ' if args.dry_run else ''}restored")
    return rounds.status or (EX_OK if sound else EX_FAILURE)


def _is_absent(kept: KeptStore, owner: Owner) -> bool:
    """Whether nothing of an owner is there, or he is lost and nothing is left of him."""
    try:
        return not kept.care.is_stored(owner)
    except StoreError:
        if kept.care.is_unusable(owner):
            return True
        raise


# -- by the verbs of replication


def _here(args: argparse.Namespace, context: StoreContext, backup: _Backup, carry: Carry) -> int:
    """Into this store: whole, who is not in it; else by verbs."""
    context.check_changes()
    here = KeptStore(context.store(), context.care())
    whole = not args.target and not args.expunged and all(context.is_user(name) for name in args.names)
    if whole and all(_is_absent(here, context.owner(name)) for name in args.names):
        return _bring_all(args, context, backup, here)
    status = _by_verbs(args, context, backup, carry, StoreTarget(context))
    if not args.dry_run:
        _tell(args, context)
    return status


def _owners(args: argparse.Namespace, context: StoreContext, names: list[str]) -> list[Owner]:
    """Whose the names are."""
    found = [
        context.owner(name)
        if context.is_user(name)
        else owner_of(context.internal(name.removeprefix("shared:")))
        for name in names
    ]
    return list(dict.fromkeys(found))


def _by_verbs(
    args: argparse.Namespace, context: StoreContext, backup: _Backup, carry: Carry, target: Target
) -> int:
    """Out of a store that is there for the moment."""
    with tempfile.TemporaryDirectory(prefix="restore.") as directory:
        conf = make_mini_store(Path(directory) / "backup", context.config.switch("unixhierarchysep"))
        config = Config.load(conf, "mailstore")
        with contextlib.closing(open_kept(config, log=False)) as kept:
            sound = True
            for owner in _owners(args, context, args.names):
                name = context.owner_name(owner)
                sound = backup.bring(backup.of(owner), kept, DEFAULT, name=name) and sound
        fetched = open_kept(config, readonly=True, log=False)
        context.read_instead(fetched)
        return carry(args, context, target) or (EX_OK if sound else EX_FAILURE)


def _tell(args: argparse.Namespace, context: StoreContext) -> None:
    """What came by replication's verbs is no local change to the store; to a replica of it it is one."""
    names = [args.target] if args.target else args.names
    lines: list[tuple[str, ...]] = []
    for owner in _owners(args, context, names):
        if owner.kind == "user":
            lines.append(("USER", owner.name))
            continue
        with context.store().read(owner) as reader:
            lines += [("MAILBOX", state.name) for state in reader.mailboxes()]
    context.action_log.write(lines)
