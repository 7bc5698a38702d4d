"""Figures over HTTP and in a file: beside the work, and never in its way."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.testing import MemoryReactorClock, StringTransport

from cyrus_sync.common import filelock
from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ConfigError, MailboxLocked, StoreError
from cyrus_sync.common.listening import Address
from cyrus_sync.common.metrics.codes import code_of, code_of_reply
from cyrus_sync.common.metrics.exporter import FILE_SECONDS, TRY_AGAIN_SECONDS, Exporter
from cyrus_sync.common.metrics.settings import MetricsSettings, metrics_address
from cyrus_sync.common.metrics.sheet import Sheet, plain_text
from cyrus_sync.common.metrics.tallies import Histogram
from cyrus_sync.common.stores.native.locks import FileLock
from tests.deadlines import scaled


class Threads:
    """Runs everything at once, or, while `held`, when the test says so."""

    def __init__(self) -> None:
        self.held: list[Deferred[None]] | None = None
        self.calls = 0

    def run(self, function: Any, *arguments: Any) -> Deferred[Any]:
        self.calls += 1
        if self.held is None:
            return maybeDeferred(function, *arguments)
        gate: Deferred[None] = Deferred()
        self.held.append(gate)
        return gate.addCallback(lambda _: function(*arguments))


class Rig:
    def __init__(self, *listen: str, file: Path | None = None) -> None:
        self.reactor = MemoryReactorClock()
        self.reactor.advance(1_800_000_000)
        self.threads = Threads()
        self.looks = 0
        settings = MetricsSettings(tuple(metrics_address(one) for one in listen), file)
        reactor: Any = self.reactor
        self.exporter = Exporter(reactor, self.threads, settings, self._look, "sync_test", channel="north")

    def _look(self) -> Any:
        self.looks += 1
        looks = self.looks
        return lambda sheet: sheet.gauge("test_looks", "How often.", looks)

    def get(self, path: str = "/metrics", *headers: str) -> bytes:
        """What a request is answered with."""
        (_port, factory, _backlog, _interface) = self.reactor.tcpServers[0]
        protocol = factory.buildProtocol(None)
        transport = StringTransport()
        protocol.makeConnection(transport)
        request = "".join(f"{line}\r\n" for line in (f"GET {path} HTTP/1.1", "Host: localhost", *headers, ""))
        protocol.dataReceived(request.encode())
        return transport.value()


def test_whoever_asks_gets_the_text_format() -> None:
    rig = Rig("9788")
    rig.exporter.begin()
    answer = rig.get()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and b"Content-Type: text/plain; version=" in answer
    assert b'cyrus_sync_test_looks{channel="north"} 1.0\n' in answer
    assert b"process_cpu_seconds_total" in answer
    assert b"application/openmetrics-text" in rig.get("/metrics", "Accept: application/openmetrics-text")
    assert b"/metrics" in rig.get("/") and rig.get("/passwd").startswith(b"HTTP/1.1 404")


def test_a_port_alone_is_one_of_the_loopback_interface() -> None:
    rig = Rig("9788", "/run/x.sock")
    rig.exporter.begin()
    ((port, _factory, _backlog, interface),) = rig.reactor.tcpServers
    assert (port, interface) == (9788, "127.0.0.1")
    ((path, _factory, _backlog, mode, _pid),) = rig.reactor.unixServers
    assert (path, mode) == ("/run/x.sock", 0o660)


def test_however_many_ask_the_work_is_done_once_a_second() -> None:
    rig = Rig("9788")
    rig.exporter.begin()
    for _ in range(20):
        rig.get()
    assert rig.looks == 1
    rig.reactor.advance(1)
    rig.get()
    assert rig.looks == 2


def test_a_failure_is_an_answer_and_the_next_one_is_asked_anew() -> None:
    rig = Rig("9788")
    rig.exporter.begin()
    broken, rig.exporter._look = rig.exporter._look, lambda: _raise
    answer = rig.get()
    assert answer.startswith(b"HTTP/1.1 500") and b"disk" not in answer
    rig.exporter._look = broken
    rig.reactor.advance(1)
    assert rig.get().startswith(b"HTTP/1.1 200")


def _raise(_sheet: Sheet) -> None:
    raise OSError("the disk is away")


def test_somebody_who_went_away_meanwhile_does_no_harm() -> None:
    rig = Rig("9788")
    rig.exporter.begin()
    rig.threads.held = []
    (_port, factory, _backlog, _interface) = rig.reactor.tcpServers[0]
    protocol = factory.buildProtocol(None)
    protocol.makeConnection(StringTransport())
    protocol.dataReceived(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    from twisted.internet.error import ConnectionLost
    from twisted.python.failure import Failure

    protocol.connectionLost(Failure(ConnectionLost()))
    for gate in rig.threads.held:
        gate.callback(None)
    for gate in rig.threads.held[1:]:
        assert gate.called


def test_no_more_connections_than_fit_are_taken() -> None:
    rig = Rig("9788")
    rig.exporter.begin()
    (_port, factory, _backlog, _interface) = rig.reactor.tcpServers[0]
    made = []
    for _ in range(40):
        protocol = factory.buildProtocol(None)
        if protocol is not None:
            protocol.makeConnection(StringTransport())
            made.append(protocol)
    assert len(made) == 32


def test_an_address_that_cannot_be_had_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig("9788")
    listen, taken = rig.reactor.listenTCP, [True]

    def listen_tcp(port: int, *arguments: Any, **keywords: Any) -> Any:
        if taken:
            raise CannotListenError("127.0.0.1", port, OSError(98, "Address already in use"))
        return listen(port, *arguments, **keywords)

    monkeypatch.setattr(rig.reactor, "listenTCP", listen_tcp)
    rig.exporter.begin()
    assert not rig.exporter.where
    taken.clear()
    rig.reactor.advance(TRY_AGAIN_SECONDS)
    assert len(rig.exporter.where) == 1


def test_the_file_is_whole_readable_and_written_now_and_then(tmp_path: Path) -> None:
    path = tmp_path / "x.prom"
    rig = Rig(file=path)
    before = os.umask(0o077)
    try:
        rig.exporter.begin()
    finally:
        os.umask(before)
    assert b"looks" in path.read_bytes() and stat.S_IMODE(path.stat().st_mode) == 0o644
    assert b"process_" not in path.read_bytes(), "these are one process's, and the directory has several"
    rig.reactor.advance(FILE_SECONDS)
    rig.exporter.end()
    assert b'looks{channel="north"} 3.0' in path.read_bytes(), "the last state is in it"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_complained_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(file=tmp_path / "gone/x.prom")
    rig.exporter.begin()
    for _ in range(5):
        rig.reactor.advance(FILE_SECONDS)
    assert len(caplog.records) == 1 and "sync_metrics_file: cannot write" in caplog.text
    (tmp_path / "gone").mkdir()
    rig.reactor.advance(FILE_SECONDS)
    assert (tmp_path / "gone/x.prom").exists()
    rig.exporter.end()


# -- what is configured


def settings(tmp_path: Path, *lines: str, channel: str | None = None) -> MetricsSettings:
    conf = tmp_path / "imapd.conf"
    conf.write_text("\n".join([f"configdirectory: {tmp_path}", *lines]) + "\n")
    return MetricsSettings.from_config(Config.load(conf), "client", channel)


@pytest.mark.covers("imapd.conf", "sync_metrics_listen")
def test_each_channel_may_have_an_address_of_its_own(tmp_path: Path) -> None:
    lines = ("sync_metrics_listen: 9788 /run/m.sock", "north_sync_metrics_listen: [::1]:9789")
    assert settings(tmp_path, *lines).listen == (Address("127.0.0.1", 9788), Address(path="/run/m.sock"))
    assert settings(tmp_path, *lines, channel="north").listen == (Address("::1", 9789),)
    assert not settings(tmp_path)


@pytest.mark.parametrize("value", ["localhost", "127.0.0.1:http", "70000", "::1:9788"])
def test_an_address_that_is_none_is_named_with_its_line(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match=r"imapd\.conf:2: sync_metrics_listen: "):
        settings(tmp_path, f"sync_metrics_listen: {value}")


@pytest.mark.covers("imapd.conf", "sync_metrics_file")
def test_in_a_directory_each_program_and_channel_has_its_file(tmp_path: Path) -> None:
    line = f"sync_metrics_file: {tmp_path}"
    assert settings(tmp_path, line).file == tmp_path / "cyrus_sync_client.prom"
    assert settings(tmp_path, line, channel="north").file == tmp_path / "cyrus_sync_client-north.prom"
    assert settings(tmp_path, f"sync_metrics_file: {tmp_path}/a.prom").file == tmp_path / "a.prom"
    with pytest.raises(ConfigError, match=r"imapd\.conf:2: sync_metrics_file: is not an absolute path"):
        settings(tmp_path, "sync_metrics_file: a.prom")


# -- what is counted


def test_a_value_on_a_bound_belongs_to_what_is_below_it() -> None:
    spent = Histogram((0.1, 1.0))
    for value in (0.0, 0.1, 0.1001, 1.0, 7.0):
        spent.observe(value)
    twin = spent.copy()
    spent.observe(0.5)
    sheet = Sheet("test")
    sheet.histogram("spent_seconds", "Seconds.", twin, command="GET USER")
    lines = plain_text(sheet).decode().splitlines()
    counts = [line.rpartition(" ")[2] for line in lines if "spent_seconds_bucket" in line]
    assert counts == ["2.0", "4.0", "5.0"]
    (total,) = [line for line in lines if line.startswith('cyrus_sync_spent_seconds_sum{command="GET USER"}')]
    assert float(total.rpartition(" ")[2]) == pytest.approx(8.2001)


def test_whatever_a_peer_says_the_codes_are_few() -> None:
    said = [f"NO {n}" for n in range(1000)] + [f"IMAP_{n} No such" for n in range(1000)]
    assert {code_of_reply("NO", text) for text in said} == {"NO"}
    assert code_of_reply("alice", "x") == "other"
    assert code_of(MailboxLocked()) == "IMAP_MAILBOX_LOCKED"
    assert (code_of(StoreError("user.alice is gone")), code_of(KeyError("alice"))) == ("StoreError", "other")


def test_locks_that_are_waited_for_are_counted(tmp_path: Path) -> None:
    waits = filelock.WAITS
    count, given_up = waits.count, waits.given_up
    path = tmp_path / "lock"
    with FileLock(path, 1):
        with pytest.raises(MailboxLocked):
            FileLock(path, 0.01)
        assert (waits.count, waits.given_up) == (count + 1, given_up + 1)
        with pytest.raises(MailboxLocked):
            FileLock(path, 0)
    with FileLock(path, 1):
        assert waits.count == count + 1, "who does not wait has not waited"
    seconds, held = waits.seconds, FileLock(path, 1)
    threading.Timer(0.05, held.release).start()
    FileLock(path, scaled(20)).release()
    assert (waits.count, waits.given_up) == (count + 2, given_up + 1) and waits.seconds > seconds
