"""dump: write the complete logical state of the store, or of some users, in one canonical order.

Two stores hold the same if and only if their dumps are the same, octet for octet. A dump has every
mailbox with its counters, rights and annotations, every message with UID, modseq, flags, dates, size and
GUID (which stands for the message itself; "message": "missing" if it is not stored), subscriptions, seen
state, quota limits and use, Sieve scripts, and, without USER, the annotations of the server. Names are
internal ones. In the place of what cannot be read stands "error"; it is named on standard error as well, and
the exit status is 1. A GUID is what the index says: only with --verify is every message read, and one that is
not what its GUID says marked "message": "unreadable"; without it two dumps are alike although a message is
damaged.

Left out is what two ends of replication may rightly hold apart: expunged messages (but see --expunged),
tombstones and former names, the modseq of quotas and of mailbox annotations, the slots of keywords, and
CRCs and quota roots of mailboxes, which follow from the rest (mailstore verify checks them).

With --as-of it is what was there at that time: mailboxes and their names, flags, rights, annotations,
messages that were expunged or moved since, subscriptions, quota limits, scripts. TIME is "YYYY-MM-DD
HH:MM[:SS]" (local time, unless an offset such as +01:00 or Z follows), YYYY-MM-DD, or a duration ago: 2d, 3h.
It goes as far back as mailstore expire keeps what was removed (--retention). A time of which the store does
not know what was then is refused, and it says since when it knows. What replication has brought counts from
when it came here. What had been expunged or deleted already then is there only as far as expire has not
removed it since.

With --source cyrus it is the state of a real Cyrus that has this imapd.conf, and may be running: if it is the
same as that of a store that it is replicated to, both with --no-conversations, the replica is complete."""

from __future__ import annotations

import argparse

from cyrus_sync.common.errors import EX_FAILURE
from cyrus_sync.mailstore.canonical import write_json, write_yaml
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.rounds import Rounds
from cyrus_sync.mailstore.source import add_as_of, add_source
from cyrus_sync.mailstore.state import Scope, state_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("users", metavar="USER", nargs="*", help="or shared:NAME; default: the whole store")
    parser.add_argument("--format", choices=("yaml", "json"), default="yaml")
    parser.add_argument("--expunged", action="store_true", help="expunged messages too")
    parser.add_argument(
        "--no-partitions",
        action="store_true",
        help="without the names of partitions, which differ after sync_client -p",
    )
    parser.add_argument(
        "--no-sieve-mailbox",
        action="store_true",
        help="without the #sieve mailboxes, which differ between peers that send scripts as files, and"
        " without what they use of quotas",
    )
    parser.add_argument(
        "--no-conversations",
        action="store_true",
        help="without XCONVMODSEQ, which only who counts conversations has, as a real Cyrus may",
    )
    parser.add_argument(
        "--verify", action="store_true", help="read every message, and mark those that are damaged"
    )
    add_as_of(parser)
    add_source(parser)


def run(args: argparse.Namespace, context: StoreContext) -> int:
    store = context.as_of(args.as_of, args.source, "dump") or context.source(args.source)
    scope = Scope(
        args.expunged,
        not args.no_partitions,
        not args.no_sieve_mailbox,
        args.verify,
        not args.no_conversations,
    )
    rounds = Rounds(context)
    owners = list(rounds.owners(args.users, store))
    tree = state_of(store, owners, server=not args.users, scope=scope, trouble=rounds.failed)
    write = write_json if args.format == "json" else write_yaml
    write(tree, lambda text: context.write_bytes(text.encode("utf-8")))
    if args.verify:
        return min(rounds.status, EX_FAILURE)
    return min(rounds.status, EX_FAILURE) if owners and len(args.users) != 1 else rounds.status
