"""When a replica may become the master: never on a hunch, and with --force never without a word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreError, UsageError
from cyrus_sync.common.role import Role, RoleOf
from cyrus_sync.common.waiting import FILE, Waiting, WaitingFile
from cyrus_sync.tool.cli import main
from cyrus_sync.tool.commands.promote import PORTS, _address, alive, lacking

NOON = 1_764_504_000


def test_a_master_that_had_everything_sent_leaves_nothing_to_wish_for() -> None:
    assert list(lacking([Waiting("boston", "", 0, at=NOON)])) == []


def test_what_was_announced_and_did_not_come_is_told_by_name() -> None:
    words = [Waiting("boston", "north", 3, ("alice", "shared:news"), at=NOON), Waiting("b2", "", 1, at=NOON)]
    assert list(lacking(words)) == [
        "boston (channel north) had changes of at least 3 owners that were not taken when it spoke last,"
        " 2025-11-30T12:00:00Z: alice, shared:news and others",
        "b2 had changes of at least 1 owner that were not taken when it spoke last, 2025-11-30T12:00:00Z:"
        " not known by name",
    ]


def test_where_nobody_has_said_anything_nothing_is_known() -> None:
    (said,) = lacking([])
    assert "a real Cyrus never does" in said


def test_an_old_master_that_answers_anywhere_is_found_unless_it_was_drained() -> None:
    def answers(host: str, port: int) -> bool:
        return (host, port) in {("boston", PORTS["imap"]), ("drained", PORTS["csync"]), ("other", 99)}

    words = [Waiting("boston", "", 0), Waiting("drained", "", 0, drained=True), Waiting("dead", "", 0)]
    found = alive(words, [("other", 99), ("gone", 1)], answers)
    assert [line.split(":")[0] for line in found] == [
        "other answers at port 99",
        "boston answers at port 143",
    ]


def test_addresses_are_hosts_with_or_without_a_port() -> None:
    assert _address("boston") == ("boston", 2005)
    assert _address("boston:143") == ("boston", 143)
    assert _address("[::1]:143") == ("::1", 143)
    for text in ("boston:x", ":5", "boston:0", "boston:99999"):
        with pytest.raises(UsageError):
            _address(text)


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    path = tmp_path / "imapd.conf"
    path.write_text(
        f"configdirectory: {tmp_path}/conf\npartition-default: {tmp_path}/mail\nservername: sanfran\n"
        "sync_log: yes\nsync_log_channels: north\n"
    )
    return path


def role(conf: Path) -> Role | None:
    standing = RoleOf(conf.parent / "conf", replicaonly=False, conf="").standing()
    return standing.role if standing else None


def test_it_is_refused_until_it_is_forced_and_then_said_once(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-C", str(conf), "promote"]) == 1
    assert "not promoted" in capsys.readouterr().out and role(conf) is None
    assert main(["-C", str(conf), "promote", "--force"]) == 0
    said = capsys.readouterr().out
    assert "is not known" in said and "sanfran is the master now" in said and role(conf) is Role.MASTER
    assert main(["-C", str(conf), "promote"]) == 0
    assert "is the master already" in capsys.readouterr().out


def test_a_drained_store_may_call_it_off(conf: Path) -> None:
    RoleOf(conf.parent / "conf", replicaonly=False, conf="").become(Role.DRAINING, "sync_client --drain", 1)
    assert main(["-C", str(conf), "promote"]) == 0
    assert role(conf) is Role.MASTER


def test_a_store_whose_changes_went_nowhere_is_not_demoted(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sync = conf.parent / "conf" / "sync"
    (sync / "north").mkdir(parents=True)
    (sync / "log").write_text("MAILBOX user.alice\nUSER bob\n")
    (sync / "north" / "log-run").write_text("SEEN carol id\n")
    assert main(["-C", str(conf), "demote"]) == 1
    said = capsys.readouterr().out
    assert "the channel without a name: changes of 2 owners have not gone anywhere: alice, bob" in said
    assert "channel north: changes of 1 owner have not gone anywhere: carol" in said
    assert role(conf) is None
    assert main(["-C", str(conf), "demote", "--force"]) == 0
    assert role(conf) is Role.REPLICA
    assert main(["-C", str(conf), "demote"]) == 0


@pytest.mark.parametrize("source", ["cyrus", "csync"])
@pytest.mark.parametrize("command", ["promote", "demote"])
def test_a_real_cyrus_has_no_role_from_here(
    conf: Path, capsys: pytest.CaptureFixture[str], command: str, source: str
) -> None:
    with conf.open("a") as file:
        file.write(f"sync_source: {source}\n")
    assert main(["-C", str(conf), command]) == 78
    assert "real Cyrus" in capsys.readouterr().err


def test_the_last_word_of_each_master_is_kept(tmp_path: Path) -> None:
    file = WaitingFile(tmp_path / "sync")
    assert file.all() == []
    file.put(Waiting("boston", "", 2, ("alice",), at=1))
    file.put(Waiting("aachen", "", 0, at=2))
    file.put(Waiting("boston", "north", 0, at=3))
    file.put(Waiting("boston", "", 0, drained=True, at=4))
    assert file.all() == [
        Waiting("aachen", "", 0, at=2),
        Waiting("boston", "", 0, drained=True, at=4),
        Waiting("boston", "north", 0, at=3),
    ]
    assert json.loads((tmp_path / "sync" / FILE).read_text())


@pytest.mark.parametrize("content", ["", "{}", '[{"master": 1}]', "[1]"])
def test_damaged_words_are_not_taken_for_silence(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    if content != "{}":
        with pytest.raises(StoreError, match="is damaged"):
            WaitingFile(tmp_path).all()
    WaitingFile(tmp_path).put(Waiting("boston", "", 0, at=1))
    assert len(WaitingFile(tmp_path).all()) == 1
