"""An owner gets another master, whatever is changed meanwhile: nothing is lost, and all agree in the end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from tests.multisite.commands.kit import Server, exchange, send

Three = tuple[Server, Server, Server]
Capture = pytest.CaptureFixture[str]
BOB = Owner("user", "bob")


def master_of_bob(server: Server) -> str:
    """By name, as a server sees it."""
    with server.member() as member:
        master = member.log.masters.of(BOB)
        assert master is not None
        return member.family.name_of(master.replica)


def same_everywhere(servers: Three) -> bool:
    return len({server.dump() for server in servers}) == 1


@pytest.fixture
def with_bob(three: Three, tmp_path: Path) -> Three:
    """Bob was born in Boston and has mail everywhere."""
    boston, *_ = three
    boston.create("user/bob", "user/bob/Work")
    boston.deliver("bob", "first")
    exchange(list(three), tmp_path)
    return three


def test_the_first_who_changes_an_owner_is_his_master(with_bob: Three, capfd: Capture) -> None:
    assert [master_of_bob(server) for server in with_bob] == ["boston_hub"] * 3
    capfd.readouterr()
    assert with_bob[2].multitool("lsmaster", "bob") == 0
    assert capfd.readouterr().out == "bob  boston_hub\n"


def test_a_handover_reaches_everybody(with_bob: Three, tmp_path: Path) -> None:
    boston, sanfran, _ = with_bob
    assert boston.multitool("chmaster", "sanfran_hub", "bob") == 0
    assert master_of_bob(boston) == "sanfran_hub"
    assert master_of_bob(sanfran) == "boston_hub", "it has not heard of it"
    exchange(list(with_bob), tmp_path)
    assert [master_of_bob(server) for server in with_bob] == ["sanfran_hub"] * 3
    assert same_everywhere(with_bob)


def test_what_waits_for_its_master_is_said_with_the_packet(
    with_bob: Three, tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, bangalore = with_bob

    def said(source: Server, target: Server) -> str:
        capfd.readouterr()
        assert send(source, target, tmp_path)
        (line,) = (one for one in capfd.readouterr().out.splitlines() if one.startswith("Applied "))
        return line.removeprefix("Applied sync. packet ").partition(" to VOB ")[2]

    sanfran.deliver("bob", "second")
    plain = f"{bangalore.directory}/spool"
    assert said(sanfran, bangalore) == f"{plain}; 1 change of bob waits for boston_hub"
    assert "second" not in bangalore.subjects("user.bob")
    assert (
        "; 1 change of bob waits for boston_hub"
        in (bangalore.directory / "conf/log/multisite_log").read_text()
    )
    assert said(sanfran, boston) == f"{boston.directory}/spool", "the master itself waits for nobody"
    assert said(boston, bangalore) == plain
    assert "second" in bangalore.subjects("user.bob")

    sanfran.deliver("bob", "third")
    sanfran.deliver("bob", "fourth", "Work")
    assert said(sanfran, boston) == f"{boston.directory}/spool"
    assert said(boston, bangalore) == plain, "the answer comes with the same packet"
    assert "third" in bangalore.subjects("user.bob")


def test_only_the_master_hands_over(with_bob: Three, capfd: Capture) -> None:
    assert with_bob[1].multitool("chmaster", "sanfran_hub", "bob") == 1
    assert "the master of bob is boston_hub" in capfd.readouterr().err
    assert with_bob[0].multitool("chmaster", "sanfran_hub", "nobody") == 1
    assert "nobody has no master" in capfd.readouterr().err


def test_handover_and_back_with_changes_everywhere_in_flight(with_bob: Three, tmp_path: Path) -> None:
    boston, sanfran, bangalore = with_bob

    def changes(when: str) -> None:
        for server in with_bob:
            server.deliver("bob", f"{when} at {server.name}")
            server.deliver("bob", f"{when} at {server.name}", "Work")

    changes("before")
    assert boston.multitool("chmaster", "sanfran_hub", "bob") == 0
    changes("while it is under way")
    assert send(boston, sanfran, tmp_path)
    changes("after it was heard of")
    assert send(sanfran, bangalore, tmp_path)
    assert sanfran.multitool("chmaster", "boston_hub", "bob") == 0
    changes("on the way back")
    exchange(list(with_bob), tmp_path, most=12)
    moments = ("before", "while it is under way", "after it was heard of", "on the way back")
    expected = sorted(f"{when} at {server.name}" for when in moments for server in with_bob)
    for server in with_bob:
        assert server.subjects("user.bob") == sorted([*expected, "first"])
        assert server.subjects("user.bob.Work") == expected
        assert master_of_bob(server) == "boston_hub"
    assert same_everywhere(with_bob)


def test_flags_and_deletions_of_before_the_handover_hold(with_bob: Three, tmp_path: Path) -> None:
    boston, sanfran, bangalore = with_bob
    for number in range(3):
        boston.deliver("bob", f"mail {number}")
    exchange(list(with_bob), tmp_path)
    assert bangalore.mailstore("expunge", "user/bob", "2") == 0
    assert bangalore.mailstore("flag", "user/bob", "3", "-a", "\\Flagged") == 0
    assert boston.multitool("chmaster", "sanfran_hub", "bob") == 0
    assert boston.mailstore("flag", "user/bob", "4", "-a", "\\Answered") == 0
    exchange(list(with_bob), tmp_path, most=12)
    assert sanfran.subjects("user.bob") == ["first", "mail 1", "mail 2"]
    assert "\\Flagged" in sanfran.dump() and "\\Answered" in sanfran.dump()
    assert same_everywhere(with_bob)


def test_a_lost_master_is_replaced_by_force(with_bob: Three, tmp_path: Path, capfd: Capture) -> None:
    boston, sanfran, bangalore = with_bob
    boston.deliver("bob", "never sent")
    bangalore.deliver("bob", "sent to the master only")
    assert send(bangalore, boston, tmp_path)
    sanfran.deliver("bob", "at the new master")
    # Boston burns down.
    assert sanfran.multitool("chmaster", "-force", "sanfran_hub", "bob") == 0
    assert sanfran.multitool("rmreplica", "boston_hub") == 0
    exchange([sanfran, bangalore], tmp_path)
    assert master_of_bob(bangalore) == "sanfran_hub"
    for server in (sanfran, bangalore):
        assert server.subjects("user.bob") == ["at the new master", "first", "sent to the master only"]
    assert sanfran.dump() == bangalore.dump()
    capfd.readouterr()
    assert sanfran.syncreplica("-export", "-out", tmp_path / "to nobody", "boston_hub") == 1
    assert "no replica 'boston_hub'" in capfd.readouterr().err


def test_a_master_who_was_given_up_and_is_alive_loses_nothing(with_bob: Three, tmp_path: Path) -> None:
    boston, sanfran, _ = with_bob
    boston.deliver("bob", "boston was cut off")
    assert sanfran.multitool("chmaster", "-force", "sanfran_hub", "bob") == 0
    sanfran.deliver("bob", "meanwhile")
    exchange(list(with_bob), tmp_path, most=12)
    for server in with_bob:
        assert server.subjects("user.bob") == ["boston was cut off", "first", "meanwhile"]
        assert master_of_bob(server) == "sanfran_hub"
    assert same_everywhere(with_bob)


def test_somebody_else_can_be_named_by_force(with_bob: Three, tmp_path: Path) -> None:
    boston, sanfran, bangalore = with_bob
    bangalore.deliver("bob", "not answered")
    assert send(bangalore, sanfran, tmp_path)
    assert sanfran.multitool("chmaster", "-force", "bangalore", "bob") == 0
    exchange([sanfran, bangalore], tmp_path)
    assert master_of_bob(sanfran) == master_of_bob(bangalore) == "bangalore"
    assert sanfran.subjects("user.bob") == ["first", "not answered"]
    exchange([boston, sanfran, bangalore], tmp_path, most=12)
    assert same_everywhere(with_bob)


def test_all_are_handed_over_and_the_replica_can_go(with_bob: Three, tmp_path: Path, capfd: Capture) -> None:
    boston, sanfran, bangalore = with_bob
    boston.create("user/eve", "projects")
    exchange(list(with_bob), tmp_path)
    capfd.readouterr()
    assert sanfran.multitool("rmreplica", "boston_hub") == 1
    assert "boston_hub is the master of 3 owner(s)" in capfd.readouterr().err
    assert boston.multitool("chmaster", "sanfran_hub", "-all") == 0
    exchange(list(with_bob), tmp_path)
    capfd.readouterr()
    assert sanfran.multitool("lsmaster") == 0
    assert set(capfd.readouterr().out.splitlines()) >= {
        "bob  sanfran_hub",
        "eve  sanfran_hub",
        "shared:projects  sanfran_hub",
    }
    assert sanfran.multitool("rmreplica", "boston_hub") == 0
    assert send(sanfran, bangalore, tmp_path)
    capfd.readouterr()
    assert bangalore.multitool("lsreplica") == 0
    assert "boston_hub" not in capfd.readouterr().out


@pytest.mark.parametrize("seed", range(4))
def test_random_handovers_lose_nothing(with_bob: Three, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    expected = ["first"]
    for number in range(25):
        server, other = chance.sample(with_bob, 2)
        act = chance.random()
        if act < 0.4:
            server.deliver("bob", f"mail {number}")
            expected.append(f"mail {number}")
        elif act < 0.7:
            send(server, other, tmp_path)
        elif master_of_bob(server) == server.name:
            assert server.multitool("chmaster", other.name, "bob") == 0
    exchange(list(with_bob), tmp_path, most=15)
    for server in with_bob:
        assert server.subjects("user.bob") == sorted(expected)
    assert len({master_of_bob(server) for server in with_bob}) == 1
    assert same_everywhere(with_bob)
