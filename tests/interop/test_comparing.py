"""``--compare`` with a real Cyrus at either end: what differs is named, nothing else is, the advice helps."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.spool.server import Server

from .beside import BesideCyrus
from .csync import state_of
from .cyrus import Cyrus
from .fill import change_everything, fill_everything, message
from .ours import BIN, Ours, environment
from .releases import PROGRAMS, SAME_FILES
from .test_damage import spoil

Replica = Cyrus | Ours


@pytest.fixture(scope="module")
def master(real_cyrus: None) -> Iterator[BesideCyrus]:
    with BesideCyrus.running("master", {"maxliteral": "0"}) as cyrus:
        assert isinstance(cyrus, BesideCyrus)
        yield cyrus


@pytest.fixture(scope="module", params=["real", "ours"])
def target(request: pytest.FixtureRequest, real_cyrus: None) -> Iterator[Replica]:
    if request.param == "real":
        with Cyrus.running("replica", {"sync_log": "0", "maxliteral": "0"}) as cyrus:
            yield cyrus
    else:
        with Ours.installed("replica", {"maxliteral": "0"}) as ours:
            yield ours


def compare(master: BesideCyrus | Ours, target: Replica, *options: str) -> dict[str, Any]:
    ran = master.sync_client("--compare", "--format", "json", *options, to=target.csync)
    assert ran.status in (0, 1), ran.describe()
    report: dict[str, Any] = json.loads(ran.out)
    assert (ran.status == 0) == report["equal"]
    return report


def type_all(report: dict[str, Any], tmp_path: Path, **hosts: BesideCyrus | Replica) -> list[str]:
    """Type what the report says, as if each end were a host of its own: ``ssh`` runs a command at the other,
    a server's name is that server."""
    typed = []
    for line in (line for found in report["differing"] for line in found["type"]):
        here = hosts[line["where"]]
        there = hosts["there" if line["where"] == "here" else "here"]
        typed.append(line["command"])
        words = line["command"].split()
        if "-S" in words:
            here.sync_client(*words[3:], to=there.csync).check()
            continue
        away = _path(tmp_path / f"away-{line['where']}", there, "")
        path = _path(tmp_path / line["where"], here, f'PATH={away}:$PATH exec sh -c "$2"')
        command = line["command"].replace("/usr/lib/cyrus/bin/mbpath", "mbpath")
        done = subprocess.run(
            ["sh", "-c", command],
            env={**environment(), "PATH": f"{path}:{BIN}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return typed


def _path(directory: Path, host: BesideCyrus | Replica, ssh: str) -> Path:
    """The programs of a host, with the host's configuration."""
    directory.mkdir(exist_ok=True)
    programs = {"mailstore": f'exec {BIN}/mailstore -C {host.config} "$@"'}
    if isinstance(host, Cyrus):
        mbpath = host.release.command(str(PROGRAMS / "mbpath"), "-C", str(host.config))
        programs["mbpath"] = f'exec {shlex.join(mbpath)} "$@"'
    if ssh:
        mbpath = ssh.replace("$2", '$(echo "$2" | sed s:/usr/lib/cyrus/bin/mbpath:mbpath:g)')
        programs["ssh"] = mbpath
    for name, text in programs.items():
        (directory / name).write_text(f"#!/bin/sh\n{text}\n")
        (directory / name).chmod(0o755)
    return directory


@pytest.mark.every_release
def test_a_user_with_everything_is_the_same_at_every_depth_and_nothing_is_changed(
    master: BesideCyrus, target: Replica, user: str
) -> None:
    other = f"{user}b"
    fill_everything(master, user, other)
    master.sync_client("-u", user, other, to=target.csync).check()
    before = [state_of(end.csync, one) for end in (master, target) for one in (user, other)]
    for depth in ([], ["--records"], ["--messages"]):
        report = compare(master, target, *depth, user, other)
        assert report["equal"], report["differing"]
        assert report["counts"]["mailboxes"] >= 10
        assert bool(report["counts"]["messages"]) == (depth == ["--messages"])
    assert [state_of(end.csync, one) for end in (master, target) for one in (user, other)] == before


@pytest.mark.every_release(without=SAME_FILES)
def test_what_the_master_has_changed_is_named_and_mended(
    master: BesideCyrus, target: Replica, user: str, tmp_path: Path
) -> None:
    other = f"{user}b"
    fill_everything(master, user, other)
    master.sync_client("-u", user, other, to=target.csync).check()
    change_everything(master, user, other)
    report = compare(master, target, user, other)
    assert {one["owner"] for one in report["differing"]} >= {user}
    typed = type_all(report, tmp_path, here=master, there=target)
    assert all(line.startswith("sync_client -C ") for line in typed)
    again = compare(master, target, "--messages", user, other)
    assert again["equal"], again["differing"]


def test_what_the_replica_has_changed_by_itself_is_named_and_settled(
    master: BesideCyrus, target: Replica, user: str, tmp_path: Path
) -> None:
    """A spool is never changed from here: the client of the replica brings both together."""
    master.create_user(user)
    master.deliver(message("of both"), user)
    master.sync_client("-u", user, to=target.csync).check()
    if isinstance(target, Cyrus):
        with target.imap(user) as imap:
            imap.append("INBOX", message("stray"))
            imap.select("INBOX")
            imap.store("1", "+FLAGS", "\\Flagged")
    else:
        with target.store.write(Owner("user", user)) as writer:
            writer.append(f"user.{user}", [(message("stray"), 1_700_000_000, "")])
            writer.set_flags(f"user.{user}", [1], add=["\\Flagged"])
    report = compare(master, target, user)
    (box,) = report["differing"][0]["mailboxes"]
    assert [one["uid"] for one in box["only_there"]["messages"]] == [2]
    assert box["changed"]["messages"][0]["flags"]["there"] == "\\Flagged"
    typed = type_all(report, tmp_path, here=master, there=target)
    program = "/usr/lib/cyrus/bin/sync_client" if isinstance(target, Cyrus) else "sync_client"
    assert typed == [f"{program} -S master.lab -u {user}"]
    again = compare(master, target, "--records", user)
    assert again["equal"], again["differing"]


@pytest.mark.every_release(without=SAME_FILES)
def test_messages_that_are_damaged_at_either_end_are_named_and_put_back(
    master: BesideCyrus, target: Replica, user: str, tmp_path: Path
) -> None:
    master.create_user(user)
    with master.imap(user) as imap:
        imap.ok("CREATE", "INBOX/folder")
        imap.append("INBOX/folder", *(message(f"number {number}") for number in range(4)))
    master.sync_client("-u", user, to=target.csync).check()
    _file(master, user, 2).write_bytes(b"damaged\r\n")
    if isinstance(target, Cyrus):
        _file(target, user, 3).unlink()
        _file(target, user, 4).write_bytes(b"damaged\r\n")
    else:
        spoil(target, user, 2)
    assert compare(master, target, "--records", user)["equal"]
    report = compare(master, target, "--messages", user)
    (box,) = report["differing"][0]["mailboxes"]
    assert [one["uid"] for one in box["damaged_here"]["messages"]] == [2]
    there = [one["uid"] for one in box["damaged_there"]["messages"]]
    assert there == ([3, 4] if isinstance(target, Cyrus) else [3])
    type_all(report, tmp_path, here=master, there=target)
    again = compare(master, target, "--messages", user)
    assert again["equal"], again["differing"]


def _file(cyrus: Cyrus, user: str, uid: int) -> Path:
    server = Server.from_config(Config.load(cyrus.config))
    entry = server.mailboxes.entry(f"user.{user}.folder")
    assert entry is not None
    return server.files(entry).index.with_name(f"{uid}.")


@pytest.mark.every_release
def test_everybody_is_compared_with_a_real_cyrus_and_the_report_says_what_that_cannot_tell(
    master: BesideCyrus, target: Replica, user: str
) -> None:
    master.create_user(user)
    with master.imap() as admin:
        admin.ok("CREATE", f"shared{user}")
    master.sync_client("-A", to=target.csync)
    report = compare(master, target, "-A", "--messages")
    names = {one["owner"] for one in report["differing"]}
    assert user not in names and f"shared:shared{user}" not in names
    assert bool(report["not_looked_at"]) == isinstance(target, Cyrus)


def test_a_store_of_ours_is_compared_with_a_real_replica(user: str, tmp_path: Path, real_cyrus: None) -> None:
    with (
        Ours.installed("master", serving=False) as ours,
        Cyrus.running("replica", {"sync_log": "0"}) as target,
    ):
        ours.mailstore("create", f"user/{user}", f"user/{user}/folder").check()
        for number in range(3):
            ours.mailstore("deliver", user, stdin=message(f"number {number}")).check()
        ours.sync_client("-u", user, to=target.csync).check()
        assert compare(ours, target, "--messages")["equal"]
        ours.mailstore("flag", f"user/{user}", "1", "-a", "\\Seen").check()
        with target.imap(user) as imap:
            imap.append("INBOX", message("stray"))
        report = compare(ours, target, "--messages")
        assert report["differing"][0]["mailboxes"][0]["only_there"]["count"] == 1
        type_all(report, tmp_path, here=ours, there=target)
        assert compare(ours, target, "--messages")["equal"]
