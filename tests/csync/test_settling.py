"""What a conflict asks of the master, done by a csync server that serves it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cyrus_sync.common.errors import CyrusSyncError, SettlementRefused
from cyrus_sync.common.master import Settlement
from cyrus_sync.sync_client.engine import FoldersFailed
from tests.csync.world import SettlingWorld
from tests.sync_client.engine.test_convergence import FIRST, RUNS, History, change_both, play
from tests.sync_client.engine.world import (
    ALICE,
    INBOX,
    content,
    deliver,
    guid_of,
    live,
    records,
    state,
    write,
)


@pytest.fixture(autouse=True)
def _no_disk_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: None)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[SettlingWorld]:
    """Both sides have three messages of alice's, and then each got another one under the next UID."""
    made = SettlingWorld(tmp_path)
    with write(made.master) as writer:
        writer.create(INBOX)
    deliver(made.master, INBOX, "one", "two", "three")
    made.sync()
    deliver(made.master, INBOX, "here")
    deliver(made.replica, INBOX, "there", "there too")
    yield made
    made.close()


def test_both_messages_of_one_uid_get_new_ones(world: SettlingWorld) -> None:
    world.sync()
    assert content(world.master) == content(world.replica)
    assert set(live(world.master, INBOX).values()) == {
        guid_of(text) for text in ("one", "two", "three", "here", "there", "there too")
    }
    assert world.sync() == [("GET USER", "alice")]


def test_copies_are_stored_before_anything_is_expunged(world: SettlingWorld) -> None:
    seen = []
    world.own.between = [lambda: None, lambda: seen.append(list(live(world.master, INBOX).values()))]
    world.sync()
    assert world.own.asked.count("mailbox") == 2
    assert seen[0].count(guid_of("here")) == 2


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_line_that_breaks_between_two_steps_leaves_no_message_twice(world: SettlingWorld, at: int) -> None:
    class Cut:
        left = at

        def random(self) -> float:
            self.left -= 1
            return 1.0 if self.left else 0.0

    world.own.fails = Cut()  # type: ignore[assignment]
    world.own.chance = 0.5
    with pytest.raises(FoldersFailed) as raised:
        world.sync()
    assert isinstance(raised.value.failures[0][1], SettlementRefused)
    world.own.chance = 0.0
    world.sync()
    assert content(world.master) == content(world.replica)
    found = list(live(world.master, INBOX).values())
    assert len(found) == len(set(found)) == 6


def test_mail_that_comes_in_between_is_noticed_by_the_server(world: SettlingWorld) -> None:
    world.own.between = [
        lambda: deliver(world.master, INBOX, "first"),
        lambda: deliver(world.master, INBOX, "second"),
    ]
    world.sync()
    assert content(world.master) == content(world.replica)
    assert {guid_of("first"), guid_of("second")} <= set(live(world.replica, INBOX).values())


def test_a_message_that_is_flagged_between_the_steps_goes_all_the_same(world: SettlingWorld) -> None:
    def flag() -> None:
        with write(world.master) as writer:
            writer.set_flags(INBOX, [4], add=["\\Flagged"])

    world.own.between = [lambda: None, flag]
    world.sync()
    assert content(world.master) == content(world.replica)
    assert list(live(world.master, INBOX).values()).count(guid_of("here")) == 1


def test_one_that_never_holds_still_is_given_up_for_now(world: SettlingWorld) -> None:
    world.own.between = [lambda: deliver(world.master, INBOX, "more") for _ in range(1000)]
    with pytest.raises(FoldersFailed, match="kept changing"):
        world.sync()
    assert len(world.own.between) > 900
    world.own.between = []
    world.sync()
    assert content(world.master) == content(world.replica)


def test_a_message_that_is_expunged_here_and_flagged_there_goes_there_too(world: SettlingWorld) -> None:
    """Its record is expunged already, so the server does not raise its modseq: EXPUNGE is what tells."""
    with write(world.master) as writer:
        writer.expunge(INBOX, [1])
    for label in ("A", "B", "C", "D"):
        with write(world.replica) as writer:
            writer.set_flags(INBOX, [1], add=[label])
    world.sync()
    assert 1 not in live(world.replica, INBOX)
    assert world.sync() == [("GET USER", "alice")]


def test_a_counter_that_the_server_does_not_raise_is_told_once(world: SettlingWorld) -> None:
    world.sync()
    here = state(world.master, INBOX)
    settlement = Settlement(here, replace(here), counters={"foldermodseq": here.foldermodseq + 100})

    def told() -> int:
        world.own.asked.clear()
        world.settling.settle(world.as_master(), ALICE, settlement)
        return world.own.asked.count("mailbox")

    world.own.swallows = True
    assert [told(), told()] == [1, 0]


def test_new_records_are_above_all_that_either_side_has(world: SettlingWorld) -> None:
    before = [max(r.modseq for r in records(store, INBOX)) for store in (world.master, world.replica)]
    world.sync()
    new = [r for r in records(world.master, INBOX) if r.uid > 4]
    assert min(record.modseq for record in new) > max(before)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + max(1, RUNS // 2)))
def test_two_sides_are_merged_without_loss_wherever_a_line_breaks(seed: int) -> None:
    class Breaking(History):
        def run(self) -> None:
            world = self.world
            assert isinstance(world, SettlingWorld)
            world.own.fails = self.random
            world.own.chance = self.random.choice([0.0, 0.1, 0.4])
            try:
                super().run()
            except CyrusSyncError as error:
                if not any(isinstance(one, SettlementRefused) for _, one in getattr(error, "failures", [])):
                    raise
            finally:
                world.own.chance = 0.0

    play(seed, 6, change_both, copies=False, make_world=SettlingWorld, make_history=Breaking)
