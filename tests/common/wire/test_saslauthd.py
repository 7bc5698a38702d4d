"""saslauthd: the protocol on its socket, with a stand-in and with the real daemon."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.wire.sasl.passwd import PasswordFile
from cyrus_sync.common.wire.sasl.saslauthd import Saslauthd, request
from cyrus_sync.common.wire.sasl.server import SaslServer
from tests.common.wire.kit import run, spin
from tests.deadlines import scaled
from tests.reactors import make_reactor


@contextmanager
def daemon(path: Path, answer: bytes, asked: list[bytes]) -> Iterator[None]:
    """A saslauthd for one question, answered byte by byte with `answer`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(4096))
                for at in range(len(answer)):
                    connection.sendall(answer[at : at + 1])

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(scaled(5))


def ask(path: Path, user: str, password: str, realm: str = "", timeout: float = 60) -> bool:
    reactor = make_reactor()
    asking = Saslauthd(reactor, path, timeout).check(user, password, realm)
    return bool(run(reactor, Deferred.fromCoroutine(asking)))


def counted(text: bytes) -> bytes:
    return struct.pack("!H", len(text)) + text


@pytest.mark.parametrize(("answer", "right"), [(b"OK", True), (b"OK fine", True), (b"NO go away", False)])
def test_the_question_is_four_counted_strings_and_the_answer_one(
    tmp_path: Path, answer: bytes, right: bool
) -> None:
    asked: list[bytes] = []
    with daemon(tmp_path / "mux", counted(answer), asked):
        assert ask(tmp_path, "eve", "pä", "realm") is right
    assert asked == [b"\0\x03eve\0\x03p\xc3\xa4\0\x05csync\0\x05realm"]


@pytest.mark.covers("imapd.conf", "sasl_pwcheck_method")
def test_the_server_asks_at_sasl_saslauthd_path(tmp_path: Path) -> None:
    conf = tmp_path / "imapd.conf"
    conf.write_text(
        f"configdirectory: {tmp_path}\nsasl_pwcheck_method: saslauthd\nsasl_saslauthd_path: {tmp_path}/here\n"
    )
    reactor = make_reactor()
    server = SaslServer.from_config(Config.load(conf, "sync_server"), reactor)
    asked: list[bytes] = []
    with daemon(tmp_path / "here", counted(b"OK"), asked):
        assert run(reactor, Deferred.fromCoroutine(server.check_password("eve", "x")))
    assert asked


@pytest.mark.covers("imapd.conf", "sync_passwd_file")
def test_the_server_knows_the_passwords_of_sync_passwd_file(tmp_path: Path) -> None:
    conf = tmp_path / "imapd.conf"
    conf.write_text(f"configdirectory: {tmp_path}\nsync_passwd_file: {tmp_path}/elsewhere\n")
    PasswordFile(tmp_path / "elsewhere").set_password("eve", "x")
    reactor = make_reactor()
    server = SaslServer.from_config(Config.load(conf, "sync_server"), reactor)
    assert run(reactor, Deferred.fromCoroutine(server.check_password("eve", "x")))


@pytest.mark.parametrize("answer", [b"", b"\0\x05OK", counted(b"what?")])
def test_a_broken_answer_is_an_error_and_not_a_refusal(tmp_path: Path, answer: bytes) -> None:
    with daemon(tmp_path / "mux", answer, []), pytest.raises(StoreError, match="saslauthd"):
        ask(tmp_path / "mux", "eve", "x")


def test_a_daemon_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="saslauthd at"):
        ask(tmp_path / "mux", "eve", "x")


def test_a_daemon_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "mux"))
        listener.listen()
        with pytest.raises(StoreError, match="does not answer"):
            ask(tmp_path, "eve", "x", timeout=0.05)


@pytest.mark.parametrize("password", ["x" * 1025, "a\0b"])
def test_what_the_daemon_would_not_take_is_wrong_without_asking(tmp_path: Path, password: str) -> None:
    with pytest.raises(ValueError, match="too long"):
        request("eve", password, "")
    assert ask(tmp_path / "nobody", "eve", password) is False


SASLAUTHD = shutil.which("saslauthd", path=os.environ.get("PATH", "") + ":/usr/sbin")


@pytest.mark.interop
@pytest.mark.skipif(SASLAUTHD is None, reason="saslauthd is not installed (Debian: sasl2-bin)")
def test_the_real_saslauthd_understands_the_question(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(SASLAUTHD), "-d", "-n", "1", "-a", "sasldb", "-m", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # it ends its whole process group with itself
    )
    try:
        reactor = make_reactor()
        spin(reactor, (tmp_path / "mux").exists)
        assert ask(tmp_path, "surely-nobody", "wrong", "realm") is False
    finally:
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=scaled(10))[0]
    assert b"user=surely-nobody" in output
    assert b"service=csync" in output
    assert b"realm=realm" in output
