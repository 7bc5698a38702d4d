"""Ports for what tests start. Nobody else takes one between the moment in which it is chosen and that in
which somebody listens there: the kernel gives none of them to outgoing connections, and each is of a block
that this process has for itself among all that run tests on this machine."""

from __future__ import annotations

import fcntl
import functools
import itertools
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
_FIRST, _SIZE, _BLOCKS = 12_000, 200, 100


def free_port() -> int:
    """A port at which nobody listens, by TCP or UDP, on any of `ADDRESSES`."""
    return next(port for port in _ports(os.getpid()) if _is_free(port))


@functools.cache
def _ports(process: int) -> Iterator[int]:
    """Those of the block that `process` has, again and again."""
    directory = Path(tempfile.gettempdir(), f"cyrus-sync-ports-{os.getuid()}")
    directory.mkdir(exist_ok=True)
    for block in random.sample(range(_BLOCKS), _BLOCKS):
        held = os.open(directory / str(block), os.O_RDWR | os.O_CREAT)  # until the process is gone
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(held)
            continue
        first = _FIRST + block * _SIZE
        return itertools.cycle(range(first, first + _SIZE))
    raise AssertionError(f"{_BLOCKS} processes run tests on this machine ({directory})")


def _is_free(port: int) -> bool:
    with ExitStack() as stack:
        for address, kind in itertools.product(ADDRESSES, (socket.SOCK_STREAM, socket.SOCK_DGRAM)):
            try:
                stack.enter_context(socket.socket(type=kind)).bind((address, port))
            except OSError:
                return False
        return True
