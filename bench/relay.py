"""A line between two peers in a process of its own: hides an offer, adds delay, keeps the time.

In the clear the real client can only be had by hiding the COMPRESS offer from it, so a relay stands
between, with `os.splice`, which moves octets without copying them to user space. With a delay every
octet is so long under way in each direction; throughput is not limited. For each connection one line of
JSON goes to stdout when it ends; the clock is CLOCK_MONOTONIC, which all processes share.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Address = tuple[str, int]
_CHUNK = 1 << 20


@dataclass
class Passed:
    """What one connection was: when it opened and ended, its octets, when the server spoke last."""

    opened: float
    closed: float
    c2s: int
    s2c: int

    @property
    def seconds(self) -> float:
        return self.closed - self.opened


class Relay:
    """A running relay process. `address` is where to connect, `passed` what has ended so far."""

    def __init__(self, process: subprocess.Popen[str], address: Address, trace: Path) -> None:
        self._process = process
        self.address = address
        self._trace = trace

    @property
    def passed(self) -> list[Passed]:
        lines = self._trace.read_text().splitlines() if self._trace.exists() else []
        return [Passed(**json.loads(line)) for line in lines if line.startswith("{")]

    def answers(self) -> list[float]:
        """When the server spoke, in the order in which it did."""
        lines = self._trace.read_text().splitlines() if self._trace.exists() else []
        return [float(line[2:]) for line in lines if line.startswith("s ")]

    @classmethod
    @contextmanager
    def to(
        cls, target: Address, trace: Path, *, hide: str = "", delay: float = 0.0, times: bool = False
    ) -> Iterator[Relay]:
        """A relay to `target`; `delay` in seconds each way; `times` keeps the moment of every answer."""
        command = [sys.executable, "-m", "bench.relay", target[0], str(target[1]), str(trace)]
        command += ["--hide", hide, "--delay", str(delay)] + (["--times"] if times else [])
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            yield cls(process, ("127.0.0.1", port), trace)
        finally:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()


class _Line:
    """The two directions of one connection."""

    def __init__(self, client: socket.socket, server: socket.socket, options: argparse.Namespace) -> None:
        self.client, self.server, self.options = client, server, options
        self.passed = Passed(time.monotonic(), 0.0, 0, 0)
        self.file = options.file
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def run(self) -> None:
        self._greeting()
        ways = [
            threading.Thread(target=self._way, args=way, daemon=True)
            for way in ((self.client, self.server, "c2s"), (self.server, self.client, "s2c"))
        ]
        for way in ways:
            way.start()
        for way in ways:
            way.join()
        self.passed.closed = time.monotonic()
        self.file.write(json.dumps(self.passed.__dict__) + "\n")

    def _greeting(self) -> None:
        greeting = b""
        while b"* OK" not in greeting or not greeting.endswith(b"\n"):
            data = self.server.recv(4096)
            if not data:
                break
            greeting += data
        hidden = f"* {self.options.hide}".encode() if self.options.hide else b"\0"
        shown = b"".join(line for line in greeting.splitlines(True) if not line.startswith(hidden))
        time.sleep(self.options.delay)
        self.client.sendall(shown)

    def _way(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        with contextlib.suppress(OSError):
            if self.options.delay:
                self._delayed(source, sink, way)
            else:
                self._spliced(source, sink, way)
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _count(self, way: str, octets: int) -> None:
        if way == "c2s":
            self.passed.c2s += octets
        else:
            self.passed.s2c += octets
            if self.options.times:
                self.file.write(f"s {time.monotonic():.6f}\n")

    def _spliced(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        out, into = os.pipe()
        try:
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, _CHUNK)
            while moved := os.splice(source.fileno(), into, _CHUNK):
                left = moved
                while left:
                    left -= os.splice(out, sink.fileno(), left)
                self._count(way, moved)
        finally:
            os.close(out)
            os.close(into)

    def _delayed(self, source: socket.socket, sink: socket.socket, way: str) -> None:
        waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def deliver() -> None:
            with contextlib.suppress(OSError):
                while True:
                    due, data = waiting.get()
                    time.sleep(max(0.0, due - time.monotonic()))
                    if not data:
                        return
                    sink.sendall(data)

        sender = threading.Thread(target=deliver, daemon=True)
        sender.start()
        while True:
            data = source.recv(_CHUNK)
            waiting.put((time.monotonic() + self.options.delay, data))
            if not data:
                break
            self._count(way, len(data))
        sender.join()


def main() -> None:
    """The relay process: print the port, then pass connections on until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--hide", default="")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--times", action="store_true")
    options = parser.parse_args()
    parent = os.getppid()
    with (
        options.trace.open("w", buffering=1) as options.file,
        socket.create_server(("127.0.0.1", 0)) as listener,
    ):
        print(listener.getsockname()[1], flush=True)
        while os.getppid() == parent:
            if not select.select([listener], [], [], 1.0)[0]:
                continue
            client, _ = listener.accept()
            try:
                server = socket.create_connection((options.host, options.port), timeout=10)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            threading.Thread(target=_Line(client, server, options).run, daemon=True).start()


if __name__ == "__main__":
    main()
