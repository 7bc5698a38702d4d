"""Steps that were cut short, and what is left lying about by them: nothing is lost, doubled or held up."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cyrus_sync.common.directory import Directory
from cyrus_sync.common.errors import ConfigError
from cyrus_sync.shipping import landing, listening, receive, returns
from cyrus_sync.shipping.children import MAX_CHILDREN
from cyrus_sync.shipping.ledger import Ledger
from cyrus_sync.shipping.listening import bind
from cyrus_sync.shipping.loop import wait_for
from cyrus_sync.shipping.order import LONGEST_ORDER, Order
from cyrus_sync.shipping.run import poll
from cyrus_sync.shipping.sender import LockedOrder
from tests.forking import fork
from tests.ports import free_port
from tests.shipping.conversation import Conversation, header_for
from tests.shipping.kit import Host, age, unfinished, wait_until

Three = tuple[Host, Host, Host]


def dying_once(
    monkeypatch: pytest.MonkeyPatch, flag: Path, place: object, name: str, last: Callable[..., object]
) -> None:
    """The first process that takes the step `name` does `last` instead and is killed."""
    real = getattr(place, name)

    def step(*arguments: object) -> object:
        try:
            flag.touch(exist_ok=False)
        except FileExistsError:
            return real(*arguments)
        last(*arguments)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    monkeypatch.setattr(place, name, step)


def test_a_file_whose_first_receiver_was_killed_gets_its_receipt_handler(
    hosts: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub, _ = hosts
    calls = tmp_path / "calls"
    handler = tmp_path / "handler"
    handler.write_text(f'#!/bin/sh\necho "$*" >> {calls}\n')
    handler.chmod(0o755)
    hub.configure(f"RECEIPT-HANDLER -default {handler}")
    boston.packet("one", b"1", hub.name)
    dying_once(monkeypatch, tmp_path / "died", Directory, "rename_new", lambda *_: None)
    hub.start()
    assert boston.shipping_server("-poll") == 1
    wait_until(lambda: boston.shipping_server("-poll") == 0 and not boston.outgoing())
    hub.stop()
    assert hub.incoming() == {"one": b"1"}
    assert calls.read_text() == f"-o {boston.name} -d {hub.bay}/incoming/one\n"


def _only_link(directory: Directory, old: str, new: str, to: Directory) -> None:
    os.link(directory.path / old, to.path / new)


def test_a_rename_in_two_steps_that_was_cut_between_them_leaves_one_file(
    hosts: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub, _ = hosts
    boston.packet("one", b"1", hub.name)
    dying_once(monkeypatch, tmp_path / "died", Directory, "rename_new", _only_link)
    hub.start()
    assert boston.shipping_server("-poll") == 1
    wait_until(lambda: boston.shipping_server("-poll") == 0 and not boston.outgoing())
    assert hub.incoming() == {"one": b"1"}
    assert unfinished(hub) == []


@pytest.mark.parametrize("both", [False, True])
def test_data_that_vanished_before_its_first_step_is_sent_again(
    hosts: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, both: bool
) -> None:
    """As a machine that lost its power may find the directory."""
    boston, hub, bangalore = hosts
    boston.configure(f"ROUTE {hub.name} {bangalore.name}")
    real = Ledger.arrive

    def arrive_and_vanish(ledger: Ledger, record: dict[str, object]) -> None:
        real(ledger, record)
        Path(str(record["here"])).unlink()

    dying_once(monkeypatch, tmp_path / "died", Ledger, "arrive", arrive_and_vanish)
    hub.start()
    boston.packet("one", b"1", hub.name, *([bangalore.name] if both else []))
    assert boston.shipping_server("-poll") == 1
    wait_until(lambda: boston.shipping_server("-poll") == 0 and not boston.outgoing())
    assert hub.incoming() == {"one": b"1"}
    assert hub.outgoing() == (["one", "sh_o_one"] if both else [])
    assert unfinished(hub) == []


def _restore(host: Host, *_: object) -> None:
    """Bring the host's files back from a copy, as a backup would: every one has another inode."""
    for path in [found for found in host.home.rglob("*") if found.is_file()]:
        copy = path.with_name("restored")
        shutil.copy2(path, copy)
        path.unlink()
        copy.rename(path)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("step", ["arrive", "intend"])
def test_a_host_that_was_restored_with_an_arrival_pending_completes_it(
    hosts: Three, monkeypatch: pytest.MonkeyPatch, step: str, count: int
) -> None:
    boston, hub, bangalore = hosts
    boston.configure(f"ROUTE {hub.name} {bangalore.name}")
    real, calls = getattr(Ledger, step), [0]

    def last_step(*arguments: object) -> object:
        found = real(*arguments)
        calls[0] += 1
        if calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    boston.packet("one", b"1", hub.name, bangalore.name)
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, step, last_step)
        hub.start()
        boston.shipping_server("-poll")
        hub.stop(signal.SIGKILL)
    _restore(hub)
    hub.start()
    wait_until(lambda: boston.shipping_server("-poll") == 0 and not boston.outgoing())
    assert hub.incoming() == {"one": b"1"}
    assert hub.outgoing() == ["one", "sh_o_one"]
    assert unfinished(hub) == []


def test_what_was_put_in_the_place_of_a_file_whose_receiver_was_killed_is_not_taken_for_it(
    hosts: Three, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub, _ = hosts
    real = Ledger.arrive

    def arrive_and_change(ledger: Ledger, record: dict[str, object]) -> None:
        real(ledger, record)
        Path(str(record["here"])).write_bytes(b"2")  # the same file, so it has its inode

    dying_once(monkeypatch, tmp_path / "died", Ledger, "arrive", arrive_and_change)
    hub.start()
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 1
    wait_until(lambda: boston.shipping_server("-poll") == 0 and not boston.outgoing())
    assert hub.incoming() == {"one": b"1"}
    assert "is not what has arrived" in hub.log()


def test_orders_that_are_longer_than_a_pipe_hold_up_nobody(hosts: Three) -> None:
    boston, hub, _ = hosts
    hub.configure("RECEIPT-HANDLER -default /bin/true")
    hub.start()
    for number in range(11):
        boston.packet(f"long{number}", b"1", hub.name, arguments=["-comment", "é" * 40_000])
    assert boston.shipping_server("-poll") == 0
    assert len(hub.incoming()) == 11
    hub.stop()


def test_a_service_that_is_told_to_stop_finishes_what_is_being_received(hosts: Three) -> None:
    boston, hub, _ = hosts
    hub.start()
    talks = [Conversation(boston, hub) for _ in range(MAX_CHILDREN)]
    try:
        for number, talk in enumerate(talks):
            talk.hello()
            header = header_for(hub, b"x", f"packet{number}")
            talk.announce(replace(header, order=replace(header.order, identifier=str(number))))
            assert talk.word() == "GO"
        os.kill(hub.pid, signal.SIGTERM)
        wait_until(lambda: not listens(hub))
        for talk in talks:
            talk.send(b"x")
            assert talk.word() == "DONE"
        hub.stop()
    finally:
        for talk in talks:
            talk.close()
    assert len(hub.incoming()) == MAX_CHILDREN


def listens(host: Host) -> bool:
    try:
        socket.create_connection((host.name, host.port), timeout=5).close()
    except (ConnectionRefusedError, ConnectionResetError):  # or it has just ended
        return False
    return True


def test_a_pipe_in_a_bay_that_is_named_as_an_unfinished_file_stops_nobody(hosts: Three) -> None:
    boston, hub, _ = hosts
    (hub.bay / "incoming").mkdir(parents=True)
    pipe, link = hub.bay / "incoming/.ms_tmp_pipe", hub.bay / "incoming/.ms_tmp_link"
    os.mkfifo(pipe)
    link.symlink_to(hub.root / "key")
    for path in (pipe, link):
        os.utime(path, (1, 1), follow_symlinks=False)
    hub.start()
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"}
    assert (hub.root / "key").exists()


class Listener:
    """The side of a talk to which something is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)

    def be_patient(self, seconds: float | None) -> None:
        assert seconds is None


def test_a_sender_is_told_to_wait_while_its_file_is_brought_to_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receive, "_WAIT_EVERY", 0.01)
    monkeypatch.setattr(os, "fsync", lambda _: time.sleep(0.1))
    talk = Listener()
    wait_for(lambda reactor: receive.sync(reactor, talk, 0))  # type: ignore[arg-type]
    assert len(talk.lines) > 1
    assert set(talk.lines) == {"WAIT the file is being brought to disk"}


def test_a_large_file_is_on_its_way_to_disk_while_it_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(landing, "_WRITE_BACK", 10)
    monkeypatch.setattr(landing, "begin_writing_back", lambda _, offset, count: begun.append((offset, count)))
    with (tmp_path / "file").open("wb") as file:
        write = landing.writer(file.fileno())
        for _ in range(7):
            write(memoryview(b"four"))
    assert begun == [(0, 12), (12, 12)]
    assert (tmp_path / "file").read_bytes() == b"four" * 7


def test_a_disk_that_fails_at_last_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="broken"):
        wait_for(lambda reactor: receive.sync(reactor, Listener(), 0))  # type: ignore[arg-type]


def test_an_order_that_could_outgrow_what_can_be_read_is_not_made(
    hosts: Three, capfd: pytest.CaptureFixture[str]
) -> None:
    boston = hosts[0]
    (boston.root / "file").write_bytes(b"1")
    many = [f"host{number}.example.org" for number in range(1000)]
    assert boston.mkorder("-data", boston.root / "file", *many) == 1
    assert "too many destinations" in capfd.readouterr().err
    assert boston.mkorder("-data", boston.root / "file", *many[:250]) == 0
    order = Order.load(boston.root / "sh_o_file")
    grown = order.failed(order.destinations, many[0], 1, 10**9).delivered(order.destinations, many[0], 10**9)
    assert len(grown.text()) < LONGEST_ORDER
    assert Order.parse(grown.text()) == grown


def test_an_expired_order_without_its_data_is_told_and_goes(hosts: Three) -> None:
    boston, hub, _ = hosts
    path = boston.packet("one", b"1", hub.name)
    age(path, 10)
    (boston.bay / "outgoing/one").unlink()
    assert boston.shipping_server("-poll") == 0
    assert boston.outgoing() == []
    assert "its data file" in boston.log() and "is not there" in boston.log()
    assert "Subject: one could not be delivered to 127.0.0.2" in boston.mail()


def test_a_return_that_is_killed_has_been_told(hosts: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    boston, hub, _ = hosts
    path = boston.packet("one", b"1", hub.name)
    age(path, 10)
    with monkeypatch.context() as patch:
        patch.setattr(LockedOrder, "remove", lambda _: os.kill(os.getpid(), signal.SIGKILL))
        pid = fork(lambda: boston.shipping_server("-poll"))
        os.waitpid(pid, 0)
    assert boston.came_home() == {"one": b"1"}
    assert "has come back undelivered" in boston.mail()
    assert boston.shipping_server("-poll") == 0
    assert boston.came_home() == {"one": b"1"} and boston.outgoing() == []


def test_a_return_to_a_full_disk_leaves_nothing_and_waits(
    hosts: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub, _ = hosts
    path = boston.packet("one", b"1", hub.name)
    age(path, 10)

    def another_disk(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    def full(_source: int, target: int) -> None:
        os.write(target, b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Directory, "move", another_disk)
        patch.setattr(returns, "copy_all", full)
        assert boston.shipping_server("-poll") == 1
    assert unfinished(boston) == [] and boston.outgoing() == ["one", "sh_o_one"]
    assert boston.shipping_server("-poll") == 0
    assert boston.came_home() == {"one": b"1"}


def test_one_destination_that_fails_does_not_keep_the_file_from_the_others(hosts: Three) -> None:
    boston, hub, bangalore = hosts
    hub.start()
    boston.packet("one", b"1", bangalore.name, hub.name)
    assert boston.shipping_server("-poll") == 1
    assert hub.incoming() == {"one": b"1"}
    order = boston.order("one")
    assert order.remaining() == (bangalore.name,)
    assert [failure.destination for failure in order.failures] == [bangalore.name]
    bangalore.start()
    assert boston.shipping_server("-poll") == 0
    assert (bangalore.incoming(), hub.incoming()) == ({"one": b"1"}, {"one": b"1"})
    assert boston.outgoing() == []


def test_what_expires_after_a_partial_delivery_names_only_who_lacks_it(hosts: Three) -> None:
    boston, hub, bangalore = hosts
    hub.start()
    path = boston.packet("one", b"1", bangalore.name, hub.name)
    assert boston.shipping_server("-poll") == 1
    age(path, 10)
    assert boston.shipping_server("-poll") == 0
    assert boston.came_home() == {"one": b"1"}
    assert f"mkorder -data {boston.returns}/incoming/one -fship {bangalore.name}\n" in boston.mail()


def test_a_clock_that_goes_back_delays_and_doubles_nothing(hosts: Three) -> None:
    boston, hub, _ = hosts
    boston.configure("DOWNHOST-TIMEOUT 30")
    path = boston.packet("one", b"1", hub.name)
    copied = path.read_bytes()
    assert boston.shipping_server("-poll") == 1, "hub is marked as down"
    hub.start(clock=lambda: time.time() - 10**7)
    long_ago = boston.site(clock=lambda: time.time() - 10**6)
    assert poll(long_ago), "a host that will be down in future is tried now"
    assert hub.incoming() == {"one": b"1"}
    # The same order once more: it is known, whatever the clocks say.
    (boston.bay / "outgoing/one").write_bytes(b"1")
    path.write_bytes(copied)
    hub.stop()
    hub.start()
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"} and boston.outgoing() == []


def test_a_port_that_a_killed_service_still_holds_is_waited_for() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as held:
        port = free_port()  # for TCP too: a connection of somebody else may have the number that UDP gives
        held.bind(("127.0.0.1", port))
        threading.Timer(0.1, held.close).start()
        endpoint = bind(f"127.0.0.1:{port}", 1)
        endpoint.close()


@pytest.mark.parametrize(
    ("text", "reason"), [("127.0.0.1:{}", "in use"), ("127.0.0.1:70000", "port must be")]
)
def test_a_port_that_cannot_be_had_is_an_error_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.setattr(listening, "_STILL_HELD", 0.1)
    with socket.socket(type=socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        with pytest.raises(ConfigError, match=reason):
            bind(text.format(held.getsockname()[1]), 1)
