"""The behaviour of shipping_server as its users know it, by the numbers of the acceptance list."""

from __future__ import annotations

import ast
import os
import re
import socket
import stat
import struct
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cyrus_sync.shipping import contact, downhost, worker
from cyrus_sync.shipping.children import MAX_CHILDREN, run_children, start_program
from cyrus_sync.shipping.log import ShippingLog
from cyrus_sync.shipping.order import UNREACHED, Order
from cyrus_sync.shipping.sender import LockedOrder
from tests.deadlines import scaled
from tests.ports import free_port
from tests.shipping.conversation import Conversation, header_for
from tests.shipping.kit import Host, unfinished

Pair = tuple[Host, Host]
Three = tuple[Host, Host, Host]
HERE = Path(__file__)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.mark.covers("Replication by packets: the acceptance list", "3")
def test_checklist_03_a_packet_waits_in_outgoing_of_the_storage_bay(hosts: Three) -> None:
    boston = hosts[0]
    boston.packet("sync_boston_30-Oct-00.14.35.49_2468_1", b"x", "hub")
    assert (boston.root / "shipping/ms_ship/outgoing/sync_boston_30-Oct-00.14.35.49_2468_1").exists()


@pytest.mark.covers("Replication by packets: the acceptance list", "4")
def test_checklist_04_the_order_lies_beside_it_and_is_named_after_it(hosts: Three) -> None:
    boston = hosts[0]
    boston.packet("sync_1", b"x", "hub")
    assert boston.outgoing() == ["sh_o_sync_1", "sync_1"]
    assert boston.order("sync_1").data_path == str(boston.bay / "outgoing/sync_1")


@pytest.mark.covers("Replication by packets: the acceptance list", "13")
@pytest.mark.parametrize("arguments", [["-scl", "daily", "-pol"], ["-sclass", "daily", "-poll"], ["–pol"]])
def test_checklist_13_abbreviations_are_accepted(hosts: Three, arguments: list[str]) -> None:
    assert hosts[0].shipping_server(*arguments) == 0


@pytest.mark.covers("Replication by packets: the acceptance list", "13")
@pytest.mark.parametrize(
    "arguments", [[], ["-sclass", "daily"], ["-poll", "x"], ["-po"], ["-poll", "-sclass"], ["-receiver", "x"]]
)
def test_checklist_13_no_source_and_no_poll_is_an_error(
    hosts: Three, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert hosts[0].shipping_server(*arguments) == 64
    assert "[-scl/ass class] [-pol/l]" in capfd.readouterr().err


@pytest.mark.covers("Replication by packets: the acceptance list", "14")
@pytest.mark.usefixtures("started_children")
def test_checklist_14_one_or_more_orders_are_carried_out(hosts: Three) -> None:
    boston, hub, bangalore = hosts
    hub.start()
    bangalore.start()
    boston.packet("one", b"1" * 1000, hub.name)
    boston.packet("two", b"", hub.name, bangalore.name)
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1" * 1000, "two": b""}
    assert bangalore.incoming() == {"two": b""}
    assert unfinished(boston) == unfinished(hub) == []


@pytest.mark.covers("Replication by packets: the acceptance list", "15")
def test_checklist_15_the_data_is_deleted_after_the_last_delivery(hosts: Three) -> None:
    boston, hub, bangalore = hosts
    hub.start()
    order = boston.packet("one", b"1", hub.name, bangalore.name)
    assert boston.shipping_server(order) == 1
    assert boston.outgoing() == ["one", "sh_o_one"]
    assert boston.order("one").remaining() == (bangalore.name,)
    bangalore.start()
    assert boston.shipping_server(order) == 0
    assert boston.outgoing() == []
    assert hub.log().count(" received one ") == 1, "a retry sends only what is left"


@pytest.mark.covers("Replication by packets: the acceptance list", "15")
def test_checklist_15_the_data_is_kept_if_this_host_is_a_destination(pair: Pair) -> None:
    boston, hub = pair
    order = boston.packet("one", b"1", hub.name, boston.name)
    assert boston.shipping_server(order) == 0
    assert boston.outgoing() == ["one"]
    assert hub.incoming() == {"one": b"1"}


@pytest.mark.covers("Replication by packets: the acceptance list", "16")
def test_checklist_16_an_order_that_is_worked_on_is_left_alone(pair: Pair) -> None:
    boston, hub = pair
    order = boston.packet("one", b"1", hub.name)
    lock = LockedOrder.take(order)
    assert lock is not None
    with lock:
        assert boston.shipping_server("-poll") == 0
        lock.write(lock.order)  # still locked after the file was replaced
        assert boston.shipping_server(order) == 0
        assert hub.incoming() == {} and boston.outgoing() == ["one", "sh_o_one"]
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"one": b"1"}


class Contact(threading.Thread):
    """A contact service on one kind of socket. It answers with port 4711."""

    def __init__(self, host: Host, kind: socket.SocketKind, answer: bool = True) -> None:
        super().__init__(daemon=True)
        self.sock = socket.socket(type=kind)
        self.sock.bind((host.name, host.port))
        self.sock.settimeout(scaled(5))
        self.answer = answer
        self.questions = 0
        if kind == socket.SOCK_STREAM:
            self.sock.listen()
        self.start()

    def run(self) -> None:
        key = bytes.fromhex("5a" * 32)
        if self.sock.type == socket.SOCK_STREAM:
            connection, _ = self.sock.accept()
            nonce = contact.answer_to(key, connection.recv(contact.LONGEST_LINE))
            reply: Callable[[bytes], object] = connection.sendall
        else:
            try:
                line, peer = self.sock.recvfrom(contact.LONGEST_LINE)
            except OSError:
                return  # the test has closed it
            nonce = contact.answer_to(key, line)
            reply = lambda data: self.sock.sendto(data, peer)  # noqa: E731
        self.questions += 1
        if self.answer and nonce:
            reply(contact.answer(key, nonce, 4711))
        if self.sock.type == socket.SOCK_STREAM:
            connection.close()
        self.sock.close()


PORTS = ("CLEARCASE_MIN_PORT 30000", "CLEARCASE_MAX_PORT 30100")


@pytest.mark.covers("Replication by packets: the acceptance list", "17")
def test_checklist_17_first_contact_is_by_udp(hosts: Three) -> None:
    boston, hub, _ = hosts
    service = Contact(hub, socket.SOCK_DGRAM)
    assert contact.meet(boston.site(), hub.name).address == (hub.name, 4711)
    service.join()
    assert service.questions == 1


@pytest.mark.covers("Replication by packets: the acceptance list", "17")
def test_checklist_17_contact_makes_the_other_host_receive(pair: Pair) -> None:
    boston, hub = pair
    with Conversation(boston, hub) as talk:
        talk.hello()
        assert talk.proofs.hold(talk.challenge, "server", talk.layer.encode())


@pytest.mark.covers("Replication by packets: the acceptance list", "18")
def test_checklist_18_with_ports_set_contact_is_by_tcp_first(hosts: Three) -> None:
    boston, hub, _ = hosts
    boston.configure(*PORTS)
    tcp, udp = Contact(hub, socket.SOCK_STREAM), Contact(hub, socket.SOCK_DGRAM)
    assert contact.meet(boston.site(), hub.name).address == (hub.name, 4711)
    tcp.join()
    assert (tcp.questions, udp.questions) == (1, 0)
    udp.sock.close()


@pytest.mark.covers("Replication by packets: the acceptance list", "18")
def test_checklist_18_then_by_udp(hosts: Three) -> None:
    boston, hub, _ = hosts
    boston.configure(*PORTS)
    udp = Contact(hub, socket.SOCK_DGRAM)
    assert contact.meet(boston.site(), hub.name).address == (hub.name, 4711)
    udp.join()
    tcp, udp = Contact(hub, socket.SOCK_STREAM, answer=False), Contact(hub, socket.SOCK_DGRAM)
    assert contact.meet(boston.site(), hub.name).address == (hub.name, 4711)
    tcp.join()
    udp.join()
    assert (tcp.questions, udp.questions) == (1, 1)


@pytest.mark.covers("Replication by packets: the acceptance list", "18")
def test_checklist_18_the_transfer_port_is_the_first_free_one_of_the_range(hosts: Three) -> None:
    boston, hub, _ = hosts
    first = free_port()
    with socket.socket() as taken:
        taken.bind((hub.name, first))
        taken.listen()
        hub.configure(f"CLEARCASE_MIN_PORT {first}", f"CLEARCASE_MAX_PORT {first + 20}")
        hub.start()
        port = contact.meet(boston.site(), hub.name).address[1]
        assert first < int(port) <= first + 20


@pytest.mark.covers("Replication by packets: the acceptance list", "19")
def test_checklist_19_never_more_than_ten_child_processes_and_the_rest_follow(tmp_path: Path) -> None:
    # Each child counts itself in, waits until ten are there (or nobody is left to come), counts itself out.
    counts = tmp_path / "counts"
    counts.touch()

    program = f"""
import pathlib, socket, time
counts, jobs = pathlib.Path({str(counts)!r}), socket.socket(fileno=0)
while jobs.recv(1000):
    with counts.open("a") as file:
        file.write("+\\n")
    end = time.monotonic() + {scaled(5)}
    while counts.read_text().count("+") < {MAX_CHILDREN} and time.monotonic() < end:
        time.sleep(0.005)
    with counts.open("a") as file:
        file.write("-\\n")
    jobs.sendall(b"3\\n")
"""
    assert run_children(lambda: start_program([sys.executable, "-c", program]), ["job"] * 23) == [3] * 23
    alive = [0]
    for line in counts.read_text().split():
        alive.append(alive[-1] + (1 if line == "+" else -1))
    assert max(alive) == MAX_CHILDREN == 10
    assert counts.read_text().count("+") == 23


@pytest.mark.covers("Replication by packets: the acceptance list", "20")
def test_checklist_20_the_receiver_takes_ten_at_a_time_and_the_eleventh_waits(pair: Pair) -> None:
    boston, hub = pair
    talks = [Conversation(boston, hub) for _ in range(11)]
    try:
        for number, talk in enumerate(talks):
            talk.hello()
            header = header_for(hub, b"x", f"packet{number}")
            talk.announce(replace(header, order=replace(header.order, identifier=str(number))))
            if number < 10:
                assert talk.word() == "GO"
        talks[10].sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            talks[10].sock.recv(1)
        talks[10].sock.settimeout(scaled(20))
        talks[0].send(b"x")
        assert talks[0].word() == "DONE"
        assert talks[10].word() == "GO"
    finally:
        for talk in talks:
            talk.close()


@pytest.mark.covers("Replication by packets: the acceptance list", "21")
def test_checklist_21_a_tcp_connection_of_its_own_carries_the_file(pair: Pair) -> None:
    boston, hub = pair
    with Conversation(boston, hub) as talk:
        assert talk.port != hub.port and talk.sock.type == socket.SOCK_STREAM
        talk.hello()
        talk.announce(header_for(hub, b"data"))
        assert talk.word() == "GO"
        talk.send(b"data")
        assert talk.word() == "DONE"
    assert hub.incoming() == {"packet": b"data"}


@pytest.mark.covers("Replication by packets: the acceptance list", "22")
def test_checklist_22_the_receiver_chooses_the_bay_by_its_own_settings(hosts: Three) -> None:
    boston, hub, _ = hosts
    for name in ("daily", "others"):
        (hub.root / name).mkdir()
    hub.configure(f"STORAGE-BAY daily {hub.root}/daily", f"STORAGE-BAY -default {hub.root}/others")
    hub.start()
    boston.packet("one", b"1", hub.name, arguments=["-sclass", "daily"])
    boston.packet("two", b"2", hub.name, arguments=["-sclass", "unheard-of"])
    assert boston.shipping_server("-poll") == 0
    assert (hub.root / "daily/incoming/one").read_bytes() == b"1"
    assert (hub.root / "others/incoming/two").read_bytes() == b"2"


@pytest.mark.covers("Replication by packets: the acceptance list", "22")
def test_checklist_22_of_several_bays_the_free_space_decides(
    hosts: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub, _ = hosts
    for name in ("small", "large"):
        (hub.root / name).mkdir()
    hub.configure(f"STORAGE-BAY -default {hub.root}/small", f"STORAGE-BAY -default {hub.root}/large")
    real = os.statvfs
    blocks = {hub.root / "small": 10, hub.root / "large": 20}

    def statvfs(path: Path) -> os.statvfs_result:
        fields = list(real(path))
        fields[1], fields[4] = 1, blocks.get(Path(path), 10**9)  # f_frsize, f_bavail
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", statvfs)
    hub.start()
    boston.packet("one", b"1", hub.name)
    boston.packet("big", b"1" * 21, hub.name)
    assert boston.shipping_server(boston.bay / "outgoing/sh_o_one") == 0
    assert (hub.root / "large/incoming/one").read_bytes() == b"1"
    assert boston.shipping_server("-poll") == 1
    assert "no bay has room for 21 bytes (at most 20 are free)" in boston.log()


@pytest.mark.covers("Replication by packets: the acceptance list", "23")
@needs_root
def test_checklist_23_the_file_belongs_to_owner_and_group_of_the_bay(hosts: Three) -> None:
    boston, hub, _ = hosts
    hub.site().bays("-default")[0].ready()
    os.chown(hub.bay, 12345, 23456)
    hub.start()
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    about = (hub.bay / "incoming/one").stat()
    assert (about.st_uid, about.st_gid) == (12345, 23456)


@pytest.mark.covers("Replication by packets: the acceptance list", "24")
@pytest.mark.parametrize(
    ("bay", "file"), [(0o2775, 0o664), (0o700, 0o600), (0o1777, 0o666), (0o750, 0o640), (0o4755, 0o644)]
)
def test_checklist_24_file_mode_from_bay_without_execute_and_special_bits(
    hosts: Three, bay: int, file: int
) -> None:
    boston, hub, _ = hosts
    hub.site().bays("-default")[0].ready()
    hub.bay.chmod(bay)
    hub.start()
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    assert stat.S_IMODE((hub.bay / "incoming/one").stat().st_mode) == file


@pytest.mark.covers("Replication by packets: the acceptance list", "25")
def test_checklist_25_the_file_inherits_the_default_acl_of_the_directory(hosts: Three) -> None:
    """Elsewhere a file inherits the bay's ACL; the nearest on Linux is the default ACL of the directory."""
    boston, hub, _ = hosts
    hub.site().bays("-default")[0].ready()
    hub.bay.chmod(0o770)
    entries = [(0x01, 6, -1), (0x02, 4, os.getuid() + 77), (0x04, 6, -1), (0x10, 6, -1), (0x20, 0, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    try:
        os.setxattr(hub.bay / "incoming", "system.posix_acl_default", acl)
    except OSError:
        pytest.skip("this file system has no ACLs")
    hub.start()
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    found = os.getxattr(hub.bay / "incoming/one", "system.posix_acl_access")
    assert struct.pack("<HHi", 0x02, 4, os.getuid() + 77) in found


@pytest.mark.covers("Replication by packets: the acceptance list", "26")
def test_checklist_26_a_colon_in_the_name_becomes_a_dot(pair: Pair) -> None:
    boston, hub = pair
    (boston.root / "sync_sydney_19-May-02.09:48:45_7660_1").write_bytes(b"x")
    assert boston.mkorder("-data", boston.root / "sync_sydney_19-May-02.09:48:45_7660_1", hub.name) == 0
    assert boston.shipping_server(boston.root / "sh_o_sync_sydney_19-May-02.09:48:45_7660_1") == 0
    assert list(hub.incoming()) == ["sync_sydney_19-May-02.09.48.45_7660_1"]


@pytest.mark.covers("Replication by packets: the acceptance list", "27")
def test_checklist_27_any_file_can_be_sent_that_lies_beside_its_order(pair: Pair) -> None:
    boston, hub = pair
    (boston.root / "holiday pictures.tar").write_bytes(bytes(range(256)) * 100)
    assert boston.mkorder("-data", boston.root / "holiday pictures.tar", hub.name) == 0
    assert boston.shipping_server(boston.root / "sh_o_holiday pictures.tar") == 0
    assert hub.incoming() == {"holiday pictures.tar": bytes(range(256)) * 100}
    assert not (boston.root / "holiday pictures.tar").exists()


@pytest.mark.covers("Replication by packets: the acceptance list", "28")
def test_checklist_28_a_name_that_is_taken_gets_a_number(pair: Pair) -> None:
    boston, hub = pair
    for content in (b"a", b"b", b"c"):
        boston.packet("filename", content, hub.name)
        assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"filename": b"a", "filename_1": b"b", "filename_2": b"c"}


@pytest.mark.covers("Replication by packets: the acceptance list", "29")
def test_checklist_29_everything_sent_and_received_and_every_error_is_logged(hosts: Three) -> None:
    boston, hub, bangalore = hosts
    hub.start()
    boston.packet("one", b"1234", hub.name, bangalore.name)
    assert boston.shipping_server("-poll") == 1
    assert re.search(
        rf"^\S+ shipping_server\[\d+\] sent \S+/one \(4 bytes\) to {hub.name}$", boston.log(), re.M
    )
    assert re.search(rf"error: \S+/sh_o_one: not sent to {bangalore.name}: .*does not answer", boston.log())
    assert f"received one (4 bytes) from {boston.name}" in hub.log()
    assert str(hub.bay / "incoming/one") in hub.log()


@pytest.mark.covers("Replication by packets: the acceptance list", "30")
def test_checklist_30_errors_go_to_syslog_and_all_to_the_log_file(tmp_path: Path) -> None:
    """Elsewhere events go to the event viewer; the nearest on Linux is syslog."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "dev-log"))
        log = ShippingLog(tmp_path / "log", tmp_path / "dev-log")
        log.info("sent a file")
        log.error("a host is\ndown")
        said = syslog.recv(1000).decode()
        assert re.fullmatch(rf"<19>shipping_server\[{os.getpid()}\]: a host is\\ndown", said)
        syslog.setblocking(False)
        with pytest.raises(BlockingIOError):
            syslog.recv(1)
    assert len((tmp_path / "log").read_text().splitlines()) == 2


@pytest.mark.covers("Replication by packets: the acceptance list", "31")
def test_checklist_31_only_the_owner_of_the_data_and_root_can_ship_it(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub = pair
    order = boston.packet("one", b"1", hub.name)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 4321)
    assert boston.shipping_server(order) == 1
    assert "one belongs to somebody else; only its owner and root can ship it" in boston.log()
    assert hub.incoming() == {} and boston.outgoing() == ["one", "sh_o_one"]


NO_STORE_IN_THEM = (
    "cyrus_sync.common.commands",
    "cyrus_sync.common.config",
    "cyrus_sync.common.dates",
    "cyrus_sync.common.directory",
    "cyrus_sync.common.errors",
    "cyrus_sync.common.files",
    "cyrus_sync.common.metrics",
    "cyrus_sync.common.numbers",
    "cyrus_sync.common.one_dash",
    "cyrus_sync.common.printable",
    "cyrus_sync.common.syslog",
    "cyrus_sync.common.reactor",
    "cyrus_sync.common.stores.threads",
    "cyrus_sync.common.wire.certificates",
    "cyrus_sync.common.wire.tls",
)


@pytest.mark.covers("Replication by packets: the acceptance list", "32")
def test_checklist_32_no_mail_store_is_needed_and_none_is_looked_at(pair: Pair) -> None:
    boston, hub = pair
    assert "partition" not in boston.config_file.read_text()
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    for path in (HERE.parents[2] / "shipping").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                ("cyrus_sync.common", "cyrus_sync.mail", "cyrus_sync.multisite", "cyrus_sync.sync_")
            ):
                assert (node.module or "").startswith(NO_STORE_IN_THEM), path


@pytest.mark.covers("Replication by packets: the acceptance list", "33")
def test_checklist_33_an_order_and_its_data_must_share_a_directory(pair: Pair) -> None:
    boston, hub = pair
    order = boston.packet("one", b"1", hub.name)
    (boston.root / "elsewhere").mkdir()
    moved = order.rename(boston.root / "elsewhere/sh_o_one")
    assert boston.shipping_server(moved) == 1
    assert "is not in the directory of the order" in boston.log()
    assert hub.incoming() == {} and moved.exists()
    assert boston.mkorder("-data", boston.bay / "outgoing/one", "-out", boston.root / "order", hub.name) == 1


@pytest.mark.covers("Replication by packets: the acceptance list", "34")
def test_checklist_34_a_class_limits_the_work_and_without_one_all_is_done(pair: Pair) -> None:
    boston, hub = pair
    daily = boston.packet("one", b"1", hub.name, arguments=["-sclass", "daily"])
    other = boston.packet("two", b"2", hub.name)
    assert boston.shipping_server("-sclass", "weekly", daily, other) == 0
    assert hub.incoming() == {}
    assert boston.shipping_server("-sclass", "daily", daily, other) == 0
    assert list(hub.incoming()) == ["one"]
    assert boston.shipping_server(other) == 0
    assert sorted(hub.incoming()) == ["one", "two"]


def _with_classes(boston: Host, hub: Host) -> None:
    for name in ("b-daily", "b-weekly"):
        (boston.root / name).mkdir()
    boston.configure(
        f"STORAGE-BAY daily {boston.root}/b-daily",
        f"STORAGE-BAY weekly {boston.root}/b-weekly",
    )
    for storage_class in ("daily", "weekly", "-default"):
        boston.packet(f"p{storage_class}", b"", hub.name, arguments=["-sclass", storage_class])


@pytest.mark.covers("Replication by packets: the acceptance list", "35")
def test_checklist_35_poll_looks_into_all_bays_of_shipping_conf(pair: Pair) -> None:
    boston, hub = pair
    _with_classes(boston, hub)
    assert boston.shipping_server("-poll") == 0
    assert sorted(hub.incoming()) == ["p-default", "pdaily", "pweekly"]


@pytest.mark.covers("Replication by packets: the acceptance list", "35")
def test_checklist_35_poll_looks_into_the_bays_of_a_class(pair: Pair) -> None:
    boston, hub = pair
    _with_classes(boston, hub)
    assert boston.shipping_server("-poll", "-sclass", "daily") == 0
    assert sorted(hub.incoming()) == ["pdaily"]


@pytest.mark.covers("Replication by packets: the acceptance list", "36")
def test_checklist_36_poll_takes_only_files_that_are_named_as_orders(pair: Pair) -> None:
    boston, hub = pair
    order = boston.packet("one", b"1", hub.name)
    renamed = order.rename(order.with_name("my-order"))
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {}
    assert boston.shipping_server(renamed) == 0
    assert list(hub.incoming()) == ["one"]


@pytest.mark.covers("Replication by packets: the acceptance list", "37")
def test_checklist_37_poll_takes_only_the_callers_orders(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    boston, hub = pair
    order = boston.packet("one", b"1", hub.name)
    with monkeypatch.context() as somebody_else:
        somebody_else.setattr(os, "geteuid", lambda: os.getuid() + 4321)
        assert boston.shipping_server("-poll") == 0
        assert hub.incoming() == {} and "error" not in boston.log()
    if os.getuid() == 0:
        for path in (order, boston.bay / "outgoing/one"):
            os.chown(path, 12345, -1)  # root takes all
    assert boston.shipping_server("-poll") == 0
    assert list(hub.incoming()) == ["one"]


@pytest.mark.covers("Replication by packets: the acceptance list", "38")
def test_checklist_38_a_source_file_must_be_a_valid_order(
    hosts: Three, capfd: pytest.CaptureFixture[str]
) -> None:
    boston = hosts[0]
    (boston.root / "text").write_text("Dear all,\n")
    assert boston.shipping_server(boston.root / "text") == 1
    assert f"shipping_server: {boston.root}/text: not a shipping order" in capfd.readouterr().err
    assert boston.shipping_server(boston.root / "none") == 1
    assert "none: no such file or directory" in capfd.readouterr().err


@pytest.mark.covers("Replication by packets: the acceptance list", "38")
def test_checklist_38_of_a_source_directory_the_orders_of_the_class_are_taken(pair: Pair) -> None:
    boston, hub = pair
    for name, storage_class in (("one", "daily"), ("two", "weekly"), ("three", "daily")):
        (boston.root / name).write_bytes(b"")
        assert boston.mkorder("-data", boston.root / name, "-scl", storage_class, hub.name) == 0
    (boston.root / "sh_o_three").rename(boston.root / "an order, whatever its name")
    assert boston.shipping_server("-scl", "weekly", boston.root) == 0
    assert list(hub.incoming()) == ["two"]
    assert boston.shipping_server(boston.root) == 0
    assert sorted(hub.incoming()) == ["one", "three", "two"]


@pytest.mark.covers("Replication by packets: the acceptance list", "39")
def test_checklist_39_every_number_from_13_to_44_has_a_test() -> None:
    numbers = {int(found) for found in re.findall(r"^def test_checklist_(\d\d)_", HERE.read_text(), re.M)}
    assert set(range(13, 45)) | {3, 4} == numbers


@pytest.mark.covers("Replication by packets: the acceptance list", "40")
def test_checklist_40_a_host_that_did_not_answer_is_left_alone_for_a_while(hosts: Three) -> None:
    boston, hub, _ = hosts
    boston.configure("DOWNHOST-TIMEOUT 30")
    order = boston.packet("one", b"1", hub.name)
    assert boston.shipping_server(order) == 1
    marker = boston.home / "ms_downhost" / hub.name
    assert marker.exists()
    assert boston.order("one").failures[0].flag == UNREACHED
    hub.start()
    assert boston.shipping_server("-poll") == 1, "what waits is not done"
    assert hub.incoming() == {} and "is left alone for now" in boston.log()
    os.utime(marker, (time.time() - 1801, time.time() - 1801))
    assert boston.shipping_server("-poll") == 0
    assert list(hub.incoming()) == ["one"]
    assert not marker.exists()


@pytest.mark.covers("Replication by packets: the acceptance list", "40")
def test_checklist_40_without_a_timeout_every_run_tries(hosts: Three) -> None:
    boston, hub, _ = hosts
    order = boston.packet("one", b"1", hub.name)
    assert boston.shipping_server(order) == 1
    assert not downhost.is_down(boston.site(), hub.name)
    hub.start()
    assert boston.shipping_server(order) == 0


@pytest.mark.covers("Replication by packets: the acceptance list", "41")
def test_checklist_41_the_log_is_in_log_below_the_configuration_directory(pair: Pair) -> None:
    boston, hub = pair
    boston.packet("one", b"1", hub.name)
    assert boston.shipping_server("-poll") == 0
    for host in pair:
        assert (host.root / "log" / "shipping_server_log").read_text().count("\n") >= 1


@pytest.mark.covers("Replication by packets: the acceptance list", "42")
def test_checklist_42_reading_writing_and_searching_the_directory_must_be_permitted(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, hub = pair
    order = boston.packet("one", b"1", hub.name)
    asked: list[int] = []
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append(mode))
    here = "cyrus_sync.shipping.run.run_children"
    monkeypatch.setattr(here, lambda _, jobs: [worker.do(boston.site(), job, []) for job in jobs])
    assert boston.shipping_server(order) == 1
    assert asked == [os.R_OK | os.W_OK | os.X_OK]
    assert "must be permitted" in boston.log() and hub.incoming() == {}


@pytest.mark.covers("Replication by packets: the acceptance list", "43")
def test_checklist_43_an_order_with_colons_in_its_name_is_processed_by_path(pair: Pair) -> None:
    boston, hub = pair
    data = boston.root / "sync_sydney_19-May-02.09:48:45_7660_1"
    data.write_bytes(b"x")
    order = Order(str(data), boston.name, (hub.name,), 0, 0)
    path = boston.root / "sh_o_sync_sydney_19-May-02.09:48:45_7660_1"
    path.write_bytes(order.text())
    assert boston.shipping_server(path) == 0
    assert hub.incoming() == {"sync_sydney_19-May-02.09.48.45_7660_1": b"x"}


@pytest.mark.covers("Replication by packets: the acceptance list", "44")
def test_checklist_44_a_good_run_prints_nothing(pair: Pair, capfd: pytest.CaptureFixture[str]) -> None:
    boston, hub = pair
    directory = boston.root / "packets to ship"
    directory.mkdir()
    path = boston.packet("by poll", b"", hub.name)
    (directory / "by directory").write_bytes(b"")
    (directory / "by path").write_bytes(b"")
    for name in ("by directory", "by path"):
        assert boston.mkorder("-data", directory / name, hub.name) == 0
    boston.packet("by class", b"", hub.name, arguments=["-sclass", "daily"])
    capfd.readouterr()
    assert boston.shipping_server("–poll", "–sclass", "daily") == 0
    assert boston.shipping_server("-poll") == 0
    assert boston.shipping_server(directory / "sh_o_by path") == 0
    assert boston.shipping_server(directory) == 0
    assert capfd.readouterr() == ("", "")
    assert len(hub.incoming()) == 4 and not path.exists()


@pytest.mark.covers("Replication by packets: the acceptance list", "44")
def test_checklist_44_nothing_to_do_is_no_reason_to_speak(
    hosts: Three, capfd: pytest.CaptureFixture[str]
) -> None:
    boston = hosts[0]
    assert boston.shipping_server("-poll") == 0
    (boston.root / "empty").mkdir()
    assert boston.shipping_server(boston.root / "empty") == 0
    assert capfd.readouterr() == ("", "")
    assert boston.log() == ""
