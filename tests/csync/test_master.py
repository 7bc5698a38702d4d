"""A master that is read, and changed, through a csync server alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.errors import SnapshotLost, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.csync.asking import Asking
from cyrus_sync.csync.line import LineDown
from cyrus_sync.csync.master import CsyncMaster
from tests.csync.world import AskingWorld
from tests.sync_client.engine.test_convergence import FIRST, RUNS, change_both, play
from tests.sync_client.engine.world import ALICE, INBOX, content, deliver, guid_of, live, write

WORK = "user.alice.Work"


@pytest.fixture(autouse=True)
def _no_disk_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[AskingWorld]:
    """alice has two mailboxes with three messages each, on both sides."""
    made = AskingWorld(tmp_path)
    with write(made.master) as writer:
        writer.create(INBOX)
        writer.create(WORK)
    deliver(made.master, INBOX, "one", "two", "three")
    deliver(made.master, WORK, "four", "five", "six")
    made.sync()
    yield made
    made.close()


def test_what_changes_goes_over_and_nothing_else_is_asked_for(world: AskingWorld) -> None:
    deliver(world.master, WORK, "seven")
    world.own.asked.clear()
    world.sync()
    assert content(world.master) == content(world.replica)
    assert world.own.asked.count("get_full_mailbox") == 1
    assert "fetch" in world.own.asked
    assert world.sync() == [("GET USER", "alice")]


def test_a_renamed_mailbox_is_found_by_its_uniqueid(world: AskingWorld) -> None:
    world.master.rename(WORK, "user.alice.Play", log=True)
    deliver(world.master, "user.alice.Play", "seven")
    world.mailboxes("user.alice.Play", WORK)
    assert content(world.master) == content(world.replica)


def test_nothing_is_deleted_as_nobody_tells_of_it(world: AskingWorld) -> None:
    with write(world.master) as writer:
        writer.delete(WORK)
    world.sync()
    assert any(guid_of("four") in live(world.replica, name).values() for name in _names(world))


def _names(world: AskingWorld) -> list[str]:
    with world.replica.read(ALICE) as reader:
        return [state.name for state in reader.mailboxes()]


def test_a_mailbox_that_changes_while_it_is_read_is_read_anew(world: AskingWorld) -> None:
    with world.as_master().read(ALICE) as reader:
        shown = reader.mailbox(INBOX)
        assert shown is not None
        deliver(world.master, INBOX, "late")
        with pytest.raises(SnapshotLost):
            list(reader.records(shown.uniqueid))


def test_a_message_that_the_server_does_not_have_is_left_out_and_named(world: AskingWorld) -> None:
    master = world.as_master()
    with master.read(ALICE) as reader:
        state = reader.mailbox(INBOX)
        assert state is not None
    unreadable: list[bytes] = []
    wanted = [(1, guid_of("one")), (2, guid_of("another"))]
    source = master.messages(
        ALICE, state.uniqueid, wanted, "ssd", unreadable=lambda guid, _: unreadable.append(guid)
    )
    assert [(body.guid, body.partition) for batch in source for body in batch] == [(guid_of("one"), "ssd")]
    assert unreadable == [guid_of("another")]


def test_who_there_is_a_csync_server_does_not_say(world: AskingWorld) -> None:
    master = world.as_master()
    with pytest.raises(StoreError, match="does not list its users: name them with sync_client -u"):
        master.owners()
    with master.read(Owner("shared", "news")) as reader, pytest.raises(StoreError, match="does not list"):
        reader.mailboxes()
    assert master.exists(ALICE)
    assert not master.exists(Owner("user", "bob"))


def test_a_command_without_a_line_says_so(world: AskingWorld) -> None:
    master = CsyncMaster(Asking(None), None)
    assert master.damaged_owners() == []
    with pytest.raises(LineDown, match="not looked at by this command"):
        master.exists(ALICE)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + max(1, RUNS // 3)))
def test_two_sides_that_both_changed_are_merged_without_loss(seed: int) -> None:
    play(seed, 6, change_both, copies=False, make_world=AskingWorld)
