"""``python -m bench.fleet_arithmetic``: what a fleet of any size takes, from what was measured of small ones.

Nothing is measured here: it is multiplication. What was measured is in `MEASURED`, each with what it is; what
a site is like, and what a provider asks for, are options with usual values, so that you can put in yours. The
table in docs/fleet.md is the output without any.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, NamedTuple

GB = 1e9
DAY, MONTH = 86_400.0, 30 * 86_400.0


class Cost(NamedTuple):
    """What one of something takes."""

    value: float
    rests_on: str


MEASURED = {
    "owner row": Cost(400, "octets a user in PostgreSQL, indexes and all"),
    "holder row": Cost(230, "octets a folder there"),
    "flag": Cost(400, "octets of a commit for one flag, in a mailbox of 5,000"),
    "log share": Cost(1.2, "octets of PostgreSQL's log for an octet of the journal, with mail in it"),
    "base record": Cost(42, "octets of a base for a message"),
    "commits": Cost(2600, "small commits a second, 32 connections, two cores"),
    "node commit": Cost(1.0e-3, "s of a core for a small commit"),
    "settle put": Cost(3, "PUT for settling a user: base, messages, the clock"),
    "settle list": Cost(1, "LIST for it"),
    "settle get": Cost(5, "GET for it: what was there before, both read back, the clock"),
    "bring": Cost(0.020, "s until a user of 5,000 messages is there"),
    "bring core": Cost(0.010, "s of a core for it"),
    "move": Cost(150, "users a second that one rebalance moves, 13 statements each, all on two cores"),
}
"""`tests/bench/test_fleet_arithmetic.py` holds those that a test can measure against what they are now."""


def _site(default: float, text: str) -> Any:
    return field(default=default, metadata={"text": text})


@dataclass
class Site:
    """What the site is like, and what is paid for."""

    mailboxes: float = _site(10e6, "mailboxes (users)")
    messages: float = _site(5000, "messages of a user")
    folders: float = _site(10, "folders of a user")
    octets: float = _site(20_000, "octets of a message, compressed")
    active: float = _site(0.3, "share of users whose mail changes on a day")
    arrivals: float = _site(20, "messages that such a user gets a day")
    changes: float = _site(40, "other changes of such a user a day: flags, moves")
    reads: float = _site(40, "messages that such a user reads a day")
    misses: float = _site(0.2, "share of these that are not in the node's cache")
    large: float = _site(0.2, "share of octets in messages above 256 KiB")
    large_messages: float = _site(0.012, "share of messages above 256 KiB")
    peak: float = _site(3, "the busiest hour, as multiple of the average")
    reserve: float = _site(2, "as much of everything as the busiest hour needs")
    nodes: float = _site(8, "nodes")
    line: float = _site(100e6, "octets a second that a node gets from the object store")
    disk: float = _site(200e6, "octets a second at which a PostgreSQL server is brought back from its backup")
    failover: float = _site(30, "seconds of a failover of PostgreSQL")
    object_month: float = _site(0.023, "dollars a GB and month in the object store")
    put_price: float = _site(5e-6, "dollars for a PUT or LIST")
    get_price: float = _site(0.4e-6, "dollars for a GET")
    disk_month: float = _site(0.10, "dollars a GB and month of a fast disk")
    core_month: float = _site(35, "dollars a core and month, with 4 GB of memory")
    cached: float = _site(2e6, "octets of a user in a node's cache")


class Line(NamedTuple):
    """A row of the table."""

    what: str
    rests_on: str
    comes_to: str


def cost(name: str) -> float:
    return MEASURED[name].value


def lines(site: Site) -> Iterator[Line]:
    """The table."""
    users = site.active * site.mailboxes
    rows = site.mailboxes * (cost("owner row") + site.folders * cost("holder row"))
    yield Line(
        "rows of users and folders", _on("owner row", "holder row"), f"{_octets(rows)} over all servers"
    )
    messages = site.mailboxes * site.messages
    bases, packs = messages * cost("base record"), messages * site.octets
    yield Line("indexes in the object store", _on("base record"), _octets(bases))
    yield Line("messages in the object store", "what a message takes", _octets(packs))

    commits = users * (site.arrivals + site.changes) / DAY
    servers = math.ceil(commits * site.peak * site.reserve / cost("commits"))
    yield Line(
        "commits a second, average and busiest hour",
        "a commit for each change",
        f"{commits:,.0f} and {commits * site.peak:,.0f}",
    )
    yield Line(
        "PostgreSQL servers of two cores",
        f"{_on('commits')}; {site.reserve:g} times the busiest hour",
        f"{servers}, each with its standby",
    )
    mail = users * site.arrivals * site.octets * (1 - site.large)
    journal = mail + users * (site.arrivals + site.changes) * cost("flag")
    yield Line(
        "octets of a day that go through PostgreSQL",
        f"{_on('flag')}; messages above 256 KiB go past it",
        _octets(journal),
    )
    log = journal * cost("log share") / DAY
    yield Line(
        "PostgreSQL's log, each server, busiest hour",
        _on("log share"),
        f"{_octets(log * site.peak / servers)} a second",
    )
    yield Line(
        "the journal at any time",
        "settled within a day of its first commit",
        f"{_octets(journal)} at most, {_octets(journal / servers)} a server",
    )

    settles = users
    large = users * site.arrivals * site.large_messages
    far = users * site.reads * site.misses
    puts = settles * (cost("settle put") + cost("settle list")) + 2 * large
    gets = settles * cost("settle get") + 2 * (large + far)
    yield Line(
        "PUT and LIST a second", _on("settle put", "settle list") + "; large messages", f"{puts / DAY:,.0f}"
    )
    yield Line(
        "GET a second",
        _on("settle get") + "; two for a message that is in no cache, or large",
        f"{gets / DAY:,.0f}",
    )
    cores = commits * site.peak * site.reserve * cost("node commit")
    yield Line(
        "cores of all nodes",
        f"{_on('node commit')}; {site.reserve:g} times the busiest hour",
        f"{math.ceil(cores)}",
    )
    cache = users * site.cached
    yield Line("caches, together", "what an active user takes there", _octets(cache))

    bills = {
        "the object store": (bases + packs) / GB * site.object_month,
        "its requests": (puts * site.put_price + gets * site.get_price) * MONTH / DAY,
        "cores of nodes and of PostgreSQL": (math.ceil(cores) + 2 * 2 * servers) * site.core_month,
        "disks of caches, and of PostgreSQL twice": (cache + 2 * 2 * (rows + journal)) / GB * site.disk_month,
    }
    for what, dollars in bills.items():
        yield Line(f"a month: {what}", "list prices of a large provider", f"${dollars:,.0f}")
    total = sum(bills.values())
    yield Line("a month: all of it", "", f"${total:,.0f}, {total / site.mailboxes * 100:.2g} cents a user")

    yield Line(
        "a node that is lost",
        "nothing is copied: users are brought when they are asked for",
        f"at work at once; the first look at each user takes {cost('bring') * 1000:.0f} ms more",
    )
    those = users / site.nodes
    base = site.messages * cost("base record")
    warm = max(those * base / site.line, those * cost("bring core") / (cores / site.nodes))
    yield Line(
        "… until its active users are in another's cache",
        _on("bring core"),
        f"{_seconds(warm)} of fetching, {_octets(those * base)}",
    )
    yield Line(
        "a PostgreSQL server that is lost",
        "its standby has everything",
        f"{_seconds(site.failover)}, in which changes of 1 user in {servers} are deferred",
    )
    back = (rows + journal) / servers / site.disk
    yield Line(
        "… with its standby",
        "its backup and log are brought back",
        f"{_seconds(back)} and its log since then; the others are not touched",
    )

    going = site.mailboxes / (servers + 1)
    yield Line(
        "one more PostgreSQL server",
        _on("move"),
        f"1 user in {servers + 1} moves while all work on: {_seconds(going / cost('move'))};"
        f" a million takes {_seconds(1e6 / cost('move'))}",
    )


def _on(*names: str) -> str:
    return "; ".join(f"{_value(MEASURED[name].value)} {MEASURED[name].rests_on}" for name in names)


def _value(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def _octets(octets: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if octets >= size:
            return f"{octets / size:.3g} {unit}"
    return f"{octets:,.0f} octets"


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} hours"


def markdown(site: Site) -> str:
    """The table."""
    rows = [f"| {line.what} | {line.rests_on} | {line.comes_to} |" for line in lines(site)]
    return "\n".join(["| what | rests on | comes to |", "|---|---|---|", *rows])


def assumed(site: Site) -> str:
    """What the site is like, in words."""
    return "; ".join(f"{one.metadata['text']}: {getattr(site, one.name):,.15g}" for one in fields(site))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fleet_arithmetic", description=(__doc__ or "").partition("\n")[0]
    )
    for one in fields(Site):
        assert one.default is not MISSING
        parser.add_argument(
            f"--{one.name.replace('_', '-')}", type=float, default=one.default, metavar="N",
            help=f"{one.metadata['text']}; default {one.default:g}",
        )  # fmt: skip
    site = Site(**vars(parser.parse_args(argv)))
    print(markdown(site))
    print(f"\nWhat it is for: {assumed(site)}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
