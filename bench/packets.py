"""``python -m bench.packets``: replication by packets, measured with its own commands as processes.

A site is filled, and made the first replica of a family; its mail goes to a second site in one packet, and
to a third one in many parts, as a small medium needs them. The same mail goes over a live pair. Then many
users without mail are made at another site, of which a replica is made. All of it is done in turns, and also
with half as many messages and users. Rates are messages a second of a command's whole life, its start
included (of users where there is no mail); memory is the peak of its process. The notes say what the
operations log takes on disk afterwards, and how much of that is free pages. Aims are judged by the best turn
of each; processor seconds of a live pair are those of both ends.
"""

from __future__ import annotations

import argparse
import itertools
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store

from .ends import end
from .ground import NAMES, ground
from .mail import Post
from .processes import Ran, run
from .workloads import Pair

HEADINGS = ("step", "messages", "MB of mail", "s", "msgs/s", "MB/s", "CPU s", "RSS MB", "note")
_AT_ONCE = 500
PARTS = 80
_FOLDERS = 10


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure should be: at most `most`, or where `least` is set, at least that."""

    about: str
    figure: float
    most: float = 0.0
    least: float = 0.0

    def __str__(self) -> str:
        reached = self.figure >= self.least if self.least else self.figure <= self.most
        wanted = f"at least {self.least}" if self.least else f"at most {self.most}"
        return f"{'reached' if reached else 'MISSED ':7} {self.figure:5.2f}  {wanted}: {self.about}"


@dataclass(slots=True)
class Step:
    """One kind of work. `octets` of mail; seconds of wall clock and of processors; peak memory in octets."""

    name: str
    messages: int
    octets: int
    seconds: float
    cpu: float
    rss: int
    note: str = ""

    @classmethod
    def of(cls, name: str, messages: int, octets: int, ran: Ran, note: str = "") -> Step:
        return cls(name, messages, octets, ran.seconds, ran.cpu, ran.rss, note)

    def cells(self) -> list[str]:
        rate, speed = self.messages / self.seconds, self.octets / 1e6 / self.seconds
        return [
            self.name, f"{self.messages:,}", f"{self.octets / 1e6:.0f}", f"{self.seconds:.2f}",
            f"{rate:,.0f}",
            f"{speed:.1f}" if speed else "", f"{self.cpu:.2f}", f"{self.rss / 1e6:.0f}", self.note,
        ]  # fmt: skip


@dataclass(slots=True)
class Results:
    """The steps of all turns, by name."""

    steps: dict[str, list[Step]] = field(default_factory=dict)

    def add(self, step: Step) -> None:
        self.steps.setdefault(step.name, []).append(step)

    def best(self, name: str) -> Step:
        """The least of each figure."""
        turns = self.steps[name]
        first = turns[0]
        cpu, seconds = min(one.cpu for one in turns), min(one.seconds for one in turns)
        return Step(
            name, first.messages, first.octets, seconds, cpu, max(one.rss for one in turns), first.note
        )

    def cpu(self, *names: str) -> float:
        return sum(self.best(name).cpu for name in names)


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
        """What the operations log takes on disk, and what of it is free."""
        files = list((self.conf.parent / "conf" / "multisite").glob("oplog.db*"))
        octets = sum(path.stat().st_size for path in files)
        with sqlite3.connect(self.conf.parent / "conf" / "multisite" / "oplog.db") as log:
            free, page = (
                log.execute(f"PRAGMA {name}").fetchone()[0] for name in ("freelist_count", "page_size")
            )
        log.close()
        return f"log {octets / 1e6:.1f} MB, free {free * page / 1e6:.1f} MB"

    def multitool(self, *words: str) -> Ran:
        command = [sys.executable, "-m", "cyrus_sync.multisite.multitool", *words, "-C", str(self.conf)]
        ran = run(command, {})
        if ran.status:
            raise SystemExit(f"bench: multitool {' '.join(words)} ended with {ran.status}:\n{ran.text}")
        return ran


IMPORT, IMPORT_PARTS, LIVE = "import", "import of parts", "live pair"
EXPORT, EXPORT_PARTS = "export", "export in parts"
MAKE, MADE = "mkreplica -export", "mkreplica -import"
HALF = ", half"


def measure(work: Path, count: int, size: int, results: Results, half: str = "") -> None:
    """Mail by packets. `half` is put behind the names of the steps."""
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
    octets = one.fill(Post().alike(count, size), _FOLDERS)

    def step(name: str, ran: Ran, note: str) -> None:
        results.add(Step.of(name + half, count, octets, ran, note))

    export = one.multitool("syncreplica", "-export", "-out", str(packet), "other@bench")
    length = packet.stat().st_size
    step(EXPORT, export, f"packet {length / 1e6:.1f} MB, {length / octets:.0%} of the mail")
    step(IMPORT, other.multitool("syncreplica", "-import", str(packet)), other.log_size())
    parts = work / "parts"
    parts.mkdir()
    most = f"{max(length // PARTS // 1024, 1)}k"
    export = one.multitool(
        "syncreplica", "-export", "-maxsize", most, "-out", str(parts / "packet"), "third@bench"
    )
    lengths = [path.stat().st_size for path in parts.iterdir()]
    step(EXPORT_PARTS, export, f"{len(lengths)} parts, {sum(lengths) / 1e6:.1f} MB")
    imported = third.multitool("syncreplica", "-import", str(parts))
    step(IMPORT_PARTS, imported, f"{len(lengths)} parts; {third.log_size()}")


def measure_live(work: Path, count: int, size: int, results: Results) -> None:
    """The same mail over a live pair."""
    post = Post()
    with end("ours", "master", work) as master, end("ours", "replica", work) as replica:
        octets = 0
        for number in range(_FOLDERS):
            each = count // _FOLDERS + (number < count % _FOLDERS)
            octets += master.fill("bench", f"f{number}" if number else "", post.alike(each, size))
        row = Pair(master, replica, work, deflate=False).once("live", ["-u", "bench"], count, octets)
    note = f"CPU s of the client {row.client_cpu:.2f}, of the server {row.server_cpu:.2f}"
    cpu, rss = row.client_cpu + row.server_cpu, row.client_rss + row.server_rss
    results.add(Step(LIVE, count, octets, row.seconds, cpu, rss, note))


def measure_users(work: Path, users: int, results: Results, half: str = "") -> None:
    """A replica of a site with so many users, who have an INBOX each and no mail."""
    one, other = Site(work, "origin"), Site(work, "copy")
    creation, phrase = work / "creation of many", work / "phrase"
    trusting = ("-workdir", str(work), "-secret", str(phrase))
    phrase.touch(mode=0o600)
    phrase.write_text("no secret at all\n")
    one.make_users(users)
    one.multitool("mkfamily", "-name", "many", "one")
    for name, site, words in (
        (MAKE, one, ("-export", *trusting, "-out", str(creation), "copy:copy")),
        (MADE, other, ("-import", *trusting, str(creation))),
    ):
        ran = site.multitool("mkreplica", *words)
        results.add(Step.of(name + half, users, 0, ran, f"users; {site.log_size()}"))


def aims(results: Results) -> Sequence[Aim]:
    """What is to be reached."""
    cpu, wall = results.cpu, results.best(LIVE).seconds / results.best(IMPORT).seconds
    made, half = cpu(MAKE, MADE), cpu(MAKE + HALF, MADE + HALF)
    return (
        Aim("rate of the import, of the live pair's (processor seconds)", cpu(LIVE) / cpu(IMPORT), least=0.9),
        Aim("rate of the import, of the live pair's (wall clock)", wall, least=0.9),
        Aim("import of parts, of the import of one packet (CPU)", cpu(IMPORT_PARTS) / cpu(IMPORT), 1.3),
        Aim("export in parts, of the export in one (CPU)", cpu(EXPORT_PARTS) / cpu(EXPORT), 1.5),
        Aim("import of twice as many messages (CPU)", cpu(IMPORT) / cpu(IMPORT + HALF), 2.2),
        Aim("the same in parts (CPU)", cpu(IMPORT_PARTS) / cpu(IMPORT_PARTS + HALF), 2.2),
        Aim("making a replica of twice as many users (CPU)", made / half, 2.2),
    )


def turn(where: str, options: argparse.Namespace, results: Results) -> None:
    """All kinds of work once."""
    with ground(where, gigabytes=40) as work:
        measure(work, options.messages, options.size, results)
    with ground(where, gigabytes=40) as work:
        measure_live(work, options.messages, options.size, results)
    with ground(where, gigabytes=40) as work:
        measure(work, options.messages // 2, options.size, results, HALF)
    for users, half in ((options.users, ""), (options.users // 2, HALF)):
        with ground(where, gigabytes=40) as work:
            measure_users(work, users, results, half)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.packets", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--ground", default="tmpfs", metavar="G", help=f"{NAMES}; default tmpfs")
    parser.add_argument("--messages", type=int, default=50_000)
    parser.add_argument("--size", type=int, default=4096, help="octets of a message")
    parser.add_argument("--users", type=int, default=2000, help="users without mail")
    parser.add_argument("--turns", type=int, default=1, help="how often; the table has the best of each")
    options = parser.parse_args()
    results = Results()
    for _ in range(options.turns):
        turn(options.ground, options, results)
    table = Table(box=None, header_style="bold")
    for number, heading in enumerate(HEADINGS):
        table.add_column(heading, justify="left" if number in (0, len(HEADINGS) - 1) else "right")
    for name in results.steps:
        table.add_row(*results.best(name).cells())
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(table)
    for aim in aims(results):
        console.print(str(aim), highlight=False)


if __name__ == "__main__":
    main()
