"""restorereplica: a server comes back from a backup, and gets back what it had told the others."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import pytest

from cyrus_sync.multisite.family import Family
from tests.multisite.commands.kit import Server, exchange, send

Three = tuple[Server, Server, Server]
Capture = pytest.CaptureFixture[str]


def back_up(server: Server, where: Path) -> None:
    for part in ("conf", "spool"):
        shutil.copytree(server.directory / part, where / part)


def restore(server: Server, where: Path) -> None:
    for part in ("conf", "spool"):
        shutil.rmtree(server.directory / part)
        shutil.copytree(where / part, server.directory / part)


@pytest.fixture
def restored(three: Three, tmp_path: Path) -> Three:
    """Boston was restored from a backup that is older than what it told the others, and got mail since."""
    boston, sanfran, bangalore = three
    boston.create("user/bob")
    boston.deliver("bob", "before the backup")
    exchange(list(three), tmp_path)
    back_up(boston, tmp_path / "backup")
    boston.deliver("bob", "after the backup")
    assert send(boston, sanfran, tmp_path)
    boston.deliver("bob", "told to nobody: lost")
    restore(boston, tmp_path / "backup")
    boston.deliver("bob", "after the restore")
    return boston, sanfran, bangalore


def test_a_restored_replica_gets_back_what_it_had_told(
    restored: Three, tmp_path: Path, capfd: Capture
) -> None:
    boston, sanfran, bangalore = restored
    capfd.readouterr()
    assert boston.multitool("restorereplica", "-force") == 0
    said = capfd.readouterr().out
    assert said.startswith("This replica is sealed; the answers of these replicas are awaited: ")
    assert "bangalore@mail sanfran_hub@mail" in said
    for server in (sanfran, bangalore):
        assert send(boston, server, tmp_path), "it asks"
        assert send(server, boston, tmp_path), "and is answered"
    exchange(list(restored), tmp_path, most=12)
    expected = ["after the backup", "after the restore", "before the backup"]
    for server in restored:
        assert server.subjects("user.bob") == expected
    assert boston.dump() == sanfran.dump() == bangalore.dump()
    capfd.readouterr()
    assert sanfran.multitool("lsreplica", "-long", "boston_hub") == 0
    assert "restored:      never" not in capfd.readouterr().out


def test_in_a_one_way_ring_the_answers_come_by_way_of_others(
    restored: Three, tmp_path: Path, capfd: Capture
) -> None:
    """Boston sends to Sanfran only, and gets packets from Bangalore only."""
    boston, sanfran, bangalore = restored
    contacts = boston.directory / "conf/multisite/contacts.json"
    with boston.member() as member:
        from_sanfran = member.family.find("sanfran_hub").id
    known = json.loads(contacts.read_text())
    del known[from_sanfran]
    contacts.write_text(json.dumps(known))
    capfd.readouterr()
    assert boston.multitool("restorereplica", "-force") == 0
    said = capfd.readouterr().out
    assert "No packet has ever come here from sanfran_hub." in said
    assert "the answers come by way of others" in said and "syncreplica -export -out PATH sanfran_hub" in said
    assert send(boston, sanfran, tmp_path) and boston.multitool("lsrestore") == 75
    assert send(sanfran, bangalore, tmp_path) and send(bangalore, boston, tmp_path)
    assert "The restore has ended with the answer of" in capfd.readouterr().out
    assert boston.multitool("lsrestore") == 0
    assert boston.subjects("user.bob") == ["after the backup", "after the restore", "before the backup"]


def test_while_it_is_sealed_nothing_is_told(restored: Three, tmp_path: Path, capfd: Capture) -> None:
    boston, sanfran, _ = restored
    assert boston.multitool("restorereplica", "-force", "sanfran_hub") == 0
    capfd.readouterr()
    for arguments in (
        ("rename", "user/bob", "user/bill"),
        ("chmaster", "sanfran_hub", "bob"),
        ("chreplica", "-host", "x", "bangalore"),
        ("rmreplica", "bangalore"),
        ("mkreplica", "-export", "-out", str(tmp_path / "repl"), "tokyo:tokyo"),
    ):
        assert boston.multitool(*arguments) == 75
        assert "this replica is being restored" in capfd.readouterr().err
    assert boston.multitool("lsrestore") == 75
    assert "the answers of these replicas are awaited: sanfran_hub@mail\n" in capfd.readouterr().out
    assert send(boston, sanfran, tmp_path)
    assert sanfran.subjects("user.bob") == ["after the backup", "before the backup"]


def test_override_ends_it_without_the_answers(
    restored: Three, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, sanfran, _ = restored
    assert boston.multitool("restorereplica", "-force") == 0
    for server in (boston, sanfran):
        assert send(server, sanfran if server is boston else boston, tmp_path)
    assert boston.multitool("restorereplica", "-override", "bangalore") == 64
    monkeypatch.setattr(sys, "stdin", io.StringIO("no\n"))
    assert boston.multitool("restorereplica", "-override") == 1, "it asks"
    assert boston.multitool("lsrestore") == 75
    capfd.readouterr()
    assert boston.multitool("restorereplica", "-override", "-force") == 0
    assert "without the answers of bangalore@mail: this replica is open again" in capfd.readouterr().err
    assert boston.multitool("restorereplica", "-override", "-force") == 1
    exchange(list(restored), tmp_path, most=12)
    for server in restored:
        assert server.subjects("user.bob") == ["after the backup", "after the restore", "before the backup"]


def test_to_ask_how_a_restore_stands_begins_none(
    restored: Three, tmp_path: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    boston, sanfran, bangalore = restored

    def incarnation() -> int:
        return Family.load(boston.directory / "conf/multisite").myself.incarnation

    def answered(word: str, *arguments: str) -> int:
        monkeypatch.setattr(sys, "stdin", io.StringIO(word))
        return boston.multitool("restorereplica", *arguments)

    capfd.readouterr()
    assert boston.multitool("lsrestore") == 0
    assert capfd.readouterr().out == "This replica is open, no restore is under way.\n"
    for nothing in ("no\n", "\n", ""):
        assert answered(nothing) == 1
        assert "Was this server restored from a backup? [no] " in capfd.readouterr().err
        assert incarnation() == 0
    assert answered("yes\n") == 0
    first = incarnation()
    assert first
    assert answered("no\n") == 1
    assert "A restore is under way already, and awaits bangalore@mail, sanfran_hub@mail." in (
        capfd.readouterr().err
    )

    assert send(boston, sanfran, tmp_path)
    capfd.readouterr()
    assert send(sanfran, boston, tmp_path)
    assert "The restore goes on: sanfran_hub answered; multitool lsrestore shows who is awaited." in (
        capfd.readouterr().out
    )
    assert boston.multitool("lsrestore") == 75
    assert "are awaited: bangalore@mail\n" in capfd.readouterr().out
    assert send(boston, bangalore, tmp_path)
    capfd.readouterr()
    assert send(bangalore, boston, tmp_path)
    assert "The restore has ended with the answer of bangalore: this replica is open again" in (
        capfd.readouterr().out
    )
    assert boston.multitool("lsrestore") == 0
    assert "no restore is under way; the last one began " in capfd.readouterr().out
    assert answered("") == 1
    assert incarnation() == first
    with boston.member() as member:
        assert not member.sealed


def test_force_begins_anew(restored: Three, tmp_path: Path, capfd: Capture) -> None:
    boston, sanfran, bangalore = restored
    assert boston.multitool("restorereplica", "-force") == 0
    assert send(boston, sanfran, tmp_path)
    assert boston.multitool("restorereplica", "-force", "sanfran_hub") == 0
    for server in (sanfran,):
        assert send(boston, server, tmp_path)
        assert send(server, boston, tmp_path)
    exchange([boston, sanfran, bangalore], tmp_path, most=12)
    assert boston.dump() == sanfran.dump() == bangalore.dump()


def test_a_packet_of_before_the_restore_is_refused(restored: Three, tmp_path: Path, capfd: Capture) -> None:
    boston, sanfran, bangalore = restored
    sanfran.deliver("bob", "for the old Boston")
    assert sanfran.syncreplica("-export", "-out", tmp_path / "old", "boston_hub") == 0
    assert boston.multitool("restorereplica", "-force") == 0
    for server in (sanfran, bangalore):
        assert send(boston, server, tmp_path)
        assert send(server, boston, tmp_path)
    capfd.readouterr()
    assert boston.syncreplica("-import", tmp_path / "old") == 1
    assert "Replica incarnation is old" in capfd.readouterr().err
    exchange(list(restored), tmp_path, most=12)
    for server in restored:
        assert "for the old Boston" in server.subjects("user.bob")


def test_chepoch_actual_says_that_a_restore_is_needed(restored: Three, capfd: Capture) -> None:
    boston, sanfran, _ = restored
    with sanfran.member() as member:
        known = member.log.epochs.row(member.family.self_id)
        number = known[member.family.find("boston_hub").id]
    assert boston.multitool("chepoch", "-force", "sanfran_hub", f"boston_hub={number + 10}") == 0
    assert "multitool restorereplica is needed" in capfd.readouterr().err
