"""The jobs of a child process: carrying out orders, and taking files from senders with the family key."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cyrus_sync.shipping.site import Site

_LONGEST = 1 << 16


def ship(order: Path, storage_class: str | None) -> dict[str, Any]:
    """The job to carry out an order (`cyrus_sync.shipping.sender.ship_order`). It is answered with 0 if
    nothing went wrong, else 1."""
    return {"ship": os.fspath(order), "class": storage_class}


def do(site: Site, job: dict[str, Any], files: Sequence[int]) -> Any:
    """Do a job; what is said to it."""
    if "ship" in job:
        from cyrus_sync.shipping.sender import ship_order

        return 0 if ship_order(site, Path(job["ship"]), job["class"]) else 1
    from cyrus_sync.shipping.receive import receive_job

    return receive_job(site, job, files[0])


def serve(site: Site, jobs: socket.socket) -> None:
    """Do the jobs that come, to the last."""
    while True:
        line, files = _next(jobs)
        if not line:
            return
        try:
            said = do(site, json.loads(line), files)
        finally:
            for descriptor in files:
                os.close(descriptor)
        jobs.sendall(json.dumps(said).encode("ascii") + b"\n")


def _next(jobs: socket.socket) -> tuple[bytes, list[int]]:
    line, files = b"", list[int]()
    while not line.endswith(b"\n"):
        more, come, _flags, _address = socket.recv_fds(jobs, _LONGEST, 1)
        files += come
        if not more:
            return b"", files
        line += more
    return line, files
