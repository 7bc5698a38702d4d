"""Cyrus's own rolling client on our log is noticed: it leaves no lock, so the processes are looked at."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from cyrus_sync.common.config import Config
from cyrus_sync.sync_client import start_rolling as start
from cyrus_sync.sync_client.channel import ChannelBusy
from cyrus_sync.sync_client.rivals import RIVALS_INTERVAL, Rival, refuse_rivals, rivals


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "imapd.conf"
    path.write_text(f"configdirectory: {tmp_path}/conf\npartition-default: {tmp_path}/spool\n")
    return path


@pytest.fixture
def processes(tmp_path: Path) -> Path:
    directory = tmp_path / "proc"
    directory.mkdir()
    (directory / "self").mkdir()
    return directory


def process(processes: Path, pid: int, *words: str, root: Path = Path("/")) -> None:
    entry = processes / str(pid)
    entry.mkdir()
    (entry / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
    (entry / "root").symlink_to(root)
    (entry / "cwd").symlink_to(root)


THEIRS = "/usr/lib/cyrus/bin/sync_client"


@pytest.mark.parametrize(
    ("words", "channel"),
    [
        (["-r"], ""),
        (["-R", "-v"], ""),
        (["-vr", "-d", "1"], ""),
        (["-n", "north", "-r"], "north"),
        (["-rnnorth"], "north"),
    ],
)
def test_one_that_rolls_on_the_channel_is_found(
    conf: Path, processes: Path, words: list[str], channel: str
) -> None:
    process(processes, 17, THEIRS, "-C", str(conf), *words)
    (found,) = rivals(Config.load(conf), channel, processes)
    assert found.pid == 17
    assert str(found).startswith(f"Cyrus's own sync_client (process 17: {THEIRS} ")
    assert rivals(Config.load(conf), "another", processes) == []


def test_it_is_the_directory_that_counts_not_the_file(conf: Path, processes: Path, tmp_path: Path) -> None:
    other = tmp_path / "sync.conf"
    other.write_text(f"@include: {conf}\nsync_host: replica.example.org\n")
    elsewhere = tmp_path / "elsewhere.conf"
    elsewhere.write_text(f"configdirectory: {tmp_path}/conf2\npartition-default: {tmp_path}/spool\n")
    process(processes, 17, THEIRS, "-C", str(other), "-r")
    process(processes, 18, THEIRS, "-C", str(elsewhere), "-r")
    assert [found.pid for found in rivals(Config.load(conf), "", processes)] == [17]


def test_one_in_another_root_has_its_own_configuration(conf: Path, processes: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/imapd.conf").write_text("configdirectory: /var/lib/cyrus\npartition-default: /var/spool\n")
    process(processes, 17, THEIRS, "-r", root=root)
    assert rivals(Config.load(conf), "", processes) == []
    (root / "etc/imapd.conf").write_text(conf.read_text())
    assert [found.pid for found in rivals(Config.load(conf), "", processes)] == [17]


@pytest.mark.parametrize(
    "words",
    [
        [THEIRS, "-u", "alice"],
        [THEIRS, "-A"],
        [THEIRS, "-r", "-f", "/tmp/log"],
        [THEIRS, "--what"],
        ["/opt/cyrus-sync/bin/python3", "/usr/local/bin/sync_client", "-r"],
        ["/usr/lib/cyrus/bin/sync_server"],
        [""],
    ],
)
def test_what_does_not_touch_the_log_or_is_ours_is_none(
    conf: Path, processes: Path, words: list[str]
) -> None:
    """Ours holds the channel's lock, and is refused by that."""
    process(processes, 17, *words[:1], "-C", str(conf), *words[1:])
    (processes / "18").mkdir()
    assert rivals(Config.load(conf), "", processes) == []


def test_a_rolling_client_is_refused_beside_one(
    conf: Path, processes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cyrus_sync.sync_client.rivals.PROCESSES", processes)
    refuse_rivals(Config.load(conf), "")
    process(processes, os.getpid(), THEIRS, "-C", str(conf), "-r")
    refuse_rivals(Config.load(conf), "")
    process(processes, 17, THEIRS, "-C", str(conf), "-r")
    with pytest.raises(ChannelBusy, match=r"process 17.*cyrus\.conf"):
        refuse_rivals(Config.load(conf), "")


def test_one_that_comes_later_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    here: list[Rival] = []

    def run(function: Any, *arguments: Any) -> Deferred[Any]:
        return succeed(function(*arguments))

    clock = Clock()
    reactor: Any = clock
    reactor.addSystemEventTrigger = lambda *_: None
    monkeypatch.setattr(start, "rivals", lambda cfg, channel: list(here))
    job: Any = SimpleNamespace(cfg=None, arguments=SimpleNamespace(channel=""))
    start._look_for_rivals(job, SimpleNamespace(threads=SimpleNamespace(run=run), reactor=reactor))  # type: ignore[arg-type]
    assert not caplog.messages
    here.append(Rival(17, "sync_client -r"))
    for _ in range(3):
        clock.advance(RIVALS_INTERVAL)
    assert len(caplog.messages) == 1 and "process 17" in caplog.messages[0]
    here.clear()
    clock.advance(RIVALS_INTERVAL)
    here.append(Rival(17, "sync_client -r"))
    clock.advance(RIVALS_INTERVAL)
    assert len(caplog.messages) == 2, "it was gone, and has come back"
