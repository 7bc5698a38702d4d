"""repair: make sums and the registry of mailboxes anew, where mailstore verify found them wrong.

CRCs and the sums for quotas are calculated from the records, which are taken as the truth; the registry
(which user holds which mailbox) from all indexes. Who is lost, or whose index cannot be read, stays
registered as he was: mailstore verify names him until he is back (mailstore reconstruct makes an index anew)
or is given up (sync_reset -f).

Files and directories that others may read, as early releases left them, are made their owner's alone.

Messages are not touched, but with --from-peer: then every message is read, and one that is missing or cannot
be read is fetched, by its GUID, from the other end of the replication, and stored anew. On the master the
other end is the replica, on a replica its master, where that runs a csync server (ours, or Cyrus's) as well:
--server, or sync_host of the configuration, says where; login, TLS and so on are those of sync_client. What
the other end has not either is named, and the exit status is 1."""

from __future__ import annotations

import argparse

from cyrus_sync.common.config.kept import tighten_kept
from cyrus_sync.common.counted import mailboxes
from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.common.stores.healing import unreadable_messages
from cyrus_sync.common.wire.client import ClientSettings
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.from_peer import FromPeer
from cyrus_sync.mailstore.reactor import in_reactor
from cyrus_sync.mailstore.rounds import Rounds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "users", metavar="USER", nargs="*", help="or shared:NAME; default: all, and the registry"
    )
    parser.add_argument(
        "--from-peer", action="store_true", help="fetch messages that cannot be read from the other end"
    )
    parser.add_argument("--server", metavar="HOST[:PORT]", help="the other end, instead of sync_host")
    parser.add_argument("-n", dest="channel", metavar="CHANNEL", help="use the options of this channel")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    if not args.from_peer and (args.server or args.channel):
        raise UsageError("repair: --server and -n belong to --from-peer")
    healed = _heal(args, context) if args.from_peer else EX_OK
    status = _recount(args, context) or healed
    if not args.users:
        _tighten(context)
    return status


def _tighten(context: StoreContext) -> None:
    found = tighten_kept(context.config) + context.care().tighten()
    if found:
        context.print(f"{found} files and directories were open to others: they are their owner's alone now")


def _heal(args: argparse.Namespace, context: StoreContext) -> int:
    settings = ClientSettings.from_config(context.config, args.channel, args.server, option="--server")
    store = context.store()
    rounds = Rounds(context)
    damaged = {}
    for owner in rounds.watched("looking for messages", rounds.owners(args.users, store)):
        with rounds.one(owner):
            bad = unreadable_messages(store, owner)
            if bad:
                damaged[owner] = bad
    if not damaged:
        context.print("every message can be read")
        return rounds.status
    return in_reactor(FromPeer(context, store, settings, damaged).go) or rounds.status


def _recount(args: argparse.Namespace, context: StoreContext) -> int:
    care = context.care()
    rounds = Rounds(context)
    wrong = 0
    for owner in rounds.watched("counting anew", rounds.owners(args.users, context.store())):
        with rounds.one(owner):
            found = care.recount(owner)
            if found:
                context.print(f"{context.owner_name(owner)}: sums of {found} mailboxes were wrong")
            wrong += found
    context.print(f"{mailboxes(wrong)} corrected")
    if not args.users:
        registered = care.rebuild_registry()
        if registered.aside:
            context.print(f"the registry was damaged: it is made anew, the old one is {registered.aside}")
        context.print(f"{mailboxes(registered.mailboxes)} in the registry")
        for owner in registered.unknown:
            context.warn(
                f"{context.owner_name(owner)}: stays in the registry as he was: he is lost, or cannot be read"
            )
    return rounds.status
