"""What comes next, made by a thread while the one before is worked at."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(source: Iterable[T], most: int) -> Iterator[T]:
    """All of `source` in its order, of which one thread makes `most` in advance. What `source` raises is
    raised in its place. The thread has ended when this has ended, or was closed."""
    waiting: deque[Future[T]] = deque()
    following = iter(source)
    with ThreadPoolExecutor(1, "ahead") as thread:
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
            for one in waiting:
                one.cancel()


class _Over(Exception):
    """The end: a future cannot raise StopIteration."""


def _next(following: Iterator[T]) -> T:
    try:
        return next(following)
    except StopIteration:
        raise _Over from None
