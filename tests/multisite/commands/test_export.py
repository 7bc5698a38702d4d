"""syncreplica -export: options, and what becomes of packets when something goes wrong."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cyrus_sync.multisite.commands import unsent
from cyrus_sync.multisite.membership import change_replica
from cyrus_sync.shipping.errors import ShippingError
from cyrus_sync.shipping.order import Order
from tests.multisite.commands.kit import Server, send

Pair = tuple[Server, Server]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def with_mail(pair: Pair) -> Pair:
    bangalore, _ = pair
    bangalore.create("user/bob")
    bangalore.deliver("bob", "hello")
    return pair


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["boston_hub"], "one of -ship, -fship and -out is needed"),
        (["-ship", "-out", "p", "boston_hub"], "one of -ship, -fship and -out is needed, and only one"),
        (["-ship"], "the replica to export to is needed"),
        (["-out", "p", "-sclass", "daily", "boston_hub"], "-sclass goes with -ship or -fship"),
        (["-out", "p", "-pexpire", "now", "boston_hub"], "-pexpire goes with -ship or -fship"),
        (["-out", "p", "-limit", "1", "boston_hub"], "-limit needs -maxsize"),
        (["-out", "p", "-max", "1m", "-limit", "0", "boston_hub"], "-limit 0: a number from 1 is needed"),
        (["-out", "p", "-c", "x", "-nc", "boston_hub"], "-comment and -ncomment exclude one another"),
        (["-ship", "-pexpire", "soon", "boston_hub"], "'soon' is not a date and time"),
        (["-ship", "-notify", "-x", "boston_hub"], "'-x' cannot be a mail address"),
        (["-ship", "-oprange", "a=1", "boston_hub"], "unknown option -oprange"),
        (["-ship", "-endrange", "boston_hub"], "unknown option -endrange"),
        (["-ship", "-lockwait", "soon", "boston_hub"], "-lockwait soon: a number of minutes is needed"),
    ],
)
def test_command_lines_that_make_no_sense(
    pair: Pair, capfd: Capture, arguments: list[str], said: str
) -> None:
    assert pair[0].syncreplica("-export", *arguments) == 64
    assert said in capfd.readouterr().err
    assert pair[0].outgoing() == []


def test_without_a_way_all_synopses_are_shown(pair: Pair, capfd: Capture) -> None:
    assert pair[0].syncreplica("boston_hub") == 64
    said = capfd.readouterr().err
    assert "either -export, -import or -status is needed" in said
    assert "[-exp/ort]" in said and "[-imp/ort]" in said


def test_nothing_to_export_is_said_and_no_packet_is_made(
    with_mail: Pair, tmp_path: Path, capfd: Capture
) -> None:
    bangalore, boston_hub = with_mail
    assert send(bangalore, boston_hub, tmp_path)
    capfd.readouterr()
    assert bangalore.syncreplica("-export", "-out", tmp_path / "p", "boston_hub") == 0
    assert capfd.readouterr().out == "Nothing to export: boston_hub@dev is believed to have everything.\n"
    assert bangalore.syncreplica("-export", "-fship", "boston_hub") == 0
    assert not (tmp_path / "p").exists() and bangalore.outgoing() == []


def test_a_file_is_never_overwritten(with_mail: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, _ = with_mail
    (tmp_path / "p").write_text("precious")
    assert bangalore.syncreplica("-export", "-out", tmp_path / "p", "boston_hub") == 1
    assert f"{tmp_path}/p is there already" in capfd.readouterr().err
    assert (tmp_path / "p").read_text() == "precious"
    assert bangalore.syncreplica("-export", "-out", tmp_path / "none" / "p", "boston_hub") == 1
    assert bangalore.syncreplica("-export", "-out", tmp_path / "q", "boston_hub") == 0
    assert (tmp_path / "q").exists(), "and nothing was believed delivered"


def test_several_targets_are_written_one_after_the_other(three: tuple[Server, ...], tmp_path: Path) -> None:
    boston, sanfran, bangalore = three
    boston.create("user/bob")
    assert boston.syncreplica("-export", "-out", tmp_path / "p", "sanfran_hub", "bangalore") == 0
    assert sanfran.syncreplica("-import", tmp_path / "p") == 0
    assert bangalore.syncreplica("-import", tmp_path / "p_2") == 0
    assert boston.dump() == sanfran.dump() == bangalore.dump()


def test_the_order_says_what_the_command_line_says(with_mail: Pair) -> None:
    bangalore, boston_hub = with_mail
    arguments = ["-sclass", "daily", "-pexpire", "31-Dec-2035", "-notify", "ann@example.org", "-c", "monthly"]
    assert bangalore.syncreplica("-export", "-ship", *arguments, "boston_hub") == 0
    (name,) = [name for name in bangalore.outgoing() if name.startswith("sh_o_")]
    order = Order.load(bangalore.bay / "outgoing" / name)
    assert (order.storage_class, order.notify, order.comments) == (
        "daily",
        ("ann@example.org",),
        ("monthly",),
    )
    assert time.strftime("%Y-%m-%d", time.localtime(order.expires)) == "2035-12-31"
    assert order.destinations == (boston_hub.address,)
    data = bangalore.bay / "outgoing" / order.data_name
    assert order.size == data.stat().st_size


def test_the_storage_class_is_that_of_the_replica(with_mail: Pair, tmp_path: Path) -> None:
    bangalore, _ = with_mail
    (tmp_path / "weekly").mkdir(mode=0o775)
    (tmp_path / "weekly").chmod(0o2775)
    bangalore.shipping_conf(f"STORAGE-BAY weekly {tmp_path}/weekly")
    assert bangalore.multitool("chreplica", "-sclass", "weekly", "boston_hub") == 0
    assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 0
    order, packet = sorted((tmp_path / "weekly/outgoing").iterdir())
    assert Order.load(order).storage_class == "weekly"
    assert stat.S_IMODE(packet.stat().st_mode) == 0o664, "as the bay has it"
    assert stat.S_IMODE(order.stat().st_mode) == 0o644, "an order speaks for its owner"


def test_max_data_size_is_the_size_in_a_bay_and_no_limit_for_files(with_mail: Pair, tmp_path: Path) -> None:
    bangalore, _ = with_mail
    bangalore.shipping_conf("MAX-DATA-SIZE 200 k")
    for number in range(30):
        bangalore.deliver("bob", str(number), body=os.urandom(15_000).hex())
    assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 0
    sizes = [
        (bangalore.bay / "outgoing" / name).stat().st_size
        for name in bangalore.outgoing()
        if name.startswith("sync_")
    ]
    assert len(sizes) > 2 and max(sizes) <= 200 * 1024
    assert bangalore.multitool("recoverpacket", "boston_hub") == 0
    assert bangalore.syncreplica("-export", "-out", tmp_path / "p", "boston_hub") == 0
    assert (tmp_path / "p").stat().st_size > 400_000 and not (tmp_path / "p_2").exists()


def test_a_limit_that_one_change_exceeds_is_said(pair: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, _ = pair
    bangalore.create("user/bob")
    for number in range(3):
        bangalore.deliver("bob", str(number), body=os.urandom(30_000).hex())
    limited = ["-maxsize", "40k", "-limit", "2", "-out"]
    capfd.readouterr()
    assert bangalore.syncreplica("-export", *limited, tmp_path / "p", "boston_hub") == 0
    said = capfd.readouterr().err
    assert "-limit was reached" in said and "exceeded" not in said
    assert len(list(tmp_path.glob("p*"))) == 1
    assert bangalore.syncreplica("-export", *limited, tmp_path / "q", "boston_hub") == 0
    assert "-limit 2 was exceeded: 3 packets were written for boston_hub@dev" in capfd.readouterr().err
    assert len(list(tmp_path.glob("q*"))) == 3


def test_a_replica_without_a_host_is_not_shipped_to(with_mail: Pair, tmp_path: Path, capfd: Capture) -> None:
    boston_hub = with_mail[1]
    boston_hub.create("user/eve")
    with boston_hub.member() as member:
        change_replica(member, replace(member.family.find("bangalore"), host=""))
    assert boston_hub.syncreplica("-export", "-ship", "bangalore") == 1
    assert "multitool chreplica -host HOST bangalore" in capfd.readouterr().err
    assert boston_hub.outgoing() == []


def test_what_cannot_be_delivered_now_stays_with_its_order(with_mail: Pair, capfd: Capture) -> None:
    bangalore, boston_hub = with_mail  # nobody receives there
    capfd.readouterr()
    assert bangalore.syncreplica("-export", "-fship", "boston_hub") == 1
    said = capfd.readouterr()
    order, packet = bangalore.outgoing()
    assert said.out.splitlines()[-1] == "Attempting to forward/deliver generated packets..."
    assert f"{packet} was not delivered now; it stays with its order: shipping_server " in said.err
    boston_hub.start()
    assert bangalore.syncreplica("-export", "-fship", "boston_hub") == 0, "nothing new"
    assert bangalore.shipping_server(bangalore.bay / "outgoing" / order) == 0
    assert boston_hub.incoming() == [packet]


def test_a_host_that_is_left_alone_is_not_said_to_have_it(with_mail: Pair, capfd: Capture) -> None:
    bangalore, _ = with_mail
    bangalore.shipping_conf("DOWNHOST-TIMEOUT 30")
    assert bangalore.syncreplica("-export", "-fship", "boston_hub") == 1
    bangalore.deliver("bob", "more")
    capfd.readouterr()
    assert bangalore.syncreplica("-export", "-fship", "boston_hub") == 1
    assert "-- Forwarded" not in capfd.readouterr().out


def test_an_order_that_cannot_be_written_is_written_by_the_next_export(
    with_mail: Pair, capfd: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bangalore, boston_hub = with_mail

    def full(*_: object) -> None:
        raise ShippingError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(unsent, "place_order", full)
        assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 1
    said = capfd.readouterr().err
    (packet,) = bangalore.outgoing()
    path = bangalore.bay / "outgoing" / packet
    assert "no space left on device" in said
    command = f"multitool mkorder -data {path} -sclass -default {boston_hub.address}"
    assert command in said
    bangalore.deliver("bob", "later")
    capfd.readouterr()
    assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 0
    assert f"{path} had been left without a shipping order, and has one now" in capfd.readouterr().err
    assert f"sh_o_{packet}" in bangalore.outgoing() and len(bangalore.outgoing()) == 4
    for name in bangalore.outgoing():
        (tmp_path / name).write_bytes((bangalore.bay / "outgoing" / name).read_bytes())
    assert boston_hub.syncreplica("-import", tmp_path) == 0
    assert boston_hub.subjects("user.bob") == ["hello", "later"]


def test_the_command_that_is_named_sends_it(
    with_mail: Pair, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    bangalore, boston_hub = with_mail
    boston_hub.start()
    with monkeypatch.context() as patch:
        patch.setattr(unsent.Unsent, "write_orders", lambda *_: (_ for _ in ()).throw(OSError("full")))
        assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 1
    (line,) = [one for one in capfd.readouterr().err.splitlines() if "mkorder" in one]
    words = line.split()[2:]
    assert bangalore.multitool("mkorder", *words) == 0
    assert bangalore.shipping_server("-poll") == 0
    assert len(boston_hub.incoming()) == 1
    assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 0
    assert bangalore.outgoing() == [], "nothing is sent twice"


class Killed(BaseException):
    """The command died."""


@pytest.mark.parametrize("moment", ["write_orders", "forget"])
def test_a_packet_that_is_believed_delivered_gets_its_order_though_the_command_was_killed(
    with_mail: Pair, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    bangalore, boston_hub = with_mail
    boston_hub.start()

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(unsent.Unsent if moment == "write_orders" else unsent, moment, die)
        with pytest.raises(Killed):
            bangalore.syncreplica("-export", "-ship", "boston_hub")
    assert bangalore.syncreplica("-export", "-fship", "boston_hub") == 0
    assert bangalore.shipping_server("-poll") == 0
    assert len(boston_hub.incoming()) == 1 and bangalore.outgoing() == []
    assert boston_hub.syncreplica("-import", "-receive") == 0
    assert boston_hub.subjects("user.bob") == ["hello"]


def test_a_packet_that_nobody_believes_in_is_removed_after_a_kill(
    with_mail: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    bangalore, _ = with_mail

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("cyrus_sync.multisite.oplog.epochs.Epochs.exported", die)
        # What crashed tidies nothing up.
        patch.setattr("cyrus_sync.multisite.cutting.LogicalPacket.abort", lambda _: None)
        with pytest.raises(Killed):
            bangalore.syncreplica("-export", "-ship", "boston_hub")
    assert len(bangalore.outgoing()) == 1
    (bangalore.bay / "outgoing" / bangalore.outgoing()[0]).write_bytes(b"unfinished business")
    assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 0
    order, packet = bangalore.outgoing()
    assert order == f"sh_o_{packet}"
    assert (bangalore.bay / "outgoing" / packet).read_bytes() != b"unfinished business"


def test_comments_come_from_everywhere(with_mail: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, _ = with_mail
    (tmp_path / "comment").write_text("from a file\n")
    packet = tmp_path / "p"
    assert bangalore.syncreplica("-export", "-cfile", tmp_path / "comment", "-out", packet, "boston_hub") == 0
    capfd.readouterr()
    assert bangalore.multitool("lspacket", packet) == 0
    assert "Comment supplied at packet creation is: from a file\n" in capfd.readouterr().out
