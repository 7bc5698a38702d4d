"""lshistory, dumpoplog, lspacket -long, checkpacket: what was changed, and what is in a packet."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.multisite.commands.kit import Server, exchange
from tests.multisite.mail import leaving_out, rewritten

Pair = tuple[Server, Server]
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def sites(pair: Pair, tmp_path: Path) -> Pair:
    """Bangalore has made bob and Work, and renamed that to Done; Boston knows it."""
    bangalore = pair[0]
    bangalore.create("user/bob", "user/bob/Work", "user/eve")
    bangalore.deliver("bob", "one")
    exchange(list(pair), tmp_path)
    assert bangalore.multitool("rename", "user/bob/Work", "user/bob/Done") == 0
    exchange(list(pair), tmp_path)
    return pair


def lines(server: Server, capfd: Capture, *words: str | Path) -> list[str]:
    command, *rest = words
    capfd.readouterr()
    assert server.multitool(str(command), *rest) == 0
    return capfd.readouterr().out.splitlines()


@pytest.mark.parametrize("where", [0, 1], ids=["where it was made", "elsewhere"])
def test_the_history_of_a_mailbox_is_listed_under_all_its_names(
    sites: Pair, capfd: Capture, where: int
) -> None:
    found = lines(sites[where], capfd, "lshistory", "user/bob/Done")
    kinds = [line.split()[2] for line in found]
    assert "user/bob/Work to user/bob/Done" in found[kinds.index("RENAME")]
    assert kinds[-1] == "MAILBOX" and found[-1].endswith("user/bob/Work")
    assert all(" bangalore " in line for line in found)


def test_history_is_chosen_by_user_origin_time_and_number(sites: Pair, capfd: Capture) -> None:
    boston_hub = sites[1]
    everything = lines(boston_hub, capfd, "lshistory")
    assert any("REPLICA" in line and "replica boston_hub" in line for line in everything)
    bobs = lines(boston_hub, capfd, "lshistory", "bob")
    assert any("UID 1" in line and "octets" in line for line in bobs)
    assert not any("eve" in line for line in bobs)
    assert lines(boston_hub, capfd, "lshistory", "-last", "2", "bob") == bobs[:2]
    assert lines(boston_hub, capfd, "lshistory", "-origin", "boston_hub", "bob") == []
    assert lines(boston_hub, capfd, "lshistory", "-since", "yesterday", "bob") == bobs
    assert lines(boston_hub, capfd, "lshistory", "-until", "yesterday", "bob") == []
    assert lines(boston_hub, capfd, "lshistory", "family:") == [
        line for line in everything if " REPLICA " in line
    ]
    assert boston_hub.multitool("lshistory", "-last", "none") == 64


def test_the_log_is_dumped_in_its_order_with_all_that_it_says(sites: Pair, capfd: Capture) -> None:
    found = lines(sites[0], capfd, "dumpoplog", "bob")
    numbers = [int(line.partition("@")[0]) for line in found]
    assert numbers == sorted(numbers)
    assert "MASTER" in found[0] and found[0].endswith("the master is bangalore (version 0)")
    long = "\n".join(lines(sites[0], capfd, "dumpoplog", "-long", "user/bob"))
    assert "    APPLY MAILBOX %(" in long
    assert "    uniqueid: " in long and "    message " in long


def test_a_long_listing_says_whom_a_packet_is_about(sites: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, boston_hub = sites
    bangalore.deliver("bob", "two", body="x" * 1000)
    bangalore.deliver("eve", "three")
    packet = tmp_path / "packet"
    assert bangalore.syncreplica("-export", "-out", packet, "boston_hub") == 0
    for site in sites:
        found = lines(site, capfd, "lspacket", "-long", packet)
        at = next(number for number, line in enumerate(found) if line.startswith("Contents: "))
        assert found[at].startswith("Contents: 2 operations, 2 messages of ")
        assert found[at + 1].startswith("    user:bob: 1 operation, 1 message of 10")
        assert found[at + 2].startswith("        user/bob: 1 operation, 1 message of 10")
        assert found[at + 3].startswith("    user:eve: 1 operation, 1 message of ")
    packet.unlink()
    with (boston_hub.directory / "imapd.conf").open("a") as config:
        config.write("multisite_seal: yes\n")
    boston_hub.create("user/zoe")
    assert boston_hub.syncreplica("-export", "-out", packet, "bangalore") == 0
    assert any(line.startswith("Contents: ") for line in lines(bangalore, capfd, "lspacket", "-l", packet))
    said = lines(boston_hub, capfd, "lspacket", "-l", packet)
    assert said[-1] == "What is in it cannot be read here: it is encrypted for its targets"


def test_a_packet_is_checked_and_not_applied(sites: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, boston_hub = sites
    first, second = tmp_path / "first", tmp_path / "second"
    for subject, path in (("two", first), ("three", second)):
        bangalore.deliver("bob", subject)
        assert bangalore.syncreplica("-export", "-out", path, "boston_hub") == 0
    capfd.readouterr()
    assert boston_hub.multitool("checkpacket", second) == 1
    said = capfd.readouterr().out.splitlines()
    assert said[0] == f"{second} cannot be applied: depends on changes not yet received"
    assert said[1].startswith("  operations of bangalore: required ")
    assert boston_hub.multitool("checkpacket", second, first) == 0
    said = capfd.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in said] == [
        f"{first} can be applied",
        f"{second} can be applied",
    ]
    assert said[0].endswith("octets") and ": 1 operations, 1 messages of " in said[0]
    assert first.exists() and second.exists()
    assert boston_hub.subjects("user.bob") == ["one"]
    assert bangalore.multitool("checkpacket", first) == 1
    assert "it is for boston_hub, not for bangalore" in capfd.readouterr().out


def test_a_packet_that_is_damaged_or_forged_is_told(sites: Pair, tmp_path: Path, capfd: Capture) -> None:
    bangalore, boston_hub = sites
    packet = tmp_path / "packet"
    bangalore.deliver("bob", "two")
    assert bangalore.syncreplica("-export", "-out", packet, "boston_hub") == 0
    good = packet.read_bytes()
    packet.write_bytes(good[:-200] + b"x" + good[-199:])
    assert boston_hub.multitool("checkpacket", packet) == 1
    assert f"{packet} cannot be applied: " in capfd.readouterr().out
    packet.write_bytes(good)
    rewritten(packet, boston_hub, items=leaving_out())
    assert boston_hub.multitool("checkpacket", packet) == 1
    assert "cannot be applied: " in capfd.readouterr().out
