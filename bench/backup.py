"""``python -m bench.backup``: a store into a real S3 server, beside what the server takes of the same octets.

The server is SeaweedFS on loopback, with its data on the same ground. *PUT* is each pack as one object, two
at once, unchecked; *backup* is `mailstore backup`, which reads all of it back. The two take turns. Then
nothing has changed, and then one message has come to each user. Bodies do not compress: they are by chance.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.table import Table

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.common.stores import open_store
from cyrus_sync.objects.opening import open_objects
from tests.interop.ours import BIN
from tests.objects.seaweed import BUCKET, running

from .ground import NAMES, ground
from .processes import run


class Site:
    """A store with some users, and an S3 server."""

    def __init__(self, directory: Path, lines: str, users: int, messages: int, size: int) -> None:
        self.conf = directory / "imapd.conf"
        self.conf.write_text(
            f"configdirectory: {directory}/conf\npartition-default: {directory}/mail\n{lines}"
        )
        self.conf.chmod(0o600)
        self.config = Config.load(self.conf, "mailstore")
        self.users = [f"u{number}" for number in range(users)]
        self._size = size
        self.append(messages)
        self.packs = sorted((directory / "mail").rglob("pack-*.zst"))
        self.octets = sum(path.stat().st_size for path in self.packs)

    def append(self, count: int) -> None:
        with contextlib.closing(open_store(self.config)) as store:
            for user in self.users:
                inbox = inbox_of(user)
                with store.write(Owner("user", user)) as writer:
                    if writer.mailbox(inbox) is None:
                        writer.create(inbox)
                    for _ in range(count):
                        body = b"Subject: by chance\r\n\r\n" + os.urandom(self._size)
                        writer.append(inbox, [(body, 1, "")])

    def put_all(self, folder: str) -> None:
        """What the server takes, by the same client."""
        with contextlib.closing(open_objects(self.config, f"s3:{BUCKET}/{folder}")) as objects:

            def put(path: Path) -> None:
                objects.put(f"{path.parent.name}-{path.name}", path.read_bytes())

            with ThreadPoolExecutor(2) as pool:
                list(pool.map(put, self.packs))

    def backup(self, folder: str) -> str:
        command = [
            str(BIN / "mailstore"),
            "-C",
            str(self.conf),
            "backup",
            f"s3:{BUCKET}/{folder}",
            "--everybody",
        ]
        ran = run(command, {})
        if ran.status:
            raise SystemExit(f"bench: {' '.join(command)} ended with {ran.status}:\n{ran.text}")
        return ran.text


def _timed(work: Callable[[], object]) -> float:
    began = perf_counter()
    work()
    return perf_counter() - began


def measured(site: Site, rounds: int) -> Iterator[tuple[str, float, float]]:
    """What was done, seconds, and megabytes a second."""
    for number in range(rounds):
        for name, work in (("PUT", site.put_all), ("backup", site.backup)):
            seconds = _timed(partial(work, f"{name}{number}"))
            yield name, seconds, site.octets / seconds / 1e6
    yield "backup, nothing changed", _timed(lambda: site.backup("backup0")), 0
    site.append(1)
    yield "backup, a message for each", _timed(lambda: site.backup("backup0")), 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--ground", default="/var/tmp", help=NAMES)
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--messages", type=int, default=400, help="of each user")
    parser.add_argument("--size", type=int, default=40_000, help="octets of a message")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    table = Table("work", "s", "MB/s")
    with ground(args.ground) as where:
        (where / "weed").mkdir()
        with running(where / "weed") as server:
            site = Site(where, server.lines(), args.users, args.messages, args.size)
            for name, seconds, rate in measured(site, args.rounds):
                table.add_row(name, f"{seconds:.2f}", f"{rate:.1f}" if rate else "")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
