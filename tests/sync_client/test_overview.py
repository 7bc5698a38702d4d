"""``sync_client --status`` over all channels, and of single users."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores import open_store
from cyrus_sync.sync_client import cli
from cyrus_sync.sync_client.channel import ChannelLock
from cyrus_sync.sync_client.cli import main
from cyrus_sync.sync_client.overview import channels_of

NOW = 1_800_000_000


class Host:
    """A master with the channels north and south, and a multisite family."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.conf = root / "imapd.conf"
        self.conf.write_text(
            f"configdirectory: {root}/conf\npartition-default: {root}/mail\nsync_log: yes\n"
            "sync_log_channels: north south multisite squatter\n"
            "sync_host: common.example\nnorth_sync_host: north.example\n"
        )
        self.locks: list[ChannelLock] = []
        store = open_store(Config.load(self.conf))
        for user in ("alice", "bob"):
            with store.write(Owner("user", user)) as writer:
                writer.create(f"user.{user}")
        store.close()

    def directory(self, channel: str) -> Path:
        found = self.root / "conf/sync" / channel
        found.mkdir(parents=True, exist_ok=True)
        return found

    def running(self, channel: str, **said: Any) -> None:
        """A client works there, and has said so."""
        self.locks.append(ChannelLock(self.directory(channel)).acquire())
        known = {"state": "waiting for changes", "updated": NOW, "last_success": NOW - 5, **said}
        (self.directory(channel) / "status.json").write_text(json.dumps(known))

    def log(self, channel: str, *lines: str) -> None:
        """Lines that have just been written wait there."""
        path = self.directory(channel) / "log"
        path.write_text("".join(f"{line}\n" for line in lines))
        os.utime(path, (NOW, NOW))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """It is `NOW` for whoever asks for the status."""
    made = Host(tmp_path)
    monkeypatch.setattr(cli, "time", SimpleNamespace(time=lambda: NOW))
    for channel in ("north", "south"):
        (made.directory(channel) / "log").unlink(missing_ok=True)
    yield made
    for lock in made.locks:
        lock.release()


def status(host: Host, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    done = main(["-C", str(host.conf), "--status", *words])
    captured = capsys.readouterr()
    assert captured.err == ""
    return done, captured.out


def test_channels_are_those_of_the_file_and_those_that_were_worked_on(host: Host) -> None:
    assert channels_of(Config.load(host.conf)) == ["north", "south"]
    host.running("old", server="gone.example")
    assert channels_of(Config.load(host.conf)) == ["north", "south", "old"]
    host.running("")
    assert channels_of(Config.load(host.conf)) == ["", "north", "south", "old"]


def test_where_there_is_no_named_channel_the_default_one_is_shown(tmp_path: Path) -> None:
    conf = tmp_path / "imapd.conf"
    conf.write_text(f"configdirectory: {tmp_path}\n")
    assert channels_of(Config.load(conf)) == [""]
    conf.write_text(f'configdirectory: {tmp_path}\nsync_log_channels: "" multisite\nsync_host: a\n')
    assert channels_of(Config.load(conf)) == [""]


@pytest.mark.covers("sync_client: options", "--status")
def test_all_channels_stand_in_one_table(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.running("north", server="north.example", messages_per_minute=12.5)
    host.running("south", server="common.example", oldest_change=NOW - 7300)
    host.log("south", "USER alice", "USER bob")
    done, out = status(host, capsys)
    lines = out.splitlines()
    assert done == 2 and lines[0].startswith("SYNC CRITICAL - south: the oldest change waits for 7300 s")
    assert lines[1].split("  ")[0] == "channel"
    north, south = (line.split() for line in lines[2:4])
    assert north[:2] == ["north", "OK"] and north[-3:] == ["12.5", "0", "north.example"]
    assert south[:2] == ["south", "CRITICAL"] and "2h" in south and south[-1] == "common.example"
    assert "5s ago" in out


def test_each_form_says_the_same_and_names_each_channel(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.running("north")
    host.running("south")
    (host.directory("north") / "quarantine.yaml").write_text(
        "set_aside:\n  alice: {reason: '[bold]Checksum'}\n"
    )
    done, out = status(host, capsys, "--format", "json")
    said = json.loads(out)
    assert done == said["exit_status"] == 1 and said["reasons"] == ["north: 1 set aside"]
    assert [one["channel"] for one in said["channels"]] == ["north", "south"]
    assert said["channels"][0]["quarantine"] == {"alice": "[bold]Checksum"}
    assert yaml.safe_load(status(host, capsys, "--format", "yaml")[1])["exit_status"] == 1
    assert "set aside: north: alice: [bold]Checksum" in status(host, capsys)[1].splitlines()


def test_one_channel_alone_is_shown_as_before(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.running("north")
    done, out = status(host, capsys, "-n", "north")
    assert done == 0 and out.startswith("SYNC OK - waiting for changes\nstate: waiting for changes\n")
    said = json.loads(status(host, capsys, "-n", "north", "--format", "json")[1])
    assert said["channel"] == "north" and "channels" not in said


def test_a_channel_that_nobody_has_worked_on_hides_no_trouble(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.running("north", oldest_change=NOW - 100)
    done, out = status(host, capsys)
    assert done == 1 and "south: no rolling sync_client has worked on this channel" in out.splitlines()[0]
    (host.directory("north") / "status.json").write_text(json.dumps({"state": "idle", "updated": NOW}))
    assert status(host, capsys)[0] == 3


# -- users


def test_a_user_for_whom_nothing_waits_is_on_all_replicas(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.running("north")
    host.running("south")
    host.log("north", "USER alice")
    done, out = status(host, capsys, "bob")
    assert done == 0 and out.startswith("SYNC OK - on all replicas\n") and "bob" in out and "alice" not in out


def test_a_user_who_waits_is_no_further_behind_than_the_channel(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.running("north", oldest_change=NOW - 90)
    host.running("south")
    host.log("north", "USER bob", 'MAILBOX "user.alice.My Folder"', "SEEN alice 123", "nonsense")
    said = json.loads(status(host, capsys, "alice", "--format", "json")[1])
    (alice,) = said["users"]
    north, south = alice["channels"]
    assert (north["waiting"], north["ahead"], south["waiting"]) == (2, 1, 0)
    assert north["behind_seconds_at_most"] == 90 and south["behind_seconds_at_most"] is None
    assert said["exit_status"] == 1 and "may be" in said["reasons"][0] and "north" in said["reasons"][0]


def test_a_user_who_is_set_aside_says_why_and_until_when(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.running("north")
    (host.directory("north") / "quarantine.yaml").write_text(
        "set_aside:\n  alice:\n    reason: Checksum Failure\n    failures: 4\n    next_retry: never\n"
        f"    first_failure: {NOW - 5000}\n"
    )
    done, out = status(host, capsys, "-n", "north", "user/alice")
    assert done == 2 and "alice: set aside on north: Checksum Failure" in out.splitlines()[0]
    assert "never" in out
    assert status(host, capsys, "-n", "north", "bob")[0] == 0


def test_a_user_who_is_not_here_is_unknown(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.running("north")
    host.running("south")
    done, out = status(host, capsys, "carol")
    assert done == 3 and "carol: is not here" in out
    host.log("north", "UNUSER carol")
    assert status(host, capsys, "carol")[0] == 0, "that she is gone is on its way"


def test_a_name_that_is_none_is_an_error_before_anything_is_looked_at(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-C", str(host.conf), "--status", "a\nb"]) != 0
    assert "sync_client: " in capsys.readouterr().err


def test_nothing_is_promised_of_a_channel_on_which_nobody_has_worked(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.running("north")
    done, out = status(host, capsys, "bob")
    assert done == 3 and "bob: no rolling sync_client has worked on south" in out.splitlines()[0]
    assert out.splitlines()[-1].split() == ["bob", "south", "?", "0", "-", "-", "never"]
