"""Going into the background: double fork, new session, no terminal.

``-r`` does so after the configuration was checked and the channel's lock was had, so that whoever started it
still sees what is wrong. Where systemd, or Cyrus's master (DAEMON), wants to keep its child, it stays.
The reactor must not exist yet: its descriptors do not survive a fork.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

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


def go_to_background() -> None:
    """Return in the daemon only; the calling process ends with status 0."""
    _fork_and_leave()
    os.setsid()
    _fork_and_leave()
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    if nowhere > 2:
        os.close(nowhere)


def _fork_and_leave() -> None:
    if os.fork():
        os._exit(0)
