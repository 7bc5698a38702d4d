"""What a settlement says, and whether it is still right when it comes to be carried out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cyrus_sync.common.master import Renumbered, Settlement
from cyrus_sync.common.model import Annotation, MailboxState, Record

BASE = MailboxState(
    uniqueid="id",
    name="user.alice",
    last_uid=10,
    highestmodseq=50,
    uidvalidity=7,
    sync_crc=5,
    deletedmodseq=20,
)
REPLICA = replace(BASE, last_uid=12, highestmodseq=60, sync_crc=6)


def record(uid: int, modseq: int = 40) -> Record:
    return Record(uid, modseq, 1000, "", False, 1, 10, b"\x01" * 20)


SETTLEMENT = Settlement(
    BASE,
    REPLICA,
    counters={"highestmodseq": 61, "last_uid": 12, "uidvalidity": 7},
    adopt=(record(11), record(12)),
    renumber=(Renumbered(record(5), adopted=False), Renumbered(record(6), adopted=True)),
    rewrite=(record(5)._replace(expunged=True), record(7)),
    annotations=(Annotation("/comment", "", 0, b"x"),),
    expunge=(6,),
)


def now(**fields: Any) -> MailboxState:
    return replace(BASE, highestmodseq=90, sync_crc=99, **fields)


def test_an_unchanged_mailbox_is_what_was_decided_on() -> None:
    assert SETTLEMENT.still_holds(BASE, [])
    assert not SETTLEMENT.still_holds(replace(BASE, sync_crc=8), []), "the same counter, other records"


@pytest.mark.parametrize(
    ("why", "changed"),
    [
        ("new mail beyond what the replica has", record(13, 90)),
        ("another message, with a change that the replica is going to be sent", record(2, 90)),
        ("one that lies where an adopted one stands at the replica", record(6, 90)),
    ],
)
def test_what_happened_beside_it_does_no_harm(why: str, changed: Record) -> None:
    assert SETTLEMENT.still_holds(now(), [changed]), why


@pytest.mark.parametrize(
    ("why", "changed"),
    [
        ("new mail under a UID that the replica has", record(12, 90)),
        ("a message that is rewritten", record(7, 90)),
        ("a message that is renumbered", record(5, 90)),
        ("a change that the replica would not be sent", record(2, 60)),
    ],
)
def test_what_it_speaks_of_must_not_have_changed(why: str, changed: Record) -> None:
    assert not SETTLEMENT.still_holds(now(), [record(13, 90), changed]), why


@pytest.mark.parametrize(
    "change",
    [{"uidvalidity": 8}, {"deletedmodseq": 21}, {"annotations": (Annotation("/comment", "", 1, b"y"),)}],
)
def test_another_header_is_decided_on_anew(change: dict[str, Any]) -> None:
    assert not SETTLEMENT.still_holds(now(**change), [])


def test_annotations_may_change_where_they_are_left_alone() -> None:
    alone = replace(SETTLEMENT, annotations=None)
    assert alone.still_holds(now(annotations=(Annotation("/comment", "", 1, b"y"),)), [])


def test_counters_rise_whatever_has_happened() -> None:
    only = Settlement(BASE, REPLICA, counters={"uidvalidity": 8})
    assert only.still_holds(now(uidvalidity=9, deletedmodseq=30), [record(1, 90)])


def test_only_counters_that_are_higher_are_raised() -> None:
    assert SETTLEMENT.raised == {"highestmodseq": 61, "last_uid": 12}


def test_a_settlement_that_only_expunges_on_the_replica_changes_nothing_here() -> None:
    assert Settlement(BASE, REPLICA, counters={"last_uid": 10}, expunge=(3,)).changes_nothing
    for fields in ("adopt", "renumber", "rewrite", "annotations"):
        one = Settlement(BASE, REPLICA, **{fields: getattr(SETTLEMENT, fields)})
        assert not one.changes_nothing, fields
    assert not Settlement(BASE, REPLICA, counters={"last_uid": 11}).changes_nothing


def test_no_annotations_at_all_are_a_change() -> None:
    assert not Settlement(BASE, REPLICA, annotations=()).changes_nothing


def test_what_differs_is_told_in_words() -> None:
    assert SETTLEMENT.describe() == (
        "3 messages that only the replica has, 1 message whose UID means another message, or none, there,"
        " 1 message whose flags, state or annotations differ, annotations of the mailbox,"
        " HIGHESTMODSEQ is 61 there, LAST_UID is 12 there"
    )


def test_messages_that_were_not_fetched_are_not_given() -> None:
    assert SETTLEMENT.bodies.get(b"\x01" * 20) is None
