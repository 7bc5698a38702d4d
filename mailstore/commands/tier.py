"""tier: move old packs into an object store, or bring them back.

Packs to which nothing was added for s3_tier_after go to the object store that s3_tier_objects names, and are
read there from then on, in parts, as they are needed; s3_tier_cache says how much of them this machine keeps.
What is uploaded is read back before the file here is removed; whatever ends it, nothing is lost, and the
next one goes on. Packs with less than 64 KiB, and Sieve scripts, stay. Flags, folders and all else that is
known of a message are here in any case: while the object store is away, only the octets of those messages
cannot be had.

With --everybody (-A), all users and all that is shared; and then objects that no pack needs any more are
deleted, s3_keep after that was first seen. mailstore-tier.timer does it every night.

With --back the packs come back into the partitions. Take s3_tier_after out of imapd.conf before, or they go
again. Exit status 1 if something could not be done of some, 75 of all; 75 also if another one is at work."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cyrus_sync.common.errors import ConfigError, ObjectsUnavailable, StoreError, UsageError
from cyrus_sync.common.names import Owner
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import NoSuchUser
from cyrus_sync.mailstore.rounds import Rounds
from cyrus_sync.tiering.carrier import Tiered

if TYPE_CHECKING:
    from cyrus_sync.tiering.opening import Tiering


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("users", metavar="USER", nargs="*", help="or shared:NAME")
    parser.add_argument(
        "-A", "--everybody", action="store_true", help="all users, all that is shared, and needless objects"
    )
    parser.add_argument("--back", action="store_true", help="bring packs back")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    if bool(args.users) == args.everybody:
        raise UsageError("tier: name users, or say -A")
    config = context.config
    older = config.duration("s3_tier_after")
    if not older and not args.back:
        raise ConfigError(f"{config.where('s3_tier_after')}not set, so no pack is old enough")
    from cyrus_sync.tiering.opening import open_tiering

    with open_tiering(config) as tiering:
        rounds = Rounds(context)
        run = _Run(args, context, tiering, older)
        wanted: Sequence[str | Owner] = args.users or tiering.everybody()
        for typed in rounds.watched("bringing back" if args.back else "tiering", wanted):
            with rounds.one(typed):
                run.one(typed)
            if run.away:
                break
        if left := len(wanted) - run.tried:
            context.warn(f"{left} more were not tried, as the object store does not answer")
        context.print(run.text())
        if args.everybody and not args.dry_run and not run.away:
            tiering.report(run.total, run.failed, over=args.back and not run.failed)
            with rounds.naming("needless objects"):
                if deleted := tiering.forget_needless(config.duration("s3_keep")):
                    context.print(f"deleted {deleted} objects that no pack needs any more")
    return rounds.status


class _Run:
    """What was done so far."""

    def __init__(self, args: argparse.Namespace, context: StoreContext, tiering: Tiering, older: int) -> None:
        self.total = Tiered()
        self.tried = self.failed = 0
        self.away = False
        """The object store does not answer."""
        self._args = args
        self._context = context
        self._carrier = tiering.carrier
        self._older = older

    def one(self, typed: str | Owner) -> None:
        """Deal with one owner. `StoreError` (also for what was left), `MailboxLocked`, `NoSuchUser`."""
        self.tried += 1
        self.failed += 1
        dry = self._args.dry_run
        try:
            owner = self._context.owner(typed) if isinstance(typed, str) else typed
            if isinstance(typed, str) and not self._context.care(readonly=True).is_stored(owner):
                raise NoSuchUser(f"no such user: {typed}")
            if self._args.back:
                done = self._carrier.bring_back(owner, dry_run=dry)
            else:
                done = self._carrier.send(owner, self._older, dry_run=dry)
        except ObjectsUnavailable:
            self.away = True
            raise
        self.total.add(done)
        if done.left:
            raise StoreError("; ".join(done.left)).at(user=str(owner))
        self.failed -= 1

    def text(self) -> str:
        now = self.total
        verb = "would be" if self._args.dry_run else "were"
        way = "brought back" if self._args.back else "moved into the object store"
        what = f"{now.packs} packs with {now.octets} octets {verb} {way}"
        return f"{what}; {now.near} octets are here, {now.far} there"
