"""Work on many owners at once, in a few threads; what comes of it in one, as it comes.

Owners are taken one by one from where they come from, so memory does not follow their number. What goes wrong
with one is a result like others.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from cyrus_sync.common.errors import CyrusSyncError

_PATIENCE = 10.0
"""Seconds for each thread to end what it is at. One that waits for a server that is silent is left behind: it
ends with the process."""

T = TypeVar("T")
R = TypeVar("R")


class Outcome(NamedTuple, Generic[T, R]):
    """What became of `item`: one of the others is None."""

    item: T
    result: R | None
    error: CyrusSyncError | None


def all_of(items: Iterable[T], work: Callable[[T], R], threads: int) -> Iterator[Outcome[T, R]]:
    """Call `work` for each item, in so many threads. An error that is none of ours ends it, and is raised
    here. Who stops listening has them stop, too, each after what it is at."""
    left, lock, stop = iter(items), threading.Lock(), threading.Event()
    results: queue.Queue[Outcome[T, R] | BaseException | None] = queue.Queue(threads)

    def put(one: Outcome[T, R] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                results.put(one, timeout=0.5)
            except queue.Full:
                continue
            return

    def run() -> None:
        try:
            while not stop.is_set():
                with lock:
                    item = next(left)
                try:
                    put(Outcome(item, work(item), None))
                except CyrusSyncError as error:
                    put(Outcome(item, None, error))
        except StopIteration:
            put(None)
        except BaseException as error:
            put(error)

    workers = [threading.Thread(target=run, name=f"owner-{number}", daemon=True) for number in range(threads)]
    try:
        for worker in workers:
            worker.start()
        running = threads
        while running:
            one = results.get()
            if one is None:
                running -= 1
            elif isinstance(one, BaseException):
                raise one
            else:
                yield one
    finally:
        stop.set()
        for worker in workers:
            worker.join(_PATIENCE)
