"""How far long work has come: on a terminal, and in the log."""

from __future__ import annotations

import io
import os
import pty
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common import progress as module
from cyrus_sync.common.commands import complain
from cyrus_sync.common.progress import duration, progress
from cyrus_sync.mailstore.cli import main as mailstore


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time, which a test moves."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        module.Meter.__init__,
        "__kwdefaults__",
        {
            **(module.Meter.__init__.__kwdefaults__ or {}),
            "clock": lambda: now[0],
        },
    )
    yield now


def test_a_terminal_shows_rate_and_time_left_and_nothing_stays(clock: list[float]) -> None:
    shown = Terminal()
    with progress("checking", stream=shown, total=20_000, unit="owners") as meter:
        for number in range(400):
            meter.at(f"user{number}")
            meter.advance()
            clock[0] += 0.025
    lines = shown.getvalue().split("\r\x1b[2K")
    assert "checking: 400 of 20,000 owners (2 %), 40/s, 8 min left: user399" in lines or any(
        re.match(r"checking: 39\d of 20,000 owners \(1 %\), 40/s, 8 min left: user39\d$", line)
        for line in lines
    )
    assert lines[-1] == "", "the line is gone in the end"
    assert 40 <= len(lines) <= 60, "five times a second, not at every step"


def test_work_that_is_soon_over_shows_nothing(clock: list[float]) -> None:
    shown = Terminal()
    with progress("checking", stream=shown, total=3) as meter:
        meter.advance(3)
        clock[0] += 0.9
        meter.at("x")
    assert shown.getvalue() == ""


def test_without_a_terminal_the_log_has_a_line_a_minute(clock: list[float]) -> None:
    said: list[str] = []
    with progress("importing", stream=io.StringIO(), log=said.append, total=10e6, unit="octets") as meter:
        for _ in range(300):
            clock[0] += 1
            meter.advance(20_000)
    assert len(said) == 5
    assert said[0] == "importing: 1.2 MB of 10.0 MB (12 %), 20.0 KB/s, 7 min left"


def test_where_the_total_is_not_known_there_is_no_time_left(clock: list[float]) -> None:
    said: list[str] = []
    with progress("replicating", stream=None, log=said.append) as meter:
        clock[0] += 60
        meter.advance(5)
    assert said == ["replicating: 5 messages, 0.1/s"]


def test_what_else_is_printed_has_a_line_of_its_own(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Terminal()
    with progress("checking", stream=shown) as meter:
        clock[0] += 2
        meter.advance()
        before = shown.getvalue()
        complain("mailstore", "alice is damaged")
        assert shown.getvalue() == before + "\r\x1b[2K"
    assert capsys.readouterr().err == "mailstore: alice is damaged\n"


def test_a_name_moves_no_cursor_and_a_line_is_no_longer_than_the_terminal(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    shown = Terminal()
    with progress("checking", stream=shown) as meter:
        clock[0] += 2
        meter.at("a\x1b[2Jb\n" + "c" * 100)
    (line,) = [one for one in shown.getvalue().split("\r\x1b[2K") if one]
    assert len(line) <= 39 and "\x1b" not in line and line.startswith("checking: 0 messages, 0/s: a\\x1b")


def test_silence_is_silence_on_a_terminal(clock: list[float]) -> None:
    shown = Terminal()
    with progress("checking", stream=shown, silent=True) as meter:
        clock[0] += 600
        meter.advance()
    assert shown.getvalue() == ""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "2 h 0 min"),
        (90_000, "25 h 0 min"),
        (200_000, "2 days"),
    ],
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_an_import_shows_how_far_it_is_on_a_real_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(module, "EACH_SECONDS", 0.0)
    (tmp_path / "imapd.conf").write_text(
        f"configdirectory: {tmp_path}/conf\npartition-default: {tmp_path}/mail\n"
    )
    text = "From a@example.org Mon Jan  1 00:00:00 2024\nSubject: {}\n\n" + "line\n" * 300 + "\n"
    (tmp_path / "box").write_text("".join(text.format(number) for number in range(1500)))
    ours, theirs = pty.openpty()
    try:
        with os.fdopen(theirs, "w") as terminal:
            words = ["-C", str(tmp_path / "imapd.conf"), "import", "--create", "alice", str(tmp_path / "box")]
            assert mailstore(words, stdout=io.StringIO(), stderr=terminal) == 0
            shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
    assert re.search(r"importing box: [\d.]+ MB of 2\.3 MB \(\d+ %\), [\d.]+ MB/s, \d+ s left", shown)
    assert shown.endswith("\r\x1b[2K")
