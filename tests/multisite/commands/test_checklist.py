"""The behaviour of syncreplica as its users know it, by the numbers of the acceptance list."""

from __future__ import annotations

import base64
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.packet import PacketReader
from cyrus_sync.shipping.order import Order
from tests.multisite.commands.kit import Server, exchange, send

Pair = tuple[Server, Server]
Three = tuple[Server, Server, Server]
Capture = pytest.CaptureFixture[str]
HERE = Path(__file__)
NAME = r"sync_bangalore_\d\d-[A-Z][a-z]{2}-\d\d\.\d\d\.\d\d\.\d\d_\d+"


def random_text(size: int) -> str:
    """What does not get smaller by compression."""
    lines = base64.encodebytes(random.Random(size).randbytes(size)).decode()
    return lines.replace("\n", "\r\n")


def with_mail(server: Server, *texts: str) -> None:
    server.create("user/bob")
    for text in texts or ("hello",):
        server.deliver("bob", text)


def with_much_mail(server: Server) -> None:
    """About 2.6 megabytes that cannot be compressed to less than three quarters."""
    server.create("user/bob")
    for number in range(20):
        server.deliver("bob", f"number {number}", body=random_text(130_000 + number))


# -- by hand


@pytest.mark.covers("Replication by packets: the acceptance list", "1")
def test_checklist_01_an_update_packet_is_made_for_the_replica_that_is_selected(
    pair: Pair, tmp_path: Path
) -> None:
    bangalore, _ = pair
    with_mail(bangalore)
    assert bangalore.syncreplica("-export", "-out", tmp_path / "packet", r"boston_hub@\dev") == 0
    with PacketReader(tmp_path / "packet") as packet:
        assert packet.header.kind == "update"
        assert [target.name for target in packet.header.targets] == ["boston_hub"]


@pytest.mark.covers("Replication by packets: the acceptance list", "1")
@pytest.mark.parametrize(
    "selector", ["boston_hub", "boston_hub@dev", r"boston_hub@\dev", "replica:boston_hub@/dev"]
)
def test_checklist_01_selectors(pair: Pair, tmp_path: Path, selector: str) -> None:
    bangalore, _ = pair
    with_mail(bangalore)
    assert bangalore.syncreplica("–exp", "–out", tmp_path / "packet", selector) == 0
    assert (tmp_path / "packet").exists()


@pytest.mark.covers("Replication by packets: the acceptance list", "1")
@pytest.mark.parametrize(
    ("selector", "outcome"),
    [
        ("bangalore@dev", (64, "bangalore is this replica itself")),
        ("boston", (1, "no replica 'boston' in the family 'dev'")),
        ("boston_hub@test", (1, "boston_hub@test: this is the family 'dev'")),
    ],
)
def test_checklist_01_nothing_else_can_be_selected(
    pair: Pair, tmp_path: Path, capfd: Capture, selector: str, outcome: tuple[int, str]
) -> None:
    bangalore, _ = pair
    with_mail(bangalore)
    assert bangalore.syncreplica("-export", "-out", tmp_path / "packet", selector) == outcome[0]
    assert outcome[1] in capfd.readouterr().err
    assert not (tmp_path / "packet").exists()


@pytest.mark.covers("Replication by packets: the acceptance list", "2")
def test_checklist_02_ship_leaves_the_packet_in_a_bay_and_fship_sends_it(pair: Pair) -> None:
    bangalore, boston_hub = pair
    boston_hub.start()
    with_mail(bangalore)
    assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 0
    assert boston_hub.incoming() == [] and len(bangalore.outgoing()) == 2
    bangalore.deliver("bob", "one more")
    assert bangalore.syncreplica("-export", "-fship", "boston_hub") == 0
    assert len(boston_hub.incoming()) == 1 and len(bangalore.outgoing()) == 2


@pytest.mark.covers("Replication by packets: the acceptance list", "3", "4")
def test_checklist_03_04_packet_and_order_lie_in_outgoing_with_their_names(pair: Pair) -> None:
    bangalore, boston_hub = pair
    with_mail(bangalore)
    assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 0
    order, packet = bangalore.outgoing()
    assert re.fullmatch(NAME + "_1", packet)
    assert order == f"sh_o_{packet}"
    assert Order.load(bangalore.bay / "outgoing" / order).destinations == (boston_hub.address,)


@pytest.mark.covers("Replication by packets: the acceptance list", "5")
def test_checklist_05_the_four_lines_of_fship(pair: Pair, capfd: Capture) -> None:
    bangalore, boston_hub = pair
    boston_hub.start()
    with_mail(bangalore)
    capfd.readouterr()
    assert bangalore.syncreplica("-export", "-fship", r"boston_hub@\dev") == 0
    lines = capfd.readouterr().out.splitlines()
    path = re.escape(f"{bangalore.bay}/outgoing/")
    assert re.fullmatch(f"Generating synchronization packet ({path}{NAME}_1)", lines[0])
    packet = Path(lines[0].rpartition(" ")[2])
    assert lines[1:] == [
        f"- shipping order file is {packet.with_name('sh_o_' + packet.name)}",
        "Attempting to forward/deliver generated packets...",
        f"-- Forwarded/delivered packet {packet}",
    ]


@pytest.mark.covers("Replication by packets: the acceptance list", "6")
def test_checklist_06_maxsize_cuts_into_packets_of_that_size(pair: Pair, tmp_path: Path) -> None:
    bangalore, boston_hub = pair
    with_much_mail(bangalore)
    assert bangalore.syncreplica("-export", "-maxsize", "1m", "-out", tmp_path / "p", "boston_hub") == 0
    paths = [tmp_path / "p", tmp_path / "p_2", tmp_path / "p_3"]
    assert sorted(tmp_path.glob("p*")) == paths
    assert all(path.stat().st_size <= 1 << 20 for path in paths)
    headers = []
    for path in paths:
        with PacketReader(path) as packet:
            headers.append(packet.header)
    assert [(header.number, header.last) for header in headers] == [(1, False), (2, False), (3, True)]
    assert len({header.logical for header in headers}) == 1
    assert boston_hub.syncreplica("-import", *reversed(paths)) == 0, "their order does not matter"
    assert boston_hub.dump() == bangalore.dump()


@pytest.mark.covers("Replication by packets: the acceptance list", "6")
@pytest.mark.parametrize(
    ("size", "status"), [("1", 0), ("1K", 0), ("2G", 0), ("0", 64), ("1 t", 64), ("", 64), ("-1", 64)]
)
def test_checklist_06_sizes(pair: Pair, tmp_path: Path, size: str, status: int) -> None:
    bangalore, _ = pair
    with_mail(bangalore)
    assert bangalore.syncreplica("-export", "-maxsize", size, "-out", tmp_path / "p", "boston_hub") == status


@pytest.mark.covers("Replication by packets: the acceptance list", "6")
def test_checklist_06_with_limit_the_rest_waits_for_the_next_export(
    pair: Pair, tmp_path: Path, capfd: Capture
) -> None:
    bangalore, boston_hub = pair
    for number in range(54):
        bangalore.create(f"user/u{number}")
        bangalore.deliver(f"u{number}", "random", body=random_text(45_000 + number))
    limits = ["-maxsize", "1m", "-limit", "1"]
    capfd.readouterr()
    for number in (1, 2, 3):
        assert bangalore.syncreplica("-export", *limits, "-out", tmp_path / f"p{number}", "boston_hub") == 0
        said = capfd.readouterr()
        assert said.out == f"Generating synchronization packet {tmp_path}/p{number}\n"
        assert ("the rest for boston_hub@dev waits for the next export" in said.err) == (number < 3)
        assert (tmp_path / f"p{number}").stat().st_size <= 1 << 20
    assert boston_hub.syncreplica("-import", tmp_path) == 0
    assert boston_hub.dump() == bangalore.dump()


@pytest.mark.covers("Replication by packets: the acceptance list", "7")
def test_checklist_07_out_writes_that_file_and_prints_one_line(
    pair: Pair, tmp_path: Path, capfd: Capture
) -> None:
    bangalore, boston_hub = pair
    with_mail(bangalore)
    capfd.readouterr()
    assert bangalore.syncreplica("-export", "-out", tmp_path / "packet 1", "boston_hub") == 0
    assert capfd.readouterr() == (f"Generating synchronization packet {tmp_path}/packet 1\n", "")
    assert bangalore.outgoing() == []
    assert boston_hub.syncreplica("-import", tmp_path / "packet 1") == 0


@pytest.mark.covers("Replication by packets: the acceptance list", "7")
def test_checklist_07_out_prints_a_line_of_each_packet(pair: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, _ = pair
    with_much_mail(bangalore)
    capfd.readouterr()
    assert bangalore.syncreplica("-export", "-max", "1m", "-out", tmp_path / "p", "boston_hub") == 0
    assert capfd.readouterr().out.splitlines() == [
        f"Generating synchronization packet {tmp_path}/{name}" for name in ("p", "p_2", "p_3")
    ]


@pytest.mark.covers("Replication by packets: the acceptance list", "8")
def test_checklist_08_what_ship_left_is_sent_by_poll_or_by_the_path_of_the_order(pair: Pair) -> None:
    bangalore, boston_hub = pair
    boston_hub.start()
    with_mail(bangalore)
    assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 0
    assert bangalore.shipping_server("-poll") == 0
    assert bangalore.outgoing() == [] and len(boston_hub.incoming()) == 1
    bangalore.deliver("bob", "one more")
    assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 0
    (order,) = [name for name in bangalore.outgoing() if name.startswith("sh_o_")]
    assert bangalore.shipping_server(bangalore.bay / "outgoing" / order) == 0
    assert bangalore.outgoing() == [] and len(boston_hub.incoming()) == 2


@pytest.mark.covers("Replication by packets: the acceptance list", "9")
def test_checklist_09_packets_can_be_copied_anywhere_and_imported_from_there(
    pair: Pair, tmp_path: Path
) -> None:
    bangalore, boston_hub = pair
    with_mail(bangalore)
    assert bangalore.syncreplica("-export", "-out", tmp_path / "packet", "boston_hub") == 0
    stick = tmp_path / "mnt" / "usb stick"
    stick.mkdir(parents=True)
    (stick / "renamed.dat").write_bytes((tmp_path / "packet").read_bytes())
    assert boston_hub.syncreplica("-import", stick / "renamed.dat") == 0
    assert boston_hub.subjects("user.bob") == ["hello"]


@pytest.mark.covers("Replication by packets: the acceptance list", "10")
def test_checklist_10_receive_imports_what_is_in_the_incoming_bays(pair: Pair, capfd: Capture) -> None:
    bangalore, boston_hub = pair
    boston_hub.start()
    with_mail(bangalore)
    assert bangalore.syncreplica("-export", "-fship", "boston_hub") == 0
    (boston_hub.bay / "incoming/holiday.jpg").write_bytes(b"no packet")
    (name,) = set(boston_hub.incoming()) - {"holiday.jpg"}
    capfd.readouterr()
    assert boston_hub.syncreplica("-import", "-receive") == 0
    said = f"Applied sync. packet {boston_hub.bay}/incoming/{name} to VOB {boston_hub.directory}/spool\n"
    assert capfd.readouterr() == (said, "")
    assert boston_hub.incoming() == ["holiday.jpg"]
    assert boston_hub.dump() == bangalore.dump()


@pytest.mark.covers("Replication by packets: the acceptance list", "10")
def test_checklist_10_receive_with_nothing_there_is_silent(pair: Pair, capfd: Capture) -> None:
    capfd.readouterr()
    assert pair[1].syncreplica("-import", "-receive") == 0
    assert capfd.readouterr() == ("", "")


@pytest.mark.covers("Replication by packets: the acceptance list", "10")
def test_checklist_10_receive_takes_the_bays_of_a_class(pair: Pair, tmp_path: Path) -> None:
    bangalore, boston_hub = pair
    with_mail(bangalore)
    for name in ("daily", "weekly"):
        (tmp_path / name / "incoming").mkdir(parents=True)
    boston_hub.shipping_conf(f"STORAGE-BAY daily {tmp_path}/daily", f"STORAGE-BAY weekly {tmp_path}/weekly")
    packet = tmp_path / "daily/incoming/p"
    assert bangalore.syncreplica("-export", "-out", packet, "boston_hub") == 0
    assert boston_hub.syncreplica("-import", "-receive", "-sclass", "weekly") == 0
    assert packet.exists()
    assert boston_hub.syncreplica("-import", "-receive", "-sclass", "daily") == 0
    assert not packet.exists()
    assert boston_hub.subjects("user.bob") == ["hello"]


@pytest.mark.covers("Replication by packets: the acceptance list", "11")
def test_checklist_11_the_update_packets_of_a_directory_are_found_and_applied(
    pair: Pair, tmp_path: Path
) -> None:
    bangalore, boston_hub = pair
    with_mail(bangalore)
    directory = tmp_path / "packets"
    directory.mkdir()
    for name in ("z", "a", "m"):
        assert bangalore.syncreplica("-export", "-out", directory / name, "boston_hub") == 0
        bangalore.deliver("bob", f"after {name}")
    (directory / "readme.txt").write_text("packets from Bangalore\n")
    assert boston_hub.syncreplica("-import", directory) == 0
    assert [path.name for path in directory.iterdir()] == ["readme.txt"]
    assert boston_hub.subjects("user.bob") == ["after a", "after z", "hello"]


@pytest.mark.covers("Replication by packets: the acceptance list", "12")
def test_checklist_12_a_line_is_printed_of_each_packet_that_is_applied(
    pair: Pair, tmp_path: Path, capfd: Capture
) -> None:
    bangalore, boston_hub = pair
    with_mail(bangalore)
    for name in ("p1", "p2"):
        assert bangalore.syncreplica("-export", "-out", tmp_path / name, "boston_hub") == 0
        bangalore.deliver("bob", "more")
    (tmp_path / "p3").write_bytes((tmp_path / "p1").read_bytes()[:-10])
    capfd.readouterr()
    assert boston_hub.syncreplica("-import", *(tmp_path / name for name in ("p2", "p3", "p1"))) == 1
    said = capfd.readouterr()
    assert said.out.splitlines() == [
        f"Applied sync. packet {tmp_path}/{name} to VOB {boston_hub.directory}/spool" for name in ("p1", "p2")
    ]
    assert f"{tmp_path}/p3 was not applied: " in said.err
    assert (tmp_path / "p3").exists()


@pytest.mark.covers("Replication by packets: the acceptance list", "5", "11")
def test_the_story_of_a_manual_synchronization(pair: Pair, tmp_path: Path) -> None:
    """As it is told to administrators, typed as they type it."""
    bangalore, boston_hub = pair
    boston_hub.start()
    with_much_mail(bangalore)

    def typed(server: Server, *words: str) -> list[str]:
        command = [sys.executable, "-m", "cyrus_sync.multisite.multitool", *words]
        command[4:4] = ["-C", str(server.directory / "imapd.conf")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE.parents[3])
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    # In Bangalore: at once by store-and-forward, in pieces of a megabyte.
    said = typed(bangalore, "syncreplica", "-export", "-maxsize", "1m", "-fship", r"boston_hub@\dev")
    paths = [Path(line.rpartition(" ")[2]) for line in said if line.startswith("Generating")]
    assert len(paths) == 3
    assert said == [
        *(
            line
            for path in paths
            for line in (
                f"Generating synchronization packet {path}",
                f"- shipping order file is {path.with_name('sh_o_' + path.name)}",
            )
        ),
        "Attempting to forward/deliver generated packets...",
        *(f"-- Forwarded/delivered packet {path}" for path in paths),
    ]
    # In Boston: import what came.
    said = typed(boston_hub, "syncreplica", "-import", "-receive")
    assert sorted(said) == sorted(
        f"Applied sync. packet {boston_hub.bay}/incoming/{path.name} to VOB {boston_hub.directory}/spool"
        for path in paths
    )
    assert boston_hub.dump() == bangalore.dump()
    # In Bangalore: into files, for mail or media, no larger than what the medium holds.
    bangalore.deliver("bob", "a large one", body=random_text(1_000_000))
    out = tmp_path / "tmp"
    out.mkdir()
    said = typed(
        bangalore, "syncreplica", "-export", "-maxsize", "2m", "-out", f"{out}/packet1", r"boston_hub@\dev"
    )
    assert said == [f"Generating synchronization packet {out}/packet1"]
    # In Boston: from a directory.
    said = typed(boston_hub, "syncreplica", "-import", str(out))
    assert said == [f"Applied sync. packet {out}/packet1 to VOB {boston_hub.directory}/spool"]
    assert list(out.iterdir()) == []
    assert boston_hub.dump() == bangalore.dump()


# -- names in conflict


def warning(name: str) -> str:
    return f'multitool: Warning: To avoid name conflict,\ngenerated name "{name}" ...\n'


def born_at_three(servers: Three, tmp_path: Path) -> None:
    """Each server makes a mailbox v1_bugfix of bob, and puts a message of its own into it."""
    servers[0].create("user/bob")
    exchange(list(servers), tmp_path)
    for server in servers:
        server.create("user/bob/v1_bugfix")
        server.deliver("bob", f"from {server.name}", "v1_bugfix")


def identities(server: Server) -> dict[str, str]:
    """Uniqueids of bob's mailboxes by their names at a server."""
    with server.store() as store, store.read(Owner("user", "bob")) as reader:
        return {state.name: state.uniqueid for state in reader.mailboxes()}


def contents(server: Server) -> dict[str, list[str]]:
    """Subjects in the mailboxes of bob that concern the story, by the last component of their names."""
    names = [name for name in server.folders("bob") if "v1" in name or "v2" in name]
    return {name.rpartition(".")[2]: server.subjects(name) for name in names}


@pytest.mark.covers("Replication by packets: the acceptance list", "45", "46", "47", "48")
def test_checklist_45_46_47_48_a_clash_is_found_at_a_creator_and_the_incoming_one_is_renamed(
    three: Three, tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, _ = three
    born_at_three(three, tmp_path)
    boston.create("user/bob/Other")
    boston.deliver("bob", "comes along", "Other")
    capfd.readouterr()
    assert send(boston, sanfran, tmp_path), "the import goes on"
    assert capfd.readouterr().err == warning("user/bob/boston_hub_v1_bugfix")
    assert contents(sanfran) == {
        "v1_bugfix": ["from sanfran_hub"],
        "boston_hub_v1_bugfix": ["from boston_hub"],
    }
    assert sanfran.subjects("user.bob.Other") == ["comes along"]
    log = (sanfran.directory / "conf/log/multisite_log").read_text()
    assert all(uniqueid in log for name, uniqueid in identities(sanfran).items() if "v1" in name)
    assert "multitool rename" in log


@pytest.mark.covers("Replication by packets: the acceptance list", "47")
def test_checklist_47_the_warning_has_the_name_as_people_type_it(
    three: Three, tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, _ = three
    boston.create("user/bob")
    exchange(list(three), tmp_path)
    for server in (boston, sanfran):
        server.create("user/bob/v1.0_bugfix")
    capfd.readouterr()
    assert send(boston, sanfran, tmp_path)
    assert capfd.readouterr().err == warning("user/bob/boston_hub_v1.0_bugfix")
    assert boston.multitool("rename", "user/bob/v1.0_bugfix", "user/bob/v1.1") == 0
    assert send(boston, sanfran, tmp_path)
    assert "user.bob.v1^1" in sanfran.folders("bob")


@pytest.mark.parametrize("way", ["merge", "rename"])
def test_checklist_50_the_command_that_settles_two_inboxes_does_it(
    three: Three, tmp_path: Path, capfd: Capture, way: str
) -> None:
    assert three[0].multitool("chfamily", "-inbox", "rename") == 0
    exchange(list(three), tmp_path)
    for server in three[:2]:
        server.create("user/bob")
        server.deliver("bob", f"from {server.name}")
    exchange(list(three), tmp_path)
    names = {server.name: server for server in three}
    commands = set()
    for server in three:
        capfd.readouterr()
        assert server.multitool("conflicts") == 0
        lines = capfd.readouterr().out.splitlines()
        commands.update(one.strip() for one in lines if f"multitool {way}" in one)
    (command,) = commands
    where, _, words = command.removeprefix("at ").partition(f":  multitool {way} ")
    new = ["user/bob/Former"] if way == "rename" else []
    assert names[where].multitool(way, words.split()[0], *new) == 0
    exchange(list(three), tmp_path, most=12)
    for server in three:
        capfd.readouterr()
        assert server.multitool("conflicts") == 0
        assert capfd.readouterr().out == ""
        assert set(server.folders("bob")) == {"user.bob", *(["user.bob.Former"] if new else [])}
    assert three[0].dump() == three[1].dump() == three[2].dump()


def test_an_inbox_that_was_born_at_two_sites_becomes_one_without_a_word(
    three: Three, tmp_path: Path, capfd: Capture
) -> None:
    for server in three[:2]:
        server.create("user/bob")
        server.deliver("bob", f"from {server.name}")
    exchange(list(three), tmp_path, most=12)
    for server in three:
        capfd.readouterr()
        assert server.multitool("conflicts") == 0
        assert capfd.readouterr().out == ""
        assert server.folders("bob") == ["user.bob"] and len(server.subjects("user.bob")) == 2
    assert three[0].dump() == three[1].dump() == three[2].dump()


@pytest.mark.covers("Replication by packets: the acceptance list", "45")
def test_checklist_45_a_clash_is_found_at_a_third_replica(
    three: Three, tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, bangalore = three
    boston.create("user/bob")
    exchange(list(three), tmp_path)
    for server in (boston, sanfran):
        server.create("user/bob/v1_bugfix")
        server.deliver("bob", f"from {server.name}", "v1_bugfix")
    assert send(sanfran, bangalore, tmp_path)
    assert send(sanfran, boston, tmp_path)
    capfd.readouterr()
    assert send(boston, bangalore, tmp_path)
    assert capfd.readouterr().err == warning("user/bob/sanfran_hub_v1_bugfix")
    assert contents(bangalore) == {
        "v1_bugfix": ["from boston_hub"],
        "sanfran_hub_v1_bugfix": ["from sanfran_hub"],
    }


@pytest.mark.covers("Replication by packets: the acceptance list", "45", "46", "47")
def test_checklist_45_46_47_replicas_of_one_name_clash_too(
    three: Three, tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, bangalore = three
    for number, server in enumerate((boston, sanfran)):
        path = tmp_path / f"repl_{number}"
        assert server.multitool("mkreplica", "-export", "-out", path, f"tokyo{number}:tokyo") == 0
    capfd.readouterr()
    assert send(boston, sanfran, tmp_path)
    assert capfd.readouterr().err == warning("boston_hub_tokyo")
    assert send(sanfran, bangalore, tmp_path)
    assert "multitool: Warning: To avoid name conflict,\n" in capfd.readouterr().err
    # Each is renamed where it was made; then all names are alike.
    assert bangalore.multitool("rename", "replica:tokyo", "kyoto") == 1
    assert "is renamed at" in capfd.readouterr().err
    assert sanfran.multitool("rename", "replica:tokyo", "kyoto") == 0
    exchange([boston, sanfran, bangalore], tmp_path)
    for server in three:
        capfd.readouterr()
        assert server.multitool("lsreplica") == 0
        names = [line[2:].split() for line in capfd.readouterr().out.splitlines()]
        assert ["kyoto", "tokyo1"] in names and ["tokyo", "tokyo0"] in names and len(names) == 5


@pytest.mark.covers("Replication by packets: the acceptance list", "49")
def test_checklist_49_until_it_is_settled_names_may_differ_and_identities_do_not(
    three: Three, tmp_path: Path
) -> None:
    born_at_three(three, tmp_path)
    exchange(list(three), tmp_path)
    boston, sanfran, bangalore = (
        {name: uniqueid for name, uniqueid in identities(server).items() if "v1" in name} for server in three
    )
    assert set(boston.values()) == set(sanfran.values()) == set(bangalore.values())
    assert len(boston) == 3 and boston != sanfran != bangalore
    for server, others in (
        (three[0], ("sanfran_hub", "bangalore")),
        (three[1], ("boston_hub", "bangalore")),
        (three[2], ("boston_hub", "sanfran_hub")),
    ):
        assert contents(server) == {
            "v1_bugfix": [f"from {server.name}"],
            **{f"{other}_v1_bugfix": [f"from {other}"] for other in others},
        }


@pytest.mark.covers("Replication by packets: the acceptance list", "49")
def test_checklist_49_mail_goes_on_in_mailboxes_that_are_called_differently(
    three: Three, tmp_path: Path
) -> None:
    born_at_three(three, tmp_path)
    exchange(list(three), tmp_path)
    boston, sanfran, bangalore = three
    boston.deliver("bob", "second", "v1_bugfix")
    bangalore.deliver("bob", "third", "boston_hub_v1_bugfix")
    exchange(list(three), tmp_path)
    expected = ["from boston_hub", "second", "third"]
    assert boston.subjects("user.bob.v1_bugfix") == expected
    assert sanfran.subjects("user.bob.boston_hub_v1_bugfix") == expected
    assert bangalore.subjects("user.bob.boston_hub_v1_bugfix") == expected


@pytest.mark.covers("Replication by packets: the acceptance list", "50")
def test_checklist_50_renames_are_made_at_the_master_of_the_object_and_travel(
    three: Three, tmp_path: Path, capfd: Capture
) -> None:
    born_at_three(three, tmp_path)
    exchange(list(three), tmp_path)
    _, sanfran, bangalore = three
    capfd.readouterr()
    assert sanfran.multitool("rename", "user/bob/boston_hub_v1_bugfix", "user/bob/v2") == 1
    assert "rename: this mailbox is renamed at boston_hub, not here" in capfd.readouterr().err
    assert bangalore.multitool("rename", "user.bob.sanfran_hub_v1_bugfix", "user/bob/v2") == 1
    assert "this mailbox is renamed at sanfran_hub or boston_hub, not here" in capfd.readouterr().err
    assert sanfran.multitool("rename", "user/bob/v1_bugfix", "user/bob/sf_v2") == 0
    exchange(list(three), tmp_path)
    for server in three:
        assert server.subjects("user.bob.sf_v2") == ["from sanfran_hub"]
        assert not [name for name in server.folders("bob") if "sanfran_hub" in name]


@pytest.mark.covers("Replication by packets: the acceptance list", "52")
def test_checklist_52_generated_names_are_undone_when_the_name_is_free(
    three: Three, tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, _ = three
    boston.create("user/bob")
    exchange(list(three), tmp_path)
    for server in (boston, sanfran):
        server.create("user/bob/v1_bugfix")
        server.deliver("bob", f"from {server.name}", "v1_bugfix")
    exchange(list(three), tmp_path)
    assert contents(sanfran)["boston_hub_v1_bugfix"] == ["from boston_hub"]
    # At once where the name is given up ...
    assert sanfran.multitool("rename", "user/bob/v1_bugfix", "user/bob/sf_v1") == 0
    assert contents(sanfran) == {"v1_bugfix": ["from boston_hub"], "sf_v1": ["from sanfran_hub"]}
    # ... and elsewhere when that is imported.
    capfd.readouterr()
    exchange(list(three), tmp_path)
    assert capfd.readouterr().err == ""
    for server in three:
        assert contents(server) == {"v1_bugfix": ["from boston_hub"], "sf_v1": ["from sanfran_hub"]}
        assert server.multitool("conflicts") == 0
        assert capfd.readouterr().out == ""


@pytest.mark.covers("Replication by packets: the acceptance list", "53")
def test_checklist_53_a_name_that_is_taken_back_too_early_clashes_again_and_loses_nothing(
    three: Three, tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, bangalore = three
    born_at_three(three, tmp_path)
    assert send(boston, sanfran, tmp_path)
    assert send(boston, bangalore, tmp_path)
    # Boston gives its name up, and has it back before the others have told that they have it, too.
    assert boston.multitool("rename", "user/bob/v1_bugfix", "user/bob/boston_v1") == 0
    assert send(boston, sanfran, tmp_path)
    assert contents(sanfran) == {"v1_bugfix": ["from sanfran_hub"], "boston_v1": ["from boston_hub"]}
    assert boston.multitool("rename", "user/bob/boston_v1", "user/bob/v1_bugfix") == 0
    capfd.readouterr()
    for server in (sanfran, bangalore):
        assert send(boston, server, tmp_path)
    assert capfd.readouterr().err.startswith(warning("user/bob/boston_hub_v1_bugfix"))
    exchange(list(three), tmp_path)
    for server in three:
        found = contents(server)
        assert found["v1_bugfix"] == [f"from {server.name}"]
        assert sorted(found.values()) == [["from bangalore"], ["from boston_hub"], ["from sanfran_hub"]]


@pytest.mark.covers("Replication by packets: the acceptance list", "53")
def test_checklist_53_a_name_that_another_has_here_is_not_taken(
    three: Three, tmp_path: Path, capfd: Capture
) -> None:
    boston, *_ = three
    born_at_three(three, tmp_path)
    exchange(list(three), tmp_path)
    assert boston.multitool("rename", "user/bob/v1_bugfix", "user/bob/boston_v1") == 0
    before = contents(boston)
    assert "v1_bugfix" in before, "one of the others has it now"
    capfd.readouterr()
    assert boston.multitool("rename", "user/bob/boston_v1", "user/bob/v1_bugfix") == 1
    assert "there is a mailbox user/bob/v1_bugfix already" in capfd.readouterr().err
    assert contents(boston) == before


@pytest.mark.covers("Replication by packets: the acceptance list", "51")
def test_the_story_of_three_branches(three: Three, tmp_path: Path, capfd: Capture) -> None:
    """Boston, San Francisco and Bangalore made the same name; all rename, and Boston takes it back."""
    boston, sanfran, bangalore = three
    born_at_three(three, tmp_path)
    capfd.readouterr()
    exchange(list(three), tmp_path)
    heard = capfd.readouterr().err
    for name in ("boston_hub", "sanfran_hub", "bangalore"):
        assert heard.count(warning(f"user/bob/{name}_v1_bugfix")) == 2, "at both others"
    assert all(len(contents(server)) == 3 for server in three)
    # Each renames its own.
    for server, name in ((sanfran, "sanfran_v1"), (bangalore, "bangalore_v1"), (boston, "boston_v1")):
        (own,) = [key for key, subjects in contents(server).items() if subjects == [f"from {server.name}"]]
        assert server.multitool("rename", f"user/bob/{own}", f"user/bob/{name}") == 0
    exchange(list(three), tmp_path)
    renamed = {
        "sanfran_v1": ["from sanfran_hub"],
        "bangalore_v1": ["from bangalore"],
        "boston_v1": ["from boston_hub"],
    }
    for server in three:
        assert contents(server) == renamed
    assert boston.dump() == sanfran.dump() == bangalore.dump()
    # That has spread everywhere: one of them takes the name.
    assert boston.multitool("rename", "user/bob/boston_v1", "user/bob/v1_bugfix") == 0
    capfd.readouterr()
    exchange(list(three), tmp_path)
    assert capfd.readouterr().err == ""
    renamed["v1_bugfix"] = renamed.pop("boston_v1")
    for server in three:
        assert contents(server) == renamed
    assert boston.dump() == sanfran.dump() == bangalore.dump()


@pytest.mark.covers("Replication by packets: the acceptance list", "51")
def test_checklist_51_exactly_one_may_take_the_name_when_all_renames_have_spread(
    three: Three, tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, bangalore = three
    born_at_three(three, tmp_path)
    for server in three:
        assert server.multitool("rename", "user/bob/v1_bugfix", f"user/bob/{server.name}_v2") == 0
    exchange(list(three), tmp_path)
    assert sanfran.multitool("rename", "user/bob/sanfran_hub_v2", "user/bob/v1_bugfix") == 0
    exchange(list(three), tmp_path)
    capfd.readouterr()
    assert boston.multitool("rename", "user/bob/boston_hub_v2", "user/bob/v1_bugfix") == 1
    assert "there is a mailbox user/bob/v1_bugfix already" in capfd.readouterr().err
    assert boston.dump() == sanfran.dump() == bangalore.dump()


def test_every_number_of_the_list_has_a_test() -> None:
    names = re.findall(r"^def test_checklist((?:_\d\d)+)_", HERE.read_text(), re.MULTILINE)
    numbers = {int(number) for name in names for number in name.split("_") if number}
    assert numbers == {*range(1, 13), *range(45, 54)}
