"""``python -m bench.shipping``: a file from host to host by shipping_server, beside what cp takes for it.

Both hosts are on this machine and on one ground. The time is that of ``shipping_server -poll`` from its start
to its end: the file is on disk at the other host then, and gone here. `cp` leaves it to the system when to
write; after `cp, sync` the copy is on disk. The three take turns, and the fastest of each counts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.deadlines import until
from tests.interop.ours import environment
from tests.ports import free_port

from .ground import NAMES, ground
from .processes import run

HEADINGS = ("way", "s", "MB/s", "× cp", "× cp, sync", "all runs")
_COMMANDS = {
    "shipping_server": "cyrus_sync.shipping.cli",
    "mkorder": "cyrus_sync.shipping.mkorder",
}
_BLOCK = 4 << 20
_HOSTS = ("127.0.0.1", "127.0.0.2")


class Host:
    """A host in a directory of its own, named by its address."""

    def __init__(self, directory: Path, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.bay = directory / name / "shipping" / "ms_ship"
        self.conf = directory / name / "imapd.conf"
        self.conf.parent.mkdir()
        key = directory / "key"
        if not key.exists():
            key.write_text("5a" * 32)
            key.chmod(0o600)
        self.conf.write_text(
            f"configdirectory: {directory}/{name}\nservername: {name}\nmultisite_host: {name}\n"
            f"multisite_key_file: {key}\nmultisite_listen: {name}\nmultisite_contact_port: {port}\n"
        )

    def command(self, program: str, *words: str) -> list[str]:
        return [sys.executable, "-m", _COMMANDS[program], "-C", str(self.conf), *words]

    def run(self, program: str, *words: str) -> None:
        ran = run(self.command(program, *words), {})
        if ran.status:
            raise SystemExit(f"bench: {program} {' '.join(words)} ended with {ran.status}:\n{ran.text}")

    def _takes(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.name, self.port)) == 0

    @contextlib.contextmanager
    def receiving(self) -> Iterator[None]:
        server = subprocess.Popen(self.command("shipping_server", "-receiver"), env=environment())
        try:
            until(self._takes, f"shipping_server -receiver listens on {self.name}")
            yield
        finally:
            server.terminate()
            server.wait()


def _timed(step: Callable[[], None], spare: Path, size: int) -> float:
    # A virtual machine may have given memory that lay free for a while back to its host, and gets it again
    # ten times slower than a file is copied. Whoever comes first would pay for that; so a file comes first.
    with spare.open("wb", buffering=0) as file:
        block = bytes(_BLOCK)
        for _ in range(0, size, _BLOCK):
            file.write(block)
        os.fsync(file.fileno())
    spare.unlink()
    os.sync()  # nothing of what was before is written meanwhile
    begun = time.monotonic()
    step()
    return time.monotonic() - begun


def measure(work: Path, size: int, rounds: int) -> dict[str, list[float]]:
    """The seconds that each way took in each round."""
    port = free_port()
    here, there = (Host(work, name, port) for name in _HOSTS)
    source, copy, come = work / "source", work / "copy", there.bay / "incoming" / "source"
    with source.open("wb") as file:
        for left in range(size, 0, -(1 << 20)):
            file.write(os.urandom(min(1 << 20, left)))
    took: dict[str, list[float]] = {"cp": [], "cp, sync": [], "shipping_server": []}

    def timed(step: Callable[[], None]) -> float:
        return _timed(step, work / "spare", size)

    def cp(*further: list[str]) -> None:
        for command in (["cp", str(source), str(copy)], *further):
            subprocess.run(command, check=True)

    with there.receiving():
        for _ in range(rounds):
            took["cp"].append(timed(cp))
            copy.unlink()
            took["cp, sync"].append(timed(lambda: cp(["sync", str(copy)])))
            copy.unlink()
            here.run("mkorder", "-data", str(source), "-ship", "-copy", there.name)
            took["shipping_server"].append(timed(lambda: here.run("shipping_server", "-poll")))
            if come.stat().st_size != size:
                raise SystemExit(f"bench: {come} is not what was sent")
            come.unlink()
    return took


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.shipping", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    parser.add_argument("--ground", default="tmpfs", metavar="G", help=f"{NAMES}; default tmpfs")
    parser.add_argument("--size", type=int, default=1 << 30, help="octets of the file")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with ground(options.ground) as work:
        took = measure(work, options.size, options.rounds)
    table = Table(box=None, header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading in (HEADINGS[0], HEADINGS[-1]) else "right")
    best = {way: min(times) for way, times in took.items()}
    for way, seconds in best.items():
        table.add_row(
            way, f"{seconds:.2f}", f"{options.size / 1e6 / seconds:,.0f}", f"{seconds / best['cp']:.2f}",
            f"{seconds / best['cp, sync']:.2f}", " ".join(f"{one:.2f}" for one in took[way]),
        )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 160).print(table)


if __name__ == "__main__":
    main()
