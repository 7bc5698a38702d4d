"""One rolling client per channel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.common.errors import UsageError
from cyrus_sync.sync_client.background import is_supervised
from cyrus_sync.sync_client.channel import ChannelBusy, ChannelLock, check_channel, lock_holder
from tests.deadlines import scaled, until


def test_the_lock_is_had_once(tmp_path):
    first = ChannelLock(tmp_path).acquire()
    with pytest.raises(ChannelBusy, match=f"process {os.getpid()}") as caught:
        ChannelLock(tmp_path).acquire()
    assert caught.value.exit_status == 75
    first.release()
    ChannelLock(tmp_path).acquire().release()


def test_who_has_it_can_be_asked(tmp_path):
    assert lock_holder(tmp_path) is None
    lock = ChannelLock(tmp_path).acquire()
    assert lock_holder(tmp_path) == os.getpid()
    lock.release()
    assert lock_holder(tmp_path) is None


def test_the_lock_ends_with_its_process_however_that_ends(tmp_path):
    code = (
        "import os, sys, pathlib; from sync_client.channel import ChannelLock;"
        "lock = ChannelLock(pathlib.Path(sys.argv[1])).acquire(); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -9
    assert lock_holder(tmp_path) is None
    ChannelLock(tmp_path).acquire().release()


@pytest.mark.covers("sync_client: options", "-n")
@pytest.mark.parametrize("name", ["../x", "a/b", ".", "..", "a b", "-x", "a.b", "ä"])
def test_a_channel_is_a_plain_word(name):
    with pytest.raises(UsageError):
        check_channel(name)


@pytest.mark.parametrize("name", ["", "north", "backup-2", "off_site"])
def test_good_names_of_channels(name):
    assert check_channel(name) == name


@pytest.mark.parametrize("name", ["INVOCATION_ID", "NOTIFY_SOCKET", "CYRUS_ISDAEMON"])
def test_who_is_started_by_a_supervisor_stays_with_it(name):
    assert is_supervised({name: "1"})
    assert not is_supervised({name: ""})
    assert not is_supervised({"HOME": "/"})


def test_what_systemd_says_to_cyrus_s_master_is_not_said_to_its_start_command():
    told = {"INVOCATION_ID": "1", "NOTIFY_SOCKET": "/run/notify", "SYSTEMD_EXEC_PID": "17"}
    assert is_supervised(told, pid=17)
    assert not is_supervised(told, pid=18)
    assert not is_supervised(told)
    assert is_supervised({**told, "CYRUS_ISDAEMON": "1"}, pid=18)


def test_the_daemon_is_in_a_session_of_its_own_and_keeps_the_lock(tmp_path: Path):
    code = """
import os, sys, pathlib, time
from cyrus_sync.sync_client.background import go_to_background
from cyrus_sync.sync_client.channel import ChannelLock
directory = pathlib.Path(sys.argv[1])
lock = ChannelLock(directory).acquire()
starting = go_to_background("sync_client")
time.sleep(0.3)  # whoever does not wait for it is back by now
lock.write_pid()
(directory / "said").write_text(f"{os.getpid()} {os.getsid(0)} {os.getcwd()} {os.isatty(1)}")
starting.over()
while not (directory / "stop").exists():
    time.sleep(0.01)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, timeout=scaled(20))
    assert done.returncode == 0
    try:
        pid, session, directory, tty = (tmp_path / "said").read_text().split()
        assert directory == "/" and tty == "False"
        assert session not in (pid, str(os.getsid(0)))
        assert lock_holder(tmp_path) == int(pid), "whoever started it finds it when the prompt is back"
    finally:
        (tmp_path / "stop").touch()
        until(lambda: lock_holder(tmp_path) is None, "it has seen that")


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("starting.over(75)", 75, "sync_client: the disk is away\n"),
        (
            "os._exit(0)",
            70,
            "sync_client: the disk is away\nsync_client: the process in the background ended ",
        ),
        ("os.kill(os.getpid(), 9)", 70, "sync_client: the disk is away\nsync_client: the process in the "),
    ],
)
def test_a_daemon_that_never_works_is_no_success_and_its_reason_is_seen(end: str, status: int, said: str):
    code = f"""
import logging, os
from cyrus_sync.sync_client.background import go_to_background
starting = go_to_background("sync_client")
logging.error("the disk is away")
{end}
logging.error("nobody waits any more")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, timeout=scaled(20), capture_output=True, text=True
    )
    assert done.returncode == status
    assert done.stderr.startswith(said)
    assert "nobody waits" not in done.stderr and done.stdout == ""
