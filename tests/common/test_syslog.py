"""Lines to syslog, and none lost in silence while it is away, stuck or started anew."""

from __future__ import annotations

import io
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cyrus_sync.common import syslog
from cyrus_sync.common.syslog import MAX_WAITING, SyslogHandler, absence


@contextmanager
def daemon(path: Path, kind: socket.SocketKind = socket.SOCK_DGRAM) -> Iterator[socket.socket]:
    """Listens, and leaves its socket behind as a daemon does that was killed."""
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, kind) as listening:
        listening.bind(str(path))
        listening.settimeout(20)
        yield listening


def say(handler: SyslogHandler, text: str, level: int = logging.ERROR) -> None:
    handler.handle(logging.LogRecord("x", level, "", 0, "%s", (text,), None))


def heard(listening: socket.socket, count: int) -> list[str]:
    return [listening.recv(10_000).decode().split(": ", 1)[1] for _ in range(count)]


def test_a_line_has_priority_ident_and_process(tmp_path: Path) -> None:
    handler = SyslogHandler("us/sync", "local7", path=tmp_path / "log", stream=io.StringIO())
    with daemon(tmp_path / "log") as listening:
        for level, priority in ((50, 186), (40, 187), (30, 188), (20, 190), (10, 191)):
            say(handler, "é", level)
            assert listening.recv(999).decode() == f"<{priority}>us/sync[{os.getpid()}]: é"


def test_an_unknown_facility_is_mail(tmp_path: Path) -> None:
    handler = SyslogHandler("x", "nonsense", path=tmp_path / "log")
    with daemon(tmp_path / "log") as listening:
        say(handler, "y")
        assert listening.recv(999).startswith(b"<19>")


def test_a_restarted_syslog_gets_the_next_line(tmp_path: Path) -> None:
    stream = io.StringIO()
    handler = SyslogHandler("x", path=tmp_path / "log", stream=stream)
    for number in range(3):
        with daemon(tmp_path / "log") as listening:
            say(handler, f"line {number}")
            assert heard(listening, 1) == [f"line {number}"]
    assert stream.getvalue() == ""


def test_what_a_dead_syslog_does_not_take_is_on_stderr_and_both_say_so(tmp_path: Path) -> None:
    stream = io.StringIO()
    handler = SyslogHandler("x", path=tmp_path / "log", stream=stream)
    with daemon(tmp_path / "log") as listening:
        say(handler, "one")
        assert heard(listening, 1) == ["one"]
    say(handler, "two")
    say(handler, "three", logging.INFO)
    notice, *rest = [line.split("] ", 1)[1] for line in stream.getvalue().splitlines()]
    assert notice.startswith("WARNING: no syslog behind ") and "standard error" in notice
    assert rest == ["ERROR: two", "INFO: three"]
    with daemon(tmp_path / "log") as listening:
        say(handler, "four")
        assert heard(listening, 2) == ["syslog is back; 2 lines did not go there", "four"]
        say(handler, "five")
        assert heard(listening, 1) == ["five"]
    say(handler, "six")
    assert stream.getvalue().count("no syslog behind") == 2


def test_without_stderr_lines_wait_and_what_is_dropped_is_counted(tmp_path: Path) -> None:
    handler = SyslogHandler("x", path=tmp_path / "log")
    for number in range(MAX_WAITING + 7):
        say(handler, f"line {number}")
    with daemon(tmp_path / "log") as listening:
        got: list[str] = []
        reader = threading.Thread(target=lambda: got.extend(heard(listening, MAX_WAITING + 2)))
        reader.start()
        handler.close()  # as at the end of the process: what waits has one more chance
        say(handler, "last")
        reader.join(60)
    assert not reader.is_alive()
    assert got[0] == f"syslog is back; {MAX_WAITING} lines waited for it, 7 are lost"
    assert got[1:] == [f"line {number}" for number in range(7, MAX_WAITING + 7)] + ["last"]


def test_a_syslog_that_reads_nothing_holds_nobody_up(tmp_path: Path) -> None:
    stream = io.StringIO()
    handler = SyslogHandler("x", path=tmp_path / "log", stream=stream)
    with daemon(tmp_path / "log") as listening:
        started = time.monotonic()
        for number in range(2000):
            say(handler, f"line {number}")
        assert time.monotonic() - started < 20
        on_stderr = [line.split("ERROR: ")[1] for line in stream.getvalue().splitlines() if "ERROR" in line]
        taken = heard(listening, 2000 - len(on_stderr))
        assert on_stderr
        assert taken + on_stderr == [f"line {number}" for number in range(2000)]
        say(handler, "again")
        assert heard(listening, 2) == [f"syslog is back; {len(on_stderr)} lines did not go there", "again"]


def test_a_syslog_that_listens_for_connections(tmp_path: Path) -> None:
    handler = SyslogHandler("x", path=tmp_path / "log", stream=io.StringIO())
    with daemon(tmp_path / "log", socket.SOCK_STREAM) as listening:
        listening.listen()
        say(handler, "one")
        say(handler, "two")
        line, _ = listening.accept()
        line.settimeout(20)
        handler.close()
        with line, line.makefile("rb") as received:
            pid = os.getpid()
            assert received.read().decode() == f"<19>x[{pid}]: one\0<19>x[{pid}]: two\0"


def test_a_very_long_line_is_cut(tmp_path: Path) -> None:
    handler = SyslogHandler("x", path=tmp_path / "log", stream=io.StringIO())
    with daemon(tmp_path / "log") as listening:
        say(handler, "y" * 1_000_000)
        assert len(listening.recv(10_000)) == syslog.MAX_LINE


def test_a_closed_stderr_harms_nobody(tmp_path: Path) -> None:
    stream = io.StringIO()
    stream.close()
    say(SyslogHandler("x", path=tmp_path / "log", stream=stream), "y")


def test_absence_is_told_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syslog, "SOCKET", tmp_path / "log")
    assert "No such file" in absence()
    with daemon(tmp_path / "log"):
        assert absence() == ""
    assert "Connection refused" in absence()
