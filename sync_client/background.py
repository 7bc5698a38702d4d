"""Going into the background: double fork, new session, no terminal.

``-r`` does so after the configuration was checked and the channel's lock was had, so that whoever
started it still sees what is wrong; not under systemd or Cyrus's master, which want to keep their child.
The reactor must not exist yet: its descriptors do not survive a fork.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

SUPERVISED = ("INVOCATION_ID", "NOTIFY_SOCKET", "CYRUS_ISDAEMON")
"""Set in the environment by who starts and watches us: systemd, Cyrus's master."""


def is_supervised(environment: Mapping[str, str]) -> bool:
    return any(environment.get(name) for name in SUPERVISED)


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
