"""Comparing without changing, and running without doing."""

from __future__ import annotations

from typing import Any

from cyrus_sync.common.model import Seen
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.sync_client.engine import Engine
from cyrus_sync.sync_client.engine.dry_run import DryRunMaster, DryRunReplica
from cyrus_sync.sync_client.engine.verify import Difference, diff_user
from tests.sync_client.engine.lines import InlineThreads
from tests.sync_client.engine.world import ALICE, INBOX, World, content, deliver, finish, write

A, B = "user.alice.a", "user.alice.b"


def diff(world: World, **options: Any) -> list[Difference]:
    return finish(diff_user(NativeMaster(world.master), world.connect(), InlineThreads(), "alice", **options))


def test_equal_users_have_no_differences(alice: World) -> None:
    assert diff(alice, deep=True) == []


def test_every_kind_of_difference_is_named(alice: World) -> None:
    with write(alice.master) as writer:
        writer.create(A)
        writer.subscribe(A)
        writer.set_quota(INBOX, {"STORAGE": 1})
        writer.set_seen(Seen("id", 1, 1, 1, "1"))
        writer.set_flags(INBOX, [1], add=["\\Seen"])
    with write(alice.replica) as writer:
        writer.create(B)
        writer.subscribe(B)
    found = diff(alice, deep=True)
    assert {(d.what, d.name) for d in found} == {
        ("mailbox", A),
        ("mailbox", B),
        ("mailbox", INBOX),
        ("record", f"{INBOX}:1"),
        ("subscription", A),
        ("subscription", B),
        ("quota", INBOX),
        ("seen", "id"),
    }
    assert "highestmodseq" in {d.detail.split(":")[0] for d in found if d.name == INBOX}
    assert str(found[0]).startswith("mailbox ")


def test_scripts_and_names_and_partitions_are_compared(alice: World) -> None:
    alice.sieve_mailbox = False
    with write(alice.master) as writer:
        writer.put_script("main", b"keep;\r\n")
        writer.activate_script("main")
        writer.create(A)
    assert {d.name for d in diff(alice)} == {"main.script", "main.bc", A}
    alice.sync()
    assert diff(alice) == []
    alice.replica.rename(A, B, partition="ssd", log=False)
    assert [d.detail for d in diff(alice) if d.name == A][:2] == [
        f"is called {B} on the replica",
        "is on partition ssd",
    ]


def test_a_user_who_is_only_there_is_told(world: World) -> None:
    with write(world.replica) as writer:
        writer.create(INBOX)
    assert diff(world) == [Difference("mailbox", INBOX, "exists on the replica only")]


def dry(world: World) -> list[str]:
    """What a dry run would do; it must do nothing on either side."""
    before = content(world.master), content(world.replica)
    replica = DryRunReplica(world.connect())
    finish(
        Engine(DryRunMaster(NativeMaster(world.master)), replica, InlineThreads(), world.options).user(
            "alice"
        )
    )
    assert (content(world.master), content(world.replica)) == before
    assert not any(event[0] in ("MAILBOX", "MESSAGE", "RENAME") for event in world.line.events)
    return replica.changes


def test_a_dry_run_tells_what_a_run_would_do(alice: World) -> None:
    with write(alice.master) as writer:
        writer.create(A)
        writer.subscribe(A)
    deliver(alice.master, INBOX, "x")
    assert dry(alice) == [f"MAILBOX {INBOX} (1 records)", f"MAILBOX {A} (0 records)", f"SUB alice {A}"]


def test_a_dry_run_shows_renames_and_deletions_as_done(alice: World) -> None:
    with write(alice.master) as writer:
        writer.create(A)
        writer.create(B)
    alice.sync()
    with write(alice.master) as writer:
        writer.delete(B, delayed=False)
    alice.master.rename(A, B, log=True)
    changes = dry(alice)
    assert changes[:2] == [f"UNMAILBOX {B}", f"RENAME {A} -> {B} (default)"]
    assert len(changes) == 3


def test_a_dry_run_settles_a_conflict_on_paper_only(alice: World) -> None:
    deliver(alice.replica, INBOX, "only there")
    deliver(alice.master, INBOX, "only here")
    with alice.master.read(ALICE) as reader:
        box = reader.mailbox(INBOX)
    replica = DryRunReplica(alice.connect())
    engine = Engine(DryRunMaster(NativeMaster(alice.master)), replica, InlineThreads(), alice.options)
    finish(engine.mailboxes([INBOX]))
    assert any(change.startswith(f"MAILBOX {INBOX}") for change in replica.changes)
    with alice.master.read(ALICE) as reader:
        assert reader.mailbox(INBOX) == box


def test_a_dry_run_of_everybody_creates_nobody(world: World) -> None:
    with write(world.master) as writer:
        writer.create(INBOX)
    replica = DryRunReplica(world.connect())
    finish(
        Engine(DryRunMaster(NativeMaster(world.master)), replica, InlineThreads(), world.options).all_users()
    )
    assert replica.changes == [f"MAILBOX {INBOX} (0 records)"]
    assert not world.replica.exists(Owner("user", "alice"))
