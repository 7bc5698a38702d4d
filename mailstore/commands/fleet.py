"""fleet: look after a store of many machines: what is in it, settling it, moving users in and out.

status tells what is in PostgreSQL and in this machine's cache, and how often the cache had what was wanted.
settle brings into the object store what has gathered in PostgreSQL, of those who have enough of it or have
had some for a day (with --everybody: of all), and keeps this machine's cache within store_cache_size; run it
every few minutes, on one machine or on all. move-in brings users out of the partitions of this machine
into the fleet, move-out back, while they are in use: it needs store: moving, and docs/fleet.md says what to
change where, and when. The first time it tells the fleet who is on this machine; without users that is all
it does. rebalance spreads users over all servers that store_journal
names, but for those that are to be drained, or were, while mail is served. One that was cut off is gone on
with by the same command; several at once do no harm; status says how far it is."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cyrus_sync.common.errors import EX_TEMPFAIL, ConfigError, CyrusSyncError, UsageError
from cyrus_sync.common.extras import lacking
from cyrus_sync.common.names import Owner
from cyrus_sync.mailstore.context import LOCK_SECONDS, StoreContext
from cyrus_sync.mailstore.rounds import Rounds

if TYPE_CHECKING:
    from cyrus_sync.fleet.opening import Moves, Opened

ACTIONS = ("status", "settle", "rebalance", "move-in", "move-out")

_ROUNDS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", metavar="ACTION", choices=ACTIONS, help="status, settle, rebalance, move-in or move-out"
    )
    parser.add_argument("users", metavar="USER", nargs="*", help="or shared:NAME; for settle and the moves")
    parser.add_argument("--everybody", action="store_true", help="all users, and all that is shared")
    parser.add_argument(
        "--drain", metavar="SERVER", action="append", default=[],
        help="for rebalance: a server that is to have nobody any more, as status names it, or its id",
    )  # fmt: skip
    parser.add_argument(
        "--add", metavar="SERVER", action="append", default=[],
        help="for rebalance: a server that was drained, and is to have users again",
    )  # fmt: skip
    parser.add_argument("--format", choices=("text", "json"), default="text", help="of status")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    try:
        from cyrus_sync.fleet.opening import open_fleet
    except ImportError as error:
        raise ConfigError(f"fleet {lacking('fleet', 'psycopg')}") from error

    with open_fleet(context.config) as fleet:
        return _ACTIONS[args.action](args, context, fleet)


def _status(args: argparse.Namespace, context: StoreContext, fleet: Opened) -> int:
    if args.users or args.everybody:
        raise UsageError("fleet status: it is of the whole fleet")
    found = fleet.status()
    if args.format == "json":
        context.print(json.dumps(found))
        return 0
    for server in found["servers"]:
        context.print(f"{server['name']}: " + _figures(server))
    for server in found["apart"]:
        how = f"--add {server['id']} takes it in again" if server["drained"] else "takes it in"
        context.print(f"{server['name']}: has nobody; mailstore fleet rebalance {how}")
    if found["rebalance"]:
        onto, left = ", ".join(found["rebalance"]["onto"]), found["rebalance"]["users_to_move"]
        context.print(f"rebalance onto {onto}: {left} users have to move")
    for machine, count in found["machines"].items():
        context.print(f"{machine}: {count} users are in its partitions")
    cache = found["cache"]
    context.print("cache of this machine: " + _figures({word: cache[word] for word in _SIZES}))
    if cache["counted_since"]:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(cache["counted_since"]))
        for what, sums in (
            ("users asked for", cache["asked_for"]),
            ("reads of messages", cache["messages_read"]),
        ):
            context.print(f"{what} since {since}: {_rates(sums)}")
    return 0


_SIZES = ("users", "octets", "of_at_most")


def _rates(sums: Mapping[str, Any]) -> str:
    """How often the cache had what was wanted."""
    rate = "none" if sums["hit_rate"] is None else f"{sums['hit_rate']:.1%} hits"
    counts = ", ".join(f"{word} {sums[word]}" for word in sums if word not in ("hit_rate", "octets"))
    return f"{rate} ({counts})"


def _figures(found: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in found.items() if name != "name")


def _settle(args: argparse.Namespace, context: StoreContext, fleet: Opened) -> int:
    rounds = Rounds(context)
    wanted: Sequence[str | Owner] = args.users or fleet.settler.due(everybody=args.everybody)
    rows = octets = 0
    for typed in rounds.watched("settling", wanted):
        with rounds.one(typed):
            owner = context.owner(typed) if isinstance(typed, str) else typed
            done = fleet.settler.settle(owner)
            rows += done.rows if done is not None else 0
            octets += done.octets if done is not None else 0
    gone = fleet.settler.empty_gone()
    fleet.rebalance.forget()
    trimmed, freed = fleet.trim()
    context.print(
        f"settled {rows} commits with {octets} octets of messages, emptied {gone} places of who is no more;"
        f" {trimmed} users with {freed} octets went out of this machine's cache"
    )
    return rounds.status


def _rebalance(args: argparse.Namespace, context: StoreContext, fleet: Opened) -> int:
    if args.users or args.everybody:
        raise UsageError("fleet rebalance: it is of the whole fleet")
    rebalance, rounds, moved = fleet.rebalance, Rounds(context), 0
    layout = rebalance.begin(args.drain, args.add)
    if not layout.moving:
        context.print("everybody is where he is to be")
        return 0
    rebalance.mend(layout)
    ended = False
    for _ in range(_ROUNDS):
        places = list(rebalance.misplaced(layout))
        outcomes = rebalance.move_all(layout, places)
        for owner in rounds.watched("moving", [owner for _, owner in places]):
            with rounds.one(owner):
                outcome = next(outcomes)
                if isinstance(outcome, CyrusSyncError):
                    raise outcome
                moved += outcome
        ended = not rounds.status and rebalance.end(layout)
        if rounds.status or ended:
            break
    context.print(f"moved {moved} users; " + ("everybody is where he is to be" if ended else "not ended"))
    return rounds.status or (0 if ended else EX_TEMPFAIL)


def _move(args: argparse.Namespace, context: StoreContext, fleet: Opened) -> int:
    from cyrus_sync.fleet.errors import Torn

    inwards = args.action == "move-in"
    if args.users and args.everybody:
        raise UsageError(f"fleet {args.action}: name users, or say --everybody")
    context.check_changes()
    moves = fleet.moves
    if moves is None:
        raise ConfigError(f"{context.config.where('store')}has to be moving for this (docs/fleet.md)")
    if registered := moves.register():
        context.print(f"the fleet knows of {registered} users of this machine")
    if inwards and moves.leaves_server():
        context.print("the fleet has annotations of the server: those of this machine stay behind")
    rounds = Rounds(context)
    owners = moves.everybody(inwards=inwards) if args.everybody else []
    for typed in args.users:
        with rounds.naming(typed):
            owners.append(context.owner(typed))
    outcomes, moved = moves.move(owners, LOCK_SECONDS, inwards=inwards), 0
    for owner in rounds.watched("moving", owners):
        with rounds.one(owner):
            outcome = next(outcomes)
            if isinstance(outcome, CyrusSyncError):
                if isinstance(outcome, Torn):
                    moved += 1
                    rounds.done()
                raise outcome
            moved += outcome is not None
            if args.users:
                there = "in the fleet" if inwards else "on this machine"
                context.print(f"{context.owner_name(owner)}: {outcome or f'is {there} already'}")
    if owners:
        context.print(f"moved {moved} of {len(owners)}")
    if args.everybody and not rounds.status:
        _say_end(context, moves, inwards=inwards)
    return rounds.status


def _say_end(context: StoreContext, moves: Moves, *, inwards: bool) -> None:
    """What imapd.conf may say now."""
    if inwards and not moves.everybody(inwards=True):
        context.print("nobody is on this machine any more: store: fleet will do")
    elif not inwards and moves.end():
        context.print("nobody is in the fleet any more: store: local will do")


_ACTIONS: dict[str, Callable[[argparse.Namespace, StoreContext, Opened], int]] = {
    "status": _status,
    "settle": _settle,
    "rebalance": _rebalance,
    "move-in": _move,
    "move-out": _move,
}
