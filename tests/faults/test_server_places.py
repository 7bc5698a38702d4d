"""sync_server as a process that strangers besiege, and one that may open few files: administrators get in,
and what was let in is carried out."""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from cyrus_sync.sync_server.known import FILE
from tests.deadlines import scaled, until
from tests.faults.server import ADMIN, PASSWORD, RunningServer, mailbox, plain, upload
from tests.walking import files_below

pytestmark = pytest.mark.fault

MESSAGE = b"Subject: one\r\n\r\nhello\r\n"
ATTACKER = "127.0.7.1"
MASTER = "127.0.8.1"


def connect(server: RunningServer, source: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), scaled(20.0), (source, 0))


def greeted(line: socket.socket) -> bytes:
    """The last line of the greeting, or the BYE in its place."""
    heard = b""
    while not (b"* OK " in heard and heard.endswith(b"\r\n")):
        data = line.recv(4096)
        if not data:
            break
        heard += data
    return heard.splitlines()[-1] if heard else b""


def log_in(line: socket.socket) -> bytes:
    line.sendall(plain(ADMIN, PASSWORD))
    return line.recv(4096)


def replicate(server: RunningServer, number: int, source: str, answers: list[bytes]) -> None:
    """A message and its mailbox, on a connection that may be turned away and then comes again."""
    name = b"user.u%d" % number

    def once() -> bool:
        with connect(server, source) as line:
            if not greeted(line).startswith(b"* OK "):
                return False
            commands = [upload(MESSAGE), mailbox(name, b"id%d" % number, [MESSAGE]), b"EXIT", b""]
            line.sendall(plain(ADMIN, PASSWORD) + b"\r\n".join(commands))
            heard = b""
            while data := line.recv(4096):
                heard += data
            if heard.startswith(b"* BYE "):
                return False
            answers.append(heard)
            return True

    until(once, f"a place for {name!r}", seconds=60.0)


@pytest.mark.covers("imapd.conf", "sync_max_connections")
@pytest.mark.parametrize("limits", [(64, 64), (64, 256)])
def test_with_few_files_whoever_is_let_in_is_served(tmp_path: Path, limits: tuple[int, int]) -> None:
    with RunningServer(tmp_path, failed_login_pause=0, open_files=limits) as server:
        answers: list[bytes] = []
        threads = [
            threading.Thread(target=replicate, args=(server, n, f"127.0.9.{n % 3 + 1}", answers))
            for n in range(48)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(scaled(120.0))
        assert len(answers) == 48
        assert [
            a for a in answers if a.splitlines()[1:] != [b"OK success", b"OK success", b"OK Finished"]
        ] == []
        assert f"{limits[1]} open files are permitted: " in server.log.read_text()
        assert "Too many open files" not in server.log.read_text()
        server.check_alive()


def test_a_besieging_stranger_keeps_no_administrator_out(tmp_path: Path) -> None:
    with RunningServer(tmp_path, open_files=(128, 128)) as server, ExitStack() as stack:
        with connect(server, MASTER) as line:
            assert greeted(line).startswith(b"* OK ")
            assert log_in(line).startswith(b"OK Success")
        for n in range(60):
            stack.enter_context(connect(server, f"127.0.7.{n % 30 + 1}"))
        with connect(server, "127.0.6.1") as line:
            assert greeted(line) == b"* BYE too many connections, try again later"
        with connect(server, MASTER) as line:
            assert greeted(line).startswith(b"* OK ")
            assert log_in(line).startswith(b"OK Success")
        with server.connect(trusted=True) as line:
            assert greeted(line).startswith(b"* OK ")
        server.check_alive()


@pytest.mark.covers("imapd.conf", "sync_max_per_address")
def test_one_address_has_its_bound(tmp_path: Path) -> None:
    with RunningServer(tmp_path, options={"sync_max_per_address": "3"}) as server, ExitStack() as stack:
        lines = [stack.enter_context(connect(server, ATTACKER)) for _ in range(4)]
        heard = [greeted(line) for line in lines]
        assert [line.startswith(b"* OK ") for line in heard] == [True, True, True, False]
        assert heard[-1] == b"* BYE too many connections from 127.0.7.1, try again later"
        assert greeted(stack.enter_context(connect(server, MASTER))).startswith(b"* OK ")
        assert "turned away: too many connections from 127.0.7.1" in server.log.read_text()


def _is_kept(root: Path) -> bool:
    return any(MASTER in path.read_text() for path in files_below(root) if path.name == FILE)


def test_who_was_known_is_known_to_a_server_that_was_killed_and_is_besieged_at_once(tmp_path: Path) -> None:
    with RunningServer(tmp_path, options={"sync_max_connections": "8"}) as server:
        with connect(server, MASTER) as line:
            greeted(line)
            assert log_in(line).startswith(b"OK")
        until(lambda: _is_kept(tmp_path), "it is kept")
        server.kill()
        server.start()
        with ExitStack() as siege:
            besieging = [siege.enter_context(connect(server, f"127.0.7.{n}")) for n in range(1, 20)]
            assert any(greeted(line).startswith(b"* BYE ") for line in besieging)
            with connect(server, MASTER) as line:
                assert greeted(line).startswith(b"* OK ")
                assert log_in(line).startswith(b"OK")
