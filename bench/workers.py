"""What more than one process of sync_server is worth: ``python -m bench.workers [--rounds N] [--workers N]``.

As many clients as workers, each asking the same CPU bound question again and again as fast as it is answered,
of one worker and of all, in turns. Clients do nothing but count answers, so a server has nearly all of the
processors.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cyrus_sync.common.names import Owner, inbox_of
from tests.interop.csync import Csync
from tests.interop.ours import Ours
from tests.interop.running import default_ground

from .ground import NAMES, ground
from .mail import Post
from .processes import Server

RECORDS = 2000
AHEAD = 8
"""Questions that a client has under way."""

QUESTION = b"GET FULLMAILBOX user.bench\r\n"


def _ask(ours: Ours, count: int) -> int:
    """A client's life; the exit status of its process."""
    with Csync(ours.csync) as csync:
        csync.socket.sendall(QUESTION * AHEAD)
        answered, rest = 0, b""
        while answered < count:
            rest = rest[-12:] + csync.socket.recv(1 << 20)
            done = rest.count(b"\r\nOK success")
            if done:
                rest = rest[rest.rindex(b"\r\nOK success") + 4 :]
                answered += done
                csync.socket.sendall(QUESTION * done)
    return 0


def _together(ours: Ours, clients: int, count: int) -> float:
    """Answers a second of so many clients at once."""
    begun = time.monotonic()
    pids = []
    for _ in range(clients):
        pid = os.fork()
        if not pid:
            os._exit(_ask(ours, count))
        pids.append(pid)
    if any(os.waitpid(pid, 0)[1] for pid in pids):
        raise SystemExit("bench: a client failed")
    return clients * count / (time.monotonic() - begun)


def measure(where: Path, workers: int, rounds: int, count: int) -> list[tuple[str, list[float], float]]:
    """Answers a second of every round, and CPU milliseconds an answer, with one process and with several."""
    found: list[tuple[str, list[float], float]] = []
    settings = {"sasl_mech_list": "PLAIN"}
    with (
        Ours.installed("one", settings, ground=where) as one,
        Ours.installed("many", {**settings, "sync_workers": str(workers)}, ground=where) as many,
    ):
        ends = {"1 process": one, f"{workers} workers": many}
        for ours in ends.values():
            with ours.store.write(Owner("user", "bench")) as box:
                box.create(inbox_of("bench"))
                box.append(inbox_of("bench"), [(raw, 1, "\\Seen") for raw in Post(1).alike(RECORDS, 400)])
        servers = {name: Server(ours.server.pid if ours.server else 0) for name, ours in ends.items()}
        rates: dict[str, list[float]] = {name: [] for name in ends}
        for _ in range(rounds):
            for name, ours in ends.items():
                rates[name].append(_together(ours, workers, count))
        for name in ends:
            found.append((name, rates[name], servers[name].cpu() / (workers * count * rounds) * 1e3))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.workers", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--ground", default=str(default_ground()), metavar="G", help=NAMES)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=100, help="questions of each client and round")
    options = parser.parse_args()
    with ground(options.ground) as where:
        found = measure(where, options.workers, options.rounds, options.count)
    table = Table(box=None, header_style="bold")
    for number, heading in enumerate(("server", "answers/s", "least", "most", "×", "CPU ms an answer")):
        table.add_column(heading, justify="right" if number else "left")
    usual = statistics.median(found[0][1])
    for name, rates, cpu in found:
        middle = statistics.median(rates)
        table.add_row(name, f"{middle:.0f}", f"{min(rates):.0f}", f"{max(rates):.0f}",
                      f"{middle / usual:.2f}", f"{cpu:.2f}")  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
