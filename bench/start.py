"""What starting a command costs: ``python -m bench.start [--rounds N]``.

CPU seconds, user and system together, of commands that end at once; in turns, so that other work on the
machine slows all of them down alike. ``python`` is the interpreter alone. A client that is refused has loaded
all that a run needs, made its reactor and opened its store.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.interop.ours import BIN

from .processes import run

AIMS = {"sync_client -u, refused": 0.12}
"""CPU seconds on a machine that does nothing else."""

_CONF = """\
configdirectory: {0}/conf
partition-default: {0}/mail
servername: bench.example.org
sync_host: 127.0.0.1:1
sync_authname: bench
sync_password: secret
sync_try_imap: no
sync_allowplaintext: yes
"""


def commands(conf: Path) -> dict[str, list[str]]:
    """What is started, by the name in the table."""

    def ours(name: str, *words: str) -> list[str]:
        return [str(BIN / name), *words]

    return {
        "python": [sys.executable, "-c", "pass"],
        "sync_client --help": ours("sync_client", "--help"),
        "sync_client -u, refused": ours("sync_client", "-C", str(conf), "-o", "-u", "alice"),
        "sync_client --status": ours("sync_client", "-C", str(conf), "--status"),
        "mailstore --help": ours("mailstore", "--help"),
        "mailstore ls": ours("mailstore", "-C", str(conf), "ls"),
        "sync_server --help": ours("sync_server", "--help"),
        "syncreplica -help": ours("syncreplica", "-help"),
    }


def measure(rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each command, of each round; one before that is not counted (modules are compiled)."""
    with tempfile.TemporaryDirectory(prefix="bench-start.") as directory:
        conf = Path(directory) / "imapd.conf"
        conf.write_text(_CONF.format(directory))
        conf.chmod(0o600)
        wanted = commands(conf)
        took: dict[str, list[float]] = {name: [] for name in wanted}
        for number in range(rounds + 1):
            for name, command in wanted.items():
                cpu = run(command, {}).cpu
                if number:
                    took[name].append(cpu)
    return took


def show(took: Mapping[str, list[float]], console: Console) -> None:
    table = Table(box=None, header_style="bold")
    for number, heading in enumerate(("command", "CPU s, median", "least", "most", "aim")):
        table.add_column(heading, justify="right" if number else "left")
    for name, seconds in took.items():
        figures = (statistics.median(seconds), min(seconds), max(seconds))
        aim = AIMS.get(name)
        table.add_row(name, *(f"{each:.3f}" for each in figures), f"{aim:.2f}" if aim else "")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.start", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    show(measure(parser.parse_args().rounds), Console(width=None if sys.stdout.isatty() else 120))


if __name__ == "__main__":
    main()
