"""Somebody on the line between two hosts, who hears everything and may change it."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.shipping.kit import Host

Change = Callable[[bytes], bytes]


@dataclass
class Line:
    """Where to connect to be heard."""

    name: str
    port: int


@contextlib.contextmanager
def relay(host: Host, port: int | None = None, change: Change = bytes) -> Iterator[tuple[Line, bytearray]]:
    """What is said to the line goes to `host`, and back, after `change`; and what was heard."""
    heard = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(
            target=_serve, args=(server, (host.name, port or host.port), heard, change), daemon=True
        ).start()
        yield Line("127.0.0.1", server.getsockname()[1]), heard


def _serve(server: socket.socket, there: tuple[str, int], heard: bytearray, change: Change) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = server.accept()
            with client, socket.create_connection(there) as host, contextlib.suppress(OSError):
                _pass_on(client, host, heard, change)


def _pass_on(client: socket.socket, host: socket.socket, heard: bytearray, change: Change) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(client, selectors.EVENT_READ, host)
        selector.register(host, selectors.EVENT_READ, client)
        while True:
            for key, _ in selector.select():
                source: socket.socket = key.fileobj  # type: ignore[assignment]
                data = source.recv(1 << 16)
                if not data:
                    return
                heard += data
                key.data.sendall(change(data))
