"""One owner who is damaged or lost is named; all others are dealt with; the exit status says so."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cyrus_sync.mailstore import reset
from tests.mailstore.conftest import MESSAGE, Result, Site, later
from tests.mailstore.damage import KINDS, directory_of, inhabited


@pytest.fixture
def three(site: Site) -> Site:
    return inhabited(site)


def sync_reset(site: Site, capsys: pytest.CaptureFixture[str], *users: str) -> Result:
    capsys.readouterr()
    status = reset.main(["-C", str(site.conf), "-f", "-v", *users])
    said = capsys.readouterr()
    return Result(status, said.out.encode(), said.err)


Check = Callable[[Site, Result], None]


def others_are_listed(_: Site, result: Result) -> None:
    assert [line.split()[0] for line in result.lines if "mailboxes" in line and "owners" not in line] == [
        "alice",
        "carol",
    ]


def all_are_checked(_: Site, result: Result) -> None:
    assert result.lines[-1].startswith("3 owners checked: ")


def others_are_dumped(_: Site, result: Result) -> None:
    owners = {owner["user"]: owner for owner in json.loads(result.out)["owners"]}
    assert all(len(owners[user]["mailboxes"][0]["records"]) == 2 for user in ("alice", "carol"))
    assert "error" in json.dumps(owners["bob"])


def others_are_counted(_: Site, result: Result) -> None:
    assert json.loads(result.out)["users"] == 2 and json.loads(result.out)["messages"] == 4


def others_are_gone(site: Site, _: Result) -> None:
    assert site.mailboxes("user.alice") == site.mailboxes("user.carol") == []


def others_are_done(_: Site, result: Result) -> None:
    assert "Traceback" not in result.err


COMMANDS: dict[str, tuple[list[str], Check]] = {
    "ls": (["ls"], others_are_listed),
    "verify": (["verify"], all_are_checked),
    "verify of some": (["verify", "alice", "bob", "carol"], all_are_checked),
    "repair": (["repair"], others_are_done),
    "dump": (["dump", "--format", "json"], others_are_dumped),
    "stats": (["stats", "--format", "json"], others_are_counted),
    "expire": (["expire"], others_are_done),
    "delete": (["delete", "--immediate", "user/alice", "user/bob", "user/carol"], others_are_gone),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].index])
def test_a_damaged_owner_is_named_and_the_others_are_done(three: Site, kind: str, command: str) -> None:
    KINDS[kind].do(directory_of(three, "bob"))
    argv, check = COMMANDS[command]
    result = three.run(*argv)
    assert result.status == 1, (result.out, result.err)
    assert "bob" in result.err or "bob" in result.out
    assert "Traceback" not in result.err
    check(three, result)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].index])
def test_commands_that_mean_a_damaged_owner_alone_end_with_75(three: Site, kind: str, tmp_path: Path) -> None:
    KINDS[kind].do(directory_of(three, "bob"))
    (tmp_path / "one.eml").write_bytes(MESSAGE)
    for argv in (
        ["ls", "bob"],
        ["dump", "bob"],
        ["stats", "bob"],
        ["repair", "bob"],
        ["export", "bob", str(tmp_path / "out")],
        ["show", "user/bob", "1"],
        ["delete", "user/bob"],
        ["deliver", "bob"],
        ["import", "bob", str(tmp_path / "one.eml")],
        ["create", "user/bob/New"],
        ["flag", "user/bob", "1", "-a", "\\Seen"],
        ["undelete", "bob"],
        ["expire", "bob"],
        ["subscribe", "bob", "user/bob"],
        ["restore", "bob", "--to", "localhost:1", "--yes"],
    ):
        result = three.run(*argv, stdin=MESSAGE)
        assert result.status == 75, (argv, result.status, result.err)
        assert "bob" in result.err and "Traceback" not in result.err, argv


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not KINDS[kind].index])
def test_lost_messages_stop_no_command_for_others(three: Site, kind: str) -> None:
    KINDS[kind].do(directory_of(three, "bob"))
    for argv in (["ls"], ["stats"], ["dump"], ["expire"], ["repair"]):
        assert three.run(*argv).status == 0, argv
    result = three.run("verify")
    assert result.status == 1 and result.out.count("bob: ") >= 2
    assert "alice" not in result.out and "carol" not in result.out


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].index])
def test_sync_reset_lets_a_damaged_user_be_made_anew_and_keeps_what_is_left(
    three: Site, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = directory_of(three, "bob")
    KINDS[kind].do(directory)
    result = sync_reset(three, capsys, "alice", "bob")
    assert result.status == 0, result.err
    assert result.lines[0] == "alice: removed"
    aside = [path.name for path in directory.parent.iterdir() if path.name.startswith(".damaged-")]
    if kind == "no directory":
        assert aside == [] and result.lines[1] == "bob: was lost, and is forgotten"
    else:
        assert len(aside) == 1 and aside[0] in result.lines[1]
    assert three.ok("ls", "-1").lines == ["carol"]
    three.ok("create", "user/bob")
    three.ok("verify")


def test_sync_reset_goes_on_behind_a_locked_user(
    three: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reset, "LOCK_SECONDS", 0.1)
    with (directory_of(three, "alice") / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = sync_reset(three, capsys, "alice", "bob")
    assert result.status == 75 and "alice" in result.err
    assert three.ok("ls", "-1").lines == ["alice", "carol"]


@pytest.fixture
def locked_index(three: Site) -> Iterator[Site]:
    """Somebody holds bob's index as no program of ours does."""
    with closing(sqlite3.connect(directory_of(three, "bob") / "index.sqlite")) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        connection.execute("SELECT * FROM owner").fetchone()
        yield three


@pytest.mark.parametrize("command", ["ls", "stats", "dump", "verify"])
def test_an_index_that_is_locked_keeps_nobody_else(
    locked_index: Site, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cyrus_sync.common.stores.native.schema._BUSY_MS", 50)
    argv, check = COMMANDS[command]
    result = locked_index.run(*argv)
    assert result.status == 1 and "bob" in result.out + result.err
    check(locked_index, result)


# -- who should be here


def test_users_who_are_gone_are_an_error_and_repair_keeps_the_evidence(site: Site) -> None:
    users = [f"u{number}" for number in range(5)]
    site.ok("create", *(f"user/{user}" for user in users))
    for user in users[1:]:
        KINDS["no directory"].do(directory_of(site, user))
    for _ in range(2):
        result = site.run("verify")
        assert result.status == 1
        assert result.lines[-1] == "5 owners checked: 4 problems"
        assert all(any(line.startswith(f"{user}: index: ") for line in result.lines) for user in users[1:])
        repaired = site.run("repair")
        assert repaired.status == 1
        assert all(user in repaired.err for user in users[1:])
    assert site.run("deliver", "u1", stdin=MESSAGE).status == 75
    assert site.run("deliver", "stranger", stdin=MESSAGE).status == 67


def test_a_user_who_was_deleted_and_has_expired_is_not_missed(three: Site) -> None:
    three.ok("delete", "--immediate", "user/bob")
    later(three, 400 * 86400, "bob", dated=True)
    three.ok("expire")
    assert not list((three.path / "spool" / "users").rglob("bob"))
    three.ok("verify")
    assert three.run("ls", "bob").status == 67
    three.ok("create", "user/bob")


def store_change(site: Site, user: str, statement: str) -> None:
    with closing(sqlite3.connect(directory_of(site, user) / "index.sqlite")) as connection, connection:
        connection.execute(statement)


def test_a_directory_that_nobody_registered_is_named_and_registered(three: Site) -> None:
    with closing(sqlite3.connect(three.path / "conf/store/registry.sqlite")) as connection, connection:
        connection.execute("DELETE FROM holders WHERE name = 'bob'")
    result = three.run("verify")
    assert result.status == 1 and "bob: registry: " in result.out
    three.ok("repair")
    three.ok("verify")


@pytest.mark.parametrize("damage", ["garbage", "zeroed pages"])
def test_a_damaged_registry_stops_nobody_and_is_made_anew_by_repair(three: Site, damage: str) -> None:
    path = three.path / "conf/store/registry.sqlite"
    data = path.read_bytes()
    path.write_bytes(b"\x93" * 9000 if damage == "garbage" else data[:4096] + bytes(len(data) - 4096))
    for argv in (
        ["ls"],
        ["stats"],
        ["dump"],
        ["create", "user/dave"],
        ["deliver", "dave"],
        ["rename", "user/alice/Work", "user/alice/Play"],
        ["expire"],
    ):
        three.ok(*argv, stdin=MESSAGE)
    result = three.run("verify")
    assert result.status == 1
    assert result.lines[0].startswith("registry: registry.sqlite: ") and "mailstore repair" in result.lines[0]
    assert result.lines[-1] == "4 owners checked: 1 problem"
    assert "made anew" in three.ok("repair").out
    assert len(list(path.parent.glob("registry.sqlite.damaged-*"))) == 1
    three.ok("verify")


def test_what_can_be_read_of_a_damaged_registry_is_still_evidence(three: Site) -> None:
    KINDS["no directory"].do(directory_of(three, "bob"))
    path = three.path / "conf/store/registry.sqlite"
    with path.open("r+b") as file:  # the pages of the index by owner, behind those of the table
        file.seek(-2048, os.SEEK_END)
        file.write(bytes(2048))
    three.run("repair")
    assert "bob" in three.run("verify").out


def test_strange_things_between_the_owners_are_nobody(three: Site) -> None:
    users = three.path / "spool" / "users"
    (users / "note.txt").write_text("a file where hashed directories are")
    (users / "zz").mkdir()
    (users / "zz" / "alice.bak").mkdir()
    (users / "lost+found").mkdir()
    directory = directory_of(three, "alice")
    (directory.parent / "core").write_text("")
    (directory.parent / "dave").mkdir()
    three.ok("verify")
    assert three.ok("ls", "-1").lines == ["alice", "bob", "carol"]
