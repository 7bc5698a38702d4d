"""Sender and receiver are killed at any moment; in the end every file has arrived exactly once.

SHIPPING_KILL_ROUNDS sets how often (default 12 kills of each kind).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import time
from pathlib import Path

import pytest

from cyrus_sync.common.directory import Directory
from cyrus_sync.shipping import arrival, completing, sender
from cyrus_sync.shipping.datafile import DataFile
from cyrus_sync.shipping.ledger import Ledger
from cyrus_sync.shipping.sender import ship_order
from tests.forking import fork
from tests.shipping.kit import Host, contents, unfinished, wait_until

ROUNDS = int(os.environ.get("SHIPPING_KILL_ROUNDS", "12"))
Three = tuple[Host, Host, Host]


def packets(boston: Host, chance: random.Random, *destinations: str) -> list[str]:
    """Files of very different sizes; their hashes."""
    made = []
    for number in range(6):
        data = chance.randbytes(chance.choice((0, 1, 4096, 300_000, 3_000_000)))
        data += number.to_bytes(2, "big")
        boston.packet(f"packet{number}", data, *destinations)
        made.append(hashlib.sha256(data).hexdigest())
    return sorted(made)


def hashes(host: Host) -> list[str]:
    return sorted(hashlib.sha256(data).hexdigest() for data in host.incoming().values())


def poll_in_child(host: Host) -> int:
    """A run of shipping_server, in a process group of its own so that its children die with it."""

    def run() -> int:
        os.setpgid(0, 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        return host.shipping_server("-poll")

    return fork(run)


def kill_group(pid: int) -> None:
    for target in (lambda: os.killpg(pid, signal.SIGKILL), lambda: os.kill(pid, signal.SIGKILL)):
        try:
            target()
            break
        except ProcessLookupError:
            continue
    os.waitpid(pid, 0)


@pytest.mark.fault
@pytest.mark.parametrize("seed", range(2))
def test_senders_and_receivers_that_are_killed_lose_and_double_nothing(hosts: Three, seed: int) -> None:
    boston, hub, bangalore = hosts
    boston.configure(f"ROUTE {hub.name} {bangalore.name}")
    chance = random.Random(seed)
    expected = packets(boston, chance, hub.name, bangalore.name)

    def start(host: Host) -> None:
        host.start()

    for host in (hub, bangalore):
        start(host)
    for _ in range(ROUNDS // 2):
        run, onward = poll_in_child(boston), poll_in_child(hub)
        time.sleep(chance.random() * 0.08)
        victim = chance.choice((hub, bangalore))
        if chance.random() < 0.5:
            for child in children_of(victim.pid):
                with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                    os.kill(child, signal.SIGKILL)
        victim.stop(signal.SIGKILL)
        time.sleep(chance.random() * 0.02)
        kill_group(run)
        kill_group(onward)
        start(victim)
    for host in (boston, hub):
        wait_until(lambda host=host: host.shipping_server("-poll") == 0)
        wait_until(lambda host=host: host.shipping_server("-poll") == 0 and not host.outgoing())
    assert hashes(hub) == expected
    assert hashes(bangalore) == expected
    assert boston.outgoing() == hub.outgoing() == []


def children_of(pid: int) -> list[int]:
    """And theirs."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            found += [int(child), *children_of(int(child))]
    return found


STEPS = [
    (Ledger, "arrive"),
    (Ledger, "intend"),
    (Ledger, "finish"),
    (Directory, "rename_new"),
    (completing, "unfinished_order"),
    (Directory, "sync"),
    (arrival, "_same_file"),
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("where", STEPS, ids=lambda where: where[1])
def test_a_receiver_that_dies_at_any_step_takes_the_file_once(
    hosts: Three, monkeypatch: pytest.MonkeyPatch, where: tuple[object, str], when: str, count: int
) -> None:
    """`count`: at which call of the step. The file is for this host and for the next one."""
    boston, hub, bangalore = hosts
    place, step = where
    boston.configure(f"ROUTE {hub.name} {bangalore.name}")
    real = getattr(place, step)
    calls = [0]

    def deadly(*arguments: object) -> object:
        calls[0] += 1
        if when == "before" and calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        found = real(*arguments)
        if calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    boston.packet("one", b"1" * 70_000, hub.name, bangalore.name)
    with monkeypatch.context() as patch:
        patch.setattr(place, step, deadly)
        hub.start()
    died = boston.shipping_server("-poll")
    assert died or count > 1, "the step is taken at least once"
    hub.stop(signal.SIGKILL)
    hub.start()
    wait_until(lambda: boston.shipping_server("-poll") == 0 and not boston.outgoing())
    assert hub.incoming() == {"one": b"1" * 70_000}
    assert hub.outgoing() == ["one", "sh_o_one"]
    bangalore.start()
    assert hub.shipping_server("-poll") == 0
    assert bangalore.incoming() == {"one": b"1" * 70_000}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("place", "step"),
    [
        (sender, "send_file"),
        (sender.LockedOrder, "write"),
        (DataFile, "remove"),
        (sender.LockedOrder, "remove"),
        (Directory, "sync"),
        (Directory, "new_file"),
    ],
)
def test_a_sender_that_dies_at_any_step_sends_the_file_once(
    hosts: Three, monkeypatch: pytest.MonkeyPatch, place: object, step: str, when: str
) -> None:
    boston, hub, _ = hosts
    hub.start()
    order = boston.packet("one", b"1" * 70_000, hub.name)
    real = getattr(place, step)

    def deadly(*arguments: object) -> object:
        if when == "after":
            real(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(place, step, deadly)
        pid = fork(lambda: int(not ship_order(boston.site(), order)))
        assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    wait_until(lambda: boston.shipping_server("-poll") == 0 and not boston.outgoing())
    assert hub.incoming() == {"one": b"1" * 70_000}
    assert unfinished(hub) == []


def test_a_full_disk_at_the_receiver_is_told_and_the_file_waits(
    hosts: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub, _ = hosts
    order = boston.packet("one", b"1" * 70_000, hub.name)
    with monkeypatch.context() as patch:
        patch.setattr("cyrus_sync.shipping.landing.write_all", _disk_full)
        hub.start()
    assert boston.shipping_server(order) == 1
    assert f"it cannot be stored: {hub.bay}/incoming: No space left on device" in boston.log()
    assert unfinished(hub) == [] and contents(hub.bay / "incoming") == {}
    hub.stop()
    hub.start()
    assert boston.shipping_server(order) == 0
    assert list(hub.incoming()) == ["one"]


def _disk_full(*_: object) -> None:
    raise OSError(28, os.strerror(28))
