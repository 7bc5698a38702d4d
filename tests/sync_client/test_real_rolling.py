"""Rolling replication by real processes: sync_client and sync_server, killed, stopped and refused."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cyrus_sync.common.names import Owner
from tests.deadlines import load, scaled, until
from tests.sync_client.real import BIN, ENVIRONMENT, Client, Pair, paired, serving_replica

KILLS = int(os.environ.get("CYRUS_SYNC_KILLS", "4"))


def last_run(pair: Pair) -> float:
    """When the client took lines last, in Unix seconds."""
    return float(json.loads((pair.master.directory() / "status.json").read_text())["last_run"])


@pytest.mark.covers("sync_client: options", "-R")
def test_a_change_after_a_quiet_time_is_at_the_replica_within_a_tenth_of_a_second(pair):
    pair.master.create("alice")
    pair.rolling("-d", "1")
    until(lambda: pair.replica.has("alice"), "the user arrives")
    latencies = []
    for number in range(1, 6):
        until(pair.master.done, "the log is done")
        until(lambda: time.time() - last_run(pair) > 1, "the least time between two runs is over")
        pair.master.deliver("alice", f"message {number}")
        logged = time.monotonic()
        until(lambda n=number: pair.replica.messages("alice") == n, "the message arrives")
        latencies.append(time.monotonic() - logged)
    assert min(latencies) < 0.1 * load(), latencies


@pytest.mark.covers("imapd.conf", "sync_bandwidth")
def test_a_first_synchronisation_that_takes_minutes_delays_nobody_else(pair):
    pair.master.add("sync_bandwidth: 200k")
    pair.master.create("alice")
    pair.rolling("-d", "1")
    until(lambda: pair.replica.has("alice"), "the user arrives")
    big = [(b"Subject: %d\r\n\r\n" % n + os.urandom(30_000).hex().encode(), 1, "") for n in range(200)]
    with pair.master.store.write(Owner("user", "big")) as writer:
        writer.create("user.big")
        writer.append("user.big", big)
    until(lambda: pair.replica.messages("big") > 0, "its first part arrives")
    waited = []
    for number in range(1, 4):
        pair.master.deliver("alice", f"message {number}")
        logged = time.monotonic()
        until(lambda n=number: pair.replica.messages("alice") == n, "the message arrives")
        waited.append(time.monotonic() - logged)
    assert pair.replica.messages("big") < 200  # 12 MB take a minute
    assert min(waited) < 1.0 * load(), waited


@pytest.mark.covers("sync_client: options", "-F")
@pytest.mark.covers("Exit statuses", "sync_client 0")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "62")
def test_the_shutdown_file_stops_it_cleanly_after_its_work(pair, tmp_path):
    stop = tmp_path / "stop"
    pair.master.create("alice")
    client = pair.rolling("-d", "1", "-F", str(stop))
    until(lambda: pair.replica.has("alice"), "the user arrives")
    stop.touch()
    assert client.ended() == 0
    assert not stop.exists() and pair.master.done()


@pytest.mark.covers("Exit statuses", "sync_client 75")
def test_sigterm_stops_it_with_75_and_no_work_is_lost(pair):
    client = pair.rolling("-d", "1")
    pair.master.create("alice")
    client.process.send_signal(signal.SIGTERM)
    assert client.ended() == 75
    assert pair.run("-R", "-1").process.returncode == 0
    assert pair.replica.has("alice") and pair.master.done()


def test_a_second_client_on_the_channel_is_refused_and_the_first_goes_on(pair):
    first = pair.rolling("-d", "1")
    second = pair.run("-R")
    assert second.process.returncode == 75
    assert f"process {first.process.pid}".encode() in second.err
    pair.master.create("alice")
    until(lambda: pair.replica.has("alice"), "the first one works")
    assert first.process.poll() is None


def test_a_server_that_is_down_is_waited_for(pair):
    pair.server.stop()
    pair.master.create("alice")
    client = pair.client("-R", "-d", "1")
    until(lambda: b"retrying in" in client.err, "it says that it waits")
    assert f"\nCan not connect to server '{pair.socket}', retrying in 1".encode() in b"\n" + client.err
    pair.server.start()
    client.process.send_signal(signal.SIGHUP)
    until(lambda: pair.replica.has("alice"), "the user arrives when the server is up")


def test_a_server_that_restarts_under_it_is_found_again(pair):
    pair.master.create("alice")
    client = pair.rolling("-d", "1")
    until(lambda: pair.replica.has("alice"), "the user arrives")
    pair.server.stop(signal.SIGKILL)
    pair.server.start()
    pair.master.deliver("alice", "after the restart")
    client.process.send_signal(signal.SIGHUP)
    until(lambda: pair.replica.messages("alice") == 1, "the message arrives")
    assert client.process.poll() is None


def test_a_user_whom_the_server_refuses_is_set_aside_while_others_flow(pair):
    pair.replica.create("bad")
    pair.replica.deliver("bad", "born on the wrong side")
    pair.master.create("bad", "good")
    client = pair.rolling("-d", "1")
    quarantine = pair.master.directory() / "quarantine.yaml"
    until(quarantine.exists, "the bad user is set aside")
    entry = yaml.safe_load(quarantine.read_text())["set_aside"]["bad"]
    assert entry["failures"] == 3 and "uniqueid" in entry["reason"]
    pair.master.deliver("good", "flows")
    pair.master.deliver("bad", "waits")
    until(lambda: pair.replica.messages("good") == 1, "the good one flows")
    failure = next(line for line in client.err.splitlines() if line.startswith(b"sync failed:"))
    for part in (b"user=bad", b"mailbox=user.bad", b"IMAP_MAILBOX_MOVED", b"APPLY MAILBOX"):
        assert part in failure, failure
    said = subprocess_status(pair)
    assert said["result"] == "WARNING" and list(said["quarantine"]) == ["bad"]
    assert "bad" in said["last_error"] and said["last_error_over"] is None and said["queue_set_aside"] > 0
    until(lambda: subprocess_status(pair)["messages_sent"] == 1, "the message is counted")
    assert subprocess_status(pair)["bytes_sent"] > 20
    with pair.replica.store.write(Owner("user", "bad")) as writer:
        writer.apply_unuser()
    quarantine.unlink()
    until(lambda: pair.replica.messages("bad") == 1, "the admin has cleared the file: he is tried at once")
    until(lambda: not (pair.master.directory() / "quarantine.log").exists(), "nothing is kept any more")
    until(pair.master.done, "the log is done")
    assert pair.same()


def subprocess_status(pair: Pair) -> dict:
    client = pair.run("--status", "--format", "json")
    said = json.loads(client.out)
    assert client.process.returncode == said["exit_status"]
    return said


def test_killed_at_any_moment_the_next_one_finishes_the_work(pair):
    dice = random.Random(7)
    users = [f"u{i}" for i in range(6)]
    pair.master.create(*users)
    for _ in range(KILLS):
        for number in range(20):
            pair.master.deliver(dice.choice(users), f"message {number}")
        client = pair.client("-R", "-d", "1")
        time.sleep(dice.uniform(0.6, 2.0))
        client.kill()
    while not pair.master.done():
        assert pair.run("-R", "-1").process.returncode == 0
    assert pair.same()


@pytest.mark.covers("sync_client: options", "-r")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "66")
def test_the_r_option_goes_to_the_background_after_the_checks(pair, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pair.master.conf = pair.master.conf.relative_to(tmp_path)  # the daemon works in another directory
    started = pair.run("-r", "-d", "1", "-F", "stop")
    assert started.process.returncode == 0 and started.out == b""
    assert started.err == b"" or started.err.startswith(b"sync_client: no syslog behind "), "on some machines"
    lock = pair.master.directory() / "sync_client.lock"
    pid = int(lock.read_text())
    try:
        assert pid != started.process.pid
        os.kill(pid, 0)
        pair.master.create("alice")
        until(lambda: pair.replica.has("alice"), "the daemon works")
        assert os.getsid(pid) != os.getsid(0)
        again = pair.run("-r")
        assert again.process.returncode == 75, "what is wrong is said before the fork"
        os.kill(pid, signal.SIGHUP)
        Path("stop").touch()
        until(lambda: not Path(f"/proc/{pid}").exists(), "the daemon ends by its shutdown file")
        assert not Path("stop").exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert subprocess_status(pair)["state"] == "not running"


@pytest.mark.covers("sync_client: options", "-r")
def test_under_a_supervisor_r_stays_in_the_foreground(pair):
    client = Client(pair.master, "-r", "-d", "1", environment={"CYRUS_ISDAEMON": "1"})
    pair.clients.append(client)
    pair.master.create("alice")
    until(lambda: pair.replica.has("alice"), "it works")
    assert client.process.poll() is None
    assert int((pair.master.directory() / "sync_client.lock").read_text()) == client.process.pid


@pytest.mark.covers("sync_client: options", "-1")
def test_once_does_one_log(pair):
    assert pair.run("-R", "-1").process.returncode == 0
    pair.master.create("alice")
    done = pair.run("-R", "-1", "-v")
    assert done.process.returncode == 0 and b"MAILBOX user.alice" in done.out
    assert pair.replica.has("alice") and pair.master.done()


@pytest.mark.covers("sync_client: options", "-f")
@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "61")
def test_a_log_file_is_worked_through_once_and_left_alone(pair, tmp_path):
    pair.master.create("alice", "bob")
    log = pair.master.log().read_bytes()
    lines = tmp_path / "lines"
    lines.write_bytes(b"MAILBOX user.alice\nGARBAGE\n")
    done = pair.run("-R", "-f", str(lines))
    assert done.process.returncode == 1, "a line was passed over"
    assert b"GARBAGE" in done.err
    assert pair.replica.has("alice") and not pair.replica.has("bob")
    assert lines.read_bytes() == b"MAILBOX user.alice\nGARBAGE\n"
    assert pair.master.log().read_bytes() == log
    lines.write_bytes(b"MAILBOX user.alice\n")
    assert pair.run("-R", "-f", str(lines)).process.returncode == 0
    lines.write_bytes(b"")
    done = pair.run("-R", "-f", str(lines))
    assert done.process.returncode == 1
    assert f"no lines in {lines}: nothing was done".encode() in done.err


@pytest.mark.covers("sync_client: options", "-f")
def test_a_log_file_with_work_that_fails_is_told_by_the_exit_status(pair, tmp_path):
    pair.replica.create("bad")
    pair.replica.deliver("bad", "born on the wrong side")
    pair.master.create("bad")
    lines = tmp_path / "lines"
    lines.write_bytes(b"USER bad\n")
    assert pair.run("-r", "-f", str(lines)).process.returncode == 1


@pytest.mark.covers("sync_client: options", "-n")
def test_a_channel_has_its_own_options_and_directory(pair):
    side = pair.master
    plain = side.conf.read_text().replace(f"sync_host: {pair.socket}\n", f"north_sync_host: {pair.socket}\n")
    side.conf.write_text(plain)
    side.create("alice")
    side.directory("north").mkdir()
    side.log().rename(side.log("north"))
    assert pair.run("-R", "-1", "-n", "north").process.returncode == 0
    assert pair.replica.has("alice") and side.done("north")
    assert (side.directory("north") / "status.json").exists()


@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "66")
def test_r_follows_sync_log_file_until_the_shutdown_file_appears(pair, tmp_path):
    side, log, stop = pair.master, tmp_path / "elsewhere" / "log", tmp_path / "stop"
    side.add(f"sync_log_file: {log}", f"sync_shutdown_file: {stop}")
    client = pair.rolling()
    side.create("alice")
    log.write_text("USER alice\n")
    until(lambda: pair.replica.has("alice"), "alice is at the replica")
    stop.touch()
    assert client.ended() == 0 and not stop.exists() and not log.exists()


def test_locked_users_are_deferred_and_done_later(pair):
    pair.master.create("alice", "bob")
    with pair.replica.store.write(Owner("user", "alice")):
        pair.rolling("-d", "1")
        until(lambda: pair.replica.has("bob"), "the other one flows")
    until(lambda: pair.replica.has("alice"), "the locked one follows")


def test_poison_in_the_log_blocks_nothing(pair):
    pair.master.create("alice")
    with pair.master.log().open("ab") as file:
        file.write(
            b"MAILBOX DELETED.user.alice." + b"x" * 1100 + b".6B013001\n" + b"MAILBOX user.a/b\nnonsense\n"
        )
    assert pair.run("-R", "-1").process.returncode == 0
    assert pair.replica.has("alice") and pair.master.done()
    rejected = yaml.safe_load((pair.master.directory() / "quarantine.yaml").read_text())["rejected_lines"]
    assert len(rejected) == 3 and all(line["reason"] for line in rejected)


def test_the_console_script_is_installed():
    assert (BIN / "sync_client").exists()


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(pair, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(scaled(20))
        client = pair.client("-R", environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        told = b""
        while b"READY=1" not in told or b"STATUS=" not in told:
            told += notify.recv(4096) + b"\n"
        client.process.terminate()
        while b"STOPPING=1" not in told:
            told += notify.recv(4096) + b"\n"
    assert client.ended() == 75


def test_a_server_killed_at_any_moment_loses_nothing_and_the_client_goes_on(tmp_path):
    dice = random.Random(11)
    users = [f"u{i}" for i in range(4)]
    (tmp_path / "r").mkdir()
    with serving_replica(tmp_path / "r") as own, paired(tmp_path, own) as pair:
        pair.master.add("sync_reconnect_maxwait: 1")
        pair.master.create(*users)
        client = pair.rolling("-d", "1")
        for _ in range(KILLS):
            for number in range(15):
                pair.master.deliver(dice.choice(users), f"message {number}")
            time.sleep(dice.uniform(0.0, 1.5))
            pair.server.stop(signal.SIGKILL)
            pair.server.start()
        until(pair.master.done, "the log is done", 60)
        assert client.process.poll() is None
        until(lambda: all(pair.replica.messages(u) == pair.master.messages(u) for u in users), "all arrives")
        assert pair.same()
        assert not (pair.master.directory() / "quarantine.yaml").exists(), "nobody is blamed"


@pytest.mark.covers("What the manual pages of sync_server and sync_client promise", "66")
@pytest.mark.parametrize("options", [("-1",), ()])
def test_what_a_killed_delivery_could_not_log_goes_over_when_the_client_starts(pair, options):
    pair.master.create("alice")
    assert pair.run("-R", "-1").process.returncode == 0
    deliver = [BIN / "mailstore", "-C", pair.master.conf, "deliver", "alice"]
    with held(pair.master.log()):
        delivery = subprocess.Popen(deliver, stdin=subprocess.PIPE, env=ENVIRONMENT)
        assert delivery.stdin is not None
        delivery.stdin.write(b"Subject: lost?\r\n\r\nhello\r\n")
        delivery.stdin.close()
        until(lambda: pair.master.messages("alice") == 1, "the message is stored")
        delivery.kill()
        delivery.wait()
    assert pair.master.log().read_bytes() == b""
    pair.client("-R", *options)
    until(lambda: pair.replica.messages("alice") == 1, "the message arrives")


@contextlib.contextmanager
def held(log: Path) -> Iterator[None]:
    """Nobody can write to the action log."""
    with log.open("ab") as file:
        lock = struct.pack("hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock)
        yield
