"""The state of a channel, for people and for monitoring."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import yaml
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from cyrus_sync.common.errors import UnknownFailure
from cyrus_sync.sync_client.channel import ChannelLock
from cyrus_sync.sync_client.engine.left_out import LeftOut
from cyrus_sync.sync_client.facts import Settings
from cyrus_sync.sync_client.rolling import Rolling
from cyrus_sync.sync_client.status import StatusFile, Thresholds, read_status, render, status_path
from tests.sync_client.fakes import FakeConnector, FakeSource, FakeWatch, advance, blocking, refused

NOW = 1_800_000_000


@pytest.fixture
def lock(tmp_path: Path):
    held = ChannelLock(tmp_path).acquire()
    yield held
    held.release()


class Rig:
    def __init__(self, directory: Path, *attempts: object) -> None:
        self.directory = directory
        self.clock = Clock()
        self.clock.advance(NOW)
        self.watch = FakeWatch()
        self.answers: dict = {}
        self.source = FakeSource([])
        self.notified: list[str] = []
        self.rolling = Rolling(
            clock=self.clock,
            connector=FakeConnector([], self.answers, *attempts),
            source=self.source,
            settings=Settings(delay=1),
            blocking=blocking,
            watch=self.watch,
            observer=StatusFile(directory, "north", 4711, self.clock.seconds, self.notified.append),
            say=lambda _text: None,
            random=lambda: 0.0,
        )
        self.rolling.run()

    def file(self) -> dict:
        return json.loads(status_path(self.directory).read_text())

    def status(self, **limits: int) -> dict:
        return read_status(self.directory, "north", self.clock.seconds(), Thresholds(**limits))


def test_the_file_follows_the_loop(tmp_path):
    rig = Rig(tmp_path)
    advance(rig.clock, 12)
    said = rig.file()
    assert (said["channel"], said["server"], said["pid"]) == ("north", "replica.example", 4711)
    assert said["state"] == "waiting for changes" and said["connected_since"] == NOW
    rig.source.lines.append("USER alice")
    advance(rig.clock, 12)
    said = rig.file()
    assert said["items_done"] == 1 and said["last_success"] > NOW and said["oldest_change"] is None


def test_it_is_written_once_a_second_at_most_and_every_ten_seconds_at_least(tmp_path):
    rig = Rig(tmp_path)
    stamps = set()
    for _ in range(600):
        rig.clock.advance(0.1)
        stamps.add(status_path(tmp_path).stat().st_mtime_ns)
    assert 5 <= len(stamps) <= 8


def test_the_end_is_always_written(tmp_path):
    rig = Rig(tmp_path)
    rig.rolling.stop(0)
    assert rig.file()["state"] == "stopped"


def test_systemd_is_told_in_words(tmp_path):
    rig = Rig(tmp_path)
    wait: Deferred[None] = Deferred()
    rig.answers["USER a"] = wait
    rig.source.lines.append("USER a")
    advance(rig.clock, 15)
    assert re.fullmatch(r"replicating, oldest change 1\d s", rig.notified[-1])


def test_a_status_file_that_cannot_be_written_does_not_disturb_the_work(tmp_path):
    rig = Rig(tmp_path / "gone")
    rig.source.lines.append("USER alice")
    advance(rig.clock, 5)
    assert rig.rolling.facts.items == 1


@pytest.mark.covers("sync_client: options", "--status")
def test_a_running_client_without_backlog_is_ok(tmp_path, lock):
    rig = Rig(tmp_path)
    advance(rig.clock, 12)
    said = rig.status()
    assert (said["result"], said["exit_status"], said["pid"]) == ("OK", 0, os.getpid())
    assert said["running"] and said["reasons"] == []


def test_no_client_where_there_was_one_is_critical(tmp_path):
    rig = Rig(tmp_path)
    rig.rolling.stop(0)
    said = rig.status()
    assert said["exit_status"] == 2 and said["state"] == "not running"


def test_a_log_that_grows_without_any_client_is_critical(tmp_path):
    (tmp_path / "log").write_text("USER alice\n")
    said = read_status(tmp_path, "", (tmp_path / "log").stat().st_mtime + 5, Thresholds())
    assert said["exit_status"] == 2 and said["log_bytes"] == 11 and said["oldest_change_seconds"] == 5


@pytest.mark.covers("Exit statuses", "sync_client --status 0")
@pytest.mark.parametrize(("age", "status"), [(59, 0), (61, 1), (599, 1), (601, 2)])
def test_the_age_of_the_oldest_change_decides(tmp_path, lock, age, status):
    status_path(tmp_path).write_text(json.dumps({"oldest_change": NOW - age, "updated": NOW}))
    assert read_status(tmp_path, "", NOW, Thresholds())["exit_status"] == status


@pytest.mark.covers("sync_client: options", "--warning")
def test_the_limits_can_be_chosen(tmp_path, lock):
    status_path(tmp_path).write_text(json.dumps({"oldest_change": NOW - 20, "updated": NOW}))
    assert read_status(tmp_path, "", NOW, Thresholds(10, 30))["exit_status"] == 1
    assert read_status(tmp_path, "", NOW, Thresholds(5, 10))["exit_status"] == 2


def test_somebody_set_aside_is_a_warning_that_names_him(tmp_path, lock):
    (tmp_path / "quarantine.yaml").write_text("set_aside:\n  alice: {reason: Checksum Failure}\n")
    status_path(tmp_path).write_text(json.dumps({"updated": NOW}))
    said = read_status(tmp_path, "", NOW, Thresholds())
    assert said["exit_status"] == 1 and said["quarantine"] == {"alice": "Checksum Failure"}
    assert "set aside: alice: Checksum Failure" in render(said, "text")


def test_waiting_for_a_server_is_a_warning_with_the_reason(tmp_path, lock):
    rig = Rig(tmp_path, refused())
    advance(rig.clock, 2)
    said = rig.status()
    assert said["exit_status"] == 1 and said["reasons"] == ["not connected: Connection refused"]


def test_the_queue_is_what_waits_in_the_log_in_the_run_file_and_set_aside(tmp_path, lock):
    status_path(tmp_path).write_text(json.dumps({"updated": NOW, "under_way": 7}))
    assert read_status(tmp_path, "", NOW, Thresholds())["queue"] == 0
    (tmp_path / "log").write_text("USER a\nUSER b\n")
    (tmp_path / "log-run").write_text("MAILBOX user.c\n")
    (tmp_path / "quarantine.log").write_text("USER d\n")
    said = read_status(tmp_path, "", NOW, Thresholds())
    assert (said["queue"], said["queue_set_aside"], said["under_way"]) == (3, 1, 7)
    assert "queue: 3" in render(said, "text")


def test_the_last_error_is_the_last_and_is_over_when_a_run_has_done_all(tmp_path, lock):
    rig = Rig(tmp_path)
    for error in (UnknownFailure("the first"), UnknownFailure("no room left on the replica"), None):
        rig.answers["USER a"] = error
        rig.source.lines = ["USER a"]
        advance(rig.clock, 12)
        said = rig.status()
        if error is not None:
            assert error.message in said["last_error"] and said["last_error_over"] is None
    assert "no room left on the replica" in said["last_error"]
    assert said["last_error_at"] < said["last_error_over"]


def test_a_connection_that_is_back_is_no_trouble_any_more(tmp_path, lock):
    rig = Rig(tmp_path, refused())
    advance(rig.clock, 2)
    assert rig.status()["last_error_over"] is None
    advance(rig.clock, 60)
    said = rig.status()
    assert said["last_error"] == "Connection refused" and said["last_error_over"] is not None
    assert said["result"] == "OK"


@pytest.mark.parametrize("damage", ["", "{", "[]"])
def test_a_damaged_file_is_no_crash(tmp_path, lock, damage):
    status_path(tmp_path).write_text(damage)
    assert read_status(tmp_path, "", NOW, Thresholds())["running"]


@pytest.mark.covers("sync_client: options", "--format")
def test_the_three_forms_say_the_same(tmp_path, lock):
    rig = Rig(tmp_path)
    advance(rig.clock, 12)
    said = rig.status()
    assert json.loads(render(said, "json")) == yaml.safe_load(render(said, "yaml"))
    text = render(said, "text").splitlines()
    assert text[0] == "SYNC OK - waiting for changes"
    assert "started: 2027-01-15T08:00:00Z" in text


def test_scripts_that_are_left_out_are_named(tmp_path, lock):
    out = LeftOut(tmp_path / "left-out.json", "replica.example.org")
    out.learn("u1", {3: "holidays"})
    status_path(tmp_path).write_text(json.dumps({"updated": NOW}))
    found = read_status(tmp_path, "", NOW, Thresholds())
    assert found["exit_status"] == 1
    assert (
        "left out: the Sieve script holidays (by replica.example.org)" in render(found, "text").splitlines()
    )
    assert json.loads(render(found, "json"))["left_out"] == found["left_out"]
