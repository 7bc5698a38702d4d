"""Running without doing."""

from __future__ import annotations

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.sync_client.engine import Engine
from cyrus_sync.sync_client.engine.dry_run import DryRunMaster, DryRunReplica
from tests.sync_client.engine.lines import InlineThreads
from tests.sync_client.engine.world import ALICE, INBOX, World, content, deliver, finish, write

A, B = "user.alice.a", "user.alice.b"


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
