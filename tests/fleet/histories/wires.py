"""`Wire`: the line between a node and PostgreSQL, or an S3 server, in a test's hands."""

from __future__ import annotations

import contextlib
import socket
import threading
from enum import Enum

Pair = tuple[socket.socket, socket.socket]


class Way(Enum):
    """What becomes of octets."""

    OPEN = "open"
    CUT = "cut"
    """Connections end, and none is taken."""
    MUTE = "mute"
    """What the node says arrives; the first answer ends the connection, and is lost."""
    STILL = "still"
    """Nothing goes on, and nothing ends."""


class Wire:
    """Listens on a port of its own, and passes on to `target`, as far as its `way` lets it."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self._way = Way.OPEN
        self._moves = threading.Event()
        self._moves.set()
        self._pairs: set[Pair] = set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._listen, daemon=True).start()

    def turn(self, way: Way) -> None:
        self._way = way
        (self._moves.clear if way is Way.STILL else self._moves.set)()
        if way is Way.CUT:
            with self._lock:
                pairs = list(self._pairs)
            for pair in pairs:
                _end(pair)

    def close(self) -> None:
        self.turn(Way.CUT)
        self._listener.close()

    def _listen(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._begin, args=(near,), daemon=True).start()

    def _begin(self, near: socket.socket) -> None:
        self._moves.wait()
        try:
            far = socket.create_connection(self.target, timeout=5)
        except OSError:
            near.close()
            return
        pair = (near, far)
        with self._lock:
            self._pairs.add(pair)
        if self._way is Way.CUT:
            _end(pair)
        threading.Thread(target=self._carry, args=(pair, near, far), daemon=True).start()
        self._carry(pair, far, near)
        with self._lock:
            self._pairs.discard(pair)

    def _carry(self, pair: Pair, source: socket.socket, to: socket.socket) -> None:
        with contextlib.suppress(OSError):
            source.settimeout(None)
            while data := source.recv(65536):
                self._moves.wait()
                if self._way is Way.MUTE and to is pair[0]:
                    break
                to.sendall(data)
        _end(pair)


def _end(pair: Pair) -> None:
    for one in pair:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()
