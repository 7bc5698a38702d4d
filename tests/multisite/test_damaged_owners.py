"""One owner who is damaged or lost at a site: all others go into the packets, and nobody is told deleted."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import StoreError
from common.names import Owner
from common.stores.native.partitions import MARKER
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
