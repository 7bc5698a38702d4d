"""lspacket, describe, conflicts, lsmaster: they tell, and change nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cyrus_sync.multisite.oplog.database import SiteLock
from tests.multisite.commands.kit import Server, exchange, send

Pair = tuple[Server, Server]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def packet(pair: Pair, tmp_path: Path) -> Path:
    bangalore, _ = pair
    bangalore.create("user/bob")
    path = tmp_path / "packet"
    assert bangalore.syncreplica("-export", "-c", "for Bob: 100 %", "-out", path, "boston_hub") == 0
    return path


def listed(server: Server, capfd: Capture, *arguments: str | Path) -> list[str]:
    capfd.readouterr()
    assert server.multitool("lspacket", *arguments) == 0
    return capfd.readouterr().out.splitlines()


def test_lspacket_says_what_a_packet_is(pair: Pair, packet: Path, capfd: Capture) -> None:
    bangalore, boston_hub = pair
    with bangalore.member() as member:
        family = member.family.id
    expected = [
        f"Packet is: {packet}",
        "Packet type: Update",
        f"VOB family is: dev ({family})",
        "Comment supplied at packet creation is: for Bob: 100 %",
        "Packet intended for the following targets:",
        "    boston_hub",
        "The packet sequence number is 1 (the last)",
    ]
    assert listed(bangalore, capfd, packet) == expected
    expected[5] += " *"
    assert listed(boston_hub, capfd, packet) == expected


def test_lspacket_short_and_long(pair: Pair, packet: Path, capfd: Capture) -> None:
    bangalore, boston_hub = pair
    assert listed(boston_hub, capfd, "-short", packet) == [str(packet)]
    said = "\n".join(listed(boston_hub, capfd, "-l", packet))
    with bangalore.member() as member:
        me = member.family.self_id
        last = member.log.operations.last(me)
    assert f"From: bangalore ({me}), incarnation 0" in said
    assert f" to {last} of bangalore ({me})" in said
    assert f" operations of bangalore ({me})" in said and "Builds on 1 operations of boston_hub (" in said
    assert f"The sender has {last} of bangalore ({me})" in said
    assert bangalore.multitool("lspacket", "-long", "-short", packet) == 64


def test_lspacket_without_operands_looks_into_all_bays(pair: Pair, packet: Path, capfd: Capture) -> None:
    bangalore, _ = pair
    assert listed(bangalore, capfd) == []
    bangalore.deliver("bob", "more")
    assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 0
    packet.rename(bangalore.bay / "incoming/returned")
    (bangalore.bay / "incoming/holiday.jpg").write_bytes(b"x")
    names = [Path(line).name for line in listed(bangalore, capfd, "-s")]
    assert sorted(names)[0] == "returned" and len(names) == 2


def test_a_packet_with_a_gap_has_no_asterisk(
    pair: Pair, packet: Path, tmp_path: Path, capfd: Capture
) -> None:
    bangalore, boston_hub = pair
    bangalore.deliver("bob", "more")
    assert bangalore.syncreplica("-export", "-out", tmp_path / "second", "boston_hub") == 0
    assert "    boston_hub" in listed(boston_hub, capfd, tmp_path / "second")
    assert boston_hub.syncreplica("-import", packet) == 0
    assert "    boston_hub *" in listed(boston_hub, capfd, tmp_path / "second")


def test_a_creation_packet_can_be_imported_where_there_is_no_family(
    pair: Pair, tmp_path: Path, capfd: Capture
) -> None:
    bangalore, _ = pair
    assert bangalore.multitool("mkreplica", "-export", "-out", tmp_path / "p", "tokyo:tokyo") == 0
    tokyo = Server("tokyo", tmp_path / "tokyo")
    said = listed(tokyo, capfd, tmp_path / "p")
    assert "Packet type: Replica Creation" in said and "    tokyo *" in said
    assert "    tokyo" in listed(bangalore, capfd, tmp_path / "p")


def test_lspacket_of_what_is_no_packet(pair: Pair, packet: Path, capfd: Capture) -> None:
    os.truncate(packet, 100)
    assert pair[0].multitool("lspacket", packet, packet.with_name("none")) == 1
    said = capfd.readouterr().err
    assert f"lspacket: {packet}: " in said and "none: " in said


def test_looking_needs_no_lock(pair: Pair, packet: Path) -> None:
    bangalore, _ = pair
    with SiteLock(bangalore.directory / "conf/multisite"):
        assert bangalore.multitool("lspacket", packet) == 0
        assert bangalore.multitool("lsepoch") == 0
        assert bangalore.multitool("lsmaster") == 0
        assert bangalore.multitool("conflicts") == 0
        assert bangalore.multitool("describe", "user/bob", "boston_hub") == 0


def test_describe_a_replica(pair: Pair, packet: Path, capfd: Capture) -> None:
    bangalore, _ = pair
    capfd.readouterr()
    assert bangalore.multitool("describe", r"boston_hub@\dev", "replica:bangalore") == 0
    said = capfd.readouterr().out
    assert "replica boston_hub@dev\n" in said and "replica bangalore@dev  (this server)\n" in said
    assert "  master of:     1 (bob)\n" in said
    assert f" {packet}: for Bob: 100 %\n" in said
    assert '  Oplog IDs for row "boston_hub" (@ 127.0.0.2):\n' in said


def test_describe_a_mailbox(three: tuple[Server, ...], tmp_path: Path, capfd: Capture) -> None:
    boston, sanfran, _ = three
    boston.create("user/bob")
    exchange(list(three), tmp_path)
    for server in (boston, sanfran):
        server.create("user/bob/Work")
    assert send(boston, sanfran, tmp_path)
    capfd.readouterr()
    assert sanfran.multitool("describe", "user.bob.boston_hub_Work", "mailbox:user/bob") == 0
    said = capfd.readouterr().out
    assert "mailbox user/bob/boston_hub_Work\n" in said
    assert (
        "  made at:       boston_hub\n  master:        boston_hub\n  should be:     user/bob/Work\n" in said
    )
    assert "  built on:      the master's last UID 0 and modseq " in said
    assert sanfran.multitool("describe", "user/bob/None") == 1
    assert "user/bob/None is neither a replica nor a mailbox here" in capfd.readouterr().err
    assert sanfran.multitool("describe") == 64


def test_conflicts_say_which_command_settles_them(
    three: tuple[Server, ...], tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, _ = three
    boston.create("user/bob")
    exchange(list(three), tmp_path)
    for server in (boston, sanfran):
        server.create("user/bob/Work")
    exchange(list(three), tmp_path)
    capfd.readouterr()
    assert sanfran.multitool("conflicts") == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0].startswith("mailbox user/bob/boston_hub_Work (")
    assert lines[0].endswith("), made at boston_hub")
    assert lines[1].startswith("  should be called user/bob/Work, as another one is here (")
    assert lines[3] == "    at boston_hub:  multitool rename user/bob/Work NEW-NAME"
    command = lines[3].split("multitool ")[1].replace("NEW-NAME", "user/bob/Boston").split()
    assert boston.multitool(*command) == 0
    exchange(list(three), tmp_path)
    for server in three:
        capfd.readouterr()
        assert server.multitool("conflicts") == 0
        assert capfd.readouterr().out == ""


def test_lsmaster(pair: Pair, packet: Path, capfd: Capture) -> None:
    bangalore, _ = pair
    bangalore.create("projects")
    assert bangalore.syncreplica("-export", "-ship", "boston_hub") == 0
    capfd.readouterr()
    assert bangalore.multitool("lsmaster", "user/bob", "shared:projects") == 0
    assert capfd.readouterr().out == "bob  bangalore\nshared:projects  bangalore\n"
    assert bangalore.multitool("lsmaster", "nobody") == 1
    assert "nobody has no master" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["user/bob"], 64, "an old and a new name are needed"),
        (["user/bob/None", "user/bob/Other"], 1, "there is no mailbox user/bob/None"),
        (["user/bob", "user/bill"], 64, "mailstore rename"),
        (["user/bob/Work", "user/bob/Work"], 64, "both names are the same"),
        (["user/bob/Work", "user/bob/Work/Sub"], 64, "cannot go below itself"),
        (["user/bob/Work", "user/bob/Play"], 1, "there is a mailbox user/bob/Play already"),
        (["replica:tokyo", "kyoto"], 1, "no replica 'tokyo'"),
        (["replica:bangalore", "boston_hub"], 1, "there is a replica 'boston_hub' in the family already"),
    ],
)
def test_what_rename_refuses(
    pair: Pair, capfd: Capture, arguments: list[str], status: int, said: str
) -> None:
    bangalore, _ = pair
    bangalore.create("user/bob", "user/bob/Work", "user/bob/Play")
    assert bangalore.multitool("rename", *arguments) == status
    assert said in capfd.readouterr().err


def test_rename_takes_along_what_is_below(pair: Pair, tmp_path: Path) -> None:
    bangalore, boston_hub = pair
    bangalore.create("user/bob", "user/bob/Work", "user/bob/Work/2026")
    assert send(bangalore, boston_hub, tmp_path)
    assert bangalore.multitool("rename", "user/bob/Work", "user/bob/Old") == 0
    assert send(bangalore, boston_hub, tmp_path)
    assert boston_hub.folders("bob") == ["user.bob", "user.bob.Old", "user.bob.Old.2026"]
    assert boston_hub.dump() == bangalore.dump()


def test_a_renamed_replica_is_known_by_its_new_name(pair: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, boston_hub = pair
    assert boston_hub.multitool("rename", "replica:boston_hub@dev", "boston") == 0
    assert send_to(boston_hub, "bangalore", bangalore, tmp_path)
    bangalore.create("user/bob")
    assert send_to(bangalore, "boston", boston_hub, tmp_path)
    capfd.readouterr()
    assert bangalore.multitool("lsreplica") == 0
    assert "boston  " in capfd.readouterr().out


def send_to(source: Server, name: str, target: Server, directory: Path) -> bool:
    path = directory / f"to {name}"
    return source.syncreplica("-export", "-out", path, name) == target.syncreplica("-import", path) == 0


def test_what_a_packet_carries_is_shown_with_control_characters_escaped(
    pair: Pair, tmp_path: Path, capfd: Capture
) -> None:
    bangalore, _ = pair
    bangalore.create("user/bob")
    path = tmp_path / "pack\x1b[2Jet\nPacket type: fake"
    comment = "two\nlines \x1b[31mred"
    assert bangalore.syncreplica("-export", "-c", comment, "-out", path, "boston_hub") == 0
    lines = listed(bangalore, capfd, "-long", path)
    assert not any("\x1b" in line for line in lines)
    assert lines[0].endswith("pack\\x1b[2Jet\\nPacket type: fake") and lines[1] == "Packet type: Update"
    assert "Comment supplied at packet creation is: two\\nlines \\x1b[31mred" in lines


def test_what_is_not_known_is_named_and_the_rest_is_shown(
    pair: Pair, packet: Path, tmp_path: Path, capfd: Capture
) -> None:
    _, boston_hub = pair
    empty = tmp_path / "empty"
    empty.mkdir()
    for words, status, shown, said in (
        (["lsreplica", "tokyo", "bangalore"], 1, "bangalore", "no replica 'tokyo' in the family 'dev'"),
        (["lsepoch", "tokyo", "bangalore"], 1, "bangalore", "no replica 'tokyo' in the family 'dev'"),
        (["lspacket", empty, packet], 1, str(packet), f"there are no packets in {empty}"),
        (["lspacket", tmp_path / "none", packet], 1, str(packet), "none: No such file or directory"),
        (["setaside", "9@tokyo"], 1, "", "no operation 9@tokyo is set aside"),
        (["conflicts", "tokyo"], 64, "", "takes no operands, but 'tokyo' was given"),
        (["keys", "tokyo"], 64, "", "takes no operands, but 'tokyo' was given"),
    ):
        capfd.readouterr()
        assert boston_hub.multitool(*map(str, words)) == status
        out, err = capfd.readouterr()
        assert shown in out and said in err and "Errno" not in err
