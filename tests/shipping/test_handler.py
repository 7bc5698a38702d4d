"""What a host runs by itself when something has arrived."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from cyrus_sync.shipping.handler import import_command
from tests.deadlines import scaled
from tests.shipping.kit import Host, wait_until

Three = tuple[Host, Host, Host]
SWITCH = "multisite_import_on_arrival: yes"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A syncreplica that notes how it was called, and what lay in the bay; takes a moment."""
    return stub(tmp_path, monkeypatch, "sleep 0.2")


def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> Path:
    calls = tmp_path / "calls"
    program = tmp_path / "syncreplica"
    bay = tmp_path / "hub/shipping/ms_ship/incoming"
    program.write_text("\n".join(["#!/bin/sh", f'echo "$*: "$(ls {bay}) >> {calls}', *lines]) + "\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return calls


def join_family(host: Host) -> None:
    (host.root / "multisite").mkdir()
    (host.root / "multisite/family.yaml").write_text("family: x\n")


def lines_of(calls: Path) -> list[str]:
    return calls.read_text().splitlines() if calls.exists() else []


def test_a_packet_is_imported_where_the_switch_says_so(hosts: Three, calls: Path) -> None:
    boston, hub, _ = hosts
    hub.configure(options=[SWITCH])
    join_family(hub)
    hub.start()
    boston.packet("sync_boston_1", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    wait_until(lambda: lines_of(calls))
    hub.stop()
    assert lines_of(calls) == [f"-import -receive -C {hub.config_file}: sync_boston_1"]


def test_what_came_just_before_a_stop_is_imported_at_the_start(hosts: Three, calls: Path) -> None:
    hub = hosts[1]
    hub.configure(options=[SWITCH])
    join_family(hub)
    (hub.bay / "incoming").mkdir(parents=True)
    (hub.bay / "incoming/sync_boston_1").write_bytes(b"1")
    hub.start()
    wait_until(lambda: lines_of(calls))
    hub.stop()
    assert lines_of(calls) == [f"-import -receive -C {hub.config_file}: sync_boston_1"]


@pytest.mark.parametrize("lacking", ["switch", "family", "name", "handler", "here"])
def test_nothing_is_imported_without(hosts: Three, calls: Path, lacking: str) -> None:
    boston, hub, bangalore = hosts
    boston.configure(f"ROUTE {hub.name} {bangalore.name}")
    hub.configure(
        *(["RECEIPT-HANDLER -default /bin/true"] if lacking == "handler" else []),
        options=[SWITCH] if lacking != "switch" else [],
    )
    if lacking != "family":
        join_family(hub)
    hub.start()
    name = "repl_boston_1" if lacking == "name" else "sync_boston_1"
    boston.packet(name, b"1", bangalore.name if lacking == "here" else hub.name)
    assert boston.shipping_server("-poll") == 0
    hub.stop()  # waits for what has begun
    assert lines_of(calls) == []


def test_a_packet_that_comes_home_is_not_imported(hosts: Three, calls: Path) -> None:
    boston, hub, _ = hosts
    boston.configure(options=[SWITCH])
    join_family(boston)
    boston.start()
    # As it comes back from a hop: an order on its way home.
    hub.packet("sync_boston_1", b"1", boston.name)
    path = hub.bay / "outgoing/sh_o_sync_boston_1"
    lines = path.read_bytes().replace(b"%ORIGIN-HOST 127.0.0.2", b"%ORIGIN-HOST 127.0.0.1")
    path.write_bytes(lines + b"%RETURNED-UNDELIVERED bangalore\n")
    assert hub.shipping_server(path) == 0
    boston.stop()
    assert boston.came_home() == {"sync_boston_1": b"1"}
    assert lines_of(calls) == []


def test_imports_run_one_after_the_other_and_miss_nothing(
    hosts: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub, _ = hosts
    running = tmp_path / "running"
    calls = stub(
        tmp_path,
        monkeypatch,
        f"mkdir {running} || echo together >> {tmp_path}/calls",
        f"sleep 0.1; rmdir {running}",
    )
    hub.configure(options=[SWITCH])
    join_family(hub)
    hub.start()
    for number in range(12):
        boston.packet(f"sync_boston_{number}", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    hub.stop()
    said = lines_of(calls)
    assert "together" not in said
    assert 1 <= len(said) <= 12
    assert set(said[-1].split()) >= {f"sync_boston_{number}" for number in range(12)}


def test_an_import_that_fails_is_logged_with_what_it_said(
    hosts: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub, _ = hosts
    stub(tmp_path, monkeypatch, "echo first; echo second >&2; exit 3")
    hub.configure(options=[SWITCH])
    join_family(hub)
    hub.start()
    boston.packet("sync_boston_1", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    hub.stop()
    log = hub.log()
    assert f"syncreplica -import -receive -C {hub.config_file} ended with status 3" in log
    assert "error: syncreplica: first\n" in log and "error: syncreplica: second\n" in log
    assert hub.incoming() == {"sync_boston_1": b"1"}


def test_a_handler_may_leave_something_running(hosts: Three) -> None:
    boston, hub, _ = hosts
    handler = hub.root / "handler"
    handler.write_text('#!/bin/sh\nsleep 600 &\necho $! > "$0.pid"\nexit 4\n')
    handler.chmod(0o755)
    hub.configure(f"RECEIPT-HANDLER -default {handler}")
    hub.start()
    boston.packet("one", b"1", hub.name)
    begun = time.monotonic()
    assert boston.shipping_server("-poll") == 0
    try:
        wait_until(lambda: "ended with status 4" in hub.log(), 10)
        hub.stop()
        assert time.monotonic() - begun < scaled(10), "nobody waits for what runs in the background"
    finally:
        os.kill(int((hub.root / "handler.pid").read_text()), signal.SIGKILL)


def test_without_the_console_script_the_module_is_run(
    hosts: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python"))
    command = import_command(hosts[0].site())
    assert command[:5] == [sys.executable, "-P", "-m", "cyrus_sync.multisite.multitool", "syncreplica"]
    assert command[5:] == ["-import", "-receive", "-C", str(hosts[0].config_file)]
