"""``mailstore restore --from``: into this store, a csync server, a directory; as of when."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.interop.ours import Ours

from .conftest import Site
from .test_backup import arrive, kept, newest
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
    assert "1 owners restored" in done.out
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


@pytest.mark.covers("mailstore: commands and options", "restore --as-of")
def test_as_of_takes_the_newest_backup_of_that_time(alice: Site, target: str) -> None:
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    first = alice.ok("dump", "--expunged", "alice").out
    arrive(alice, 1)
    alice.ok("backup", target, "alice")
    # Both may be of the same second: the first one is made older.
    from .test_prune import _iso, _rewrite

    _rewrite(kept(alice), 2)
    name = kept(alice).complete()[0]
    lose(alice)
    done = alice.run("restore", "--from", target, "--as-of", "9d", "alice")
    assert done.status == 75
    assert "no backup that old" in done.err
    assert alice.run("restore", "--from", target, "--as-of", "soon", "alice").status == 64
    latest = kept(alice).complete()[-1]
    if latest.taken > name.taken:
        alice.ok("restore", "--from", target, "--as-of", _iso(name.taken), "alice")
        assert alice.ok("dump", "--expunged", "alice").out == first


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
    assert "1 problems" in alice.run("verify").out


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
