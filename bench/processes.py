"""What processes cost: CPU seconds and peak resident memory, from /proc.

`ru_maxrss` of wait4 will not do for memory: a child starts with the peak of the process that it was
forked from. VmHWM belongs to the program itself and can be set back.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.ours import environment

_TICK = os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> tuple[int, float]:
    """Parent, and CPU seconds of the process with those of its children that have ended."""
    text = Path(f"/proc/{pid}/stat").read_text()
    fields = text[text.rindex(")") + 2 :].split()
    return int(fields[1]), sum(int(n) for n in fields[11:15]) / _TICK


def tree(root: int) -> dict[int, float]:
    """The living processes of which `root` is an ancestor, and itself: CPU seconds by process id."""
    parents, cpu = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)], cpu[int(entry.name)] = _stat(int(entry.name))
    inside = {root}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in inside} - inside
        inside |= more
        grown = bool(more)
    return {pid: cpu[pid] for pid in inside if pid in cpu}


def peak(pid: int) -> int:
    """Peak resident memory in bytes, 0 if the process is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def _name(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


class Server:
    """A server's processes, measured from one moment to another."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._cpu = 0.0
        self.start()

    def start(self) -> None:
        """Count from now on; peaks are set back."""
        for pid in tree(self.root):
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")
        self._cpu = sum(tree(self.root).values())

    def cpu(self) -> float:
        return sum(tree(self.root).values()) - self._cpu

    def rss(self) -> int:
        """Of the largest sync_server (a real Cyrus's tree has other daemons too)."""
        return max((peak(pid) for pid in tree(self.root) if _name(pid) == "sync_server"), default=0)


@dataclass
class Ran:
    """A client's run: wall clock and CPU seconds, peak memory in bytes, exit status."""

    seconds: float
    cpu: float
    rss: int
    status: int
    text: str


def run(command: list[str], identity: dict[str, Any], timeout: float = 3600) -> Ran:
    """Run a command to its end and measure it."""
    begun = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=environment(),
        **identity,
    )
    highest, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            highest[0] = max(highest[0], peak(process.pid))
            if time.monotonic() - begun > timeout:
                process.kill()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    assert process.stdout is not None
    text = process.stdout.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    over.set()
    watcher.join()
    return Ran(seconds, usage.ru_utime + usage.ru_stime, highest[0], process.returncode, text)
