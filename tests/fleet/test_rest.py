"""A server that is left alone is asked again, whatever goes wrong with the asking."""

from __future__ import annotations

import logging
import threading

import pytest

from cyrus_sync.fleet import rest
from cyrus_sync.fleet.rest import Rest
from tests.deadlines import until


def test_a_probe_that_fails_unexpectedly_is_said_and_repeated(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rest, "PAUSE", 0.001)
    asked: list[int] = []

    def probe() -> bool:
        asked.append(1)
        if len(asked) < 3:
            raise OSError(24, "Too many open files")
        return True

    resting = Rest(probe)
    with caplog.at_level(logging.WARNING):
        resting.begin("no answer within 5 s")
        until(lambda: not resting.reason, "the rest has ended", 20)
    assert len(asked) == 3 and "OSError: [Errno 24] Too many open files" in caplog.text


def test_a_probe_that_goes_on_failing_is_said_once_and_then_at_a_pace(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rest, "PAUSE", 0.0001)
    now = [1000.0]
    asked: list[int] = []

    def probe() -> bool:
        asked.append(1)
        now[0] += 1
        if len(asked) == 900:
            raise ValueError("something else")
        if len(asked) < 1000:
            raise OSError(24, f"Too many open files, {len(asked)}")
        return True

    resting = Rest(probe, clock=lambda: now[0])
    with caplog.at_level(logging.WARNING):
        resting.begin("no answer within 5 s")
        until(lambda: not resting.reason, "the rest has ended", 20)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 5, said
    assert [text.rpartition(", ")[2] for text in said[:3]] == ["1", "301", "601"]
    assert "something else" in said[3]


def test_a_rest_that_nobody_could_end_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resting = Rest(lambda: True)
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(threading.Thread, "start", start)
        resting.begin("no answer within 5 s")
        assert resting.reason == "" and "can't start new thread" in caplog.text
