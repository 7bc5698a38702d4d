"""Processes that have what the test has patched: forks of the test's own."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from cyrus_sync.shipping import children, worker
from cyrus_sync.shipping.children import Child
from cyrus_sync.shipping.site import Site


def fork(job: Callable[[], int]) -> int:
    """Start `job` in a child process; the process id. Its exit status is what `job` returns."""
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


class _Forked:
    """A process that this one has forked."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def forked(site: Site) -> Child:
    """Takes the place of `cyrus_sync.shipping.children.start`."""
    ours, theirs = socket.socketpair()
    pid = fork(lambda: _work(site, theirs))
    theirs.close()
    return Child(_Forked(pid), ours)


def _work(site: Site, jobs: socket.socket) -> int:
    gc.disable()  # nothing may close a number that stands for another file by now
    for path in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            if int(path.name) != jobs.fileno() and str(path.readlink()).startswith(("socket:", "anon")):
                os.close(int(path.name))
    worker.serve(site, jobs)
    return 0


class Forker:
    """Forks for a process that is going to have threads: it is a fork of that, made before.

    `start` takes the place of `cyrus_sync.shipping.children.start`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ours, theirs = socket.socketpair()
        self._lock = threading.Lock()
        self.pid = fork(lambda: self._serve(theirs))
        theirs.close()

    def start(self, _site: Site) -> Child:
        with self._lock:
            self._ours.sendall(b"start\n")
            said, files, _, _ = socket.recv_fds(self._ours, 100, 1)
        return Child(_OfForker(self, int(said)), socket.socket(fileno=files[0]))

    def wait(self, pid: int) -> int:
        with self._lock:
            self._ours.sendall(b"%d\n" % pid)
            return int(self._ours.recv(100))

    def _serve(self, asked: socket.socket) -> int:
        self._ours.close()
        while asked_for := asked.recv(100):
            if asked_for == b"start\n":
                child = forked(self._site)
                socket.send_fds(asked, [b"%d" % child.process.pid], [child.socket.fileno()])
                child.socket.close()
            else:
                asked.sendall(b"%d" % _Forked(int(asked_for)).wait())
        return 0


class _OfForker:
    def __init__(self, forker: Forker, pid: int) -> None:
        self.pid = pid
        self._forker = forker

    def wait(self) -> int:
        return self._forker.wait(self.pid)


def have_children_forked(site: Site) -> None:
    """In a process that is about to receive for `site`: if its children are to be forks, have a `Forker`."""
    if children.start is forked:
        children.start = Forker(site).start
