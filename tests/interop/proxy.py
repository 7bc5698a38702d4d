"""A TCP proxy that remembers, hides, delays and cuts: the line between two peers, in a test's hands.

Every connection is a `Conversation` with the octets of both directions as they passed. `hide` removes
capability lines from the greeting (so that a real client does not compress and its words can be read),
`delay` is the time in seconds that every octet is under way in each direction (throughput is not
limited), `cut_after` closes a connection once so many octets went in one direction; a function is asked
for that at every new connection. Without `remember` the octets are passed on and forgotten.
"""

from __future__ import annotations

import contextlib
import queue
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from tests.deadlines import scaled

Address = tuple[str, int]
Direction = Literal["c2s", "s2c"]
Cut = tuple[Direction, int] | None


@dataclass
class Conversation:
    """One connection, to be cut where `cut` says. `ended` is set when both directions are closed."""

    c2s: bytearray = field(default_factory=bytearray)
    s2c: bytearray = field(default_factory=bytearray)
    cut: Cut = None
    ended: threading.Event = field(default_factory=threading.Event)

    def commands(self) -> list[str]:
        """What the client said, literals and message bytes left out: one protocol line each."""
        return _protocol_lines(bytes(self.c2s))

    def answers(self) -> list[str]:
        return _protocol_lines(bytes(self.s2c))


_LENGTH = re.compile(rb"(?:\{(\d+)\+?\}|%\{[^{}]* (\d+)\})\Z")


def _protocol_lines(data: bytes) -> list[str]:
    lines, line, pos = [], b"", 0
    while pos < len(data):
        end = data.find(b"\n", pos)
        if end < 0:
            line += data[pos:]
            break
        piece = data[pos:end].rstrip(b"\r")
        line += piece
        pos = end + 1
        length = _LENGTH.search(piece)
        if length:
            pos += int(length[1] or length[2])
        else:
            lines.append(line.decode(errors="replace"))
            line = b""
    if line:
        lines.append(line.decode(errors="replace"))
    return lines


class Proxy:
    """Listens on a free loopback port and passes everything on to `target`."""

    def __init__(
        self,
        target: Address | str,
        *,
        hide: tuple[str, ...] = (),
        delay: float = 0.0,
        cut_after: Callable[[], Cut] | Cut = None,
        remember: bool = True,
    ) -> None:
        self.target = target
        self.hide = hide
        self.delay = delay
        self.cut_after = cut_after
        self.remember = remember
        self.cuts = 0
        """Connections that were cut by `cut_after`."""
        self.conversations: list[Conversation] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address: Address = self._listener.getsockname()[:2]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening and drop every connection."""
        self._listener.close()
        self.drop()

    def drop(self) -> None:
        """Break every connection that is open, as a network does."""
        for sock in self._sockets:
            _shut(sock)
        self._sockets.clear()

    def commands(self, word: str = "") -> list[str]:
        """All client lines of all conversations that begin with `word`."""
        return [line for c in self.conversations for line in c.commands() if line.startswith(word)]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            conversation = Conversation(cut=self.cut_after() if callable(self.cut_after) else self.cut_after)
            if self.remember:
                self.conversations.append(conversation)
            try:
                if isinstance(self.target, str):
                    server = socket.socket(socket.AF_UNIX)
                    server.connect(self.target)
                else:
                    server = socket.create_connection(self.target, timeout=scaled(10))
                    server.settimeout(None)
                    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                _shut(client)
                conversation.ended.set()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            threading.Thread(target=self._serve, args=(client, server, conversation), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket, conversation: Conversation) -> None:
        pumps = [
            threading.Thread(target=self._pump, args=(client, server, conversation, "c2s"), daemon=True),
            threading.Thread(target=self._pump, args=(server, client, conversation, "s2c"), daemon=True),
        ]
        for pump in pumps:
            pump.start()
        for pump in pumps:
            pump.join()
        conversation.ended.set()

    def _pump(self, source: socket.socket, sink: socket.socket, said: Conversation, way: Direction) -> None:
        record = said.c2s if way == "c2s" else said.s2c
        send = _Delayed(sink, self.delay).send if self.delay else sink.sendall
        greeting = bytearray() if way == "s2c" and self.hide else None
        limit = said.cut[1] if said.cut and said.cut[0] == way else None
        passed = 0
        try:
            while data := source.recv(1 << 18):
                if greeting is not None:
                    greeting += data
                    if b"* OK" not in greeting or not greeting.endswith(b"\n"):
                        continue
                    data, greeting = self._without_hidden(bytes(greeting)), None
                cut = False
                if limit is not None:
                    cut, data = passed + len(data) >= limit, data[: limit - passed]
                passed += len(data)
                if self.remember:
                    record += data
                send(data)
                if cut:
                    self.cuts += 1
                    break
        except OSError:
            pass
        if self.delay:
            time.sleep(self.delay)
        _shut(source)
        _shut(sink)

    def _without_hidden(self, greeting: bytes) -> bytes:
        lines = greeting.splitlines(keepends=True)
        hidden = tuple(f"* {name}".encode() for name in self.hide)
        return b"".join(line for line in lines if not line.startswith(hidden))


class _Delayed:
    """Sends what it is given `delay` seconds later, in order."""

    def __init__(self, sink: socket.socket, delay: float) -> None:
        self.sink, self.delay = sink, delay
        self.queue: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def send(self, data: bytes) -> None:
        self.queue.put((time.monotonic() + self.delay, data))

    def _run(self) -> None:
        while True:
            due, data = self.queue.get()
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                self.sink.sendall(data)
            except OSError:
                return


def _shut(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
