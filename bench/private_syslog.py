"""What daemons say to syslog, in a process that has ``/dev/log`` to itself.

The process, and all that it starts, gets a mount namespace of its own with another ``/dev``, so nobody else
on the machine notices. Needs root and unshare(1).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

_INSIDE = "BENCH_PRIVATE_DEV"
_LINE = re.compile(rb"<(\d+)>(?:\w{3} [ \d]\d \d\d:\d\d:\d\d )?(.*)", re.DOTALL)
_ERR = 3


def enter(module: str, argv: Sequence[str]) -> None:
    """Start this program anew in such a namespace, unless it is in one; does not return then."""
    if os.environ.get(_INSIDE) or os.geteuid() != 0 or not shutil.which("unshare"):
        return
    os.environ[_INSIDE] = "yes"
    words = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m", module, *argv]
    os.execvp("unshare", words)  # noqa: S606 (no shell is wanted)


def _must(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


class Syslog:
    """Who listens. `errors` are the lines of priority err and above that hold `mark`."""

    def __init__(self, mark: str) -> None:
        self.errors: list[str] = []
        self.lines = 0
        self.listening = bool(os.environ.get(_INSIDE))
        self._mark = mark.encode()
        if self.listening:
            self._another_dev()
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.bind("/dev/log")
            Path("/dev/log").chmod(0o666)
            threading.Thread(target=self._listen, daemon=True).start()

    def _another_dev(self) -> None:
        here = Path("/mnt")  # of this namespace alone
        _must("mount", "-t", "tmpfs", "none", str(here))
        for name in ("upper", "work", "dev"):
            (here / name).mkdir()
        layers = f"lowerdir=/dev,upperdir={here}/upper,workdir={here}/work"
        _must("mount", "-t", "overlay", "overlay", "-o", layers, f"{here}/dev")
        for below in ("shm", "pts"):
            if Path("/dev", below).is_mount():
                _must("mount", "--rbind", f"/dev/{below}", f"{here}/dev/{below}")
        _must("mount", "--rbind", f"{here}/dev", "/dev")
        with contextlib.suppress(FileNotFoundError):
            Path("/dev/log").unlink()

    def _listen(self) -> None:
        while True:
            found = _LINE.fullmatch(self._socket.recv(65536).rstrip(b"\n\0"))
            if found is None or self._mark not in found[2]:
                continue
            self.lines += 1
            if int(found[1]) & 7 <= _ERR:
                self.errors.append(found[2].decode(errors="replace"))
