"""Children are started programs: they do one job after another, and one that dies takes nothing with it."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from cyrus_sync.shipping.children import run_children, start_program, worker_command
from tests.shipping.conversation import Conversation, header_for
from tests.shipping.kit import Host, wait_until

Pair = tuple[Host, Host]
ECHO = """
import json, os, signal, socket
jobs = socket.socket(fileno=0)
while job := jobs.recv(1000):
    if json.loads(job) == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    jobs.sendall(b"%d\\n" % os.getpid())
"""


def test_a_child_does_one_job_after_another() -> None:
    pids = run_children(lambda: start_program([sys.executable, "-c", ECHO]), ["job"] * 20, limit=2)
    assert 1 <= len(set(pids)) <= 2


def test_a_child_that_is_killed_fails_at_its_job_alone() -> None:
    jobs = ["job", "die", "job", "die", "job"]
    pids = run_children(lambda: start_program([sys.executable, "-c", ECHO]), jobs, limit=1)
    assert [pid for pid, job in zip(pids, jobs, strict=True) if job == "die"] == [128 + signal.SIGKILL] * 2
    assert all(pid > 200 for pid, job in zip(pids, jobs, strict=True) if job == "job")


def test_a_program_in_the_current_directory_is_not_taken_for_ours(
    hosts: tuple[Host, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "cyrus_sync"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'taken')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    child = start_program(worker_command(hosts[0].site()))
    child.give({"ship": str(tmp_path / "none"), "class": None})
    assert child.answer() == 0 and child.end() == 0
    assert not (tmp_path / "taken").exists()


@pytest.mark.usefixtures("started_children")
def test_a_receiving_child_that_is_killed_is_said_and_the_next_file_is_taken(pair: Pair) -> None:
    boston, hub = pair
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, b"x"))
        assert talk.word() == "GO"
        (child,) = children_of(hub)
        os.kill(child, signal.SIGKILL)
        assert talk.line() == ""
    wait_until(lambda: "the child that took a file from 127.0.0.1 has failed: 137" in hub.log())
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"}


@pytest.mark.usefixtures("started_children")
def test_one_child_waits_before_a_file_comes_and_ends_with_the_service(pair: Pair) -> None:
    boston, hub = pair
    wait_until(lambda: children_of(hub))
    (first,) = children_of(hub)
    wait_until(lambda: "_sodium" in Path(f"/proc/{first}/maps").read_text())  # it has loaded what it needs
    with Conversation(boston, hub) as talk:
        talk.hello()
        talk.announce(header_for(hub, b"x"))
        assert talk.word() == "GO"
        assert children_of(hub) == [first]
        os.kill(first, signal.SIGKILL)
    wait_until(lambda: [pid for pid in children_of(hub) if pid != first])
    (second,) = [pid for pid in children_of(hub) if pid != first]
    hub.stop()
    wait_until(lambda: not is_alive(second))


@pytest.mark.usefixtures("started_children")
def test_a_child_that_waits_has_the_configuration_of_its_first_file(pair: Pair) -> None:
    boston, hub = pair
    wait_until(lambda: children_of(hub))
    hub.conf_file.write_text(hub.conf_file.read_text() + "nonsense\n")
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 1
    hub.configure()
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"}


def children_of(host: Host) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{host.pid}/task/{host.pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
