"""`sync_jobs`: a one-shot run over many users in several processes, so that it uses all processors.

Each has its own connection and its own part of the users, told by a hash of their names; whatever is done
once for all is done by the first. The processes are forks of one that has no reactor yet. It waits for them,
passes signals on, and ends with the worst status. If it is killed they stop.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import sys
import zlib
from collections.abc import Callable
from typing import NamedTuple

from cyrus_sync.common.errors import EX_OK, EX_SOFTWARE, EX_TEMPFAIL, CyrusSyncError
from cyrus_sync.common.names import Owner

log = logging.getLogger("sync_client")

_PR_SET_PDEATHSIG = 1


class Part(NamedTuple):
    """What one process does: `number` from 1, `of` so many."""

    number: int = 1
    of: int = 1

    def has(self, owner: Owner) -> bool:
        """Whether the owner is done here."""
        return zlib.crc32(str(owner).encode("utf-8", "surrogateescape")) % self.of == self.number - 1

    @property
    def first(self) -> bool:
        return self.number == 1


def in_processes(count: int, work: Callable[[Part], int]) -> int:
    """Call `work` for each part in a process of its own; the worst exit status. Called before there is a
    reactor, or a thread."""
    sys.stdout.flush()
    sys.stderr.flush()
    running = {_begin(Part(number, count), work) for number in range(1, count + 1)}

    def pass_on(number: int, _frame: object) -> None:
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    statuses = []
    while running:
        pid, status = os.wait()
        if pid in running:
            running.discard(pid)
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                log.error("process %d was ended by signal %d: its part is not done", pid, -code)
            statuses.append(code if code >= 0 else EX_TEMPFAIL)
    return max(statuses, default=EX_OK)


def _begin(part: Part, work: Callable[[Part], int]) -> int:
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = EX_SOFTWARE
    try:
        os.setpgid(0, 0)  # what is typed at the terminal comes from the parent, once
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(EX_TEMPFAIL)
        status = work(part)
    except CyrusSyncError as error:
        log.critical("%s", error)
        status = error.exit_status
    except BaseException:  # LostOutput too: nobody reads, and the parent's own words say so
        log.critical("internal error", exc_info=True)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        logging.shutdown()
        os._exit(status)
