"""Our commands, run by a process that has loaded them: a fork of it begins where an installed command begins,
in a tenth of the time that loading takes. Hundreds of tests run one command after the other.

A run has a process, an environment, arguments, files and an end of its own. What is not tried by it is
loading. That is tried by tests/test_console_scripts.py and tests/test_starting.py, and by everything that
leaves a daemon running. With PRELOADED=no in the environment each command is started anew.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

BIN = Path(sys.executable).parent
COMMANDS = {
    name: name.replace("-", "_")
    for name in ("sync_client", "mailstore", "multitool", "syncreplica", "cyrus-sync", "sync_reset")
}
"""Functions of `common.console`, by command."""
_LOADED = (
    *("sync_client.cli", "sync_client.rolling", "sync_client.comparing.comparer", "sync_client.engine"),
    *("common.wire.client", "csync.line", "spool.master", "common.stores.native.store"),
    *("mailstore.cli", "mailstore.reset", "tool.cli", "multisite.multitool", "multisite.commands.context"),
    *(
        "multisite.commands.syncreplica_export",
        "multisite.commands.syncreplica_import",
        "multisite.cyrus.mail",
    ),
)


# -- on the side of the tests


def is_ours(command: Sequence[str]) -> bool:
    """Whether `run` can run it."""
    path = Path(command[0])
    return path.parent == BIN and path.name in COMMANDS and os.environ.get("PRELOADED") != "no"


def run(
    command: Sequence[str], env: Mapping[str, str], stdin: bytes, timeout: float
) -> tuple[int, bytes, bytes, bool]:
    """Status (as of `subprocess`), stdout, stderr, and whether it was killed after `timeout` seconds."""
    files = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr")]
    said, says = socket.socketpair(type=socket.SOCK_SEQPACKET)
    try:
        with open(files[0], "wb", closefd=False) as opened:
            opened.write(stdin)
        os.lseek(files[0], 0, os.SEEK_SET)
        line, lock = _process(os.getpid())
        job = json.dumps([list(command), dict(env)]).encode()
        with lock:
            line.sendall(len(job).to_bytes(4, "big"))
            socket.send_fds(line, [job[:1]], [*files, says.fileno()])
            line.sendall(job[1:])
        says.close()
        pid = int(said.recv(20))
        said.settimeout(timeout)
        killed = False
        try:
            status = int(said.recv(20))
        except TimeoutError:
            killed = True
            os.kill(pid, signal.SIGKILL)
            said.settimeout(None)
            status = int(said.recv(20))
        return status, _text(files[1]), _text(files[2]), killed
    finally:
        says.close()
        said.close()
        for file in files:
            os.close(file)


def _text(file: int) -> bytes:
    with open(file, "rb", closefd=False) as opened:
        opened.seek(0)
        return opened.read()


@functools.cache
def _process(_of: int) -> tuple[socket.socket, threading.Lock]:
    """The line to the process that has loaded everything. It ends when this one does."""
    ours, theirs = socket.socketpair()
    subprocess.Popen(
        [sys.executable, "-m", __name__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    theirs.close()
    return ours, threading.Lock()


# -- on the other side


def _serve(line: socket.socket) -> Callable[[], int] | None:
    """Fork for each job that comes. In the fork: what is to be run."""
    poll = select.poll()
    poll.register(line, select.POLLIN)
    running: dict[int, tuple[int, int]] = {}
    while True:
        for ready, _ in poll.poll():
            if ready != line.fileno():
                pid, says = running.pop(ready)
                poll.unregister(ready)
                _, status = os.waitpid(pid, 0)
                with contextlib.suppress(BrokenPipeError):
                    os.write(says, b"%d" % os.waitstatus_to_exitcode(status))
                os.close(ready)
                os.close(says)
                continue
            size = _exactly(line, 4)
            if size is None:
                return None
            first, files, _, _ = socket.recv_fds(line, 1, 4)
            rest = _exactly(line, int.from_bytes(size, "big") - 1)
            assert rest is not None
            command, env = json.loads(first + rest)
            pid = os.fork()
            if not pid:
                for descriptor, (_, says) in running.items():
                    os.close(descriptor)
                    os.close(says)
                line.close()
                return _begun(command, env, files)
            *standard, says = files
            for file in standard:
                os.close(file)
            descriptor = os.pidfd_open(pid)
            running[descriptor] = pid, says
            poll.register(descriptor, select.POLLIN)
            os.write(says, b"%d" % pid)


def _exactly(line: socket.socket, size: int) -> bytes | None:
    """So many octets; None where the other end is gone."""
    parts = b""
    while len(parts) < size:
        part = line.recv(size - len(parts))
        if not part:
            return None
        parts += part
    return parts


def _begun(command: list[str], env: dict[str, str], files: list[int]) -> Callable[[], int]:
    """As if this process had been started with these."""
    from cyrus_sync.common import console

    *standard, says = files
    os.close(says)
    for number, file in enumerate(standard):
        os.dup2(file, number)
        os.close(file)
    os.chdir("/")
    os.environ.clear()
    os.environ.update(env)
    sys.argv = command
    random.seed()
    return getattr(console, COMMANDS[Path(command[0]).name])  # type: ignore[no-any-return]


def main() -> int:
    from cyrus_sync.common.garbage import keep_what_is_loaded, look_rarely
    from cyrus_sync.common.lean import begin_lean

    look_rarely()
    begin_lean()
    for module in _LOADED:
        import_module(f"cyrus_sync.{module}")
    assert "twisted.internet.reactor" not in sys.modules, "forks would share its descriptors"
    assert threading.active_count() == 1
    keep_what_is_loaded()
    begun = _serve(socket.socket(fileno=int(sys.argv[1])))
    return begun() if begun else 0


if __name__ == "__main__":
    sys.exit(main())
