"""Going into the background: double fork, new session, no terminal.

``-r`` does so after the configuration was checked and the channel's lock was had, so that whoever started it
still sees what is wrong. Where systemd, or Cyrus's master (DAEMON), wants to keep its child, it stays.
The reactor must not exist yet: its descriptors do not survive a fork.

The command that was typed ends when the daemon works: its process id is in its file by then, and the exit
status says whether it works. What is wrong until then is on standard error, and in syslog.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Mapping

from cyrus_sync.common.commands import complain
from cyrus_sync.common.errors import EX_INTERRUPTED, EX_OK, EX_SOFTWARE

SYSTEMD = ("INVOCATION_ID", "NOTIFY_SOCKET")
"""Set in the environment by systemd, for its child and for whatever that one starts."""


def is_supervised(environment: Mapping[str, str], pid: int | None = None) -> bool:
    """Whether who started `pid` (default: this process) wants to keep it: systemd, or Cyrus's master.

    That master waits for the commands of its START section before it serves anybody. They inherit what
    systemd has told the master itself, so SYSTEMD_EXEC_PID (systemd.exec(5), since release 248) says who is
    meant.
    """
    if environment.get("CYRUS_ISDAEMON"):
        return True
    meant = environment.get("SYSTEMD_EXEC_PID")
    if meant and meant != str(os.getpid() if pid is None else pid):
        return False
    return any(environment.get(name) for name in SYSTEMD)


class Starting:
    """A daemon that does not work yet, as it sees itself: somebody waits for it to say so."""

    def __init__(self, program: str, descriptor: int) -> None:
        """`descriptor`: where the exit status of who waits is written."""
        self._descriptor = descriptor
        self._said = logging.StreamHandler(sys.stderr)
        self._said.setLevel(logging.WARNING)
        self._said.setFormatter(logging.Formatter(f"{program}: %(message)s"))
        logging.getLogger().addHandler(self._said)

    def over(self, status: int = EX_OK) -> None:
        """It works (or, with another `status`, it never will): nobody waits any more. Once is enough."""
        if self._descriptor < 0:
            return
        logging.getLogger().removeHandler(self._said)
        nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        with contextlib.suppress(BrokenPipeError):  # who waited has been interrupted
            os.write(self._descriptor, bytes([status]))
        os.close(self._descriptor)
        self._descriptor = -1


def go_to_background(program: str) -> Starting:
    """Return in the daemon only, which has standard error until it says that it works. The calling process
    waits for that, and ends with the status that the daemon gives."""
    hear, tell = os.pipe()
    if os.fork():
        os.close(tell)
        os._exit(_what_became_of_it(program, hear))
    os.close(hear)
    os.setsid()
    if os.fork():
        os._exit(EX_OK)
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nowhere, descriptor)
    if nowhere > 1:
        os.close(nowhere)
    return Starting(program, tell)


def _what_became_of_it(program: str, hear: int) -> int:
    """The exit status of the daemon's start."""
    try:
        if said := os.read(hear, 1):
            return said[0]
    except KeyboardInterrupt:
        return EX_INTERRUPTED
    complain(program, "the process in the background ended before it worked")
    return EX_SOFTWARE
