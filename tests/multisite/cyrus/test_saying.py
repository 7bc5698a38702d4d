"""What of a master's word a csync server can be told."""

from __future__ import annotations

import pytest

from cyrus_sync.common.model import MailboxState, MailboxUpdate, Record
from cyrus_sync.multisite.cyrus.saying import applied, imposed
from cyrus_sync.multisite.errors import CannotBeSaid

HERE = MailboxState("id", "user.bob", last_uid=5, highestmodseq=50, uidvalidity=7, xconvmodseq=60)
WORD = MailboxState("id", "user.bob", last_uid=6, highestmodseq=40, uidvalidity=7, sync_crc=99)


def record(uid: int, text: str, modseq: int = 30, *, expunged: bool = False) -> Record:
    return Record(uid, modseq, 0, "", expunged, 0, 10, text.encode().ljust(20))


def told(update: MailboxUpdate) -> list[tuple[int, int, bool]]:
    return [(r.uid, r.modseq, r.expunged) for batch in update.records for r in batch]


def test_what_is_new_and_what_was_changed_is_said_for_just_this_state() -> None:
    update = applied(
        MailboxUpdate(WORD), [record(5, "five"), record(6, "six")], HERE, {5: record(5, "five", 20)}
    )
    assert told(update) == [(5, 30, False), (6, 30, False)]
    assert update.since is not None
    assert (update.since.modseq, update.state.sync_crc, update.state.xconvmodseq) == (50, 99, 60)


def test_what_is_expunged_on_both_sides_or_never_was_here_need_not_be_said() -> None:
    mine = {3: record(3, "three", expunged=True)}
    records = [record(2, "two", expunged=True), record(3, "another", expunged=True)]
    assert told(applied(MailboxUpdate(WORD), records, HERE, mine)) == []


@pytest.mark.parametrize(
    ("mine", "said"),
    [
        (record(5, "mine"), "UID 5 is message"),
        (record(5, "mine", expunged=True), "UID 5 is message"),
        (record(5, "five", expunged=True), "UID 5 was expunged here"),
        (None, "UID 5 was passed over here"),
    ],
)
def test_what_cannot_be_said_is_refused_with_its_place(mine: Record | None, said: str) -> None:
    there = {5: mine} if mine else {}
    for say in (applied, imposed):
        with pytest.raises(CannotBeSaid, match=said) as raised:
            say(MailboxUpdate(WORD), [record(5, "five")], HERE, there)
        assert raised.value.address["mailbox"] == "user.bob"


def test_what_is_imposed_is_above_all_that_is_here() -> None:
    mine = {4: record(4, "four", 45), 5: record(5, "five", 50)}
    update = imposed(
        MailboxUpdate(WORD),
        [record(4, "four", 30)],
        HERE,
        mine,
        drop=[5, 2],
        keep=[record(7, "five", 51)],
    )
    # What is to be forgotten is expunged, and a modseq never falls.
    assert told(update) == [(4, 51, False), (5, 51, True), (7, 51, False)]
    assert (update.state.highestmodseq, update.state.last_uid, update.state.sync_crc) == (51, 7, 0)
