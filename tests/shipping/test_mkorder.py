from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest
from blake3 import blake3

from cyrus_sync.shipping.order import Order
from tests.shipping.kit import Host

Three = tuple[Host, Host, Host]


@pytest.fixture
def boston(hosts: Three) -> Host:
    (hosts[0].root / "file").write_bytes(b"content")
    return hosts[0]


def test_an_order_is_written_beside_the_file_and_nothing_moves(
    boston: Host, capfd: pytest.CaptureFixture[str]
) -> None:
    data = boston.root / "file"
    assert boston.mkorder("-dat", data, "-not", "ann@example.org", "-c", "two words", "hub", "bangalore") == 0
    assert capfd.readouterr().out == f'Shipping order "{boston.root}/sh_o_file" generated.\n'
    order = Order.load(boston.root / "sh_o_file")
    assert order.data_path == order.original_path == str(data)
    assert (order.origin, order.destinations) == (boston.name, ("hub", "bangalore"))
    assert (order.notify, order.comments) == (("ann@example.org",), ("two words",))
    assert (order.size, order.digest) == (7, f"blake3:{blake3(b'content').hexdigest()}")
    assert order.storage_class == "-default" and order.expires - order.created == 14 * 86400
    assert data.read_bytes() == b"content" and boston.outgoing() == []


def test_a_second_order_for_a_file_gets_a_name_of_its_own(boston: Host) -> None:
    for _ in range(2):
        assert boston.mkorder("-data", boston.root / "file", "hub") == 0
    assert (boston.root / "sh_o_file_1").exists()


def test_with_ship_and_copy_both_go_into_the_bay_of_the_class(boston: Host) -> None:
    (boston.root / "daily").mkdir()
    boston.configure(f"STORAGE-BAY daily {boston.root}/daily", "EXPIRATION daily 2")
    assert boston.mkorder("-data", boston.root / "file", "-shi", "-cop", "-scl", "daily", "hub") == 0
    order = Order.load(boston.root / "daily/outgoing/sh_o_file")
    assert order.data_path == f"{boston.root}/daily/outgoing/file"
    assert order.original_path == f"{boston.root}/file" and order.storage_class == "daily"
    assert order.expires - order.created == 2 * 86400
    assert (boston.root / "daily/outgoing/file").read_bytes() == b"content"
    assert (boston.root / "file").exists()


def test_fship_sends_at_once_and_deletes_the_file(hosts: Three, capfd: pytest.CaptureFixture[str]) -> None:
    boston, hub, _ = hosts
    (boston.root / "file").write_bytes(b"content")
    hub.start()
    assert boston.mkorder("-data", boston.root / "file", "-fsh", hub.name) == 0
    assert capfd.readouterr().out == (
        f'Shipping order "{boston.root}/sh_o_file" generated.\n'
        "Attempting to forward/deliver generated packets...\n"
        f"-- Forwarded/delivered packet {boston.root}/file\n"
    )
    assert hub.incoming() == {"file": b"content"}
    assert not (boston.root / "file").exists() and not (boston.root / "sh_o_file").exists()


def test_fship_with_copy_leaves_the_file_as_it_is(hosts: Three) -> None:
    boston, hub, _ = hosts
    (boston.root / "file").write_bytes(b"content")
    hub.start()
    assert boston.mkorder("-data", boston.root / "file", "-fship", "-copy", hub.name) == 0
    assert hub.incoming() == {"file": b"content"}
    assert (boston.root / "file").exists() and boston.outgoing() == []


def test_fship_that_does_not_get_through_leaves_the_order_for_later(
    hosts: Three, capfd: pytest.CaptureFixture[str]
) -> None:
    boston, hub, _ = hosts
    (boston.root / "file").write_bytes(b"content")
    assert boston.mkorder("-data", boston.root / "file", "-fship", "-copy", hub.name) == 1
    said = capfd.readouterr()
    assert "Forwarded/delivered" not in said.out and "does not answer" in said.err
    hub.start()
    assert boston.shipping_server("-poll") == 0
    assert hub.incoming() == {"file": b"content"}


def test_out_names_the_order_which_must_lie_beside_the_data(boston: Host) -> None:
    assert boston.mkorder("-data", boston.root / "file", "-out", boston.root / "my order", "hub") == 0
    assert Order.load(boston.root / "my order").destinations == ("hub",)
    assert boston.mkorder("-data", boston.root / "file", "-out", boston.root / "my order", "hub") == 75
    assert boston.mkorder("-data", boston.root / "file", "-out", boston.home / "x", "hub") == 1


def test_an_expired_packet_is_sent_again_with_a_new_order(hosts: Three) -> None:
    boston, hub, _ = hosts
    hub.start()
    (boston.returns / "incoming").mkdir(parents=True)
    (boston.returns / "incoming/packet").write_bytes(b"p")
    assert boston.mkorder("-data", boston.returns / "incoming/packet", "-fship", hub.name) == 0
    assert hub.incoming() == {"packet": b"p"} and boston.came_home() == {}


def test_the_time_of_expiry_can_be_given(boston: Host) -> None:
    assert boston.mkorder("-data", boston.root / "file", "-pex", "1-Jan-2099.12:00UTC", "hub") == 0
    assert Order.load(boston.root / "sh_o_file").expires == 4070952000


def test_expiration_0_is_never(boston: Host) -> None:
    boston.configure("EXPIRATION -default 0")
    assert boston.mkorder("-data", boston.root / "file", "hub") == 0
    order = Order.load(boston.root / "sh_o_file")
    assert order.expires == 0 and not order.expired(time.time() * 10)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["hub"], "-data is needed"),
        (["-data", "file"], "a destination is needed"),
        (["-data", "file", "-ship", "hub"], "-ship needs -copy"),
        (["-data", "file", "-copy", "hub"], "-copy goes with -ship or -fship"),
        (["-data", "file", "-ship", "-copy", "-fship", "hub"], "exclude one another"),
        (["-data", "file", "-c", "x", "-nc", "hub"], "exclude one another"),
        (["-data", "file", "-pexpire", "soon", "hub"], "'soon' is not a date and time"),
        (["-data", "file", "../hub"], "cannot be the name of a host"),
        (["-data", "file", "-notify", "-x", "hub"], "cannot be a mail address"),
        (["-frobnicate", "hub"], "unknown option -frobnicate"),
    ],
)
def test_a_command_line_without_sense_is_explained(
    boston: Host, arguments: list[str], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert boston.mkorder(*arguments) == 64
    assert reason in capfd.readouterr().err


@pytest.mark.parametrize("name", [".hidden", "sh_o_x", "dir"])
def test_what_could_not_lie_in_a_bay_is_refused_at_once(boston: Host, name: str) -> None:
    (boston.root / "dir").mkdir()
    if name != "dir":
        (boston.root / name).touch()
    assert boston.mkorder("-data", boston.root / name, "hub") == 1


def test_a_file_that_was_changed_after_its_order_is_not_delivered(hosts: Three) -> None:
    boston, hub, _ = hosts
    hub.start()
    order = boston.packet("one", b"aaaa", hub.name)
    (boston.bay / "outgoing/one").write_bytes(b"bbbb")
    assert boston.shipping_server(order) == 1
    assert "(blake3)" in boston.log()
    (boston.bay / "outgoing/one").write_bytes(b"longer")
    assert boston.shipping_server(order) == 1
    assert "has 6 bytes, the order was made for 4" in boston.log()
    assert hub.incoming() == {}


def test_comments_come_from_a_file_or_from_the_terminal(
    boston: Host, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "comment").write_text("from a\nfile\n")
    assert boston.mkorder("-data", boston.root / "file", "-cfi", tmp_path / "comment", "hub") == 0
    assert Order.load(boston.root / "sh_o_file").comments == ("from a\nfile",)
    monkeypatch.setattr("sys.stdin", io.StringIO("typed\nin\n.\nnot this\n"))
    assert boston.mkorder("-data", boston.root / "file", "-cq", "hub") == 0
    assert Order.load(boston.root / "sh_o_file_1").comments == ("typed\nin",)


def test_a_bad_shipping_conf_is_told_with_its_line_and_exit_78(
    boston: Host, capfd: pytest.CaptureFixture[str]
) -> None:
    boston.configure("STORAGE-BOY -default /x")
    assert boston.mkorder("-data", boston.root / "file", "hub") == 78
    assert re.search(r"shipping.conf:3: 'STORAGE-BOY' is not a keyword", capfd.readouterr().err)
    assert boston.shipping_server("-poll") == 78
