"""What becomes of our changes when the master has spoken, row by row, and what never becomes of them."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.identity import identity
from cyrus_sync.common.model import Annotation, Record
from cyrus_sync.multisite.oplog.masters import Base
from cyrus_sync.multisite.replay.rebase import RebasePlan, changed_here, plan_rebase

BASE = Base(modseq=100, last_uid=10, told_id=5, told_modseq=110)
HIGHEST, LAST = 200, 20


def record(uid: int, message: str = "", **more: object) -> Record:
    """A record that the master and we have in common, unless something is said besides."""
    guid = hashlib.sha1((message or str(uid)).encode()).digest()
    made = Record(
        uid=uid, modseq=50, last_updated=1000, flags="", expunged=False, internaldate=900, size=9,
        guid=guid, savedate=950, createdmodseq=uid,
    )  # fmt: skip
    return made._replace(**more)  # type: ignore[arg-type]


def plan(theirs: list[Record], ours: list[Record], *, settled: int = 0, their_last: int = LAST) -> RebasePlan:
    return plan_rebase(
        {one.uid: one for one in theirs},
        ours,
        BASE,
        answered_modseq=settled,
        their_last_uid=their_last,
        highestmodseq=HIGHEST,
        last_uid=LAST,
    )


def plain(records: list[Record]) -> list[Record]:
    return [one._replace(modseq=0) for one in records]


# -- settled


def test_settled_and_changed_here_the_masters_record_counts() -> None:
    ours = record(3, modseq=105, flags="\\Seen", last_updated=5000)
    assert plan([record(3, flags="\\Flagged", modseq=150)], [ours], settled=110) == RebasePlan(
        told_modseq=HIGHEST
    )


def test_settled_and_changed_here_what_the_master_left_alone_is_left_alone() -> None:
    ours = record(3, modseq=105, flags="\\Seen")
    assert plan([], [ours], settled=110) == RebasePlan(told_modseq=HIGHEST)


def test_settled_and_new_here_the_masters_record_of_that_uid_counts() -> None:
    ours = record(12, modseq=105, flags="\\Seen", last_updated=5000)
    assert plan([record(12, modseq=150)], [ours], settled=110) == RebasePlan(told_modseq=HIGHEST)


def test_settled_and_new_here_but_not_told_he_has_it_under_another_uid() -> None:
    ours = record(12, modseq=105)
    told = plan([record(15, "12", createdmodseq=12)], [ours], settled=110)
    assert (told.drop, told.keep, told.reused) == ({12}, [], False)


def test_settled_and_new_here_under_a_uid_that_he_gave_to_another_message_uidvalidity_rises() -> None:
    told = plan([record(12, "another")], [record(12, modseq=105)], settled=110)
    assert (told.drop, told.keep, told.reused) == ({12}, [], True)


def test_what_was_changed_after_the_last_that_is_settled_is_not_settled() -> None:
    ours = record(3, modseq=111, flags="\\Seen")
    assert plain(plan([], [ours], settled=110).keep) == plain([ours])


# -- not settled, changed here


def test_our_change_stays_where_the_master_says_nothing() -> None:
    ours = record(3, modseq=120, flags="\\Seen")
    told = plan([], [ours])
    assert plain(told.keep) == plain([ours])
    assert told.keep[0].modseq > HIGHEST and not told.drop


def test_an_expunge_by_the_master_wins_over_our_flags() -> None:
    ours = record(3, modseq=120, flags="\\Seen", last_updated=9000)
    assert plan([record(3, expunged=True)], [ours]).keep == []


def test_our_expunge_wins_over_his_flags() -> None:
    ours = record(3, modseq=120, expunged=True, last_updated=1)
    (kept,) = plan([record(3, flags="\\Flagged", last_updated=9000)], [ours]).keep
    assert kept.expunged and kept.flags == "\\Flagged"


@pytest.mark.parametrize(
    ("his", "mine", "wins"), [(3000, 3001, True), (3000, 3000, True), (3001, 3000, False)]
)
def test_the_later_change_of_flags_wins_or_ours_if_both_are_equal(his: int, mine: int, wins: bool) -> None:
    theirs = record(3, flags="\\Flagged", last_updated=his, modseq=150)
    kept = plan([theirs], [record(3, modseq=120, flags="\\Seen", last_updated=mine)]).keep
    assert [one.flags for one in kept] == (["\\Seen"] if wins else [])


def test_annotations_and_conversations_go_with_the_flags() -> None:
    notes = (Annotation("/comment", "bob", 7, b"mine"),)
    ours = record(3, modseq=120, flags="\\Seen", last_updated=9000, annotations=notes, thrid=77)
    (kept,) = plan([record(3, last_updated=2000)], [ours]).keep
    assert (kept.annotations, kept.thrid) == (notes, 77)


def test_where_both_say_the_same_nothing_of_ours_is_kept() -> None:
    ours = record(3, modseq=120, flags="\\Seen \\Flagged", last_updated=9000)
    assert plan([record(3, flags="\\Flagged \\seen", last_updated=2000)], [ours]).keep == []


def test_a_uid_of_the_base_that_means_another_message_now_is_the_masters_and_ours_gets_a_new_one() -> None:
    told = plan([record(3, "another")], [record(3, modseq=120, flags="\\Seen")])
    assert [one.guid for one in told.keep] == [record(3).guid] and told.keep[0].uid > 10
    assert (told.drop, told.reused) == ({3}, True)


# -- not settled, new here


def test_a_message_that_the_master_has_got_under_the_same_uid_is_his_record_with_our_later_flags() -> None:
    theirs = record(12, modseq=150, last_updated=2000)
    ours = record(12, modseq=120, flags="\\Seen", last_updated=3000)
    (kept,) = plan([theirs], [ours]).keep
    assert (kept.uid, kept.flags) == (12, "\\Seen")


def test_a_message_that_the_master_has_got_under_another_uid_is_his_record_with_our_later_flags() -> None:
    theirs = record(15, "12", createdmodseq=12, modseq=150, last_updated=2000)
    ours = record(12, modseq=120, flags="\\Seen", last_updated=3000)
    told = plan([theirs], [ours])
    assert [(one.uid, one.flags) for one in told.keep] == [(15, "\\Seen")]
    assert told.drop == {12}


def test_one_that_he_has_and_expunged_stays_expunged() -> None:
    theirs = record(15, "12", createdmodseq=12, expunged=True)
    told = plan([theirs], [record(12, modseq=120)])
    assert (told.keep, told.drop) == ([], {12})


@pytest.mark.parametrize("knows", [{"createdmodseq": 0}, {"savedate": 0, "createdmodseq": 0}])
def test_a_master_who_knows_fewer_dates_has_the_message_all_the_same(knows: dict[str, int]) -> None:
    told = plan([record(15, "12", createdmodseq=12)], [record(12, modseq=120, **knows)])
    assert (told.keep, told.drop) == ([], {12})


def test_a_copy_with_other_dates_is_another_message() -> None:
    theirs = record(15, "12", createdmodseq=150, savedate=1234)
    told = plan([theirs], [record(12, modseq=120)], their_last=15)
    assert [one.uid for one in told.keep] == [21] and told.drop == {12}


def test_one_that_is_only_here_keeps_its_uid_where_the_master_has_not_gone_past_it() -> None:
    told = plan([record(11)], [record(12, modseq=120)], their_last=11)
    assert [one.uid for one in told.keep] == [12]
    assert (told.drop, told.reused) == (set(), False)


def test_one_that_is_only_here_gets_a_new_uid_where_the_master_has_gone_past_it() -> None:
    told = plan([record(13)], [record(12, modseq=120)], their_last=13)
    assert [one.uid for one in told.keep] == [LAST + 1]
    assert (told.drop, told.reused) == ({12}, False), "12 means no other message now"


def test_one_whose_uid_he_gave_to_another_message_gets_a_new_one_and_uidvalidity_rises() -> None:
    told = plan([record(12, "another")], [record(12, modseq=120)], their_last=12)
    assert [one.uid for one in told.keep] == [LAST + 1]
    assert (told.drop, told.reused) == ({12}, True)


@pytest.mark.parametrize("expunged", ["his", "ours"])
def test_uidvalidity_stays_where_nobody_could_take_one_message_for_the_other(expunged: str) -> None:
    theirs = record(12, "another", expunged=expunged == "his")
    ours = record(12, modseq=120, expunged=expunged == "ours")
    assert not plan([theirs], [ours], their_last=12).reused


def test_a_message_that_is_there_twice_is_his_twice_and_no_record_is_kept_twice() -> None:
    theirs = [record(15, "twice", createdmodseq=9), record(16, "twice", createdmodseq=9)]
    ours = [
        record(12, "twice", createdmodseq=9, modseq=120, flags="a", last_updated=3000),
        record(13, "twice", createdmodseq=9, modseq=120, flags="b", last_updated=3000),
    ]
    told = plan(theirs, ours)
    assert {one.uid: one.flags for one in told.keep} == {15: "a", 16: "b"}


def test_the_second_of_two_equal_messages_of_which_the_master_has_one_stays() -> None:
    theirs = [record(12, "twice", createdmodseq=9)]
    ours = [
        record(13, "twice", createdmodseq=9, modseq=115),
        record(12, "twice", createdmodseq=9, modseq=120),
    ]
    told = plan(theirs, ours, their_last=12)
    assert [one.uid for one in told.keep] == [13] and not told.drop


# -- counters


def test_what_was_told_comes_before_what_was_not_and_the_plan_says_up_to_where() -> None:
    ours = [
        record(3, modseq=115, flags="a"),
        record(4, modseq=105, flags="b"),
        record(12, modseq=104),
        record(13, modseq=130),
    ]
    told = plan([], ours, their_last=10)
    by_uid = {one.uid: one.modseq for one in told.keep}
    assert sorted(by_uid, key=by_uid.__getitem__) == [12, 4, 3, 13]
    assert (told.told_modseq, told.told_uid) == (by_uid[4], 12)


def test_changed_here_is_what_came_after_the_base_or_is_beyond_its_last_uid() -> None:
    old, changed, new = record(3), record(4, modseq=101), record(11, modseq=60)
    assert changed_here([[old, changed], [new]], BASE) == [changed, new]


# -- whatever comes

MESSAGES = st.sampled_from("abcdefgh")
DATES = st.sampled_from([(900, 950, 7), (900, 950, 8), (901, 0, 0)])


@st.composite
def a_record(draw: st.DrawFn, modseqs: st.SearchStrategy[int]) -> Record:
    internaldate, savedate, createdmodseq = draw(DATES)
    return record(
        draw(st.integers(1, 18)),
        draw(MESSAGES),
        modseq=draw(modseqs),
        flags=draw(st.sampled_from(["", "\\Seen", "\\Flagged"])),
        expunged=draw(st.booleans()),
        last_updated=draw(st.integers(1, 4)),
        internaldate=internaldate,
        savedate=savedate,
        createdmodseq=createdmodseq,
    )


def by_uid(records: list[Record]) -> list[Record]:
    return sorted({one.uid: one for one in records}.values(), key=lambda one: one.uid)


THEIRS = st.lists(a_record(st.integers(101, HIGHEST)), max_size=8).map(by_uid)
OURS = st.lists(a_record(st.integers(90, 140)), max_size=8).map(by_uid)


def made_of(theirs: list[Record], ours: list[Record], told: RebasePlan) -> dict[int, Record]:
    """What a mailbox that held `ours` holds afterwards."""
    held = {one.uid: one for one in ours if one.uid not in told.drop}
    held |= {one.uid: one for one in theirs}
    return held | {one.uid: one for one in told.keep}


@given(THEIRS, OURS, st.sampled_from([0, 105, 110]), st.integers(10, 18))
def test_nothing_live_that_is_not_settled_disappears(
    theirs: list[Record], ours: list[Record], settled: int, their_last: int
) -> None:
    ours = changed_here([ours], BASE)
    their_last = max([their_last, *(one.uid for one in theirs)])
    told = plan(theirs, ours, settled=settled, their_last=their_last)
    held = made_of(theirs, ours, told)
    his = {one.uid: one for one in theirs}
    for one in ours:
        if one.expunged or one.modseq <= settled:
            continue
        if one.uid <= BASE.last_uid:
            # It was the master's: he alone can take it away, or say what this UID is.
            assert one.uid in held
            assert one.uid in his or held[one.uid].guid == one.guid
            continue
        same = [other for other in held.values() if other.guid == one.guid]
        expunged = [other for other in theirs if other.guid == one.guid and other.expunged]
        assert any(not other.expunged for other in same) or expunged


@given(THEIRS, OURS, st.sampled_from([0, 105, 110]), st.integers(10, 18))
def test_kept_records_never_take_a_uid_of_another_message_of_the_master(
    theirs: list[Record], ours: list[Record], settled: int, their_last: int
) -> None:
    ours = changed_here([ours], BASE)
    their_last = max([their_last, *(one.uid for one in theirs)])
    told = plan(theirs, ours, settled=settled, their_last=their_last)
    his = {one.uid: one for one in theirs}
    mine = {one.uid: one for one in ours}
    uids = [one.uid for one in told.keep]
    assert uids == sorted(set(uids))
    for one in told.keep:
        assert one.uid not in his or identity(his[one.uid]) == identity(one)
        assert one.uid in his or one.uid in mine or one.uid > max(LAST, their_last)
    modseqs = [one.modseq for one in told.keep]
    assert len(set(modseqs)) == len(modseqs) and all(modseq > HIGHEST for modseq in modseqs)
    assert told.told_modseq <= max([HIGHEST, *modseqs])


@given(THEIRS, OURS, st.integers(10, 18))
def test_what_was_told_is_below_what_was_not(
    theirs: list[Record], ours: list[Record], their_last: int
) -> None:
    ours = [one for one in changed_here([ours], BASE) if one.uid > 18 - 8]
    their_last = max([their_last, *(one.uid for one in theirs)])
    told = plan(theirs, ours, their_last=their_last)
    untold = {one.guid for one in ours if one.modseq > BASE.told_modseq}
    in_log = {one.guid for one in ours if one.modseq <= BASE.told_modseq} - untold
    only_untold = untold - {one.guid for one in ours if one.modseq <= BASE.told_modseq}
    for one in told.keep:
        if one.guid in in_log:
            assert one.modseq <= told.told_modseq and one.uid <= told.told_uid
        if one.guid in only_untold:
            assert one.modseq > told.told_modseq


@given(THEIRS, OURS, st.integers(10, 18))
def test_the_same_word_again_changes_nothing_but_modseqs(
    theirs: list[Record], ours: list[Record], their_last: int
) -> None:
    ours = changed_here([ours], BASE)
    their_last = max([their_last, *(one.uid for one in theirs)])
    first = plan(theirs, ours, their_last=their_last)
    held = made_of(theirs, ours, first)
    top = max([HIGHEST, *(one.modseq for one in first.keep)])
    last = max([LAST, *held])
    base = Base(HIGHEST, their_last, 5, first.told_modseq)
    again = plan_rebase(
        {one.uid: one for one in theirs},
        changed_here([list(held.values())], base),
        base,
        answered_modseq=0,
        their_last_uid=their_last,
        highestmodseq=top,
        last_uid=last,
    )
    after = made_of(theirs, list(held.values()), again)
    assert {uid: one._replace(modseq=0) for uid, one in after.items()} == {
        uid: one._replace(modseq=0) for uid, one in held.items()
    }
