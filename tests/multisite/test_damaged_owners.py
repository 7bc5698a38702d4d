"""One owner who is damaged or lost at a site: all others go into the packets, and nobody is told deleted."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.partitions import MARKER
from tests.mailstore.damage import KINDS
from tests.multisite.world import Site, family_of


def create(site: Site, user: str) -> None:
    with site.store() as store, store.write(Owner("user", user)) as writer:
        writer.create(f"user.{user}")


def deliver(site: Site, user: str, text: str) -> None:
    with site.store() as store, store.write(Owner("user", user)) as writer:
        writer.append(f"user.{user}", [(f"Subject: {text}\r\n\r\n{text}\r\n".encode(), 1_700_000_000, "")])


def damage(site: Site, user: str, kind: str) -> None:
    (path,) = (site.directory / "spool" / "users").glob(f"*/{user}")
    KINDS[kind].do(path)
    for log in ("index.sqlite-wal", "index.sqlite-shm"):
        if path.is_dir():
            (path / log).unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["an index of garbage", "no directory", "no index"])
def test_the_others_are_exported_and_the_damaged_one_is_named(tmp_path: Path, kind: str) -> None:
    here, there = family_of(tmp_path, "boston", "sanfran")
    for user in ("alice", "bob"):
        create(here, user)
        deliver(here, user, "one")
    with here.member() as member:
        assert member.record() == []
    deliver(here, "alice", "two")
    deliver(here, "bob", "two")
    damage(here, "bob", kind)
    paths = here.export_to(there, tmp_path / "travel")
    assert any("bob" in line for line in here.heard)
    with here.member() as member:
        failures = member.capture.everything()
        assert [error.address["user"] for error in failures] == ["bob"]
    there.import_from(paths)
    assert len(there.guids("alice")["user.alice"]) == 2
    # What was recorded before the damage, but for messages that cannot be read; no deletion.
    assert "user.bob" in there.guids("bob")


def test_nothing_is_done_while_a_partition_is_away(tmp_path: Path) -> None:
    here, there = family_of(tmp_path, "boston", "sanfran")
    create(here, "alice")
    (here.directory / "spool" / MARKER).unlink()
    with pytest.raises(StoreError, match="is it mounted"):
        here.export_to(there, tmp_path / "travel")


@pytest.mark.parametrize("kind", ["an index of garbage", "a directory that is a file"])
def test_an_import_sets_the_damaged_one_aside_and_does_the_others(tmp_path: Path, kind: str) -> None:
    here, there = family_of(tmp_path, "boston", "sanfran")
    for user in ("alice", "bob", "carol"):
        create(here, user)
        deliver(here, user, "one")
    there.import_from(here.export_to(there, tmp_path / "travel"))
    (path,) = (there.directory / "spool" / "users").glob("*/bob")
    shutil.copytree(path, tmp_path / "sound")
    for user in ("alice", "bob", "carol"):
        deliver(here, user, "two")
    damage(there, "bob", kind)
    result = there.import_from(here.export_to(there, tmp_path / "travel"))
    assert result.refused == {}
    assert [len(there.guids(user)[f"user.{user}"]) for user in ("alice", "carol")] == [2, 2]
    with there.member() as member:
        aside = list(member.log.operations.set_aside())
    assert {str(entry.owner) for entry in aside} == {"bob"} and all(entry.reason for entry in aside)
    assert any("on 'user:bob' is set aside" in line for line in there.heard)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(tmp_path / "sound", path)
    there.import_from([])
    assert len(there.guids("bob")["user.bob"]) == 2 and there.dump() == here.dump()
    with there.member() as member:
        assert not list(member.log.operations.set_aside())
