"""A part of a file goes into a conversation whole and in order, however slowly the other side takes it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory

from cyrus_sync.shipping.errors import Refused
from cyrus_sync.shipping.loop import wait_for
from cyrus_sync.shipping.sealing import RECORD, Opener
from cyrus_sync.shipping.sending import send_part
from cyrus_sync.shipping.talk import Talk

KEY, OTHER = b"k" * 32, b"l" * 32


class Reader:
    """Reads a connection to its end, with rests, and opens what is sealed."""

    def __init__(self, sealed: bool) -> None:
        self.come = b""
        self._opener = Opener(KEY) if sealed else None
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        pieces: list[bytes] = []
        connection, _ = self.listening.accept()
        with connection, contextlib.suppress(ConnectionResetError):
            connection.sendall(b"here\n")
            while data := connection.recv(300_000):
                pieces.extend(self._opener.feed(data) if self._opener else [data])
                time.sleep(0.001)  # the other side's socket is full meanwhile
        self.come = b"".join(pieces)

    def all_of_it(self) -> bytes:
        self._thread.join(20)
        self.listening.close()
        return self.come


def say_all(reader: Reader, descriptor: int, size: int, *, sealed: bool) -> None:
    async def work(reactor: Any) -> None:
        with socket.create_connection(reader.listening.getsockname()) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            sock.setblocking(False)
            talk = Talk(reactor)
            reactor.adoptStreamConnection(sock.fileno(), sock.family, Factory.forProtocol(lambda: talk))
        assert await talk.line() == "here"
        if sealed:
            talk.seal(KEY, OTHER)
        talk.say("before")
        send_part(talk, descriptor, size)
        if os.fstat(descriptor).st_size < size:
            await talk.line()  # which never comes
        await talk.lose()

    wait_for(work)


@pytest.mark.parametrize("size", [0, 1, RECORD, 40 * RECORD + 7])
@pytest.mark.parametrize("sealed", [True, False])
def test_it_comes_whole_and_in_order(tmp_path: Path, size: int, sealed: bool) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data + b"more")
    reader = Reader(sealed)
    with (tmp_path / "file").open("rb") as file:
        say_all(reader, file.fileno(), size, sealed=sealed)
    assert reader.all_of_it() == b"before\n" + data


@pytest.mark.parametrize("sealed", [True, False])
def test_a_file_that_is_shorter_ends_the_conversation(tmp_path: Path, sealed: bool) -> None:
    (tmp_path / "file").write_bytes(b"x")
    reader = Reader(sealed)
    with (tmp_path / "file").open("rb") as file, pytest.raises(Refused, match="shorter"):
        say_all(reader, file.fileno(), 40 * RECORD, sealed=sealed)
    assert b"xx" not in reader.all_of_it()
