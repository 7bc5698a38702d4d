"""Renames: found by uniqueid, done in an order that works, rings broken by a name of our own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.errors import MailboxMoved, SyncChanged
from cyrus_sync.common.names import check_mailbox_name, owner_of
from cyrus_sync.sync_client.engine.errors import FoldersFailed
from cyrus_sync.sync_client.engine.renames import Rename, plan_renames, temporary_name
from tests.sync_client.engine.lines import BrokenLine
from tests.sync_client.engine.world import ALICE, INBOX, World, content, deliver, finish, names, state, write

A, B, C = "user.alice.a", "user.alice.b", "user.alice.c"


def move(world: World, *pairs: tuple[str, str]) -> None:
    for old, new in pairs:
        world.clock.now += 1
        world.master.rename(old, new, log=True)


def filled(world: World, *boxes: str) -> None:
    for box in boxes:
        with write(world.master) as writer:
            writer.create(box)
        deliver(world.master, box, f"in {box}")
    world.sync()


def same(world: World) -> None:
    assert content(world.replica) == content(world.master)


def test_a_rename_is_sent_as_one_and_the_replica_is_asked_again(alice: World) -> None:
    filled(alice, A)
    move(alice, (A, B))
    events = alice.sync()
    assert events[:3] == [("GET USER", "alice"), ("RENAME", A, B), ("GET USER", "alice")]
    assert not any(event[0] == "MESSAGE" for event in events)
    same(alice)
    assert "RENAME user.alice.a -> user.alice.b (default)" in alice.lines


def test_a_rename_is_noticed_when_only_the_new_name_was_logged(alice: World) -> None:
    filled(alice, A)
    move(alice, (A, B))
    assert alice.mailboxes(B)[:2] == [("GET MAILBOXES", B, A), ("RENAME", A, B)]
    same(alice)


def test_a_tree_is_renamed_parent_first(alice: World) -> None:
    filled(alice, A, f"{A}.x", f"{A}.x.y")
    move(alice, (f"{A}.x.y", f"{B}.x.y"), (f"{A}.x", f"{B}.x"), (A, B))
    events = alice.sync()
    assert [event for event in events if event[0] == "RENAME"] == [
        ("RENAME", A, B),
        ("RENAME", f"{A}.x", f"{B}.x"),
        ("RENAME", f"{A}.x.y", f"{B}.x.y"),
    ]
    same(alice)


def test_a_chain_of_renames_vacates_names_in_time(alice: World) -> None:
    filled(alice, A, B)
    move(alice, (B, C), (A, B))
    renames = [event for event in alice.sync() if event[0] == "RENAME"]
    assert renames == [("RENAME", B, C), ("RENAME", A, B)]
    same(alice)


def test_two_swapped_names_go_by_way_of_a_temporary_one(alice: World) -> None:
    filled(alice, A, B)
    move(alice, (A, C), (B, A), (C, B))
    renames = [event for event in alice.sync() if event[0] == "RENAME"]
    assert len(renames) == 3
    aside = renames[0][2]
    assert owner_of(aside) == ALICE
    assert state(alice.master, A).uniqueid in aside or state(alice.master, B).uniqueid in aside
    same(alice)
    assert names(alice.replica) == [INBOX, A, B]


def test_a_ring_of_three_needs_one_temporary_name(alice: World) -> None:
    filled(alice, A, B, C)
    tmp = "user.alice.tmp"
    move(alice, (A, tmp), (C, A), (B, C), (tmp, B))
    assert len([event for event in alice.sync() if event[0] == "RENAME"]) == 4
    same(alice)


@pytest.mark.parametrize("after", [False, True])
def test_a_swap_interrupted_anywhere_is_finished_by_the_next_run(world: World, after: bool) -> None:
    with write(world.master) as writer:
        writer.create(INBOX)
    filled(world, A, B)
    for turn in range(8):
        tmp = f"user.alice.tmp{turn}"
        move(world, (A, tmp), (B, A), (tmp, B))
        line = BrokenLine(world.store_replica(), turn, after)
        with pytest.raises(Exception, match="connection lost") if turn < 6 else _maybe():
            finish(world.engine(line).user("alice"))
        world.sync()
        same(world)


class _maybe:
    """A context in which a lost connection is welcome but not needed."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return error is None or "connection lost" in str(error)


def test_a_mailbox_that_stepped_aside_is_found_by_its_id_when_its_name_is_asked_for(
    alice: World,
) -> None:
    filled(alice, A)
    aside = temporary_name(Rename(state(alice.master, A).uniqueid, A, A, "default"))
    alice.replica.rename(A, aside, log=False)
    deliver(alice.master, A, "news")
    alice.mailboxes(A)
    same(alice)


def test_a_renamed_user_is_carried_over_by_id_even_if_only_the_new_name_is_known(alice: World) -> None:
    filled(alice, A)
    move(alice, (INBOX, "user.alicia"), (A, "user.alicia.a"))
    alice.sync("alicia")
    assert content(alice.replica, "alicia") == content(alice.master, "alicia")
    assert names(alice.replica) == []


def test_two_users_who_swap_names_keep_their_mail(alice: World) -> None:
    filled(alice, A)
    with write(alice.master, "bob") as writer:
        writer.create("user.bob")
        writer.create("user.bob.a")
    alice.sync("bob")
    move(alice, (INBOX, "user.tmp"), (A, "user.tmp.a"), ("user.bob", INBOX), ("user.bob.a", A))
    move(alice, ("user.tmp", "user.bob"), ("user.tmp.a", "user.bob.a"))
    alice.mailboxes(INBOX, A, "user.bob", "user.bob.a")
    same(alice)
    assert content(alice.replica, "bob") == content(alice.master, "bob")


def test_a_mailbox_renamed_on_both_sides_gets_the_masters_name(alice: World) -> None:
    filled(alice, A)
    move(alice, (A, B))
    alice.replica.rename(A, C, log=False)
    alice.sync()
    same(alice)


def test_a_target_that_something_unknown_occupies_fails_that_mailbox_only(alice: World) -> None:
    filled(alice, A, C)
    with write(alice.replica) as writer:
        writer.create(B)
        writer.append(B, [(b"Subject: only here\r\n\r\n", 1, "")])
    move(alice, (A, B))
    deliver(alice.master, C, "news")
    with pytest.raises(FoldersFailed) as caught:
        alice.sync()
    [(name, error)] = caught.value.failures
    assert name == B
    assert isinstance(error, MailboxMoved)
    assert error.address["mailbox"] == B
    assert state(alice.replica, C) == state(alice.master, C)
    assert len([1 for event in alice.line.events if event[0] == "RENAME"]) == 0


def test_a_replica_that_renames_without_effect_is_not_asked_for_ever(alice: World) -> None:
    filled(alice, A)
    move(alice, (A, B))
    alice.connect()
    alice.line.replica.rename = lambda *args, **keywords: alice.line.replica.noop()
    with pytest.raises(SyncChanged):
        finish(alice.engine().user("alice"))
    assert alice.line.events.count(("GET USER", "alice")) == 3


@given(st.permutations(range(7)), st.integers(0, 7))
def test_any_permutation_of_names_can_be_carried_out(order: list[int], spare: int) -> None:
    box = [f"user.alice.{number}" for number in range(8)]
    renames = [
        Rename(f"id{number}", box[number], box[spare if aim == 6 and spare == 7 else aim], "default")
        for number, aim in enumerate(order)
    ]
    plan = plan_renames([r for r in renames if r.old != r.new], [r.old for r in renames if r.old == r.new])
    assert plan.blocked == []
    where = {rename.old: rename.uniqueid for rename in renames}
    for step in plan.steps:
        assert step.new not in where, "the target is still taken"
        check_mailbox_name(step.new)
        where[step.new] = where.pop(step.old)
    assert where == {rename.new: rename.uniqueid for rename in renames}
