"""Many users on one host: ``python -m bench.many [--users N] [--ground G]``.

Each user has an INBOX with three messages. Tells wall clock and CPU (of both ends, where there are two) of
each kind of work, and what a user costs. `AIMS` are the figures for 20,000 users that `docs/performance.md`
promises; for fewer users they shrink with the number.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cyrus_sync.common.names import Owner, inbox_of
from tests.interop.ours import BIN, Ours

from .ground import NAMES, ground
from .processes import Ran, Server, run

FULL = 20_000
MESSAGES = 3
AIMS = {
    "create": 100.0,
    "ls -1": 2.0,
    "stats": 2.0,
    "expire": 2.0,
    "first -A": 60.0,
    "-A, nothing changed": 12.0,
    "-A, nothing changed, again": 12.0,
    "log, 3 lines a user": 20.0,
}
"""Seconds of wall clock for `FULL` users."""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of work: seconds of wall clock, CPU seconds of the command and of the server beside it."""

    work: str
    users: int
    seconds: float
    cpu: float
    server_cpu: float = 0.0
    note: str = ""


class Host:
    """A master and its replica with so many users each."""

    def __init__(self, master: Ours, replica: Ours, users: int) -> None:
        self.master = master
        self.replica = replica
        self.users = [f"u{number:06d}" for number in range(users)]
        self.server = Server(replica.server.pid if replica.server else 0)
        self.client_conf = master.client_config(replica.csync)

    def mailstore(self, *words: str) -> Ran:
        return _well(run([str(BIN / "mailstore"), "-C", str(self.master.config), *words], {}))

    def sync_client(self, *words: str) -> tuple[Ran, float]:
        """A run, and what it cost the server."""
        self.server.start()
        done = _well(run([str(BIN / "sync_client"), "-C", str(self.client_conf), "-o", *words], {}))
        return done, self.server.cpu()


def _well(done: Ran) -> Ran:
    if done.status:
        raise SystemExit(f"bench: exit status {done.status}: {done.text[-2000:]}")
    return done


# -- the kinds of work


def create(host: Host) -> Iterable[Row]:
    listed = host.master.root / "users"
    listed.write_text("".join(f"user/{user}\n" for user in host.users))
    done = host.mailstore("create", "-f", str(listed))
    octets, files = _on_disk(host.master.root / "mail")
    note = (
        f"{octets / len(host.users) / 1024:.1f} KiB and {files / len(host.users):.1f} files of an empty user"
    )
    yield Row("create", len(host.users), done.seconds, done.cpu, note=note)


def _on_disk(top: Path) -> tuple[float, float]:
    """Octets of disk (directories of owners too) and files below `users`."""
    octets = files = 0.0
    for path in (top / "users").rglob("*"):
        about = path.lstat()
        octets += max(about.st_blocks * 512, 0) if path.parent.parent.name == "users" else about.st_size
        files += path.is_file()
    return octets, files


def fill(host: Host) -> Iterable[Row]:
    """Not measured: three messages for everybody, that nobody has replicated yet."""
    store, now = host.master.store, int(time.time())
    for number, user in enumerate(host.users):
        mail = [
            (f"Subject: {number}.{one}\r\nFrom: a@b\r\n\r\nbody {number * 7919 + one}\r\n".encode(), now, "")
            for one in range(MESSAGES)
        ]
        with store.write(Owner("user", user)) as box:
            box.append(inbox_of(user), mail)
    store.close()
    host.master.__dict__.pop("store", None)
    host.master.sync_log.unlink(missing_ok=True)
    return ()


def look(host: Host) -> Iterable[Row]:
    for words in (["ls", "-1"], ["stats"], ["expire"]):
        for again in ("", ", again"):
            done = host.mailstore(*words)
            yield Row(" ".join(words) + again, len(host.users), done.seconds, done.cpu)


def everybody(host: Host) -> Iterable[Row]:
    for name in ("first -A", "-A, nothing changed", "-A, nothing changed, again"):
        done, server = host.sync_client("-A")
        yield Row(name, len(host.users), done.seconds, done.cpu, server)


def names(host: Host) -> Iterable[Row]:
    """Everybody by name, out of a file, nothing changed; then as after a fire, to a server that has all."""
    listed = host.master.root / "names"
    listed.write_text("".join(f"{user}\n" for user in host.users))
    done, server = host.sync_client("-u", "-f", str(listed))
    yield Row("-u -f NAMES", len(host.users), done.seconds, done.cpu, server, _memory(done))
    host.server.start()
    to = "{}:{}".format(*host.replica.csync)
    words = ["-C", str(host.client_conf), "restore", "--everybody", "--yes", "--to", to]
    done = _well(run([str(BIN / "mailstore"), *words], {}))
    yield Row(
        "restore --everybody", len(host.users), done.seconds, done.cpu, host.server.cpu(), _memory(done)
    )


def _memory(done: Ran) -> str:
    return f"{done.rss / 1e6:.0f} MB"


def log(host: Host) -> Iterable[Row]:
    """Every user's INBOX three times in the log, nothing of it changed."""
    lines = "".join(f"MAILBOX user.{user}\n" for _ in range(3) for user in host.users)
    host.master.sync_log.parent.mkdir(parents=True, exist_ok=True)
    host.master.sync_log.write_text(lines)
    done, server = host.sync_client("-R", "-1")
    yield Row("log, 3 lines a user", len(host.users), done.seconds, done.cpu, server)


WORK: dict[str, Callable[[Host], Iterable[Row]]] = {
    "create": create,
    "fill": fill,
    "look": look,
    "everybody": everybody,
    "names": names,
    "log": log,
}


def measure(where: Path, users: int, wanted: Sequence[str]) -> list[Row]:
    """All rows; creating and filling are always done."""
    rows: list[Row] = []
    with (
        Ours.installed("many-master", {"sasl_mech_list": "PLAIN"}, serving=False, ground=where) as master,
        Ours.installed("many-replica", {"sasl_mech_list": "PLAIN"}, ground=where) as replica,
    ):
        host = Host(master, replica, users)
        for name, work in WORK.items():
            if name in ("create", "fill", *wanted):
                for row in work(host):
                    print(f"{row.work}: {row.seconds:.1f} s", file=sys.stderr)
                    rows.append(row)
    return rows


def show(rows: Sequence[Row], console: Console) -> None:
    table = Table(box=None, header_style="bold")
    for number, heading in enumerate(
        ("work", "users", "s", "aim s", "CPU s", "server CPU s", "ms a user", "note")
    ):
        table.add_column(heading, justify="left" if number in (0, 7) else "right")
    for row in rows:
        aim = AIMS.get(row.work.removesuffix(", again"), AIMS.get(row.work))
        table.add_row(
            row.work,
            f"{row.users:,}",
            f"{row.seconds:.2f}",
            f"{aim * row.users / FULL:.2f}" if aim else "",
            f"{row.cpu:.2f}",
            f"{row.server_cpu:.2f}",
            f"{row.seconds / row.users * 1e3:.2f}",
            row.note,
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.many", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--ground", default="tmpfs", metavar="G", help=f"{NAMES}; default tmpfs")
    parser.add_argument("--users", type=int, default=2_000)
    parser.add_argument(
        "--work", nargs="+", choices=[*WORK], default=[*WORK], metavar="W", help=", ".join(WORK)
    )
    options = parser.parse_args()
    with ground(options.ground) as where:
        rows = measure(where, options.users, options.work)
    show(rows, Console(width=None if sys.stdout.isatty() else 160))


if __name__ == "__main__":
    main()
