"""How the C library gives out memory to a process with threads.

By default glibc has an arena for each thread, and what one thread has freed no other one gets: eight threads
that take turns hold several times what is in use. A few arenas are enough, since Python's own lock keeps
threads from asking at once. To be called by a command before its threads start; elsewhere than with glibc
nothing happens.
"""

from __future__ import annotations

import contextlib

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_MIB = 1024 * 1024


def few_arenas() -> None:
    """At most two; and large blocks go back to the system for good, whatever the sizes before."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, _MIB)
        mallopt(_M_TRIM_THRESHOLD, _MIB)
