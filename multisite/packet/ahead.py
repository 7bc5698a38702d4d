"""What comes next, made by a thread while the one before is worked at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(source: Iterable[T], most: int) -> Iterator[T]:
    """All of `source` in its order, of which one thread makes `most` in advance. What `source` raises is
    raised in its place. The thread ends with this, or after what it is making when this is closed."""
    waiting: deque[Future[T]] = deque()
    following = iter(source)
    thread = ThreadPoolExecutor(1, "ahead")
    try:
        while True:
            while len(waiting) <= most:
                waiting.append(thread.submit(_next, following))
            try:
                item = waiting.popleft().result()
            except _Over:
                return
            yield item
    finally:
        # Nobody waits: the collector of garbage may close this in a thread that is just being started, with
        # a lock of `threading` in its hands that a thread needs to end.
        thread.shutdown(wait=False, cancel_futures=True)


class _Over(Exception):
    """The end: a future cannot raise StopIteration."""


def _next(following: Iterator[T]) -> T:
    try:
        return next(following)
    except StopIteration:
        raise _Over from None
