"""Reading from a non-blocking connection in the event loop: a line, a number of bytes, and nothing beyond."""

from __future__ import annotations

import asyncio
import socket


async def read_line(sock: socket.socket, longest: int) -> bytes:
    """One line and not a byte more: what follows a line may belong to somebody else. `ValueError` if it is
    longer than `longest`."""
    loop = asyncio.get_running_loop()
    held = b""
    while True:
        ahead = await _peek(sock, longest)
        end = ahead.find(b"\n")
        take = len(ahead) if end < 0 else end + 1
        held += await loop.sock_recv(sock, take)
        if end >= 0:
            return held
        if len(held) > longest:
            raise ValueError("a line too long")


async def read_exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    held = bytearray()
    while len(held) < count:
        more = await loop.sock_recv(sock, count - len(held))
        if not more:
            raise ConnectionError("closed")
        held += more
    return bytes(held)


async def readable(descriptor: int) -> None:
    """Wait until there is something to read."""
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(descriptor)


async def _peek(sock: socket.socket, count: int) -> bytes:
    while True:
        try:
            found = sock.recv(count, socket.MSG_PEEK)
        except BlockingIOError:
            await readable(sock.fileno())
            continue
        if not found:
            raise ConnectionError("closed")
        return found
