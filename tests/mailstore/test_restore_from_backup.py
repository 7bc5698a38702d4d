"""``mailstore restore --from``: into this store, a csync server, a directory; as of when."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cyrus_sync.mailstore.backup.kept import kept_of
from cyrus_sync.objects.opening import open_objects
from tests.interop.ours import Ours

from .conftest import Site, later
from .test_backup import ALICE, arrive, dump_of_backup, newest
from .test_restore_command import Source
from .test_restore_command import target as server

__all__ = ["server"]


@pytest.fixture
def target(tmp_path: Path) -> str:
    return f"file:{tmp_path}/backup"


def lose(site: Site, name: str = "alice") -> None:
    """All files of a user are gone."""
    shutil.rmtree(next((site.path / "spool" / "users").glob(f"*/{name}")))


def test_one_who_is_lost_comes_back_as_he_was_and_is_told_to_replicas(alice: Site, target: str) -> None:
    arrive(alice, 5)
    alice.ok("flag", "user/alice", "2", "--add", r"\Seen")
    alice.ok("backup", target, "alice")
    before = alice.ok("dump", "--expunged", "alice").out
    lose(alice)
    assert alice.run("ls", "alice").status != 0
    alice.log()
    done = alice.ok("restore", "--from", target, "alice")
    assert "1 owner restored" in done.out
    assert alice.ok("dump", "--expunged", "alice").out == before
    assert "nothing wrong" in alice.ok("verify").out
    assert alice.log() == [("USER", "alice")]
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    assert "nothing wrong" in alice.ok("verify", target).out


def test_to_one_who_is_there_what_he_lacks_is_added(alice: Site, target: str) -> None:
    arrive(alice, 3)
    alice.ok("backup", target, "alice")
    alice.ok("expunge", "user/alice", "1:2")
    alice.ok("delete", "user/alice/Work")
    arrive(alice, 1)
    alice.log()
    shown = alice.ok("restore", "--from", target, "--dry-run", "alice")
    assert "to be done at this store" in shown.out
    assert alice.log() == []


HOUR = 3600


def hour_goes_by(site: Site, target: str) -> None:
    """All that was done so far, backups too, was done an hour ago."""
    later(site, HOUR)
    with contextlib.closing(open_objects(site.config(), target, patience=10)) as place:
        found = kept_of(place, ALICE)
        for name in found.manifests:
            manifest = found.read(name)
            older, data = replace(manifest, taken=manifest.taken - HOUR).written()
            place.put(f"{found.folder}/{older.key}", data)
            place.delete([f"{found.folder}/{name.key}"])


@pytest.fixture(params=["directory", "s3"])
def three_states(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Site, str, list[str]]:
    """A site, where its backups are, and what alice had from -3h, -2h and -1h on. There are a backup of the
    first state, made at -3h, and one of the third, made now."""
    target, lines = f"file:{tmp_path}/backup", ""
    if request.param == "s3":
        target, lines = (
            "s3:",
            request.getfixturevalue("s3_server").lines(f"asof/{os.getpid()}-{id(tmp_path)}"),
        )
    site = Site(tmp_path, lines)
    site.ok("create", "user/alice", "user/alice/Work")
    site.ok("sieve", "put", "alice", "main", stdin=b"keep;\n")
    arrive(site, 3)
    states = [site.ok("dump", "alice").out]
    site.ok("backup", target, "alice")
    hour_goes_by(site, target)
    site.ok("rename", "user/alice/Work", "user/alice/Play")
    site.ok("flag", "user/alice", "2", "--add", r"\Seen")
    site.ok("setacl", "user/alice", "bob", "lrs")
    arrive(site, 1)
    states.append(site.ok("dump", "alice").out)
    hour_goes_by(site, target)
    site.ok("delete", "user/alice/Play")
    site.ok("expunge", "user/alice", "1,4")
    site.ok("sieve", "delete", "alice", "main")
    site.ok("expire", "--retention", "1d")
    states.append(site.ok("dump", "alice").out)
    hour_goes_by(site, target)
    site.ok("backup", target, "alice")
    return site, target, states


@pytest.mark.covers("mailstore: commands and options", "restore --as-of", "restore --from")
def test_a_time_between_two_backups_is_told_by_the_history_of_the_later_one(
    three_states: tuple[Site, str, list[str]],
) -> None:
    site, target, states = three_states
    for ago, state in zip(("150m", "90m", "30m"), states, strict=True):
        assert dump_of_backup(site, target, "--as-of", ago, expunged=False) == state, ago
    lose(site)
    shown = site.ok("restore", "--from", target, "--as-of", "90m", "--dry-run", "alice").out
    assert re.search(r"^alice: as of 20.*, by the history in the backup of 20", shown), shown
    assert site.run("ls", "alice").status != 0, "nothing was done"
    site.ok("restore", "--from", target, "--as-of", "90m", "alice")
    assert site.ok("dump", "alice").out == states[1]
    assert "nothing wrong" in site.ok("verify").out
    too_old = site.run(
        "restore", "--from", target, "--as-of", "9d", "--into", str(site.path / "old"), "alice"
    )
    assert too_old.status == 75
    assert "there is no backup that old: the first one is of 20" in too_old.err
    assert site.run("restore", "--from", target, "--as-of", "soon", "alice").status == 64


def test_where_no_history_reaches_the_backup_before_is_taken_and_what_lacks_is_said(
    alice: Site, target: str
) -> None:
    arrive(alice, 1)
    first = alice.ok("dump", "--expunged", "alice").out
    alice.ok("backup", target, "alice")
    hour_goes_by(alice, target)
    arrive(alice, 1)
    alice.ok("reconstruct", "alice")  # begins a new history
    alice.ok("backup", target, "alice")
    lose(alice)
    done = alice.run("restore", "--from", target, "--as-of", "30m", "alice")
    assert done.status == 0 and re.search("^alice: the backup of 20", done.out)
    assert re.search(
        "alice: what was changed from then until 20.* is lacking: .*the history begins at 20", done.err
    )
    assert alice.ok("dump", "--expunged", "alice").out == first


def test_to_one_who_is_there_is_added_what_he_had_between_two_backups(source: Source, tmp_path: Path) -> None:
    user = source.user
    later(source, HOUR, user)
    source.ok("expunge", f"user/{user}", "1:2")
    source.ok("rename", f"user/{user}/Work", f"user/{user}/Play")
    source.ok("backup", f"file:{tmp_path}/second", "--everybody")
    words = ["--from", f"file:{tmp_path}/second", "--as-of", "30m", "--yes", user]
    done = source.restore(*words).check()
    assert f"{user}: as of 20" in done.out and "add 2 messages" in done.out
    assert len(source.records(f"user.{user}")) == 3
    assert f"user.{user}.Work" in source.mailboxes(f"user.{user}")
    assert "nothing to do at this store" in source.restore(*words).check().out


@pytest.mark.covers("mailstore: commands and options", "restore --into", "restore --everybody")
def test_everybody_comes_back_into_a_new_store_but_for_those_who_are_there(alice: Site, target: str) -> None:
    alice.ok("create", "user/bob", "shared")
    arrive(alice, 2)
    alice.ok("backup", target, "--everybody")
    before = alice.ok("dump", "--expunged").out
    shutil.rmtree(alice.path / "spool" / "users")
    shutil.rmtree(alice.path / "conf")
    again = alice.run("restore", "--from", target, "--everybody")
    assert again.status == 1, "the shared mailbox is there"
    assert "shared is there already" in again.err
    assert "2 owners restored" in again.out
    alice.ok("repair")
    assert "nothing wrong" in alice.ok("verify").out
    assert alice.ok("dump", "--expunged").out == before


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_message_that_is_damaged_in_the_backup_costs_no_other(
    alice: Site, target: str, encrypted: bool
) -> None:
    if encrypted:
        key = alice.path / "key"
        key.write_text("0f" * 32)
        key.chmod(0o600)
        alice.conf.write_text(alice.conf.read_text() + f"s3_encrypt: {key}\n")
    for _ in range(3):
        alice.ok("deliver", "alice", stdin=b"Subject: large\r\n\r\n" + os.urandom(150_000).hex().encode())
    alice.ok("backup", target, "alice")
    path = next((alice.path / "backup" / "users/52/alice/packs").rglob("*.zst"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    lose(alice)
    done = alice.run("restore", "--from", target, "--everybody")
    assert done.status == 1
    assert f"alice: damaged in the backup: {target}: users/52/alice/packs/" in done.err
    assert len(re.findall("alice: message: pack-000001.zst at .* cannot be read", done.err)) == 1
    assert [alice.run("show", "user/alice", uid).status for uid in "123"] == [0, 75, 0]
    assert "1 problem" in alice.run("verify").out


def test_a_part_that_is_lost_costs_what_was_in_it(alice: Site, target: str) -> None:
    arrive(alice, 9)
    alice.ok("backup", target, "alice")
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    last = newest(alice).packs[0].parts[-1]
    (alice.path / "backup" / "users/52/alice" / last.key).unlink()
    lose(alice)
    assert alice.run("restore", "--from", target, "alice").status == 1
    assert [alice.run("show", "user/alice", str(uid)).status for uid in range(1, 11)] == [0] * 9 + [75]


def test_where_the_newest_index_is_damaged_the_one_before_is_taken_and_that_is_said(
    alice: Site, target: str
) -> None:
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    first = alice.ok("dump", "--expunged", "alice").out
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    index = newest(alice).index
    assert index is not None
    (alice.path / "backup" / "users/52/alice" / index.key).write_bytes(b"x" * index.size)
    lose(alice)
    done = alice.run("restore", "--from", target, "alice")
    assert done.status == 1
    assert "is damaged: " in done.err
    assert alice.ok("dump", "--expunged", "alice").out == first


@pytest.mark.parametrize(
    "words",
    [
        ["--into", "x", "alice"],
        ["--from", "file:x", "--everybody", "alice"],
        ["--from", "file:x"],
        ["--from", "file:x", "--into", "x", "--as", "bob", "alice"],
        ["--from", "file:x", "--everybody", "--to", "host"],
        ["--from", "file:x", "--source", "cyrus", "alice"],
        ["--from", "elsewhere", "alice"],
    ],
)
def test_what_makes_no_sense_is_said(alice: Site, words: list[str]) -> None:
    done = alice.run("restore", *words)
    assert done.status == 64, done.err


# -- with a reactor, so each in a process of its own


@pytest.fixture
def source(tmp_path: Path, server: Ours) -> Source:
    source = Source(tmp_path, server)
    source.ok("create", f"user/{source.user}", f"user/{source.user}/Work")
    source.deliver(source.user, 3)
    source.ok("backup", f"file:{tmp_path}/backup", "--everybody")
    return source


def test_it_goes_to_a_csync_server_without_the_store(source: Source, server: Ours, tmp_path: Path) -> None:
    user = source.user
    before = source.ok("dump", user).out
    lose(source, user)
    done = source.restore(
        "--from", f"file:{tmp_path}/backup", "--to", f"127.0.0.1:{server.port}", "--yes", user
    )
    assert done.check().out.splitlines()[-1] == "done"
    assert server.dump(user) == before
    assert not list((tmp_path / "spool" / "users").glob(f"*/{user}"))


def test_expunged_mail_and_a_folder_come_back_to_one_who_is_here(source: Source, tmp_path: Path) -> None:
    user = source.user
    source.ok("expunge", f"user/{user}", "1:2")
    source.ok("delete", f"user/{user}/Work")
    source.log()
    done = source.restore("--from", f"file:{tmp_path}/backup", "--yes", user).check()
    assert "done" in done.out.splitlines()[-1]
    assert len(source.records(f"user.{user}")) == 3
    assert f"user.{user}.Work" in source.mailboxes(f"user.{user}")
    assert source.log() == [("USER", user)]
    assert "nothing wrong" in source.ok("verify").out
    again = source.restore("--from", f"file:{tmp_path}/backup", "--yes", user).check()
    assert "nothing to do at this store" in again.out
    copy = source.restore("--from", f"file:{tmp_path}/backup", "--yes", "--as", "newone", user).check()
    assert "done" in copy.out
    assert len(source.records("user.newone")) == 3
