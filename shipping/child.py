"""What a child process runs: ``python -m cyrus_sync.shipping.child LOG-NAME PROGRAM imapd.conf``.

Its standard input is the socket by which it gets its jobs (`cyrus_sync.shipping.worker`).
"""

from __future__ import annotations

import os
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
        # Whoever has started us has said what there is to be said of the file.
        config = Config(Path(path), program, read_settings(path))
        serve(Site.from_config(config, program=log_name), jobs)
        return EX_OK

    return run_command(log_name, work, [])


if __name__ == "__main__":
    sys.exit(main())
