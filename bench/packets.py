"""``python -m bench.packets``: replication by packets, measured with its own commands as processes.

A site is filled, and made the first replica of a family; its mail goes to a second site in one packet, and
to a third one in many parts, as a small medium needs them. Then many users without mail are made at another
site, of which a replica is made. What the operations log takes on disk afterwards is in the notes.
Rates are messages a second of a command's whole life, its start included (of users where there is no mail);
memory is the peak of its process.
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
PARTS = 80


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

    def make_users(self, count: int) -> None:
        """Users without mail."""
        store = open_store(Config.load(self.conf, program="mailstore"))
        for number in range(count):
            with store.write(Owner("user", f"u{number}")) as writer:
                writer.create(f"user.u{number}")
        store.close()

    def log_size(self) -> str:
        """What the operations log takes on disk."""
        files = (self.conf.parent / "conf" / "multisite").glob("oplog.db*")
        return f"log {sum(path.stat().st_size for path in files) / 1e6:.1f} MB"

    def multitool(self, *words: str) -> Ran:
        command = [sys.executable, "-m", "cyrus_sync.multisite.multitool", *words, "-C", str(self.conf)]
        ran = run(command, {})
        if ran.status:
            raise SystemExit(f"bench: multitool {' '.join(words)} ended with {ran.status}:\n{ran.text}")
        return ran


def measure(work: Path, count: int, size: int) -> list[list[str]]:
    """The rows of the table."""
    one, other, third = (Site(work, name) for name in ("one", "other", "third"))
    creation, packet, phrase = work / "creation", work / "packet", work / "phrase"
    phrase.touch(mode=0o600)
    phrase.write_text("no secret at all\n")
    trusting = ("-workdir", str(work), "-secret", str(phrase))
    one.multitool("mkfamily", "-name", "bench", "one")
    one.multitool("mkreplica", "-export", *trusting, "-out", str(creation), "other:other")
    other.multitool("mkreplica", "-import", *trusting, str(creation))
    one.multitool("mkreplica", "-export", *trusting, "-out", str(work / "creation3"), "third:third")
    third.multitool("mkreplica", "-import", *trusting, str(work / "creation3"))
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
    row("import", other.multitool("syncreplica", "-import", str(packet)), other.log_size())
    parts = work / "parts"
    parts.mkdir()
    most = f"{max(length // PARTS // 1024, 1)}k"
    one.multitool("syncreplica", "-export", "-maxsize", most, "-out", str(parts / "packet"), "third@bench")
    count_of_parts = len(list(parts.iterdir()))
    imported = third.multitool("syncreplica", "-import", str(parts))
    row(f"import of {count_of_parts} parts", imported, third.log_size())
    return rows


def measure_users(work: Path, users: int) -> list[list[str]]:
    """A replica of a site with so many users, who have an INBOX each and no mail."""
    one, other = Site(work, "origin"), Site(work, "copy")
    creation, phrase = work / "creation of many", work / "phrase"
    trusting = ("-workdir", str(work), "-secret", str(phrase))
    one.make_users(users)
    one.multitool("mkfamily", "-name", "many", "one")
    rows = []
    for step, site, words in (
        ("mkreplica -export", one, ("-export", *trusting, "-out", str(creation), "copy:copy")),
        ("mkreplica -import", other, ("-import", *trusting, str(creation))),
    ):
        ran = site.multitool("mkreplica", *words)
        figures = (f"{ran.seconds:.2f}", f"{users / ran.seconds:,.0f}", "", f"{ran.cpu:.2f}")
        note = f"{users:,} users; {site.log_size()}"
        rows.append([step, "0", "0", *figures, f"{ran.rss / 1e6:.0f}", note])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.packets", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--ground", default="tmpfs", metavar="G", help=f"{NAMES}; default tmpfs")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=4096, help="octets of a message")
    parser.add_argument("--users", type=int, default=2000, help="users without mail")
    options = parser.parse_args()
    with ground(options.ground, gigabytes=40) as work:
        rows = measure(work, options.messages, options.size)
        rows += measure_users(work, options.users)
    table = Table(box=None, header_style="bold")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number in (0, len(HEADINGS) - 1) else "right")
    for cells in rows:
        table.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    main()
