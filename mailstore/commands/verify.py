"""verify: check the whole store, or some users, and name what is wrong.

Every message is read and its SHA-1 compared with its GUID; CRCs, quota use and counters are calculated
anew; the index, the packs and the registry of mailboxes are checked. Who should be here and is not (the
registry names him, and nothing of him is on any partition) is named, and so is a partition that is not
mounted. Lines of the action log that an earlier change could not write are named too; the start of a
rolling sync_client writes them. Nothing is changed; mailstore repair mends sums and registry, mailstore
reconstruct an index. Exit status 1 if something is wrong.

Messages that are in an object store (mailstore tier) are fetched and read like all others. With --no-far they
are left out, and it is said how many octets that are. A pack that cannot be had now is a problem of the kind
"unavailable": nothing in it is taken for damaged.

With --background the store is scrubbed: everything the same, but at a rate, and whatever ends it (a signal, a
power failure), the next one goes on where it was. A message that is damaged is fetched on the way from the
other end of the replication (--server, or sync_host), as repair --from-peer does. It stays in the foreground,
reads one owner after the other, and ends when it has been through, so that cron or a timer of systemd starts
it; one at a time. How far it is, and what the last one found, is in <configdirectory>/verify.json: "now" and
"last", each with begun, updated and ended (Unix seconds), owners (of how many), messages, octets, problems,
damaged (messages), healed, failed (owners), and whether it is running. Exit status 75 if it was stopped, 1 if
something is wrong that was not healed.

With a TARGET (s3:, s3:BUCKET/PREFIX or file:DIRECTORY, as in mailstore backup) the backups there are checked,
of everybody or of each USER: that all objects are there and have the SHA-256 that their manifest says, that
the index of the newest backup is sound, and that each message in it is what its GUID says. --quick only looks
whether every object is there with its size. What is damaged or missing is noted there, and the next mailstore
backup puts anew what the store still has.

With --source cyrus the mailboxes of a real Cyrus are checked, while it runs: the checksums of each index
and of its records, the sync CRCs that Cyrus keeps, each message's SHA-1. Cyrus's own reconstruct mends what
is wrong."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from cyrus_sync.common.counted import counted
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, CyrusSyncError, UsageError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import Problem
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.rounds import Rounds
from cyrus_sync.mailstore.selection import records_of
from cyrus_sync.mailstore.source import CYRUS, NATIVE, add_source
from cyrus_sync.objects.opening import is_target

_GUID = re.compile(r"\b[0-9a-f]{40}\b")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "users",
        metavar="[TARGET] USER",
        nargs="*",
        help="or shared:NAME; default: the whole store, or everybody at TARGET",
    )
    parser.add_argument("--quick", action="store_true", help="with TARGET: read no objects")
    parser.add_argument(
        "--no-progress",
        action="store_true",
        help="no progress line",
    )
    parser.add_argument("--no-far", action="store_true", help="leave out messages in an object store")
    background = parser.add_argument_group("scrubbing")
    background.add_argument("--background", action="store_true", help="at a rate, going on where it was")
    background.add_argument("--rate", metavar="SIZE", help="octets a second (5M)")
    background.add_argument("--anew", action="store_true", help="begin at the beginning")
    background.add_argument("--no-heal", action="store_true", help="do not ask the other end for messages")
    background.add_argument("--server", metavar="HOST[:PORT]", help="the other end, instead of sync_host")
    background.add_argument("-n", dest="channel", metavar="CHANNEL", help="use the options of this channel")
    add_source(parser)


def run(args: argparse.Namespace, context: StoreContext) -> int:
    if args.users and is_target(args.users[0]):
        return _backups(args, context)
    if args.quick:
        raise UsageError("verify: --quick is for a TARGET, such as s3:")
    if args.no_far and args.source != NATIVE:
        raise UsageError("verify: --no-far is of our own store")
    if args.background:
        if args.users:
            raise UsageError("verify: --background is for the whole store")
        from cyrus_sync.mailstore.scrubbing import run_scrub

        return run_scrub(args, context, lambda owner, problem: _told(args.source, owner, problem, context))
    _refuse_scrubbing(args)
    source = context.source(args.source)
    rounds = Rounds(context)
    problems = owners = far = 0
    if not args.users and args.source == NATIVE:
        for problem in context.care(readonly=True).problems():
            problems += 1
            context.print(str(problem))
    for owner in rounds.watched("checking", rounds.owners(args.users, source), silent=args.no_progress):
        owners += 1
        with rounds.one(owner):
            far += _far_octets(owner, context) if args.no_far else 0
            for text in _problems(args, owner, context):
                problems += 1
                context.print(f"{context.owner_name(owner)}: {text}")
    verdict = counted(problems, "problem") if problems else "nothing wrong"
    if owners or not args.users:
        context.print(f"{counted(owners, 'owner')} checked: {verdict}")
    if far:
        context.print(f"{far} octets in the object store were left out (--no-far)")
    return rounds.status or (EX_FAILURE if problems else EX_OK)


def _refuse_scrubbing(args: argparse.Namespace) -> None:
    for option in ("rate", "anew", "no_heal", "server", "channel"):
        if getattr(args, option):
            name = "-n" if option == "channel" else f"--{option.replace('_', '-')}"
            raise UsageError(f"verify: {name} belongs to --background")


def _backups(args: argparse.Namespace, context: StoreContext) -> int:
    """What is wrong with the backups at a target."""
    from cyrus_sync.mailstore.commands.backup import verify_backups

    if args.background or args.no_far or args.source != NATIVE:
        raise UsageError("verify: neither --background, --no-far nor --source goes with a TARGET")
    _refuse_scrubbing(args)
    return verify_backups(args.users[0], args.users[1:], context, quick=args.quick)


def _far_octets(owner: Owner, context: StoreContext) -> int:
    stats = context.care(readonly=True).stats(owner)
    return max(stats.far_bytes, 0) if stats is not None else 0


def _problems(args: argparse.Namespace, owner: Owner, context: StoreContext) -> Iterator[str]:
    """What is wrong with an owner, a line each."""
    source = args.source
    if source == CYRUS:
        yield from map(str, context.spool.problems(owner))
        return
    for problem in context.care(readonly=True).verify(owner, far=not args.no_far):
        yield _described(source, owner, problem, context)


def _described(source: str, owner: Owner, problem: Problem, context: StoreContext) -> str:
    if source == CYRUS:
        return str(problem)
    return f"{problem}{_holders(context.store(readonly=True), owner, problem, context)}"


def _told(source: str, owner: Owner, problem: Problem, context: StoreContext) -> None:
    context.print(f"{context.owner_name(owner)}: {_described(source, owner, problem, context)}")


def _holders(store: MailStore, owner: Owner, problem: Problem, context: StoreContext) -> str:
    """Where a message that is damaged stands, as an administrator knows it."""
    guid = _GUID.search(problem.text)
    if problem.kind != "message" or not guid or not problem.where.startswith("pack-"):
        return ""
    wanted = bytes.fromhex(guid[0])
    places = []
    try:
        with store.read(owner) as reader:
            for mailbox in reader.mailboxes():
                for batch in records_of(reader, mailbox, expunged=None):
                    places += [
                        f"{context.external(mailbox.name)} uid {record.uid}"
                        for record in batch
                        if record.guid == wanted
                    ]
    except CyrusSyncError:
        return ""
    return f" ({', '.join(places)})" if places else " (no mailbox holds it)"
