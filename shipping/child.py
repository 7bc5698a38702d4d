"""What a child process runs: ``python -m cyrus_sync.shipping.child LOG-NAME PROGRAM imapd.conf``.

Its standard input is the socket by which it gets its jobs (`cyrus_sync.shipping.worker`).
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from pathlib import Path

from cyrus_sync.common.commands import run_command
from cyrus_sync.common.config import Config
from cyrus_sync.common.config.imapdconf import read_settings
from cyrus_sync.common.errors import EX_OK
from cyrus_sync.shipping.site import Site
from cyrus_sync.shipping.worker import serve


def main() -> int:
    """The exit status."""
    log_name, program, path = sys.argv[1:]
    # Whoever types ^C means all of us.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    jobs = socket.socket(fileno=os.dup(0))
    with Path(os.devnull).open() as nothing:
        os.dup2(nothing.fileno(), 0)

    def work(_words: list[str]) -> int:
        if _comes_a_job(jobs):
            # Configuration is read no sooner. Whoever has started us has said what there is to be said of it.
            config = Config(Path(path), program, read_settings(path))
            serve(Site.from_config(config, program=log_name), jobs)
        return EX_OK

    return run_command(log_name, work, [])


def _comes_a_job(jobs: socket.socket) -> bool:
    """Wait for the first job; False if there is to be none. A child that was started ahead of it loads
    meanwhile what it needs to take a file."""
    if not select.select([jobs], [], [], 0)[0]:
        import cyrus_sync.shipping.receive  # noqa: F401 - for its first job
    return bool(jobs.recv(1, socket.MSG_PEEK))


if __name__ == "__main__":
    # What is to last is on disk by now. Python would take a while to put away all that it has loaded.
    os._exit(main())
