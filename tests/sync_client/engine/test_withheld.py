"""A message that the master cannot read: all else goes over, it is named, and follows when it is mended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.protocol.commands import HEAL
from cyrus_sync.common.stores.frames import LARGE
from cyrus_sync.common.stores.native.layout import pack_name
from cyrus_sync.sync_client.engine.withheld import Withheld
from tests.common.stores.test_healing import directory, readable, spoil
from tests.sync_client.engine.world import (
    ALICE,
    INBOX,
    World,
    deliver,
    finish,
    guid_of,
    live,
    message,
    records,
    state,
    write,
)


@pytest.fixture(params=["zstd", "identity"])
def world(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> World:
    """Messages travel as frames between ours, as they are to a real Cyrus."""
    if request.param == "identity":
        from cyrus_sync.common.stores.replica import StoreReplica

        monkeypatch.setattr(StoreReplica, "message_encodings", frozenset({"identity"}))
    made = World(tmp_path, withheld=Withheld(tmp_path / "withheld.json"))
    with write(made.master) as writer:
        writer.create(INBOX)
    deliver(made.master, INBOX, "one", "two", "three")
    return made


def heal(world: World, text: str = "two") -> None:
    raw = message(text)
    with world.master.write(ALICE) as writer:
        writer.heal(MessageBody("", guid_of(text), len(raw), raw))


def verbs(events: list[tuple[Any, ...]]) -> list[str]:
    return [event[0] for event in events]


def test_all_others_go_over_and_the_next_run_has_nothing_to_do(world: World) -> None:
    spoil(world.master, "two")
    world.sync()
    assert live(world.replica, INBOX) == {1: guid_of("one"), 3: guid_of("three")}
    assert f"{INBOX} uid 2 ({guid_of('two').hex()})" in world.remarks[-1]
    there, here = state(world.replica, INBOX), state(world.master, INBOX)
    assert (there.last_uid, there.highestmodseq) == (here.last_uid, here.highestmodseq)
    assert world.sync() == [("GET USER", "alice")], "nothing is tried again at full cost"
    assert len(world.remarks) > 1, "but it is named every time"


def test_changes_go_on_beside_it_and_of_it(world: World) -> None:
    spoil(world.master, "two")
    world.sync()
    deliver(world.master, INBOX, "four")
    with write(world.master) as writer:
        writer.set_flags(INBOX, [1, 2], add=["\\Flagged"])
    events = world.sync()
    assert "GET FULLMAILBOX" not in verbs(events) and verbs(events).count("MAILBOX") == 1
    assert set(live(world.replica, INBOX)) == {1, 3, 4}
    assert [r.flags for r in records(world.replica, INBOX) if r.uid == 1] == ["\\Flagged"]
    assert world.sync() == [("GET USER", "alice")]


def test_it_goes_over_when_it_can_be_read_again(world: World) -> None:
    spoil(world.master, "two")
    world.sync()
    heal(world)
    world.sync()
    assert set(live(world.replica, INBOX).values()) == {guid_of(t) for t in ("one", "two", "three")}
    assert live(world.replica, INBOX) == live(world.master, INBOX)
    assert readable(world.replica) == {"one", "two", "three"}
    remarks = len(world.remarks)
    assert world.sync() == [("GET USER", "alice")] and len(world.remarks) == remarks
    assert not (world.directory / "withheld.json").exists()


def test_of_a_lost_pack_what_is_left_goes_over(world: World) -> None:
    pack = directory(world.master) / pack_name(1)
    kept = pack.read_bytes()
    pack.unlink()
    deliver(world.master, INBOX, "four")
    world.sync()
    assert live(world.replica, INBOX) == {4: guid_of("four")}
    assert world.sync() == [("GET USER", "alice")]
    pack.write_bytes(kept)
    world.sync()
    assert set(live(world.replica, INBOX).values()) == {guid_of(t) for t in ("one", "two", "three", "four")}
    assert live(world.replica, INBOX) == live(world.master, INBOX)


def test_what_is_expunged_meanwhile_is_forgotten(world: World) -> None:
    spoil(world.master, "two")
    world.sync()
    with write(world.master) as writer:
        writer.expunge(INBOX, [2])
    world.sync()
    remarks = len(world.remarks)
    assert world.sync() == [("GET USER", "alice")] and len(world.remarks) == remarks
    assert live(world.replica, INBOX) == live(world.master, INBOX) == {1: guid_of("one"), 3: guid_of("three")}


def test_a_master_that_knows_of_its_damage_is_healed_by_the_replica(world: World) -> None:
    world.sync()
    spoil(world.master, "two")
    with world.master.read(ALICE) as reader:
        assert reader.unsound([guid_of("two")])
    assert "GET FETCH" in verbs(world.sync())
    assert readable(world.master) == {"one", "two", "three"}
    assert any("healed from the replica" in line for line in world.notices)
    assert "GET FETCH" not in verbs(world.sync())


def test_a_large_message_that_breaks_while_it_is_sent_is_left_out_the_next_time(world: World) -> None:
    large = b"Subject: large\r\n\r\n" + bytes(range(1, 256)) * (LARGE // 200)
    with write(world.master) as writer:
        writer.append(INBOX, [(large, 1, "")])
        pack, offset, length = writer.transaction.db.execute(
            "SELECT pack, offset, length FROM messages ORDER BY size DESC"
        ).fetchone()
    with (directory(world.master) / pack_name(pack)).open("r+b") as file:
        file.seek(offset + length - 6)
        file.write(b"\xff\xff")
    world.sync()
    assert set(live(world.replica, INBOX)) == {1, 2, 3}
    assert world.sync() == [("GET USER", "alice")]


def test_a_damaged_list_of_what_is_withheld_is_made_anew(world: World) -> None:
    spoil(world.master, "two")
    world.sync()
    path = world.directory / "withheld.json"
    path.write_text("{")
    world.options.withheld._stamp = None  # type: ignore[union-attr]
    world.sync()
    assert set(live(world.replica, INBOX)) == {1, 3}
    assert world.sync() == [("GET USER", "alice")]
    heal(world)
    world.sync()
    assert live(world.replica, INBOX) == live(world.master, INBOX) and len(live(world.master, INBOX)) == 3


def test_without_copyback_it_stays_withheld_and_named(world: World) -> None:
    spoil(world.master, "two")
    world.sync(no_copyback=True)
    assert set(live(world.replica, INBOX)) == {1, 3}
    heal(world)
    world.sync(no_copyback=True)
    assert "not replicated" in world.remarks[-1]
    world.connect()
    finish(world.engine().user("alice"))
    assert len(live(world.replica, INBOX)) == 3


@pytest.mark.covers("GET, APPLY, RESTORE", "GET XDAMAGED", "APPLY XHEAL")
def test_a_replica_that_knows_of_its_damage_is_healed_by_the_master(world: World) -> None:
    world.sync()
    spoil(world.replica, "two")
    assert readable(world.replica) == {"one", "three"}
    assert world.sync() == [("GET USER", "alice")], "a replica that does not tell is not asked"
    line = world.connect()
    line.replica.capabilities |= {HEAL}
    for _ in range(2):
        finish(world.engine().user("alice"))
    assert verbs(line.events).count("XHEAL") == 1
    assert readable(world.replica) == {"one", "two", "three"}
    assert world.replica.damaged_owners() == []
