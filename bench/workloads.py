"""What is measured. Every workload runs on any pair and yields rows for the table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.interop.cyrus import Address

from .ends import End, last_uids, rolling
from .mail import Post
from .processes import Ran, Server, peak, run, tree
from .relay import Relay

T = TypeVar("T")


@dataclass
class Row:
    """One line of the table. Times in seconds, memory and `octets` in bytes."""

    workload: str
    messages: int
    octets: int
    seconds: float
    connected: float
    server_cpu: float
    client_cpu: float
    server_rss: int
    client_rss: int
    note: str = ""
    pair: str = ""
    ground: str = ""
    line: str = ""
    delay: float = 0.0
    """Seconds from here to there and back."""

    @property
    def rate(self) -> float:
        """Messages a second of the connection's life."""
        return self.messages / self.connected if self.connected else 0.0


@dataclass
class Pair:
    """A master, a replica and the line between them."""

    master: End
    replica: End
    work: Path
    deflate: bool
    scale: float = 1.0
    delay: float = 0.0
    """Seconds in each direction."""
    post: Post = field(default_factory=Post)
    _relays: int = 0

    def count(self, full: int, least: int = 2) -> int:
        """`full` at scale 1, never fewer than `least`."""
        return max(least, round(full * self.scale))

    def relay(self, *, times: bool = False) -> AbstractContextManager[Relay]:
        """The line to the replica, for one client."""
        self._relays += 1
        return Relay.to(
            self.replica.address,
            self.work / f"relay{self._relays}",
            hide="" if self.deflate else "COMPRESS",
            delay=self.delay,
            times=times,
        )

    def once(self, workload: str, args: list[str], messages: int, octets: int) -> Row:
        """Run a one-shot client and measure both ends."""
        server = Server(self.replica.server)
        with self.relay() as relay:
            ran = self._client(args, relay.address)
            passed = _settled(lambda: relay.passed)
        connected = sum(connection.seconds for connection in passed)
        wire = sum(connection.c2s for connection in passed)
        return Row(
            workload, messages, octets, ran.seconds, connected, server.cpu(), ran.cpu, server.rss(), ran.rss,
            note=f"{wire / 1e6:.1f} MB on the wire",
        )  # fmt: skip

    def _client(self, args: list[str], to: Address) -> Ran:
        ran = run(self.master.client(args, to, deflate=self.deflate), self.master.identity)
        if ran.status:
            raise SystemExit(f"bench: sync_client {' '.join(args)} ended with {ran.status}:\n{ran.text}")
        return ran


def _settled(answers: Callable[[], list[T]]) -> list[T]:
    """What a relay has noted, as soon as there is something: its line is written after the client's end."""
    deadline = time.monotonic() + 5
    while not (noted := answers()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return noted


FOLDERS = ("", *(f"folder{n}" for n in range(1, 10)))


def initial(pair: Pair) -> Iterator[Row]:
    """20,000 messages of 4 KB in 10 mailboxes, first sync; then runs in which little or nothing changed."""
    each = pair.count(2000)
    octets = sum(pair.master.fill("big", folder, pair.post.alike(each)) for folder in FOLDERS)
    total = each * len(FOLDERS)
    yield pair.once("initial sync, 4 KB", ["-u", "big"], total, octets)
    _same(pair, "big", FOLDERS, total)
    yield pair.once("nothing changed", ["-u", "big"], 0, 0)
    pair.master.flag("big", "folder3", [1], "\\Flagged")
    yield pair.once("one flag", ["-u", "big"], 1, 0)
    many = pair.count(1000)
    pair.master.flag("big", "folder4", range(1, many + 1), "\\Answered")
    yield pair.once("1,000 flags" if many == 1000 else f"{many} flags", ["-u", "big"], many, 0)


def mixed(pair: Pair) -> Iterator[Row]:
    """5,000 messages of all sizes up to 1 MB."""
    count = pair.count(5000)
    octets = pair.master.fill("mixed", "", pair.post.mixed(count))
    yield pair.once("mixed to 1 MB", ["-u", "mixed"], count, octets)
    _same(pair, "mixed", ("",), count)


def users(pair: Pair) -> Iterator[Row]:
    """100 users with 200 messages each."""
    people = [f"person{n:03d}" for n in range(pair.count(100))]
    each = pair.count(200)
    octets = sum(pair.master.fill(name, "", pair.post.alike(each)) for name in people)
    yield pair.once(f"{len(people)} users × {each}", ["-u", *people], len(people) * each, octets)
    _same(pair, people[-1], ("",), each)


def latency(pair: Pair) -> Iterator[Row]:
    """From a change to the replica's last answer, each time after a quiet second or more."""
    pair.master.fill("quick", "", pair.post.alike(2))
    pair.once("", ["-u", "quick"], 0, 0)
    server, tries = Server(pair.replica.server), pair.count(10, least=1)
    with pair.relay(times=True) as relay:
        client = rolling(pair.master, relay.address, 1, pair.deflate)
        took = []
        try:
            _settled(relay.answers)
            _quiet(relay, 3.0)
            for n in range(tries):
                begun = time.monotonic()
                pair.master.flag("quick", "", [1], f"Label{n}")
                _answered_after(relay, begun)
                _quiet(relay, 1.5)
                took.append(relay.answers()[-1] - begun)
            cpu, rss = _cost(client.pid)
        finally:
            client.kill()
            client.wait()
    middle = statistics.median(took)
    yield Row(
        "rolling latency", tries, 0, middle, middle, server.cpu(), cpu, server.rss(), rss,
        note=f"median {middle * 1000:.0f} ms, worst {max(took) * 1000:.0f} ms",
    )  # fmt: skip


def burst(pair: Pair) -> Iterator[Row]:
    """5,000 messages that come at once while the client is rolling; until all are at the replica."""
    count, people = pair.count(5000), [f"burst{n}" for n in range(5)]
    for name in people:
        pair.master.fill(name, "", pair.post.alike(1))
    pair.once("", ["-u", *people], 0, 0)
    each = max(1, count // len(people))
    names = [f"user.{name}" for name in people]
    server = Server(pair.replica.server)
    with pair.relay(times=True) as relay:
        client = rolling(pair.master, relay.address, 1, pair.deflate)
        try:
            _settled(relay.answers)
            _quiet(relay, 1.5)
            begun = time.monotonic()
            octets = sum(pair.master.fill(name, "", pair.post.alike(each)) for name in people)
            loaded = time.monotonic() - begun
            while last_uids(pair.replica.address, names) < (each + 1) * len(people):
                if time.monotonic() - begun > 300:
                    raise SystemExit("bench: the burst did not arrive within 300 s")
                time.sleep(0.05)
            took = time.monotonic() - begun
            cpu, rss = _cost(client.pid)
        finally:
            client.kill()
            client.wait()
    yield Row(
        "rolling burst", each * len(people), octets, took, took, server.cpu(), cpu, server.rss(), rss,
        note=f"of it {loaded:.1f} s of delivering",
    )  # fmt: skip


def far(pair: Pair) -> Iterator[Row]:
    """500 mailboxes with one change each, over a line with 100 ms from here to there and back."""
    folders = [f"f{n:03d}" for n in range(pair.count(500))]
    for folder in folders:
        pair.master.fill("wide", folder, pair.post.alike(2))
    pair.once("", ["-u", "wide"], 0, 0)
    for folder in folders:
        pair.master.flag("wide", folder, [1], "\\Flagged")
    usual, pair.delay = pair.delay, 0.05
    try:
        yield pair.once(f"{len(folders)} mailboxes at 100 ms", ["-u", "wide"], len(folders), 0)
    finally:
        pair.delay = usual


def huge(pair: Pair) -> Iterator[Row]:
    """One mailbox of 500,000 small messages, first sync, then one flag: neither end's memory may follow."""
    count = pair.count(500_000)
    octets = pair.master.fill("huge", "", pair.post.alike(count, 700))
    yield pair.once("a huge mailbox", ["-u", "huge"], count, octets)
    _same(pair, "huge", ("",), count)
    pair.master.flag("huge", "", [1], "\\Flagged")
    yield pair.once("one flag in it", ["-u", "huge"], 1, 0)


ON_REQUEST = {"huge": huge}
"""Takes minutes, so only when asked for by name."""

USUAL = {
    "initial": initial,
    "mixed": mixed,
    "users": users,
    "latency": latency,
    "burst": burst,
    "far": far,
}

WORKLOADS = {**USUAL, **ON_REQUEST}


def _same(pair: Pair, user: str, folders: tuple[str, ...], messages: int) -> None:
    """A run that did not carry everything is not worth a figure."""
    names = [f"user.{user}" + (f".{folder}" if folder else "") for folder in folders]
    there = last_uids(pair.replica.address, names)
    if there != messages:
        raise SystemExit(f"bench: of {messages} messages of {user} the replica has {there}")


def _cost(pid: int) -> tuple[float, int]:
    return sum(tree(pid).values()), peak(pid)


def _quiet(relay: Relay, seconds: float) -> None:
    """Wait until the server has said nothing for so long."""
    while True:
        answers = relay.answers()
        silent = time.monotonic() - (answers[-1] if answers else 0.0)
        if silent >= seconds:
            return
        time.sleep(seconds - silent)


def _answered_after(relay: Relay, moment: float) -> None:
    deadline = time.monotonic() + 60
    while not any(answer > moment for answer in relay.answers()[-3:]):
        if time.monotonic() > deadline:
            raise SystemExit("bench: a change was not replicated within 60 s")
        time.sleep(0.02)
