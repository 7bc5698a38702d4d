"""``mailstore move``: users go to another partition."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyrus_sync.common.stores.native.partitions import MARKER
from tests.mailstore.conftest import Site, later


@pytest.fixture
def disks(alice: Site) -> Site:
    """Two partitions that are in use, and alice with mail on the first."""
    alice.ok("create", "user/bob", "--partition", "other")
    alice.deliver("alice", 3)
    alice.ok("delete", "--immediate", "user/alice/Work")
    alice.log()
    return alice


def where(site: Site, user: str) -> str:
    (found,) = Path(site.path).glob(f"*/users/*/{user}/index.sqlite")
    return found.relative_to(site.path).parts[0]


def state(site: Site) -> str:
    return site.ok("dump", "--expunged", "--no-partitions", "alice").out


@pytest.mark.covers("mailstore: commands and options", "move")
def test_a_user_is_moved_with_everything_and_it_is_said_how_fast(disks: Site) -> None:
    said = disks.ok("move", "alice", "other").out
    assert said.startswith("alice: on other now, ") and "MB/s)" in said
    assert where(disks, "alice") == "other" and disks.mailbox("user.alice").partition == "other"
    assert ("MAILBOX", "user.alice") in disks.log()
    assert disks.ok("verify").lines[-1].endswith("nothing wrong")
    disks.ok("undelete", "alice", disks.ok("undelete", "alice").out.split()[0])
    assert disks.mailbox("user.alice.Work").partition == "other"
    again = disks.run("move", "alice", "other")
    assert again.status == 65 and "alice: is on partition other already" in again.err


@pytest.mark.covers("mailstore: commands and options", "move")
def test_one_who_cannot_be_moved_stops_nobody_else(disks: Site) -> None:
    result = disks.run("move", "nobody", "bob", "alice", "other")
    assert result.status == 1 and where(disks, "alice") == "other"
    assert "no such user: nobody" in result.err and "bob: is on partition other already" in result.err
    assert "partition 'nowhere'" in disks.run("move", "alice", "nowhere").err
    (disks.path / "spool" / MARKER).unlink()
    assert "is it mounted" in disks.run("move", "alice", "default").err
    assert where(disks, "alice") == "other"


@pytest.mark.covers("mailstore: commands and options", "move --from", "move --rate")
def test_a_partition_can_be_emptied_at_a_rate(disks: Site) -> None:
    disks.ok("create", "shared")
    assert disks.run("move", "--from", "nowhere", "other").status == 64
    assert disks.run("move", "alice", "--from", "default", "other").status == 64
    assert disks.run("move", "other").status == 64
    assert disks.run("move", "alice", "other", "--rate", "0").status == 64
    said = disks.ok("move", "--from", "default", "other", "--rate", "20M").lines
    assert [line.partition(" now")[0] for line in said] == ["alice: on other", "shared:shared: on other"]
    assert not list((disks.path / "spool").glob("*/*/*"))


def test_a_damaged_user_is_named_and_everybody_else_leaves_the_partition(disks: Site) -> None:
    disks.ok("create", "user/aaron")
    (index,) = disks.path.glob("spool/users/*/aaron/index.sqlite")
    index.write_bytes(b"damage" * 100)
    moved = disks.run("move", "--from", "default", "other")
    assert moved.status == 1 and "aaron" in moved.err and where(disks, "alice") == "other"


def test_what_expire_cannot_remove_of_a_move_is_named_behind_all_else(disks: Site) -> None:
    groups = disks.path / "spool" / "users" / "52"
    stuck, left = groups / ".moved-aaron", groups / ".moving-carol"
    for path in (stuck, left):
        path.mkdir(parents=True)
    expired = disks.run("expire")
    assert expired.status == 1 and ".moved-aaron: what it was moved to is not there" in expired.err
    assert f"removed {left}" in expired.out and "messages removed" in expired.out and stuck.exists()


@pytest.mark.covers("mailstore: commands and options", "move")
def test_what_an_interrupted_move_has_left_is_named_and_goes_with_expire(disks: Site) -> None:
    left = disks.path / "other" / "users" / "52" / ".moving-alice"
    left.mkdir(parents=True)
    (left / "pack-000001.zst").write_bytes(b"half a pack")
    before = state(disks)
    wrong = disks.run("verify")
    assert wrong.status == 1 and f"partition: {left}: is left of a move" in wrong.out
    assert f"removed {left}" in disks.ok("expire").out and not left.exists()
    assert disks.ok("verify") and state(disks) == before


def test_who_was_moved_is_backed_up_reconstructed_and_expired_as_before(disks: Site) -> None:
    target = f"file:{disks.path}/backup"
    disks.ok("backup", target, "alice")
    disks.ok("move", "alice", "other")
    disks.ok("backup", target, "alice")
    disks.ok("verify", target)
    (index,) = disks.path.glob("other/users/*/alice/index.sqlite")
    index.write_bytes(b"damage" * 100)
    assert "3 messages" in disks.run("reconstruct", "alice").out
    later(disks, 3600)
    disks.ok("expire", "-t", "0", "alice")
    assert where(disks, "alice") == "other" and disks.ok("verify")


def test_a_replica_moves_nobody_by_itself(tmp_path: Path) -> None:
    site = Site(tmp_path, "replicaonly: yes\n")
    refused = site.run("move", "alice", "other")
    assert refused.status == 75 and "replica" in refused.err
