"""Merging log lines into a plan: nothing is lost, nothing is done twice, and it is fast."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.synclog.lines import LogLine, parse_lines
from cyrus_sync.sync_client.merge import WorkPlan, merge
from cyrus_sync.sync_client.work import Item, Kind


def plan_of(*lines: str) -> WorkPlan:
    return merge([LogLine(kind, tuple(args)) for kind, *args in (line.split() for line in lines)])


def texts(*lines: str) -> list[str]:
    return [str(item) for item in plan_of(*lines).items]


def alice() -> Owner:
    return Owner("user", "alice")


@pytest.mark.covers("Lines of the action log", "APPEND", "MAILBOX")
def test_mailboxes_are_grouped_by_owner_in_the_order_of_the_log():
    assert texts("MAILBOX user.bob", "MAILBOX user.alice", "MAILBOX user.bob.x", "APPEND user.alice") == [
        "MAILBOXES user.bob user.bob.x",
        "MAILBOX user.alice",
    ]


def test_deleted_mailboxes_belong_to_whom_they_belonged_to():
    assert texts("MAILBOX DELETED.user.alice.x.6B013001", "MAILBOX user.alice") == [
        "MAILBOXES DELETED.user.alice.x.6B013001 user.alice"
    ]


@pytest.mark.covers("Lines of the action log", "DOUBLEMAILBOX")
def test_doublemailbox_files_both_names_under_the_first_ones_owner():
    plan = plan_of("DOUBLEMAILBOX user.alice user.bob.in")
    assert plan.items == [Item(Kind.MAILBOXES, alice(), ("user.alice", "user.bob.in"))]


@pytest.mark.covers("Lines of the action log", "RENAME")
def test_rename_files_both_names_under_both_owners():
    plan = plan_of("RENAME user.alice.x user.bob.x")
    assert [(item.owner.name, item.args) for item in plan.items] == [
        ("alice", ("user.alice.x", "user.bob.x")),
        ("bob", ("user.alice.x", "user.bob.x")),
    ]


def test_owners_between_whom_mailboxes_moved_share_a_lane():
    plan = plan_of("RENAME user.alice.x user.bob.x", "RENAME user.carol.x user.bob.y", "MAILBOX user.dave")
    lanes = {name: plan.lane(Owner("user", name)) for name in ("alice", "bob", "carol", "dave")}
    assert lanes["alice"] == lanes["bob"] == lanes["carol"]
    assert lanes["dave"] != lanes["alice"]


@pytest.mark.covers("Lines of the action log", "USER", "META", "UNMAILBOX")
def test_work_is_done_in_cyrus_order():
    assert texts(
        "UNUSER zoe",
        "USER bob",
        "META carol",
        "UNMAILBOX user.dave.x",
        "SUB dave user.dave.y",
        "SEEN eve id1",
        "ANNOTATION user.eve",
        "QUOTA user.eve",
        "MAILBOX user.eve",
    ) == [
        "MAILBOX user.eve",
        "QUOTA user.eve",
        "ANNOTATION user.eve",
        "SEEN eve id1",
        "SUB dave user.dave.y",
        "UNMAILBOX user.dave.x",
        "META carol",
        "USER bob",
        "UNUSER zoe",
    ]


@pytest.mark.covers("Lines of the action log", "USER")
def test_user_swallows_his_meta_seen_and_sub_but_not_his_mailboxes():
    assert texts("META a", "SEEN a id1", "SUB a user.a.x", "MAILBOX user.a", "USER a", "SEEN b id1") == [
        "MAILBOX user.a",
        "SEEN b id1",
        "USER a",
    ]


@pytest.mark.covers("Lines of the action log", "META")
def test_meta_swallows_seen_and_sub():
    assert texts("SEEN a id1", "SUB a user.a.x", "SIEVE a") == ["META a"]


@pytest.mark.covers("Lines of the action log", "UNUSER")
def test_unuser_swallows_all_and_remembers_that_the_user_may_be_back():
    assert texts("USER a", "UNUSER a", "META a", "SEEN a id1", "SUB a user.a.x") == ["UNUSER a"]


@pytest.mark.covers("Lines of the action log", "SUB")
def test_unsub_is_the_same_work_as_sub():
    assert texts("SUB a user.a.x", "UNSUB a user.a.x") == ["SUB a user.a.x"]


def test_the_servers_own_annotations_have_an_owner():
    (item,) = merge([LogLine("ANNOTATION", ("",))]).items
    assert item.owner == Owner("server", "")
    assert str(item) == 'ANNOTATION ""'


def test_poison_lines_are_handed_over_with_the_reason_and_the_others_flow():
    rejected = []
    long = "user.alice." + "x" * 480
    plan = merge(
        [
            LogLine("MAILBOX", (long,)),
            LogLine("MAILBOX", ("user.alice..x",)),
            LogLine("USER", ("../etc",)),
            LogLine("SEEN", ("alice",)),
            LogLine("SEEN", ("alice", "a b\n")),
            LogLine("FROBNICATE", ("x",)),
            LogLine("RENAME", ("user.alice", "a/b")),
            LogLine("MAILBOX", ("user.bob",)),
        ],
        lambda line, reason: rejected.append((line.type, reason)),
    )
    assert [str(item) for item in plan.items] == ["MAILBOX user.bob"]
    assert [kind for kind, _ in rejected] == [
        "MAILBOX", "MAILBOX", "USER", "SEEN", "SEEN", "FROBNICATE", "RENAME",
    ]  # fmt: skip
    assert all(reason for _, reason in rejected)


def test_a_hundred_thousand_lines_are_merged_in_well_under_a_second():
    data = b"".join(
        b"APPEND user.u%d.box%d\nMAILBOX user.u%d.box%d\n" % (i % 997, i % 50_000, i % 997, i % 50_000)
        for i in range(50_000)
    )
    lines = parse_lines(data)
    assert len(lines) == 100_000
    began = time.process_time()
    plan = merge(lines)
    spent = time.process_time() - began
    assert sum(len(item.args) for item in plan.items) == 50_000
    assert spent < 1.0


# -- properties

_users = st.sampled_from(["a", "b", "c"])
_boxes = st.builds(
    lambda user, box: f"user.{user}{box}", _users, st.sampled_from(["", ".x", ".y", ".z"])
) | st.sampled_from(["shared", "shared.news", "other", "DELETED.user.a.x.6B013001"])


def _line(kind: str, *args: str) -> LogLine:
    return LogLine(kind, args)


_lines = st.lists(
    st.one_of(
        st.builds(_line, st.sampled_from(["MAILBOX", "APPEND", "UNMAILBOX", "QUOTA"]), _boxes),
        st.builds(_line, st.sampled_from(["RENAME", "DOUBLEMAILBOX"]), _boxes, _boxes),
        st.builds(_line, st.just("ANNOTATION"), _boxes | st.just("")),
        st.builds(_line, st.sampled_from(["USER", "UNUSER", "META", "SIEVE"]), _users),
        st.builds(_line, st.just("SEEN"), _users, st.sampled_from(["id1", "id2"])),
        st.builds(_line, st.sampled_from(["SUB", "UNSUB"]), _users, _boxes),
    ),
    max_size=40,
)  # fmt: skip


def covers(items: list[Item], line: LogLine) -> bool:
    """Does some work of the plan see to what the line says?"""

    def has(kind: Kind, *args: str) -> bool:
        return any(item.kind is kind and item.args == args for item in items)

    def whole(user: str) -> bool:
        return has(Kind.USER, user) or has(Kind.UNUSER, user)

    def group(owner: Owner, *names: str) -> bool:
        return any(i.kind is Kind.MAILBOXES and i.owner == owner and set(names) <= set(i.args) for i in items)

    first = line.args[0]
    match line.type:
        case "MAILBOX" | "APPEND":
            return group(owner_of(first), first)
        case "DOUBLEMAILBOX":
            return group(owner_of(first), *line.args)
        case "RENAME":
            return all(group(owner_of(name), *line.args) for name in line.args)
        case "UNMAILBOX" | "QUOTA" | "ANNOTATION":
            return has(Kind[line.type], first)
        case "USER":
            return whole(first)
        case "UNUSER":
            return has(Kind.UNUSER, first)
        case "META" | "SIEVE":
            return has(Kind.META, first) or whole(first)
        case "SEEN":
            return has(Kind.SEEN, *line.args) or has(Kind.META, first) or whole(first)
        case _:
            return has(Kind.SUB, *line.args) or has(Kind.META, first) or whole(first)


def normal(plan: WorkPlan) -> set[tuple[Kind, Owner, frozenset[str] | tuple[str, ...]]]:
    return {(i.kind, i.owner, frozenset(i.args) if i.kind is Kind.MAILBOXES else i.args) for i in plan.items}


@given(_lines)
def test_no_line_is_lost(lines):
    rejected: list[LogLine] = []
    items = merge(lines, lambda line, reason: rejected.append(line)).items
    assert not rejected
    for line in lines:
        assert covers(items, line), line


@given(_lines, st.randoms())
def test_the_order_of_the_lines_makes_no_difference_to_the_work(lines, random):
    shuffled = list(lines)
    random.shuffle(shuffled)
    assert normal(merge(lines)) == normal(merge(shuffled))


@given(_lines, _lines)
def test_work_put_back_and_merged_with_new_lines_is_as_good_as_merging_all_at_once(before, after):
    again = [LogLine(line[0], line[1:]) for line in merge(before).lines()]
    items = merge([*again, *after]).items
    for line in before + after:
        assert covers(items, line), line


@given(_lines)
def test_the_lines_of_a_plan_merge_to_the_same_work(lines):
    plan = merge(lines)
    again = [LogLine(line[0], line[1:]) for line in plan.lines()]
    assert normal(merge(again)) == normal(plan)


@given(_lines)
def test_items_stand_in_the_order_of_work_and_none_twice(lines):
    items = merge(lines).items
    assert [item.kind for item in items] == sorted(item.kind for item in items)
    assert len(set(items)) == len(items)
