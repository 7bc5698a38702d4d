"""One run: failures stay with whom they belong to, nothing of the plan is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from cyrus_sync.common.errors import (
    CannotConnect,
    ConnectionLost,
    CyrusSyncError,
    MailboxLocked,
    ProtocolViolation,
    QuietLogout,
    RemoteDenied,
    StoreError,
    SyncChecksum,
)
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.engine.errors import FoldersFailed, LeftOut, OwnersTrouble
from cyrus_sync.sync_client.run import Outcome, Run, ServerRefuses
from cyrus_sync.sync_client.work import Kind
from tests.sync_client.fakes import FakeConnection, plan_of


def run(*lines: str, answers=None, width=1, reports=None, known=()) -> tuple[list[str], Outcome]:
    events: list[str] = []
    report = reports.append if reports is not None else (lambda _: None)
    connection = FakeConnection(events, answers or {})
    made = Run(plan_of(*lines), connection, width=width, known=known, report=lambda *what: report(what))
    outcomes: list[Outcome] = []
    Deferred.fromCoroutine(made.go()).addCallback(outcomes.append)
    (outcome,) = outcomes
    return events, outcome


def test_items_are_done_in_the_order_of_the_plan():
    events, outcome = run("USER carol", "MAILBOX user.bob", "META alice", "QUOTA user.bob")
    assert events == ["MAILBOXES user.bob", "QUOTA user.bob", "META alice", "USER carol"]
    assert outcome.complete and outcome.done == 4 and outcome.exit_status == 0


def test_every_kind_of_work_reaches_the_engine():
    events, _ = run(
        "SEEN a id", "SUB b user.b.x", "UNMAILBOX user.c.x", "ANNOTATION user.c", "UNUSER d", "META e"
    )
    assert events == [
        "ANNOTATION user.c",
        "SEEN a id",
        "SUB b user.b.x",
        "UNMAILBOX user.c.x",
        "META e",
        "UNUSER d",
    ]


def test_a_failing_mailbox_becomes_its_user_and_the_others_flow():
    reports: list = []
    events, outcome = run(
        "MAILBOX user.bad",
        "MAILBOX user.good",
        answers={"MAILBOXES user.bad": SyncChecksum()},
        reports=reports,
    )
    assert events == ["MAILBOXES user.bad", "MAILBOXES user.good", "USER bad"]
    assert outcome.complete
    assert [(str(item), following) for item, _, following in reports] == [
        ("MAILBOX user.bad", "trying USER bad")
    ]


def test_a_user_is_promoted_to_once_even_if_several_of_his_items_fail():
    answers = {"MAILBOXES user.a": SyncChecksum(), "QUOTA user.a": RemoteDenied(), "META a": RemoteDenied()}
    events, outcome = run("MAILBOX user.a", "QUOTA user.a", "META a", answers=answers)
    assert events == ["MAILBOXES user.a", "QUOTA user.a", "META a", "USER a"]
    assert outcome.complete


def test_an_item_that_nothing_helps_is_given_up_and_named():
    answers = {"MAILBOXES user.a": SyncChecksum(), "USER a": SyncChecksum()}
    events, outcome = run("MAILBOX user.a", "USER b", answers=answers)
    assert events == ["MAILBOXES user.a", "USER b", "USER a"]
    assert [str(failure.item) for failure in outcome.failed] == ["USER a"]
    assert not outcome.complete and outcome.exit_status == 1


def test_what_is_locked_is_deferred():
    events, outcome = run("MAILBOX user.a", "MAILBOX user.b", answers={"MAILBOXES user.a": MailboxLocked()})
    assert events == ["MAILBOXES user.a", "MAILBOXES user.b"]
    assert [str(item) for item in outcome.deferred] == ["MAILBOX user.a"]
    assert outcome.exit_status == 75


def test_of_a_group_only_what_failed_is_deferred():
    answers = {"MAILBOXES user.a user.a.x": FoldersFailed([("user.a.x", MailboxLocked())])}
    _, outcome = run("MAILBOX user.a", "MAILBOX user.a.x", answers=answers)
    assert [str(item) for item in outcome.deferred] == ["MAILBOX user.a.x"]


@pytest.mark.parametrize("error", [StoreError("disk"), ValueError("a bug")])
def test_local_trouble_with_one_user_is_his_alone(error):
    events, outcome = run("USER a", "USER b", answers={"USER a": error})
    assert events == ["USER a", "USER b"]
    assert [failure.error for failure in outcome.failed] == [error]


@pytest.mark.covers("Other errors", "ConnectionLost")
@pytest.mark.parametrize("error", [ConnectionLost(), ProtocolViolation(), CannotConnect()])
def test_a_lost_connection_ends_the_run_and_keeps_what_is_left(error):
    events, outcome = run("USER a", "USER b", "USER c", answers={"USER b": error})
    assert events == ["USER a", "USER b"]
    assert outcome.broken is error
    assert [str(item) for item in outcome.remaining] == ["USER c", "USER b"], "the suspect comes last"
    assert outcome.suspects == (Owner("user", "b"),)


@pytest.mark.covers("Other errors", "QuietLogout")
def test_bye_blames_nobody():
    _, outcome = run("USER a", answers={"USER a": QuietLogout()})
    assert outcome.suspects == () and isinstance(outcome.broken, QuietLogout)


def test_a_server_that_refuses_everybody_is_not_asked_for_ever():
    lines = [f"USER u{i}" for i in range(20)]
    events, outcome = run(*lines, answers={f"USER u{i}": RemoteDenied() for i in range(20)})
    assert len(events) == 5
    assert isinstance(outcome.broken, ServerRefuses)
    assert outcome.failed == [] and len(outcome.remaining) == 20
    assert [str(item) for item in outcome.remaining][-5:] == [f"USER u{i}" for i in range(5)]


def test_five_bad_users_among_good_ones_are_just_bad_users():
    answers = {f"USER u{i}": RemoteDenied() for i in range(0, 20, 2)}
    events, outcome = run(*(f"USER u{i}" for i in range(20)), answers=answers)
    assert len(events) == 20
    assert outcome.broken is None and len(outcome.failed) == 10 and outcome.done == 10


@pytest.mark.parametrize("error", [LeftOut([("INBOX", RemoteDenied())]), OwnersTrouble()])
def test_five_owners_with_a_trouble_of_their_own_say_nothing_of_the_server(error):
    events, outcome = run(*(f"USER u{i}" for i in range(9)), answers={f"USER u{i}": error for i in range(9)})
    assert len(events) == 9 and outcome.broken is None and len(outcome.failed) == 9


def test_owners_who_are_known_to_fail_say_nothing_of_the_server():
    lines = [f"USER u{i}" for i in range(9)]
    known = [Owner("user", f"u{i}") for i in range(6)]
    events, outcome = run(*lines, answers=dict.fromkeys(lines, RemoteDenied()), known=known)
    assert len(events) == 9 and outcome.broken is None
    _, outcome = run(*lines, answers=dict.fromkeys(lines, RemoteDenied()), known=known[:4])
    assert isinstance(outcome.broken, ServerRefuses)


def test_a_run_that_gives_way_does_what_cannot_wait():
    first: Deferred[None] = Deferred()
    events: list[str] = []
    lines = ("MAILBOX user.a", "MAILBOX user.b", "SUB c user.c", "USER d")
    made = Run(
        plan_of(*lines),
        FakeConnection(events, {"MAILBOXES user.a": first}),
        can_wait=lambda item: item.kind is Kind.USER,
    )
    done: list[Outcome] = []
    Deferred.fromCoroutine(made.go()).addCallback(done.append)
    made.give_way()
    first.callback(None)
    assert events == ["MAILBOXES user.a", "MAILBOXES user.b", "SUB c user.c"]
    assert [str(item) for item in done[0].remaining] == ["USER d"] and done[0].gave_way


def test_items_of_different_owners_overlap_and_those_of_one_do_not():
    waits = {f"MAILBOXES user.{user}": Deferred() for user in "abc"}
    events: list[str] = []
    made = Run(
        plan_of("MAILBOX user.a", "MAILBOX user.b", "MAILBOX user.c", "QUOTA user.a"),
        FakeConnection(events, dict(waits)),
        width=2,
    )
    done: list[Outcome] = []
    Deferred.fromCoroutine(made.go()).addCallback(done.append)
    assert events == ["MAILBOXES user.a", "MAILBOXES user.b"]
    waits["MAILBOXES user.b"].callback(None)
    assert events[2:] == ["MAILBOXES user.c"]
    waits["MAILBOXES user.a"].callback(None)
    assert events[3:] == ["QUOTA user.a"]
    assert made.queue == 1
    waits["MAILBOXES user.c"].callback(None)
    assert done[0].complete and made.queue == 0


def test_owners_between_whom_a_mailbox_was_renamed_do_not_overlap():
    wait: Deferred[None] = Deferred()
    events: list[str] = []
    made = Run(
        plan_of("RENAME user.a.x user.b.x", "MAILBOX user.c"),
        FakeConnection(events, {"MAILBOXES user.a.x user.b.x": [wait]}),
        width=8,
    )
    Deferred.fromCoroutine(made.go())
    assert events == ["MAILBOXES user.a.x user.b.x", "MAILBOXES user.c"]
    wait.callback(None)
    assert events[2:] == ["MAILBOXES user.a.x user.b.x"]


def test_an_interrupted_run_ends_after_what_is_under_way():
    wait: Deferred[None] = Deferred()
    events: list[str] = []
    made = Run(plan_of("USER a", "USER b"), FakeConnection(events, {"USER a": wait}))
    done: list[Outcome] = []
    Deferred.fromCoroutine(made.go()).addCallback(done.append)
    made.interrupt()
    assert not done
    wait.callback(None)
    (outcome,) = done
    assert events == ["USER a"] and outcome.done == 1
    assert [str(item) for item in outcome.remaining] == ["USER b"]


def test_a_hundred_thousand_items_need_no_deep_stack():
    events, outcome = run(*(f"QUOTA user.u{i}" for i in range(20_000)))
    assert outcome.done == len(events) == 20_000


_errors = st.sampled_from([None, None, None, SyncChecksum(), MailboxLocked(), StoreError(), ConnectionLost()])


@given(
    st.lists(
        st.sampled_from(
            [
                "MAILBOX user.a",
                "MAILBOX user.b.x",
                "META a",
                "USER c",
                "SUB d user.d",
                "UNUSER e",
                "MAILBOX news",
            ]
        ),
        max_size=7,
    ),
    st.lists(_errors, min_size=30, max_size=30),
    st.integers(1, 4),
)
def test_every_item_ends_up_in_exactly_one_place(lines, errors, width):
    plan = plan_of(*lines)
    drawn = iter(errors)

    class Answers(dict):
        def get(self, key, default=None) -> CyrusSyncError | None:
            return next(drawn, None)

    made = Run(plan, FakeConnection([], Answers()), width=width)
    outcomes: list[Outcome] = []
    Deferred.fromCoroutine(made.go()).addCallback(outcomes.append)
    (outcome,) = outcomes
    left = outcome.remaining + outcome.deferred + [failure.item for failure in outcome.failed]
    assert len(left) == len(set(left))
    owners_left = {item.owner for item in left}
    if outcome.broken is None:
        assert not outcome.remaining
    promoted_or_done = {item.owner for item in plan.items} - owners_left
    assert outcome.done >= len(promoted_or_done)


def test_what_both_ends_have_alike_is_done_without_asking():
    events: list[str] = []
    lines = [
        "MAILBOX user.a",
        "QUOTA user.a",
        "SUB a user.a",
        "RENAME user.a.x user.b.x",
        "UNUSER c",
        "USER b",
    ]
    plan = plan_of(*lines, "MAILBOX news")
    outcomes: list[Outcome] = []
    made = Run(plan, FakeConnection(events, {}), agreeing={"a", "c", "news"})
    Deferred.fromCoroutine(made.go()).addCallback(outcomes.append)
    assert outcomes[0].complete and outcomes[0].done == len(plan.items)
    # A mailbox that has gone from one user to another, a user who is gone, and what is no user's:
    assert {"UNUSER c", "USER b", "MAILBOXES news"} <= set(events)
    assert any("user.b.x" in event for event in events)
    assert not {"QUOTA user.a", "SUB a user.a"} & set(events)
