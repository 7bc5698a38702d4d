"""At most ten child processes at a time; as one ends, the next begins."""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

MAX_CHILDREN = 10


def run_children(jobs: Sequence[Callable[[], int]], limit: int = MAX_CHILDREN) -> list[int]:
    """Run each job in a child process; their exit statuses, in the order of the jobs. A child that was
    killed counts as 128 + signal."""
    statuses = [0] * len(jobs)
    waiting = list(enumerate(jobs))[::-1]
    running: dict[int, tuple[int, int]] = {}
    poll = select.poll()
    while waiting or running:
        while waiting and len(running) < limit:
            number, job = waiting.pop()
            pid = fork(job)
            descriptor = os.pidfd_open(pid)
            running[descriptor] = (number, pid)
            poll.register(descriptor, select.POLLIN)
        for descriptor, _event in poll.poll():
            number, pid = running.pop(descriptor)
            poll.unregister(descriptor)
            os.close(descriptor)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            statuses[number] = code if code >= 0 else 128 - code
    return statuses


def fork(job: Callable[[], int]) -> int:
    """Start `job` in a child process; the process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        _be_child(job)
    return pid


def _be_child(job: Callable[[], int]) -> NoReturn:
    status = 70
    try:
        # Signals are for the child itself, not for the parent's loop.
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        status = job()
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(status)
