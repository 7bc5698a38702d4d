"""`Ahead`: blocks that somebody who reads on will ask for next, fetched while he is at those that he has.

A *window* is blocks that are fetched by one request, in a thread of its own. The windows of one object, end
to end, are its *line*. There are `MOST` windows at once, whatever is read: those under way, and those that
have come and were not taken yet. Who jumps leaves his line, and what comes of it is thrown away; so it is
with a line with which nobody goes on. While there is no room, readers ask for each window as they come to it.

A window that could not be had says nothing: whoever wants its blocks asks for them himself, and learns why.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.stores.native.farpack import FarPack

log = logging.getLogger(__name__)

MOST = 8
"""Windows."""

_STALE = 20.0
"""Seconds after which nobody goes on with a line from which nothing was taken."""

Fetch = Callable[[FarPack, int, int], list[bytes]]
"""Blocks of a pack, from one up to another, proved. Called in a thread of its own."""


class Window:
    """Blocks from `first` up to `end`; `blocks` once they are `there`, None where they could not be had.
    `left`: nobody waits for them any more, or somebody has them."""

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.end = end
        self.blocks: list[bytes] | None = None
        self.there = threading.Event()
        self.left = threading.Event()

    def await_from(self, first: int) -> list[bytes] | None:
        """Blocks from `first` on, once they have come; None: ask for them yourself. For who has taken it."""
        self.there.wait()
        blocks = self.blocks
        self.left.set()
        return blocks[first - self.first :] if blocks else None


class _Line:
    def __init__(self) -> None:
        self.windows: deque[Window] = deque()
        self.touched = time.monotonic()


class Ahead:
    """Safe for several threads."""

    def __init__(self, fetch: Fetch, *, stale: float = _STALE) -> None:
        self._fetch = fetch
        self._stale = stale
        self._lock = threading.Lock()
        self._lines: dict[str, _Line] = {}
        self._room = MOST
        self._closed = False

    def take(self, far: FarPack, first: int) -> Window | None:
        """The window in which block `first` is; None where there is none."""
        with self._lock:
            line = self._lines.get(far.key)
            if line is None:
                return None
            line.touched = time.monotonic()
            while line.windows and line.windows[0].end <= first:
                line.windows.popleft().left.set()
            if not line.windows or line.windows[0].first > first:
                return None
            return line.windows.popleft()

    def go_on(self, far: FarPack, first: int, length: int, windows: int) -> None:
        """See to it that so many windows of `length` blocks are under way, or there: from block `first` on,
        or behind those that are."""
        new = []
        with self._lock:
            line = self._lines.setdefault(far.key, _Line())
            line.touched = time.monotonic()
            start = line.windows[-1].end if line.windows else first
            while len(line.windows) < windows and start < far.blocks and self._room:
                new.append(Window(start, min(start + length, far.blocks)))
                line.windows.append(new[-1])
                self._room -= 1
                start = new[-1].end
            if not line.windows:
                del self._lines[far.key]
        for window in new:
            try:
                threading.Thread(target=self._run, args=(far, window), name="far", daemon=True).start()
            except (RuntimeError, MemoryError):  # too many threads
                window.there.set()
                self._give_up(window)

    def leave(self, far: FarPack) -> None:
        """The reader of this object has jumped."""
        with self._lock:
            self._leave(far.key)

    def close(self) -> None:
        """Nobody reads any more; windows under way are not waited for."""
        self._closed = True
        with self._lock:
            for key in list(self._lines):
                self._leave(key)

    def _leave(self, key: str) -> None:
        line = self._lines.pop(key, None)
        for window in line.windows if line is not None else ():
            window.left.set()

    def _run(self, far: FarPack, window: Window) -> None:
        """Fetch it, and keep it until it is taken, or left."""
        try:
            try:
                if not window.left.is_set():
                    window.blocks = self._fetch(far, window.first, window.end)
            except CyrusSyncError:
                pass  # whoever wants it asks himself
            except Exception as error:
                if not self._closed:  # else the objects were closed meanwhile, and nobody asks any more
                    log.warning("%s: cannot be fetched in advance: %r", far.key, error)
            finally:
                window.there.set()
            while not window.left.wait(self._stale) and self._is_awaited(far.key, window):
                pass
        finally:
            self._give_up(window)

    def _is_awaited(self, key: str, window: Window) -> bool:
        """Whether somebody may still come for a window. A line with which nobody goes on is left."""
        with self._lock:
            line = self._lines.get(key)
            if line is None or window not in line.windows:
                return False
            if time.monotonic() - line.touched < self._stale:
                return True
            self._leave(key)
            return False

    def _give_up(self, window: Window) -> None:
        window.blocks = None
        with self._lock:
            self._room += 1
