"""When two records are one message, and what two records of one message come to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.identity import (
    annotation_values,
    differs,
    identities,
    identity,
    is_same,
    merged,
    same_content,
)
from cyrus_sync.common.model import Annotation, Record

NOTES = (Annotation("/a", "", 1, b"x"), Annotation("/b", "alice", 2, b"y"))
ONE = Record(
    uid=5, modseq=60, last_updated=1000, flags="\\Seen Work", expunged=False, internaldate=7, size=10,
    guid=b"\x01" * 20, thrid=3, savedate=8, createdmodseq=9, annotations=NOTES,
)  # fmt: skip
OTHERS = [
    {"guid": b"\x02" * 20},
    {"internaldate": 70},
    {"savedate": 80},
    {"createdmodseq": 90},
]
"""Each makes another message of it."""
SAID = [
    {"flags": "\\Seen"},
    {"expunged": True},
    {"thrid": 4},
    {"annotations": NOTES[:1]},
]
"""Each makes it say something else."""


def the_field(change: dict[str, object]) -> str:
    return next(iter(change))


@pytest.mark.parametrize("change", [{"uid": 6}, {"modseq": 61}, {"last_updated": 2}, *SAID], ids=the_field)
def test_a_message_stays_itself_whatever_happens_to_it(change: dict[str, object]) -> None:
    assert is_same(ONE, ONE._replace(**change))  # type: ignore[arg-type]


@pytest.mark.parametrize("change", OTHERS, ids=the_field)
def test_another_content_or_date_or_making_is_another_message(change: dict[str, object]) -> None:
    other = ONE._replace(**change)  # type: ignore[arg-type]
    assert not is_same(ONE, other)
    assert identity(ONE) != identity(other)


@pytest.mark.parametrize("unknown", [{"createdmodseq": 0}, {"createdmodseq": 0, "savedate": 0}])
def test_what_an_older_end_does_not_know_makes_no_other_message(unknown: dict[str, int]) -> None:
    there = ONE._replace(**unknown)
    assert is_same(ONE, there), "we may have made ours of it"
    assert not is_same(there, ONE), "it was not made of one that had more to tell"


def test_a_save_date_that_alone_is_unknown_is_another_message() -> None:
    assert not is_same(ONE, ONE._replace(savedate=0))
    assert identities(ONE)[0] == identity(ONE)


@pytest.mark.parametrize("change", SAID, ids=the_field)
def test_flags_thread_annotations_and_expunging_are_what_a_record_says(change: dict[str, object]) -> None:
    other = ONE._replace(**change)  # type: ignore[arg-type]
    assert not same_content(ONE, other)
    assert differs(ONE, other)


def test_order_and_case_of_flags_and_modseqs_of_annotations_say_nothing() -> None:
    other = ONE._replace(
        flags="work \\seen", annotations=tuple(note._replace(modseq=99) for note in reversed(NOTES))
    )
    assert same_content(ONE, other)
    assert not differs(ONE, other)
    assert annotation_values(ONE.annotations) == annotation_values(other.annotations)


@pytest.mark.parametrize("change", [{"modseq": 61}, {"last_updated": 1}, *OTHERS[1:]], ids=the_field)
def test_records_that_say_the_same_may_differ(change: dict[str, object]) -> None:
    other = ONE._replace(**change)  # type: ignore[arg-type]
    assert same_content(ONE, other)
    assert differs(ONE, other)


def test_size_and_uid_are_no_difference() -> None:
    assert not differs(ONE, ONE._replace(size=11, uid=6))


LATER = ONE._replace(uid=6, modseq=99, last_updated=5000, flags="\\Draft", thrid=0, annotations=())


def test_who_wins_gives_flags_thread_and_annotations_and_nothing_else() -> None:
    assert merged(ONE, LATER, other_wins=True) == ONE._replace(flags="\\Draft", thrid=0, annotations=())
    assert merged(ONE, LATER, other_wins=False) == ONE


@given(st.booleans(), st.booleans(), st.booleans())
def test_expunge_wins_whoever_did_it(here: bool, there: bool, other_wins: bool) -> None:
    result = merged(ONE._replace(expunged=here), LATER._replace(expunged=there), other_wins=other_wins)
    assert result.expunged == (here or there)
    if here or there:
        assert result == ONE._replace(expunged=True)


@given(st.booleans())
def test_merging_twice_is_merging_once(other_wins: bool) -> None:
    once = merged(ONE, LATER, other_wins=other_wins)
    assert merged(once, LATER, other_wins=other_wins) == once
