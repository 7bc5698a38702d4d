"""restore: write a user or mailboxes of this store into a csync server, showing first what it will do.

Shows first what it would do, and then asks; with --yes it does not ask. Where to: --to, or sync_host of the
configuration (of the channel that -n names); the login, TLS and so on are those of sync_client.

Nothing at the target is deleted, renamed, expunged or changed. A mailbox that it lacks is made as it is here:
uniqueid, UIDs, flags, modseqs, expunged messages too; under another name, or where its uniqueid lives on at
the target (below DELETED., say), as a copy with a uniqueid of its own. To a mailbox that it has, the messages
are added that are not alive there, and the annotations of the mailbox. A USER is his mailboxes, quota limits,
subscriptions, \\Seen state and scripts; of these too, only what is lacking. Running it again finds nothing to
do.

With --expunged, messages come back that were expunged here and have not expired, under new UIDs. Messages
that were moved to another mailbox are expunged in the first one, and come back there, too.

With --as-of, what is brought back is what was here at that time: mailboxes under the names that they had
then, with the flags and rights of then where they are made. What the target has is not changed, and is named
where it is not as it was: to see everything as it was, restore to another name (--as), or to an empty server.
A user or mailbox that was deleted since comes back in this way. mailstore dump --as-of shows it before.

With --from TARGET (s3:, s3:BUCKET/PREFIX or file:DIRECTORY, as in mailstore backup) the mail is that of a
backup: the newest one, or with --as-of TIME that of this time. A backup has the history of its time in it: so
a time between two backups is told by the later one, as far back as expire's retention went when it was made.
Where no history reaches, and for a time after the last backup, it is the newest backup before; what is
lacking then is said. It goes into this store: a USER who is not here, or is lost, comes back as he was, in
everything; to one who is here is added what he lacks, as said above. With --to HOST it goes to a csync
server. With --into DIR it goes into a store of its own there, to be looked at, or exported from: mailstore -C
DIR/imapd.conf. With --everybody all who are in the backup come back, into this store or DIR, but for those
who are there already. What is damaged in the backup is named, and keeps nothing else from coming back; if it
is an index, the next best backup is taken.

With --everybody, all of this store goes to the server, as after a fire: users and shared mailboxes, --jobs of
them at a time. Who fails is named, and holds up nobody; the exit status is 1 then. Done again, it goes on
where it was interrupted: who is there already is only looked at. With --dry-run it says what each one lacks.

With --source cyrus the mail is that of a real Cyrus that has this imapd.conf, and may be running.

TIME is YYYY-MM-DD, "YYYY-MM-DD HH:MM[:SS]" (local time, unless an offset such as +01:00 or Z follows), or a
duration ago: 2d, 3h."""

from __future__ import annotations

import argparse
import time

from cyrus_sync.common.counted import counted
from cyrus_sync.common.errors import (
    EX_FAILURE,
    EX_OK,
    CyrusSyncError,
    PeerError,
    ReplyError,
    StoreError,
    UsageError,
)
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.wire.client import ClientSettings
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import NoSuchUser
from cyrus_sync.mailstore.moments import moment_of
from cyrus_sync.mailstore.reactor import in_reactor
from cyrus_sync.mailstore.restoring.carry import Carrier
from cyrus_sync.mailstore.restoring.everybody import Everybody
from cyrus_sync.mailstore.restoring.plan import BoxPlan
from cyrus_sync.mailstore.restoring.show import described, described_sum, summary
from cyrus_sync.mailstore.restoring.survey import RestorePlan, TargetSurvey
from cyrus_sync.mailstore.restoring.target import ServerTarget, Target
from cyrus_sync.mailstore.restoring.wishes import Revive, UserWish, Wish, wish_for_mailbox, wish_for_user
from cyrus_sync.mailstore.rounds import Rounds
from cyrus_sync.mailstore.source import Source, add_as_of, add_source

_MOST_JOBS = 64
"""A server has places for so many connections, perhaps."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        metavar="USER|MAILBOX",
        nargs="*",
        help="one user (alice), or mailboxes (user/alice/Work)",
    )
    parser.add_argument("--to", metavar="HOST[:PORT]", help="the csync server, as sync_host has it")
    parser.add_argument("-n", dest="channel", metavar="CHANNEL", help="use the options of this channel")
    parser.add_argument("--as", dest="target", metavar="NAME", help="another user, or another mailbox")
    parser.add_argument("--expunged", action="store_true", help="bring back expunged messages as well")
    parser.add_argument("--since", metavar="TIME", help="with --expunged: those expunged at TIME or later")
    parser.add_argument("--until", metavar="TIME", help="with --expunged: those expunged at TIME or earlier")
    parser.add_argument(
        "-p",
        "--partition",
        metavar="NAME",
        default="",
        help="where new mailboxes go at the target; default: where the user's INBOX is, else as here",
    )
    backup = parser.add_argument_group("out of a backup")
    backup.add_argument(
        "--from", dest="origin", metavar="TARGET", help="the backup: s3:, s3:BUCKET/PREFIX or file:DIR"
    )
    backup.add_argument("--into", metavar="DIR", help="with --from: into a store of its own")
    parser.add_argument(
        "--everybody", action="store_true", help="all of this store to the server; with --from: of the backup"
    )
    parser.add_argument(
        "-j", "--jobs", metavar="N", type=int, default=4, help="with --everybody: owners at a time (4)"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, and end")
    parser.add_argument("--yes", action="store_true", help="do it without asking")
    add_as_of(parser)
    add_source(parser)


def run(args: argparse.Namespace, context: StoreContext) -> int:
    if args.origin:
        from cyrus_sync.mailstore.backup.restoring import restore_from

        return restore_from(args, context, restore_to)
    if args.into:
        raise UsageError("restore: --into belongs to --from")
    if args.everybody and (args.names or args.target):
        raise UsageError("restore: --everybody goes without names")
    settings = ClientSettings.from_config(context.config, args.channel, args.to, option="--to")
    if args.everybody:
        return _everybody(args, context, ServerTarget(settings))
    return restore_to(args, context, ServerTarget(settings))


def _everybody(args: argparse.Namespace, context: StoreContext, target: Target) -> int:
    """All owners to a server; the exit status."""
    if not 1 <= args.jobs <= _MOST_JOBS:
        raise UsageError(f"restore: --jobs: 1 to {_MOST_JOBS}")
    revive = _revive(args, time.time())
    store = context.as_of(args.as_of, args.source, "restore") or context.giver(args.source)
    owners = list(store.owners())
    if not (
        args.dry_run or args.yes or _asked(context, f"{counted(len(owners), 'owner')} to {target.name}. ")
    ):
        context.warn("nothing was done")
        return EX_FAILURE
    rounds = Rounds(context)

    def planned(owner: Owner, plan: RestorePlan) -> None:
        if not plan.idle and args.dry_run:
            context.print(f"{context.owner_name(owner)}: {summary(plan)}")

    async def restore(reactor: Reactor) -> int:
        run = Everybody(
            store,
            target,
            reactor,
            iter(owners),
            revive=revive,
            partition=args.partition,
            dry_run=args.dry_run,
        )
        run.planned, run.failed = planned, rounds.failed
        try:
            with context.progress("restoring", total=len(owners), unit="owners") as meter:
                run.done = lambda owner: meter.advance()
                await run.go(args.jobs)
        finally:
            context.print(f"{target.name}: {described_sum(run.tally, dry_run=args.dry_run)}")
        return EX_FAILURE if run.tally.failed else EX_OK

    return in_reactor(restore)


def restore_to(args: argparse.Namespace, context: StoreContext, target: Target) -> int:
    """Restore what the command line names to `target`; the exit status."""
    if not args.names:
        raise UsageError("restore: whom? Give USER or MAILBOX")
    revive = _revive(args, time.time())
    past = None if args.origin else context.as_of(args.as_of, args.source, "restore")
    store = past or context.giver(args.source)
    rounds = Rounds(context)
    wishes = _wishes(args, context, store, rounds)
    if not wishes:
        return rounds.status

    async def restore(reactor: Reactor) -> int:
        run = _Restore(args, context, store, target, revive, rounds=rounds, reactor=reactor)
        return await run.go(wishes)

    return in_reactor(restore) or rounds.status


# -- the command line


def _revive(args: argparse.Namespace, now: float) -> Revive | None:
    if not args.expunged:
        if args.since or args.until:
            raise UsageError("restore: --since and --until belong to --expunged")
        return None
    since = moment_of(args.since, now, option="restore: --since") if args.since else 0
    until = moment_of(args.until, now, option="restore: --until", end=True) if args.until else 2**62
    if since > until:
        raise UsageError("restore: --since is later than --until")
    return Revive(since, until)


Wishes = tuple[str, UserWish] | list[Wish]
"""A user here and what is wished of him, or single mailboxes."""


def _wishes(args: argparse.Namespace, context: StoreContext, store: Source, rounds: Rounds) -> Wishes:
    if args.target and len(args.names) > 1:
        raise UsageError("restore: --as goes with one name only")
    only = args.names[0]
    if len(args.names) == 1 and context.is_user(only):
        userid = context.user(only).name
        target = context.user(args.target).name if args.target else userid
        if target != userid:
            context.new_name(inbox_of(target))
        wish = wish_for_user(store, userid, target)
        if wish is None:
            raise NoSuchUser(f"no such user: {only}")
        return userid, wish
    for name in args.names:
        if context.is_user(name):
            raise UsageError(
                f"restore: {name}: one user at a time, or mailboxes (user/{name}, or shared:{name})"
            )
    found = []
    for name in args.names:
        with rounds.one(name), context.reading_from(store, name.removeprefix("shared:")) as (reader, state):
            target = context.new_mailbox(args.target.removeprefix("shared:")) if args.target else state.name
            found.append(wish_for_mailbox(reader, state, target))
    return found


def _asked(context: StoreContext, what: str = "") -> bool:
    """Whether the administrator says yes. Blocks."""
    if not context.stdin.isatty():
        context.warn("restore: nobody to ask at standard input; give --yes to have it done")
        return False
    print(f"{what}Do it? [y/N] ", end="", file=context.stdout, flush=True)
    return context.stdin.readline().strip().lower() in (b"y", b"yes")


# -- the work


class _Restore:
    """One run, once the reactor runs."""

    def __init__(
        self,
        args: argparse.Namespace,
        context: StoreContext,
        store: Source,
        target: Target,
        revive: Revive | None,
        *,
        rounds: Rounds,
        reactor: Reactor,
    ) -> None:
        self._args = args
        self._context = context
        self._store = store
        self._target = target
        self._revive = revive
        self._rounds = rounds
        self._reactor = reactor
        self._threads = ThreadRunner(reactor)

    async def go(self, wishes: Wishes) -> int:
        """Connect, look, show, ask, do; the exit status."""
        replica = await self._target.open(self._reactor, self._threads)
        try:
            survey = TargetSurvey(
                self._store, replica, self._threads, revive=self._revive, partition=self._args.partition
            )
            if isinstance(wishes, tuple):
                plan = await survey.plan_user(wishes[1], wishes[0])
            else:
                plan = RestorePlan([box for wish in wishes for box in await self._planned(survey, wish)])
            return await self._decide(plan, Carrier(self._store, survey, self._threads))
        finally:
            await replica.close()

    async def _planned(self, survey: TargetSurvey, wish: Wish) -> list[BoxPlan]:
        """The plan for one mailbox; none where it cannot be made, which is said."""
        try:
            return [await survey.plan_mailbox(wish)]
        except StoreError as error:
            self._rounds.failed(self._context.external(wish.state.name), error)
            return []

    async def _decide(self, plan: RestorePlan, carrier: Carrier) -> int:
        context, args = self._context, self._args
        for line in described(plan, context.external, stays=args.as_of is not None):
            context.print(line)
        status = EX_FAILURE if any(box.trouble or box.absent for box in plan.boxes) else EX_OK
        if plan.idle:
            context.print(f"nothing to do at {self._target.name}")
            return status
        context.print(f"to be done at {self._target.name}: {summary(plan)}")
        if args.dry_run:
            return status
        if not args.yes and not await self._threads.run(_asked, context):
            context.warn("nothing was done")
            return EX_FAILURE
        return await self._carry_out(plan, carrier) or status

    async def _carry_out(self, plan: RestorePlan, carrier: Carrier) -> int:
        """What the target refuses for one mailbox keeps no other from being restored."""
        failed = 0
        total = sum(box.messages if box.create else len(box.additions) for box in plan.boxes)
        with self._context.progress("restoring", total=total) as meter:
            carrier.sent = meter.advance
            for box in plan.boxes:
                meter.at(self._context.external(box.wish.target))
                try:
                    await carrier.mailbox(box)
                except CyrusSyncError as error:
                    failed += self._failed(error)
        if plan.meta is not None:
            try:
                await carrier.meta(plan.meta, plan.source)
            except CyrusSyncError as error:
                failed += self._failed(error)
        self._context.print("done" if not failed else f"{failed} failed: run it again")
        return EX_FAILURE if failed else EX_OK

    def _failed(self, error: CyrusSyncError) -> int:
        """1, if the run can go on after `error`; else raises it."""
        if isinstance(error, PeerError) and not isinstance(error, ReplyError):
            raise error
        self._context.warn(str(error))
        return 1
