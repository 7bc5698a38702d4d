"""A fleet goes into a backup, and comes back from one, like a store in directories."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from cyrus_sync.common.stores.native.care.keeper import NativeCare
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.mailstore.backup.fetching import bring_back
from cyrus_sync.mailstore.backup.kept import kept_of
from cyrus_sync.mailstore.backup.sending import Sender
from cyrus_sync.objects.directory import DirectoryObjects
from tests.common.stores.tools import ALICE, INBOX, bodies_in, message, native_store, records_in
from tests.fleet.nodes import Fleet
from tests.fleet.test_command import Node


def filled(store: NativeStore, *numbers: int) -> None:
    with store.write(ALICE) as writer:
        if writer.mailbox(INBOX) is None:
            writer.create(INBOX)
        writer.append(INBOX, [(message(number), 1, "") for number in numbers])


def back_up(store: NativeStore, objects: DirectoryObjects, scratch: Path) -> bool:
    objects.now()
    return Sender(NativeCare(store), objects, scratch, "test").send(ALICE).changed


def bring(objects: DirectoryObjects, store: NativeStore) -> list[str]:
    kept = kept_of(objects, ALICE)
    return bring_back(kept, kept.read(kept.complete()[-1]), NativeCare(store), "default")


def test_a_user_of_a_fleet_goes_into_a_backup_and_into_directories_and_back(
    database: str, tmp_path: Path
) -> None:
    objects, fleet = DirectoryObjects(tmp_path / "backup"), Fleet(tmp_path / "fleet", database)
    with closing(fleet.node("one")) as one, closing(native_store(tmp_path / "plain")) as plain:
        filled(one, 1, 2)
        assert back_up(one, objects, tmp_path)
        filled(one, *range(3, 9))
        assert back_up(one, objects, tmp_path)
        before = records_in(one, INBOX), bodies_in(one, INBOX)
        assert bring(objects, plain) == []
        assert (records_in(plain, INBOX), bodies_in(plain, INBOX)) == before


def test_a_user_comes_into_a_fleet_and_another_node_has_him_at_once(database: str, tmp_path: Path) -> None:
    objects, fleet = DirectoryObjects(tmp_path / "backup"), Fleet(tmp_path / "fleet", database)
    with closing(native_store(tmp_path / "plain")) as plain, closing(fleet.node("one")) as one:
        filled(plain, *range(1, 6))
        assert back_up(plain, objects, tmp_path)
        assert bring(objects, one) == []
        with closing(fleet.node("two")) as two:
            assert bodies_in(two, INBOX) == bodies_in(plain, INBOX)
            assert records_in(two, INBOX) == records_in(plain, INBOX)
            filled(two, 6)
        assert len(records_in(one, INBOX)) == 6
        assert not list(NativeCare(one).verify(ALICE))


def test_any_node_makes_the_backup_by_the_command(database: str, tmp_path: Path) -> None:
    here, there = (Node(tmp_path / name, database, tmp_path / "objects") for name in ("here", "there"))
    here.ok("create", "user/alice")
    here.deliver(1, 2, 3)
    target = f"file:{tmp_path}/backup"
    assert "1 owner backed up" in there.ok("backup", target, "--everybody").out
    here.deliver(4)
    assert "1 owner backed up" in there.ok("backup", target, "--everybody").out
    assert "4 messages" in there.ok("verify", target).out
    there.ok("restore", "--from", target, "--into", str(tmp_path / "out"), "alice")
    before = here.ok("dump", "--expunged", "alice").out
    there.conf = tmp_path / "out" / "imapd.conf"
    assert there.ok("dump", "--expunged", "alice").out == before
