"""Several processes behind one listener: as real ones, with connections, signals and kills."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.metrics.settings import MetricsSettings, metrics_address
from cyrus_sync.sync_server.settings import ServerSettings
from tests.deadlines import scaled, until
from tests.interop.csync import Csync
from tests.interop.ours import Ours

SETTINGS = {"sasl_mech_list": "PLAIN", "sync_workers": "2", "sync_max_per_address": "4"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Ours]:
    with Ours.installed("workers", SETTINGS) as ours:
        all_ready(ours)
        yield ours


@pytest.fixture
def ours() -> Iterator[Ours]:
    with Ours.installed("workers", SETTINGS) as made:
        all_ready(made)
        yield made


def all_ready(ours: Ours) -> None:
    until(lambda: "ready: 2 workers" in ours.log.read_text(), "two workers are ready")


def children(pid: int) -> set[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(word) for word in text.split()}


def supervisor(ours: Ours) -> int:
    assert ours.server is not None
    return ours.server.pid


def workers(ours: Ours) -> set[int]:
    return children(supervisor(ours))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def served_by(ours: Ours, connection: Csync) -> int:
    """The process that has logged this connection in."""
    port = connection.socket.getsockname()[1]
    line = re.compile(rf"sync_server\[(\d+)\] INFO: login: 127\.0\.0\.1:{port} ")
    until(lambda: bool(line.search(ours.log.read_text())), "the login is in the log")
    found = line.search(ours.log.read_text())
    assert found is not None
    return int(found[1])


def ended(connection: Csync) -> bool:
    connection.socket.settimeout(scaled(30))
    rest = b"".join(iter(connection.file.readline, b""))
    return rest in (b"", b"BYE shutting down\r\n")


@pytest.mark.covers("imapd.conf", "sync_workers")
def test_two_connections_are_served_by_two_processes_and_one_store(shared: Ours) -> None:
    with Csync(shared.csync) as one, Csync(shared.csync) as two:
        assert {served_by(shared, one), served_by(shared, two)} == workers(shared)
        shared.mailstore("create", "user/alice").check()
        for connection in (one, two):
            assert any(b"user.alice" in line for line in connection.ok(b"GET USER alice"))


def test_a_unix_socket_is_served_too(shared: Ours) -> None:
    path = shared.root / "conf" / "csync.socket"
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as local:
        local.settimeout(scaled(30))
        local.connect(str(path))
        assert local.recv(1000).startswith(b"* OK")
        local.sendall(b"GET USER nobody\r\n")
        assert local.recv(1000) == b"OK success\r\n"


def test_the_limit_of_an_address_is_that_of_all_workers(shared: Ours) -> None:
    connections = [Csync(shared.csync) for _ in range(4)]
    by = [served_by(shared, connection) for connection in connections]
    assert sorted(by.count(pid) for pid in set(by)) == [2, 2]
    with socket.create_connection(shared.csync, timeout=scaled(30)) as one_too_many:
        assert one_too_many.recv(1000).startswith(b"* BYE too many connections from 127.0.0.1")
    for connection in connections:
        connection.__exit__(None, None, None)

    def again() -> bool:
        with socket.create_connection(shared.csync, timeout=scaled(30)) as next_one:
            return b"OK" in next_one.recv(1000)

    until(again, "there is room again")


def test_a_worker_that_is_killed_is_replaced_and_the_other_serves_on(ours: Ours) -> None:
    with Csync(ours.csync) as one, Csync(ours.csync) as two:
        victim, other = served_by(ours, one), served_by(ours, two)
        os.kill(victim, signal.SIGKILL)
        assert ended(one)
        until(lambda: len(workers(ours)) == 2 and victim not in workers(ours), "it is replaced")
        two.ok(b"GET USER nobody")
        assert other in workers(ours)
    assert f"(process {victim}) has ended: signal 9" in ours.log.read_text()
    text = ours.log.read_text()
    until(lambda: len(re.findall("ready: workers.lab", ours.log.read_text())) >= 3, f"it is ready: {text}")
    with Csync(ours.csync) as one, Csync(ours.csync) as two:
        assert {served_by(ours, one), served_by(ours, two)} == workers(ours)


def test_a_hangup_brings_new_workers_with_the_new_file_and_a_bad_file_changes_nothing(ours: Ours) -> None:
    before = workers(ours)
    good = ours.config.read_text()
    with Csync(ours.csync) as standing:
        ours.config.write_text(good + "sync_timeout: nonsense\n")
        os.kill(supervisor(ours), signal.SIGHUP)
        until(lambda: "going on with what was read before" in ours.log.read_text(), "the file is refused")
        standing.ok(b"GET USER nobody")
        assert workers(ours) == before
        ours.config.write_text(good + "tls_server_cert: /nowhere\ntls_server_key: /nowhere\n")
        os.kill(supervisor(ours), signal.SIGHUP)
        until(lambda: "do not become ready" in ours.log.read_text(), "the new workers end")
        until(lambda: workers(ours) == before, "they are gone")
        standing.ok(b"GET USER nobody")
        ours.config.write_text(good.replace("servername: workers.lab", "servername: renamed.lab"))
        os.kill(supervisor(ours), signal.SIGHUP)
        assert ended(standing)
    until(lambda: len(workers(ours)) == 2 and not workers(ours) & before, "the old ones are gone")
    with Csync(ours.csync) as fresh:
        assert b"renamed.lab" in fresh.greeting[-1]


def test_at_a_signal_all_of_them_say_bye_and_end(ours: Ours) -> None:
    pids = workers(ours)
    with Csync(ours.csync) as one, Csync(ours.csync) as two:
        assert ours.stop() == 0
        assert ended(one) and ended(two)
    assert not any(map(alive, pids))
    assert not (ours.root / "conf" / "csync.socket").exists()


def test_workers_whose_supervisor_was_killed_end(ours: Ours) -> None:
    pids = workers(ours)
    with Csync(ours.csync) as one:
        os.kill(supervisor(ours), signal.SIGKILL)
        assert ended(one)
    until(lambda: not any(map(alive, pids)), "they have ended")


def test_an_address_that_is_taken_is_told_at_once(shared: Ours) -> None:
    with (
        pytest.raises(AssertionError, match=r"cannot listen on 127\.0\.0\.1:"),
        Ours.installed("second", {**SETTINGS, "sync_listen": f"127.0.0.1:{shared.port}"}),
    ):
        pass


def test_a_share_is_rounded_up_and_nothing_said_stays_nothing() -> None:
    share = ServerSettings(max_connections=10, max_per_address=3).share_of(4)
    assert (share.max_connections, share.max_per_address, share.max_strangers) == (3, 1, 0)


def test_every_worker_has_its_own_place_for_metrics() -> None:
    said = MetricsSettings((metrics_address("9788"), metrics_address("/run/x")), Path("/var/lib/server.prom"))
    assert said.of_worker(1) == said
    third = said.of_worker(3)
    assert [str(one) for one in third.listen] == ["127.0.0.1:9790", "/run/x-3"]
    assert third.file == Path("/var/lib/server-3.prom")
