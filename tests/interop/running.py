"""Processes that tests start: as which user, on which ports, how they are waited for and how they end."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tests import preloaded
from tests.deadlines import scaled


def identity() -> dict[str, Any]:
    """Arguments for `subprocess` that make a child the user cyrus, with that user's groups."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("cyrus")
    groups = os.getgrouplist("cyrus", user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": groups}


def dying_with_us() -> list[str]:
    """What to put in front of a command so that it is killed when the process that started it is gone."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def listening(*ports: int) -> bool:
    """Whether there is, for each of `ports`, somebody who listens at it on 127.0.0.1."""
    rows = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"0100007F:{port:04X}" for port in ports} <= {row[0] for row in rows if row[2] == "0A"}


def default_ground() -> Path:
    """Where private installations live: memory if the machine has it, since no test here needs a disk."""
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else Path(tempfile.gettempdir())


@dataclass
class Finished:
    """A command that has ended."""

    command: list[str]
    status: int
    out: str
    err: str
    seconds: float

    def check(self) -> Finished:
        """Itself, if it ended with status 0 and without complaint on stderr about the work."""
        assert self.status == 0, self.describe()
        return self

    def describe(self) -> str:
        return f"{' '.join(self.command)} -> {self.status}\nstdout:\n{self.out}\nstderr:\n{self.err}"


def finish(command: list[str], timeout: float, how: dict[str, Any], stdin: bytes = b"") -> Finished:
    """Run a command to its end, or kill it after `timeout` seconds. `how`: more for `subprocess`."""
    begun = time.monotonic()
    if preloaded.is_ours(command) and how.keys() <= {"env"}:
        status, out, err, killed = preloaded.run(command, how.get("env", os.environ), stdin, scaled(timeout))
    else:
        status, out, err, killed = _run(command, timeout, how, stdin)
    return Finished(
        command,
        status,
        out.decode(errors="replace"),
        err.decode(errors="replace") + (f"\n(killed after {timeout:g} s)" if killed else ""),
        time.monotonic() - begun,
    )


def _run(
    command: list[str], timeout: float, how: dict[str, Any], stdin: bytes
) -> tuple[int, bytes, bytes, bool]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, cwd="/", **how)
    try:
        out, err = process.communicate(stdin, scaled(timeout))
        return process.returncode, out, err, False
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        return process.returncode, out, err, True


class Rolling:
    """A sync_client that was left running. Ended by its process id, at the latest where its ``with`` ends."""

    def __init__(self, command: list[str], output: Path, **how: object) -> None:
        """`how`: more for `subprocess`."""
        self.output = output
        with output.open("wb") as sink:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd="/",
                **how,  # type: ignore[call-overload]
            )

    def __enter__(self) -> Rolling:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def stop(self, timeout: float = 10.0) -> int:
        """SIGTERM, then SIGKILL if it must be; the status it ended with."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(scaled(timeout))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


def processes_of(root: Path) -> list[int]:
    """Process ids whose command line names something below `root`."""
    needle = f"{root}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if needle in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return [pid for pid in found if pid != os.getpid()]
