"""``python -m bench.fleet``: a fleet beside a local store, in one run, in turns, everything durable.

PostgreSQL syncs its log, SeaweedFS each object, the local store as ever; all of it is on one ground and on
this machine. What it shows:

* first sync of 20,000 × 4 KB by sync_client into a local sync_server and into a node of a fleet;
* one flag, as a transaction of the store;
* three nodes against one: processor a message of the nodes and of PostgreSQL. Nodes share nothing but
  PostgreSQL and the object store, so as long as a node's processor for a message is the same beside others,
  n nodes with a core each take n times as much, up to what PostgreSQL's cores can do;
* an owner of 5,000 messages who is brought to a node that has nothing of him;
* a backup beside the server's own PUT (`bench.backup`);
* users who move to another PostgreSQL server.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import psycopg
from rich.console import Console
from rich.table import Table

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.fleet.opening import open_fleet
from cyrus_sync.fleet.prepared import PreparedStatements
from cyrus_sync.fleet.rebalance import Rebalance
from cyrus_sync.fleet.servers import Servers
from tests.fleet.postgres import DURABLE, Postgres, new_postgres
from tests.interop.ours import Ours
from tests.objects.seaweed import Seaweed, running

from .backup import Site, measured
from .ends import OurEnd
from .ground import NAMES, ground
from .mail import Post
from .processes import Server
from .workloads import FOLDERS, Pair, Row

_LOT = 500
"""Messages to a transaction, where the store is measured alone."""


@dataclass
class Figure:
    """A line of the table. `aim` is what is wanted, "" where nothing is."""

    what: str
    local: str
    fleet: str
    ratio: float | None = None
    aim: str = ""


@dataclass
class Bench:
    """A local store and a fleet on the same ground."""

    work: Path
    postgres: Postgres
    seaweed: Seaweed
    scale: float
    rounds: int
    figures: list[Figure] = field(default_factory=list)

    def count(self, full: int, least: int = 2) -> int:
        return max(least, round(full * self.scale))

    def options(self) -> dict[str, str]:
        """Of imapd.conf, for a node of a new fleet."""
        lines = self.seaweed.lines(f"fleet{time.monotonic_ns()}").splitlines()
        said = dict(line.split(": ", 1) for line in lines)
        return {**said, "store": "fleet", "store_journal": self.postgres.database(), "store_objects": "s3:"}

    def conf(self, name: str, options: dict[str, str]) -> Path:
        """The imapd.conf of a store without daemons."""
        directory = self.work / name
        directory.mkdir()
        usual = {"configdirectory": f"{directory}/conf", "partition-default": f"{directory}/mail"}
        path = directory / "imapd.conf"
        path.write_text("".join(f"{key}: {value}\n" for key, value in {**usual, **options}.items()))
        path.chmod(0o600)
        return path

    def store(self, name: str, options: dict[str, str]) -> MailStore:
        return open_store(Config.load(self.conf(name, options), "mailstore"), log=False)

    def told(self, figure: Figure) -> None:
        print(f"{figure.what}: {figure.local} | {figure.fleet}", file=sys.stderr)
        self.figures.append(figure)


@contextlib.contextmanager
def server(name: str, work: Path, options: dict[str, str]) -> Iterator[OurEnd]:
    """A sync_server of ours, as a replica."""
    with Ours.installed(name, {"sasl_mech_list": "PLAIN", **options}, ground=work) as ours:
        yield OurEnd(ours)


def _rate(rows: Sequence[Row]) -> str:
    return f"{statistics.median(row.rate for row in rows):,.0f}"


def first_sync(bench: Bench) -> None:
    """A user of 20,000 messages in ten mailboxes, a new one each round."""
    each = bench.count(2000)
    pairs: dict[str, list[Row]] = {"local": [], "fleet": []}
    postgres = Server(bench.postgres.pid)
    post, spent = Post(), 0.0
    with (
        server("master", bench.work, {}) as master,
        server("local", bench.work, {}) as local,
        server("fleet", bench.work, bench.options()) as fleet,
    ):
        for number in range(bench.rounds):
            octets = sum(master.fill(f"big{number}", folder, post.alike(each)) for folder in FOLDERS)
            for name, replica in (("local", local), ("fleet", fleet)):
                pair = Pair(master, replica, bench.work / f"{name}{number}", deflate=False)
                pair.work.mkdir()
                before = postgres.cpu()
                row = pair.once(name, ["-u", f"big{number}"], each * len(FOLDERS), octets)
                spent += (postgres.cpu() - before) * (name == "fleet")
                pairs[name].append(row)
    there, here = pairs["fleet"], pairs["local"]
    ratio = statistics.median(f.rate / o.rate for f, o in zip(there, here, strict=True))
    what = f"first sync, {each * len(FOLDERS):,} × 4 KB, messages/s"
    bench.told(Figure(what, _rate(here), _rate(there), ratio, "≥ 0.6"))
    messages = each * len(FOLDERS)
    costs = [statistics.median(row.server_cpu for row in rows) / messages * 1e6 for rows in (here, there)]
    bench.told(Figure("… processor of sync_server, µs a message", *(f"{cost:.0f}" for cost in costs)))
    bench.told(Figure("… of PostgreSQL, µs a message", "", f"{spent / bench.rounds / messages * 1e6:.0f}"))
    sizes = [max(row.server_rss for row in rows) / 1e6 for rows in (here, there)]
    bench.told(Figure("… peak memory of sync_server, MB", *(f"{size:.0f}" for size in sizes)))


def one_flag(bench: Bench) -> None:
    """In one process, so that nothing but the store is measured."""
    stores = {"local": bench.store("flag", {}), "fleet": bench.store("flags", bench.options())}
    owner, inbox, count = Owner("user", "one"), inbox_of("one"), bench.count(300, least=3)
    postgres = Server(bench.postgres.pid)
    took: dict[str, list[float]] = {name: [] for name in stores}
    spent = dict.fromkeys(stores, 0.0)
    for store in stores.values():
        _fill(store, "one", bench.count(2000))
    postgres.start()
    for number in range(count):
        for name, store in stores.items():
            begun, cpu = time.perf_counter(), time.process_time()
            with store.write(owner) as writer:
                change = {"remove" if number % 2 else "add": ["\\Flagged"]}
                writer.set_flags(inbox, [1], **change)
            took[name].append(time.perf_counter() - begun)
            spent[name] += time.process_time() - cpu
    for store in stores.values():
        store.close()
    middle = {name: statistics.median(times) * 1000 for name, times in took.items()}
    ratio = middle["fleet"] / middle["local"]
    bench.told(Figure("one flag, ms, median", *(f"{one:.2f}" for one in middle.values()), ratio, "≤ 2"))
    costs = (f"{one / count * 1000:.2f}" for one in spent.values())
    bench.told(Figure("… processor, ms", *costs))
    bench.told(Figure("… PostgreSQL's processor, ms", "", f"{postgres.cpu() / count * 1000:.2f}"))


def _fill(store: MailStore, user: str, count: int) -> None:
    inbox, post = inbox_of(user), Post(2)
    with store.write(Owner("user", user)) as writer:
        if writer.mailbox(inbox) is None:
            writer.create(inbox)
    while count > 0:
        lot = list(post.alike(min(_LOT, count)))
        with store.write(Owner("user", user)) as writer:
            writer.append(inbox, [(raw, 1, "") for raw in lot])
        count -= len(lot)


def nodes(bench: Bench) -> None:
    """One node, and then three at once, each with clients of its own."""
    each = bench.count(500)
    spent = {}
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(server("masters", bench.work, {}))
        options = bench.options()
        fleet = [stack.enter_context(server(f"node{number}", bench.work, options)) for number in range(3)]
        post = Post()
        postgres = Server(bench.postgres.pid)
        for together in (1, 3):
            people = [f"n{together}x{number}" for number in range(together)]
            for user in people:
                for folder in FOLDERS:
                    master.fill(user, folder, post.alike(each))
            servers = [Server(node.server) for node in fleet[:together]]
            before, begun = postgres.cpu(), time.monotonic()
            messages = each * len(FOLDERS)
            pairs = zip(fleet, people, strict=False)
            _at_once([partial(_bring, bench, master, node, user, messages) for node, user in pairs])
            seconds, messages = time.monotonic() - begun, together * messages
            spent[together] = (
                sum(one.cpu() for one in servers) / messages * 1e6,
                (postgres.cpu() - before) / messages * 1e6,
                messages / seconds,
            )
    (one, one_postgres, _), (three, three_postgres, _) = spent[1], spent[3]
    bench.told(
        Figure(
            "a node alone, and beside two others: its processor, µs a message", f"{one:.0f}", f"{three:.0f}"
        )
    )
    what = "… PostgreSQL's processor, µs a message"
    bench.told(Figure(what, f"{one_postgres:.0f}", f"{three_postgres:.0f}"))
    what = "three nodes with a core each, as multiple of one with a core"
    bench.told(Figure(what, "1", f"{3 * one / three:.2f}", 3 * one / three, "≥ 1.7"))
    most = three / three_postgres if three_postgres else float("inf")
    bench.told(Figure("… node cores that one core of PostgreSQL keeps busy", "", f"{most:.1f}"))


def _bring(bench: Bench, master: OurEnd, node: OurEnd, user: str, messages: int) -> None:
    work = bench.work / f"line-{user}"
    work.mkdir()
    Pair(master, node, work, deflate=False).once("", ["-u", user], messages, 0)


def _at_once(works: Sequence[Callable[[], None]]) -> None:
    failed: list[BaseException] = []

    def one(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def rebuild(bench: Bench) -> None:
    """An owner of 5,000 messages on a node that has nothing: until the first record can be read."""
    options, count = bench.options(), bench.count(5000)
    conf = bench.conf("rebuild", options)
    config = Config.load(conf, "mailstore")
    with contextlib.closing(open_store(config, log=False)) as store:
        _fill(store, "much", count)
        journal = _brought(config)
        with open_fleet(config) as fleet:
            fleet.settler.settle(Owner("user", "much"))
        base = _brought(config)
    what = f"an owner of {count:,} messages brought to an empty node, ms"
    bench.told(Figure(f"{what}: from the base", "", f"{base[0]:.0f}", None, "≤ 100"))
    bench.told(Figure("… processor, ms", "", f"{base[1]:.0f}"))
    bench.told(Figure("… from the journal, where nothing is settled", "", f"{journal[0]:.0f}"))
    bench.told(Figure("… processor, ms", "", f"{journal[1]:.0f}"))


def _brought(config: Config) -> tuple[float, float]:
    """Milliseconds, and those of the processor."""
    took, spent = [], []
    for _ in range(5):
        shutil.rmtree(config.configdirectory / "cache", ignore_errors=True)
        with contextlib.closing(open_store(config, readonly=True, log=False)) as store:
            store.userids()  # connected
            begun, cpu = time.perf_counter(), time.process_time()
            with store.read(Owner("user", "much")) as reader:
                mailbox = reader.mailbox(inbox_of("much"))
                assert mailbox is not None
                next(iter(reader.records(mailbox.uniqueid)))
            took.append((time.perf_counter() - begun) * 1000)
            spent.append((time.process_time() - cpu) * 1000)
    return statistics.median(took), statistics.median(spent)


def backup(bench: Bench) -> None:
    """`bench.backup`: 256 MB, of which starting the command is a small part."""
    directory = bench.work / "backup"
    directory.mkdir()
    site = Site(directory, bench.seaweed.lines("backup"), 8, bench.count(800), 40_000)
    rates: dict[str, list[float]] = {"PUT": [], "backup": []}
    for name, _, rate in measured(site, bench.rounds):
        if name in rates:
            rates[name].append(rate)
    ratio = statistics.median(b / p for b, p in zip(rates["backup"], rates["PUT"], strict=True))
    middle = [f"{statistics.median(rates[name]):.1f}" for name in rates]
    bench.told(Figure("the server's own PUT, and a backup, MB/s", middle[0], middle[1], ratio, "≥ 0.8"))


def rebalance(bench: Bench) -> None:
    """Users of two databases over three, each with two commits that are not settled. How many statements that
    takes is counted where psycopg is asked."""
    old, new = [bench.postgres.database() for _ in range(2)], bench.postgres.database()
    options = {**bench.options(), "store_journal": " ".join(old)}
    with contextlib.closing(bench.store("rebalance", options)) as store:
        for number in range(bench.count(240, least=12)):
            _fill(store, f"r{number}", 1)
    postgres = Server(bench.postgres.pid)
    with contextlib.closing(Servers([*old, new])) as servers, _counted_statements() as statements:
        work = Rebalance(servers)
        layout = work.begin()
        places = list(work.misplaced(layout))
        statements.clear()
        before, begun, cpu = postgres.cpu(), time.perf_counter(), time.process_time()
        moved = sum(done is True for done in work.move_all(layout, places))
        seconds, cpu, spent = time.perf_counter() - begun, time.process_time() - cpu, postgres.cpu() - before
        asked = len(statements)
        assert work.end(layout)
    assert moved == len(places)
    bench.told(Figure("rebalance, users moved a second", "", f"{moved / seconds:,.0f}"))
    bench.told(Figure("… statements a user", "", f"{asked / moved:.1f}"))
    bench.told(Figure("… processor, ms a user", "", f"{cpu / moved * 1000:.1f}"))
    bench.told(Figure("… PostgreSQL's processor, both servers, ms a user", "", f"{spent / moved * 1000:.1f}"))


@contextlib.contextmanager
def _counted_statements() -> Iterator[list[None]]:
    """One for each statement, of any thread; the beginning and the end of a transaction are none."""
    asked: list[None] = []

    def counting(execute: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*words: Any, **more: Any) -> Any:
            asked.append(None)
            return execute(*words, **more)

        return counted

    with contextlib.ExitStack() as stack:
        for kind, name in (
            (psycopg.Cursor, "execute"),
            (psycopg.Cursor, "executemany"),
            (PreparedStatements, "execute"),
        ):
            stack.enter_context(mock.patch.object(kind, name, counting(getattr(kind, name))))
        yield asked


PARTS = {
    "sync": first_sync, "flag": one_flag, "nodes": nodes, "rebuild": rebuild, "backup": backup,
    "rebalance": rebalance,
}  # fmt: skip


def show(figures: Sequence[Figure], *, markdown: bool) -> None:
    headings = ("what", "local", "fleet", "ratio", "aim")
    rows = [
        (one.what, one.local, one.fleet, f"{one.ratio:.2f}" if one.ratio is not None else "", one.aim)
        for one in figures
    ]
    if markdown:
        print("| " + " | ".join(headings) + " |\n|---|---:|---:|---:|---:|")
        for row in rows:
            print("| " + " | ".join(row) + " |")
        return
    table = Table(*headings)
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.fleet", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--ground", default="/var/tmp", help=f"{NAMES}; default: %(default)s")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the full size, e.g. 0.01")
    parser.add_argument("--rounds", type=int, default=3, help="of what is done in turns; the median counts")
    parser.add_argument(
        "--parts", nargs="+", default=[*PARTS], choices=[*PARTS], metavar="P", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(ground(options.ground))
        postgres = stack.enter_context(new_postgres(below=work))
        postgres.start(*DURABLE)
        (work / "weed").mkdir()
        seaweed = stack.enter_context(running(work / "weed"))
        seaweed.sync_each_object()
        bench = Bench(work, postgres, seaweed, options.scale, options.rounds)
        for part in options.parts:
            PARTS[part](bench)
        load = os.getloadavg()[0]
    show(bench.figures, markdown=options.markdown)
    print(f"load of the machine at the end: {load:.1f} on {os.cpu_count()} processors", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
