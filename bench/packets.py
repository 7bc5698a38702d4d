"""``python -m bench.packets``: replication by packets, measured with its own commands as processes.

A site is filled, and made the first replica of a family; its mail goes to a second site in one packet.
Rates are messages a second of a command's whole life, its start included; memory is the peak of its process.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store

from .ground import NAMES, ground
from .mail import Post
from .processes import Ran, run

HEADINGS = ("step", "messages", "MB of mail", "s", "msgs/s", "MB/s", "CPU s", "RSS MB", "note")
_AT_ONCE = 500


class Site:
    """A server in a directory of its own."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.conf = directory / name / "imapd.conf"
        self.conf.parent.mkdir()
        self.conf.write_text(
            f"configdirectory: {directory}/{name}/conf\npartition-default: {directory}/{name}/spool\n"
            f"servername: {name}\nsync_log: yes\nsync_log_channels: multisite\n"
        )

    def fill(self, messages: Iterator[bytes], folders: int) -> int:
        """Append to the mailboxes of one user in turn; the octets."""
        octets, owner = 0, Owner("user", "bench")
        store = open_store(Config.load(self.conf, program="mailstore"))
        names = ["user.bench", *(f"user.bench.f{n}" for n in range(1, folders))]
        with store.write(owner) as writer:
            for name in names:
                writer.create(name)
        for name in itertools.cycle(names):
            group = [(raw, 1_700_000_000, "") for raw in itertools.islice(messages, _AT_ONCE)]
            if not group:
                break
            octets += sum(len(raw) for raw, _, _ in group)
            with store.write(owner) as writer:
                writer.append(name, group)
        store.close()
        return octets

    def multitool(self, *words: str) -> Ran:
        command = [sys.executable, "-m", "cyrus_sync.multisite.multitool", *words, "-C", str(self.conf)]
        ran = run(command, {})
        if ran.status:
            raise SystemExit(f"bench: multitool {' '.join(words)} ended with {ran.status}:\n{ran.text}")
        return ran


def measure(work: Path, count: int, size: int) -> list[list[str]]:
    """The rows of the table."""
    one, other = Site(work, "one"), Site(work, "other")
    creation, packet, phrase = work / "creation", work / "packet", work / "phrase"
    phrase.touch(mode=0o600)
    phrase.write_text("no secret at all\n")
    trusting = ("-workdir", str(work), "-secret", str(phrase))
    one.multitool("mkfamily", "-name", "bench", "one")
    one.multitool("mkreplica", "-export", *trusting, "-out", str(creation), "other:other")
    other.multitool("mkreplica", "-import", *trusting, str(creation))
    octets = one.fill(Post().alike(count, size), 10)
    rows = []

    def row(step: str, ran: Ran, note: str = "") -> None:
        rate, speed = count / ran.seconds, octets / 1e6 / ran.seconds
        rows.append(
            [step, f"{count:,}", f"{octets / 1e6:.0f}", f"{ran.seconds:.2f}", f"{rate:,.0f}", f"{speed:.1f}",
             f"{ran.cpu:.2f}", f"{ran.rss / 1e6:.0f}", note]
        )  # fmt: skip

    export = one.multitool("syncreplica", "-export", "-out", str(packet), "other@bench")
    length = packet.stat().st_size
    row("export", export, f"packet {length / 1e6:.1f} MB, {length / octets:.0%} of the mail")
    row("import", other.multitool("syncreplica", "-import", str(packet)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.packets", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--ground", default="tmpfs", metavar="G", help=f"{NAMES}; default tmpfs")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=4096, help="octets of a message")
    options = parser.parse_args()
    with ground(options.ground, gigabytes=40) as work:
        rows = measure(work, options.messages, options.size)
    table = Table(box=None, header_style="bold")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number in (0, len(HEADINGS) - 1) else "right")
    for cells in rows:
        table.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    main()
