"""move: bring users to another partition, while they are in use.

A user is on one partition with everything: mailboxes, deleted ones too, and what can still be brought back.
Mail is copied first, with nobody kept waiting; for the last of it the user is held, and whoever writes then
waits for that moment (or is told to try again: IMAP_MAILBOX_LOCKED). Killed at any moment, the user is whole
where he was or where he goes; the same command again ends it, and expire removes what is left over. The new
partition needs room for all of the user; where both are on one disk messages are not copied, and only the
index needs room. A replica is told, as cyradm's rename of a user to another partition tells it: it needs a
partition of that name, and brings its copy there too, unless its sync_client has -p. A folder cannot be on
another partition than its user."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from cyrus_sync.common.config import values
from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.pace import Pace
from cyrus_sync.common.progress import Meter, amount
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.errors import BadInput, NoSuchUser
from cyrus_sync.mailstore.rounds import Rounds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("users", metavar="USER", nargs="*", help="or shared:NAME")
    parser.add_argument("partition", metavar="PARTITION", help="where they go")
    parser.add_argument("--from", dest="left", metavar="NAME", help="everybody who is on this partition")
    parser.add_argument("--rate", metavar="SIZE", help="octets a second (20M); default: as fast as it goes")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    if bool(args.users) == bool(args.left):
        raise UsageError("move: name users, or say --from which partition everybody is to go")
    rate = _rate(args.rate)
    context.check_changes()
    care, rounds = context.care(), Rounds(context)
    wanted = _named(args.users, context, rounds) if args.users else _inhabitants(args.left, context, rounds)
    for owner in wanted:
        with rounds.one(owner):
            stats = care.stats(owner)
            octets = stats.pack_bytes + stats.index_bytes if stats is not None else 0
            begun = time.monotonic()
            with context.progress("moving", total=octets, unit="octets") as meter:
                meter.at(context.owner_name(owner))
                moved = care.move(owner, args.partition, _told(meter, rate))
                if moved is None:
                    raise BadInput(f"is on partition {args.partition} already")
            seconds = time.monotonic() - begun
            speed = moved.copied / max(seconds, 0.001) / 1e6
            what = f"{amount(moved.copied, 'octets')} in {seconds:.1f} s ({speed:.1f} MB/s)"
            if moved.linked:
                what += f", and {amount(moved.linked, 'octets')} without a copy: it is the same disk"
            context.print(f"{context.owner_name(owner)}: on {args.partition} now, {what}")
    return rounds.status


def _named(typed: list[str], context: StoreContext, rounds: Rounds) -> list[Owner]:
    owners = []
    for name in typed:
        with rounds.naming(name):
            owner = context.owner(name)
            if not context.care().is_stored(owner):
                raise NoSuchUser(f"no such user: {name}")
            owners.append(owner)
    return owners


def _inhabitants(partition: str, context: StoreContext, rounds: Rounds) -> list[Owner]:
    """Everybody whose files are on a partition."""
    if partition not in context.config.partitions:
        raise UsageError(f"move: --from: there is no partition {partition}")
    care, owners = context.care(), []
    for owner in care.everybody():
        with rounds.naming(owner):
            if care.partition_of(owner) == partition:
                owners.append(owner)
    return owners


def _told(meter: Meter, rate: int) -> Callable[[int], None]:
    pace = Pace(rate, time.monotonic)

    def told(octets: int) -> None:
        meter.advance(octets)
        if wait := pace.take(octets):
            time.sleep(wait)

    return told


def _rate(text: str | None) -> int:
    """Octets a second, 0 for as many as there are."""
    try:
        rate = 0 if text is None else values.size(text)
    except ValueError as error:
        raise UsageError(f"move: --rate: {error}") from None
    if rate < 0 or (text is not None and not rate):
        raise UsageError(f"move: --rate: '{text}' is not above 0")
    return rate
