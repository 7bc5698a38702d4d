"""stats: how much there is in the store: owners, mailboxes, messages, octets, and what the disk holds."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from common.names import is_deleted
from common.stores.mailstore import MailReader
from mailstore.context import Context


@dataclass
class Totals:
    """Sums over owners; `octets` of live messages, `disk` of all files of the partitions."""

    users: int = 0
    shared: int = 0
    mailboxes: int = 0
    deleted_mailboxes: int = 0
    messages: int = 0
    expunged: int = 0
    octets: int = 0
    disk: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "users", metavar="USER", nargs="*", help="or shared:NAME; default: the whole store, with disk use"
    )
    parser.add_argument("--format", choices=("text", "json"), default="text")


def run(args: argparse.Namespace, context: Context) -> int:
    store = context.store(readonly=True)
    totals = Totals()
    for owner in context.owners(args.users, store):
        totals.users += owner.kind == "user"
        totals.shared += owner.kind == "shared"
        with store.read(owner) as reader:
            _add(totals, reader)
    found = asdict(totals)
    if args.users:
        del found["disk"]
    else:
        found["disk"] = sum(_disk(path) for path in context.config.partitions.values())
    if args.format == "json":
        context.print(json.dumps(found))
    else:
        for name, value in found.items():
            context.print(f"{name.replace('_', ' ')}: {value}")
    return 0


def _add(totals: Totals, reader: MailReader) -> None:
    for mailbox in reader.mailboxes():
        if mailbox.intermediate or mailbox.tombstone:
            continue
        if is_deleted(mailbox.name):
            totals.deleted_mailboxes += 1
        else:
            totals.mailboxes += 1
        for batch in reader.records(mailbox.uniqueid):
            live = [record.size for record in batch if not record.expunged]
            totals.messages += len(live)
            totals.expunged += len(batch) - len(live)
            totals.octets += sum(live)


def _disk(path: Path) -> int:
    """Octets of the blocks that all files below `path` take."""
    return sum(file.stat().st_blocks * 512 for file in path.rglob("*") if file.is_file())
