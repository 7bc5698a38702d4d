"""A part of a file goes into a conversation whole and in order, however slowly the other side takes it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.shipping.call import Call, ended
from cyrus_sync.shipping.errors import Broken, Refused
from cyrus_sync.shipping.loop import wait_for
from cyrus_sync.shipping.sealing import RECORD, Opener, Sealer
from cyrus_sync.shipping.sending import send_part
from cyrus_sync.shipping.talk import Talk, adopt
from tests.deadlines import scaled

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
    """By a call if it is sealed, else by a talk, which has TLS below it otherwise."""
    (by_call if sealed else by_talk)(reader, descriptor, size)


def connected(reader: Reader) -> socket.socket:
    sock = socket.create_connection(reader.listening.getsockname())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
    return sock


def by_call(reader: Reader, descriptor: int, size: int) -> None:
    with Call(connected(reader)) as call:
        assert ended(call.line()) == "here"
        call.seal(KEY, OTHER)
        call.say("before")
        call.send_part(descriptor, size)


def by_talk(reader: Reader, descriptor: int, size: int) -> None:
    async def work(reactor: Any) -> None:
        talk = Talk(reactor)
        adopt(reactor, connected(reader).detach(), talk)
        assert await talk.line() == "here"
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


def test_a_file_is_sent_no_further_once_the_other_side_says_something(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(200 * RECORD))
    said = Sealer(OTHER)
    with socket.create_server(("127.0.0.1", 0)) as listening, (tmp_path / "file").open("rb") as file:
        call = Call(socket.create_connection(listening.getsockname()))
        other, _ = listening.accept()
        with call, other:
            call.seal(KEY, OTHER)
            call.be_patient(scaled(20))
            other.sendall(said.seal(b"WAIT others are being served\n") + said.seal(b"NO room\n"))
            call.send_part(file.fileno(), 200 * RECORD)  # more than the socket holds: nobody reads it
            assert ended(call.line()) == "NO room"


def test_a_reader_that_takes_nothing_is_given_up(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(200 * RECORD))
    with socket.create_server(("127.0.0.1", 0)) as listening, (tmp_path / "file").open("rb") as file:
        call = Call(socket.create_connection(listening.getsockname()))
        with call, listening.accept()[0], pytest.raises(Broken, match="timed out"):
            call.seal(KEY, OTHER)
            call.be_patient(0.1)
            call.send_part(file.fileno(), 200 * RECORD)


def test_a_sender_without_tls_loads_no_reactor(tmp_path: Path) -> None:
    code = "import sys, cyrus_sync.shipping.sender; raise SystemExit('twisted' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
