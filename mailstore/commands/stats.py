"""stats: how much there is in the store: owners, mailboxes, messages, octets, and what the disk holds.

messages and octets count a message once for every mailbox that it is in, stored messages once for every
user. removed mailboxes, expunged messages and the waste in packs go with mailstore expire."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from cyrus_sync.common.stores.care import OwnerStats, Surveyed
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.rounds import Rounds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("users", metavar="USER", nargs="*", help="or shared:NAME; default: the whole store")
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace, context: StoreContext) -> int:
    care = context.care(readonly=True)
    rounds = Rounds(context)
    total: dict[str, int] = dict.fromkeys(_FIGURES, 0)
    for owner, known in _owners(args, rounds, context):
        with rounds.one(owner):
            found = known or care.stats(owner)
            total["users" if owner.kind == "user" else "shared"] += 1
            if found is not None:
                _add(total, found)
    if args.format == "json":
        context.print(json.dumps({name.replace(" ", "_"): value for name, value in total.items()}))
        return rounds.status
    for name, value in total.items():
        context.print(f"{name}: {value}")
    return rounds.status


def _owners(args: argparse.Namespace, rounds: Rounds, context: StoreContext) -> Iterator[Surveyed]:
    if not args.users:
        return context.care(readonly=True).survey()
    return (Surveyed(owner, None) for owner in rounds.owners(args.users, context.store(readonly=True)))


def _add(total: dict[str, int], found: OwnerStats) -> None:
    for name, figure in _FIGURES.items():
        if figure:
            total[name] += getattr(found, figure)
    total["waste in packs"] += found.pack_bytes - found.live_pack_bytes


_FIGURES = {
    "users": "",
    "shared": "",
    "mailboxes": "mailboxes",
    "removed mailboxes": "removed_mailboxes",
    "messages": "messages",
    "expunged messages": "expunged",
    "octets": "bytes",
    "stored messages": "stored",
    "octets of stored messages": "stored_bytes",
    "packs": "packs",
    "octets of packs": "pack_bytes",
    "waste in packs": "",
    "octets of indexes": "index_bytes",
}
"""What is printed, and what `OwnerStats` calls it."""
