"""`Folding`: the messages of a packet are compressed in a thread while what follows them is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.stores.staging import Making, Staging, is_small, make_all

_AT_ONCE = 3
"""Sections of messages, each of a few MiB at most, that wait for the thread."""


class Folding:
    """Stages messages in their order. They are there after `settle`, which the caller has to call before
    anything of the stage is used."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._thread = ThreadPoolExecutor(1, "folding")
        self._waiting: deque[Future[Making]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    def add(self, bodies: Sequence[MessageBody]) -> None:
        """Stage a section of a packet. Raises what `Staging.add` does, here or at `settle`."""
        if all(is_small(body) for body in bodies):
            self._waiting.append(self._thread.submit(make_all, bodies))
            self._collect(_AT_ONCE)
        else:  # its octets can be read only until the next item of the packet
            self.settle()
            self._staging.add(bodies)

    def settle(self) -> None:
        """Have everything staged."""
        self._collect(0)

    def _collect(self, still: int) -> None:
        while len(self._waiting) > still:
            self._staging.add_made(self._waiting.popleft().result())
