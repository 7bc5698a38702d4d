"""verify: check the whole store, or some users, and name what is wrong.

Every message is read and its SHA-1 compared with its GUID; CRCs, quota use and counters are calculated
anew; the index and the packs of each user are checked. Nothing is changed. Exit status 1 if something is
wrong."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import Progress, TextColumn

from common.errors import CyrusSyncError
from common.names import Owner
from common.stores.mailstore import MailStore
from mailstore.checks import check_owner
from mailstore.context import Context


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("users", metavar="USER", nargs="*", help="or shared:NAME; default: the whole store")
    parser.add_argument(
        "--no-progress",
        action="store_true",
        help="no progress line (there is none where standard error is no terminal)",
    )


def run(args: argparse.Namespace, context: Context) -> int:
    store = context.store(readonly=True)
    console = Console(file=context.stderr)
    problems = owners = octets = 0

    def count(size: int) -> None:
        nonlocal octets
        octets += size
        progress.update(task, description=f"{owner}: {octets // 1_000_000} MB read")

    with Progress(
        TextColumn("{task.description}"), console=console, disable=args.no_progress or not console.is_terminal
    ) as progress:
        task = progress.add_task("")
        for owner in context.owners(args.users, store):
            owners += 1
            for problem in _problems(store, owner, context, count):
                problems += 1
                context.print(problem)
    verdict = f"{problems} problems" if problems else "nothing wrong"
    context.print(f"{owners} owners checked, {octets} octets of mail read: {verdict}")
    return 1 if problems else 0


def _problems(
    store: MailStore, owner: Owner, context: Context, progress: Callable[[int], None]
) -> Iterator[str]:
    try:
        with store.read(owner) as reader:
            yield from check_owner(reader, context.external, progress)
    except CyrusSyncError as error:
        yield f"{owner}: cannot be read: {error}"
