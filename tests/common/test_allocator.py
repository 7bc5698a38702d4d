"""Threads that take turns do not each hold on to memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
THREADS = """
import ctypes, sys, threading
from cyrus_sync.common.allocator import few_arenas

if sys.argv[1] == "few":
    few_arenas()
library = ctypes.CDLL(None)
turn = threading.Barrier(8)

def work():
    turn.wait()
    blocks = [bytearray(50_000) for _ in range(50)]
    turn.wait()
    return blocks

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
library.malloc_stats()
"""


def arenas(how: str) -> int:
    ran = subprocess.run(
        [sys.executable, "-c", THREADS, how], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return ran.stderr.count("Arena ")


def test_eight_threads_share_two_arenas():
    assert arenas("few") <= 2 < arenas("as it is")
