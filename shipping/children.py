"""Child processes, at most ten at a time. They are started, not forked, and do one job after another.

A child's standard input is a socket. A job is a line of JSON, with which an open file may come; what is said
to it is a line of JSON, too. A child whose input ends is no longer needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from cyrus_sync.shipping.site import Site

MAX_CHILDREN = 10


class Process(Protocol):
    """What is known of a process that was started (`subprocess.Popen`)."""

    pid: int

    def wait(self) -> int:
        """Its exit status; negative: the signal that killed it."""


@dataclass(frozen=True, slots=True)
class Child:
    """A child, and our end of its socket."""

    process: Process
    socket: socket.socket

    def give(self, job: Any, *files: int) -> None:
        """Give it a job. The caller has a copy of `files` still."""
        with contextlib.suppress(OSError):  # it has died: its answer says so
            line = json.dumps(job).encode("ascii") + b"\n"
            sent = socket.send_fds(self.socket, [line], files)
            self.socket.sendall(line[sent:])

    def answer(self) -> Any:
        """What it says to its job, waited for. None if it has died."""
        said = b""
        with contextlib.suppress(OSError):
            while not said.endswith(b"\n"):
                more = self.socket.recv(1 << 16)
                if not more:
                    return None
                said += more
        return json.loads(said) if said else None

    def end(self) -> int:
        """Let it end, and wait for that; its exit status, 128 + signal if it was killed."""
        self.socket.close()
        code = self.process.wait()
        return code if code >= 0 else 128 - code


def start(site: Site) -> Child:
    """A child that does the jobs of `cyrus_sync.shipping.worker` for `site`. OSError."""
    return start_program(worker_command(site))


def worker_command(site: Site) -> list[str]:
    """The command line of such a child."""
    # -P: what lies in the current directory is no part of the program.
    module = [sys.executable, "-P", "-m", "cyrus_sync.shipping.child"]
    return [*module, site.log.program, site.config.program, os.fspath(site.config_path)]


def start_program(command: Sequence[str]) -> Child:
    """Any program that keeps to what is said above. OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            return Child(subprocess.Popen(command, stdin=theirs.fileno()), ours)
        except BaseException:
            ours.close()
            raise


def run_children(start: Callable[[], Child], jobs: Sequence[Any], limit: int = MAX_CHILDREN) -> list[int]:
    """Have each job done, at most `limit` at a time, by children that `start` starts; what each said, in the
    order of the jobs: a number. A child that was killed at its job counts as 128 + signal."""
    statuses = [0] * len(jobs)
    waiting = deque(enumerate(jobs))
    at_work: dict[int, tuple[int, Child]] = {}
    poll = select.poll()

    def give_next(child: Child) -> None:
        number, job = waiting.popleft()
        at_work[child.socket.fileno()] = number, child
        child.give(job)

    try:
        while waiting or at_work:
            while waiting and len(at_work) < limit:
                child = start()
                poll.register(child.socket, select.POLLIN)
                give_next(child)
            for descriptor, _event in poll.poll():
                number, child = at_work.pop(descriptor)
                said = child.answer()
                statuses[number] = -1 if said is None else said
                if said is not None and waiting:
                    give_next(child)
                    continue
                poll.unregister(descriptor)
                status = child.end()
                if said is None:
                    statuses[number] = status or 70  # it said nothing and went: that is not well done
    finally:
        for _, child in at_work.values():
            child.socket.close()
    return statuses
