"""Where the log goes, and that a line of it is a line."""

from __future__ import annotations

import io
import logging
import os
import socket
from pathlib import Path

import pytest

from cyrus_sync.common import logs, syslog


@pytest.mark.covers("sync_server: options", "-e")
@pytest.mark.covers("imapd.conf", "syslog_facility")
def test_to_syslog_with_facility_mail_and_cyrus_ident(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
        daemon.settimeout(60)
        monkeypatch.setattr(syslog, "SOCKET", tmp_path / "log")
        logs.start_logging("sync_server", to_stderr=False, verbose=False)
        logging.getLogger("sync_server").info("login: %s", "alice")
        assert daemon.recv(999).decode() == f"<22>sync_server[{os.getpid()}]: login: alice"
        logs.start_logging("sync_server", to_stderr=False, verbose=False, facility="local3", prefix="replica")
        logging.getLogger("sync_server").error("x")
        assert daemon.recv(999).decode() == f"<155>replica/sync_server[{os.getpid()}]: x"


def test_to_stderr_where_there_is_no_syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syslog, "SOCKET", tmp_path / "nothing")
    stream = io.StringIO()
    logs.start_logging("sync_server", to_stderr=False, verbose=False, stream=stream)
    logging.getLogger("sync_server").warning("careful")
    assert stream.getvalue().endswith(f" sync_server[{os.getpid()}] WARNING: careful\n")


def test_to_stderr_which_says_so_where_nobody_listens_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syslog, "SOCKET", tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(tmp_path / "log"))
    stream = io.StringIO()
    logs.start_logging("sync_server", to_stderr=False, verbose=False, stream=stream)
    logging.getLogger("sync_server").warning("careful")
    logging.getLogger("sync_server").warning("twice")
    notice, *said = stream.getvalue().splitlines()
    assert "no syslog behind" in notice and "the log goes to standard error" in notice
    assert [line.split("]", 1)[1] for line in said] == [" WARNING: careful", " WARNING: twice"]


def test_what_a_peer_sent_cannot_forge_a_line() -> None:
    stream = io.StringIO()
    logs.start_logging("sync_server", to_stderr=True, verbose=False, stream=stream)
    logging.getLogger("sync_server").warning("refused: %s", "a\r\nlogin: root\x1b[0m")
    assert stream.getvalue().count("\n") == 1 and "\x1b" not in stream.getvalue()
    assert "a\\r\\nlogin: root\\x1b[0m" in stream.getvalue()


@pytest.mark.covers("sync_server: options", "-v")
def test_verbose_logs_more() -> None:
    stream = io.StringIO()
    logs.start_logging("sync_server", to_stderr=True, verbose=False, stream=stream)
    logging.getLogger("sync_server").debug("detail")
    assert stream.getvalue() == ""
    logs.start_logging("sync_server", to_stderr=True, verbose=True, stream=stream)
    logging.getLogger("sync_server").debug("detail")
    assert "DEBUG: detail" in stream.getvalue()
