"""How the files that a process may have open are shared out: threads, owners kept open, connections.

A process that runs out of descriptors fails in the middle of somebody's change. So everything that keeps
files open asks here how many it may have, and all of it together fits ``ulimit -n``.

>>> share_out(64)
Shares(limit=64, threads=1, owners=1, connections=8)
>>> share_out(1024)
Shares(limit=1024, threads=8, owners=44, connections=224)
"""

from __future__ import annotations

import contextlib
import resource
from typing import NamedTuple

_WANTED = 65536
"""More files than this are of no use to us, and a hard limit may be a billion."""

_OTHERS = 24
"""Standard streams, the reactor's own, ports, syslog, the registry's and the action log's files."""

_FILES_OF_A_THREAD = 14
"""A connection to an index (three files), two packs read, one written, the lock, a directory that is synced,
staged messages, the action log."""

_FILES_OF_AN_OWNER = 10
"""Two idle connections to the index, each with three files and two packs."""

_FILES_OF_A_CONNECTION = 2
"""A socket, and a staged file."""

_MOST_THREADS = 8
_MOST_OWNERS = 128


class Shares(NamedTuple):
    """How many of each there may be under `limit` open files."""

    limit: int
    threads: int
    """That work on a store at the same time."""
    owners: int
    """Whose files are kept open for the next use."""
    connections: int
    """Of peers."""


def raise_soft_limit() -> int:
    """Allow this process as many open files as it may allow itself; how many these are now.

    The soft limit is often 1024 only for programs that use select(2). We do not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED if hard == resource.RLIM_INFINITY else min(hard, _WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return file_limit()


def file_limit() -> int:
    """How many files the process may have open (RLIMIT_NOFILE, soft)."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _WANTED if soft == resource.RLIM_INFINITY else min(soft, _WANTED)


def share_out(limit: int | None = None) -> Shares:
    """The shares of `limit` open files, without it of this process's. There is at least one of each."""
    if limit is None:
        limit = file_limit()
    free = max(0, limit - _OTHERS)
    threads = _within(free // 2 // _FILES_OF_A_THREAD, _MOST_THREADS)
    owners = _within((free - threads * _FILES_OF_A_THREAD) // 2 // _FILES_OF_AN_OWNER, _MOST_OWNERS)
    left = free - threads * _FILES_OF_A_THREAD - owners * _FILES_OF_AN_OWNER
    return Shares(limit, threads, owners, max(1, left // _FILES_OF_A_CONNECTION))


def _within(count: int, most: int) -> int:
    return max(1, min(count, most))
