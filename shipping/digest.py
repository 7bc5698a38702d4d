"""Digests of data files, by which every host checks what it has: ``<algorithm>:<hexadecimal digits>``.

New orders have BLAKE3 (``b3sum`` prints the same digits): with SHA-256 a processor without instructions of
its own for it spends twice as long on the digest as on all the rest of a transfer. Orders with SHA-256 are
carried out as ever. Another algorithm is another name in front of the colon.

>>> check("sha256:" + "0" * 64)[:9]
'sha256:00'
"""

from __future__ import annotations

import hashlib
import os
import queue
import re
import threading
from collections.abc import Callable
from typing import Any

from blake3 import blake3

BLOCK = 4 * 1024 * 1024
"""Large, as a file system takes large writes with a third less work; only what is filled takes memory."""

_BLOCKS = 4
_PREFERRED = "blake3"
_ALGORITHMS: dict[str, Callable[[], Any]] = {"blake3": blake3, "sha256": hashlib.sha256}
_DIGEST = re.compile(r"([a-z0-9-]{1,32}):([0-9a-f]{64})")


def check(digest: str) -> str:
    """`digest` if it is one that can be compared here, else `ValueError`."""
    found = _DIGEST.fullmatch(digest)
    if not found:
        raise ValueError(f"'{digest[:80]}' is not a digest (algorithm:64 hexadecimal digits)")
    if found[1] not in _ALGORITHMS:
        raise ValueError(f"'{found[1]}' is not a digest that is known here ({', '.join(_ALGORITHMS)})")
    return digest


def algorithm(digest: str) -> str:
    return digest.partition(":")[0]


class Growing:
    """The digest of what is given to it piece by piece."""

    def __init__(self, name: str = _PREFERRED) -> None:
        self._name = name
        self._made = _ALGORITHMS[name]()

    def update(self, data: bytes | memoryview) -> None:
        self._made.update(data)

    def text(self) -> str:
        return f"{self._name}:{self._made.hexdigest()}"


def digest_file(descriptor: int, name: str = _PREFERRED) -> str:
    """The digest of an open file from its start, by the algorithm `name`, without moving its position."""
    offset = 0

    def read(block: memoryview) -> int:
        nonlocal offset
        count = os.preadv(descriptor, [block], offset)
        offset += count
        return count

    return digest_flow(read, lambda block: None, name=name)[1]


def digest_flow(
    read: Callable[[memoryview], int],
    write: Callable[[memoryview], object],
    size: int | None = None,
    name: str = _PREFERRED,
) -> tuple[int, str]:
    """Move `size` bytes from `read` to `write`, or up to where `read` gives 0; their number and digest.

    `read` fills a block, or a part of it. Digesting has a thread of its own beside reading and writing."""
    made = Growing(name)
    free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
    filled: queue.SimpleQueue[tuple[memoryview, int] | None] = queue.SimpleQueue()
    failures: list[BaseException] = []

    def digest_blocks() -> None:
        while item := filled.get():
            block, length = item
            try:
                if not failures:
                    made.update(block[:length])
            except BaseException as error:
                failures.append(error)
            free.put(block)

    length = BLOCK if size is None else max(min(size, BLOCK), 1)
    for _ in range(_BLOCKS if length == BLOCK else 1):
        free.put(memoryview(bytearray(length)))
    worker = threading.Thread(target=digest_blocks)
    worker.start()
    moved = 0
    try:
        while size is None or moved < size:
            block = free.get()
            if size is not None:
                block = block[: size - moved]
            count = _fill(block, read)
            if not count:
                break
            write(block[:count])
            filled.put((block, count))
            moved += count
    finally:
        filled.put(None)
        worker.join()
    if failures:
        raise failures[0]
    return moved, made.text()


def _fill(block: memoryview, read: Callable[[memoryview], int]) -> int:
    count = 0
    while count < len(block) and (more := read(block[count:])):
        count += more
    return count
