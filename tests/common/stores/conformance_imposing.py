"""The contract of a mail store: the verbs with which the import of packets changes mailboxes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cyrus_sync.common.errors import ProtocolError, ReplyError
from cyrus_sync.common.model import Annotation, MailboxUpdate, Record
from cyrus_sync.common.stores.mailstore import MailStore
from tests.common.stores.conformance_base import ONE, THREE, TWO, Conformance
from tests.common.stores.tools import (
    ALICE,
    INBOX,
    Log,
    Stage,
    bodies_in,
    mailbox_in,
    message,
    record_of,
    records_in,
    sums_agree,
)

FOUR = message(4)


def word(store: MailStore, *records: Record, **more: object) -> MailboxUpdate:
    """What a master says of the INBOX that is there: these records, and a header that covers them."""
    state = mailbox_in(store)
    values: dict[str, object] = {
        "last_uid": max([0, *(one.uid for one in records)]),
        "highestmodseq": max([1, *(one.modseq for one in records)]),
    }
    return MailboxUpdate(replace(state, **(values | more)), [list(records)] if records else [])  # type: ignore[arg-type]


class ImposingConformance(Conformance):
    """`impose_mailbox` and `change_header`."""

    @pytest.fixture
    def imposed_on(self, store: MailStore, log: Log) -> MailStore:
        """An INBOX of two messages, UIDs 1 and 2."""
        with store.write(ALICE) as writer:
            writer.create(INBOX)
            writer.append(INBOX, [(ONE, 5, "\\Seen"), (TWO, 6, "")])
        log.clear()
        return store

    def test_records_are_just_as_the_word_says(self, imposed_on):
        mine = records_in(imposed_on)
        changed = mine[0]._replace(flags="\\Flagged", modseq=40, last_updated=7)
        new = record_of(THREE, 3, modseq=41)
        with imposed_on.write(ALICE) as writer:
            writer.impose_mailbox(word(imposed_on, changed, new), Stage(THREE))
        assert records_in(imposed_on) == [changed, mine[1], new]
        assert bodies_in(imposed_on) == [ONE, TWO, THREE] and sums_agree(imposed_on, ALICE)
        state = mailbox_in(imposed_on)
        assert (state.last_uid, state.highestmodseq) == (3, 41)

    def test_another_message_may_take_a_uid(self, imposed_on):
        new = record_of(THREE, 2, modseq=40)
        with imposed_on.write(ALICE) as writer:
            writer.impose_mailbox(word(imposed_on, new), Stage(THREE))
        assert records_in(imposed_on)[1] == new
        assert bodies_in(imposed_on) == [ONE, THREE] and sums_agree(imposed_on, ALICE)

    def test_dropped_records_are_forgotten_and_kept_ones_put_in_their_places(self, imposed_on):
        mine = records_in(imposed_on)[1]
        moved = mine._replace(uid=7, modseq=90)
        new = record_of(THREE, 2, modseq=40)
        with imposed_on.write(ALICE) as writer:
            writer.impose_mailbox(word(imposed_on, new), Stage(THREE), drop={2, 99}, keep=[moved])
        assert [one.uid for one in records_in(imposed_on)] == [1, 2, 7]
        assert bodies_in(imposed_on) == [ONE, THREE, TWO] and sums_agree(imposed_on, ALICE)
        state = mailbox_in(imposed_on)
        assert (state.last_uid, state.highestmodseq) == (7, 90)

    def test_counters_never_fall(self, imposed_on):
        before = mailbox_in(imposed_on)
        with imposed_on.write(ALICE) as writer:
            writer.impose_mailbox(word(imposed_on, uidvalidity=5, last_uid=1, highestmodseq=1), Stage())
        after = mailbox_in(imposed_on)
        assert (after.uidvalidity, after.last_uid) == (before.uidvalidity, before.last_uid)
        assert after.highestmodseq == before.highestmodseq
        with imposed_on.write(ALICE) as writer:
            writer.impose_mailbox(word(imposed_on, uidvalidity=before.uidvalidity + 9), Stage())
        assert mailbox_in(imposed_on).uidvalidity == before.uidvalidity + 9

    def test_the_header_is_the_words(self, imposed_on):
        notes = (Annotation("/comment", "", 3, b"x"),)
        update = word(imposed_on, acl="zoe\tlr\t", options="PS", annotations=notes, recentuid=1)
        with imposed_on.write(ALICE) as writer:
            writer.impose_mailbox(update, Stage())
        state = mailbox_in(imposed_on)
        assert (state.acl, state.options, state.recentuid) == ("zoe\tlr\t", "PS", 1)
        assert [note.value for note in state.annotations] == [b"x"]

    def test_an_expunged_message_comes_back_if_the_word_says_so(self, imposed_on):
        with imposed_on.write(ALICE) as writer:
            writer.expunge(INBOX, [1])
        back = records_in(imposed_on)[0]._replace(expunged=False, modseq=50)
        with imposed_on.write(ALICE) as writer:
            writer.impose_mailbox(word(imposed_on, back), Stage())
        assert bodies_in(imposed_on) == [ONE, TWO] and sums_agree(imposed_on, ALICE)

    @pytest.mark.parametrize("uid", [2, 3])
    def test_a_live_record_without_message_changes_nothing(self, imposed_on, uid):
        before = mailbox_in(imposed_on), records_in(imposed_on)
        kept = record_of(FOUR, 9, modseq=60)
        with imposed_on.write(ALICE) as writer:
            with pytest.raises(ProtocolError):
                writer.impose_mailbox(word(imposed_on, record_of(THREE, uid, modseq=40)), Stage())
            with pytest.raises(ProtocolError):
                writer.impose_mailbox(word(imposed_on), Stage(), keep=[kept], drop=[1])
        assert (mailbox_in(imposed_on), records_in(imposed_on)) == before
        assert bodies_in(imposed_on) == [ONE, TWO]

    def test_an_expunged_record_needs_no_message(self, imposed_on):
        gone = record_of(THREE, 3, modseq=40, expunged=True)
        with imposed_on.write(ALICE) as writer:
            writer.impose_mailbox(word(imposed_on, gone), Stage())
        assert records_in(imposed_on)[2] == gone and sums_agree(imposed_on, ALICE)

    def test_the_same_word_again_changes_nothing(self, imposed_on):
        update = word(imposed_on, record_of(THREE, 2, modseq=40))
        for _ in range(2):
            with imposed_on.write(ALICE) as writer:
                writer.impose_mailbox(update, Stage(THREE))
        assert bodies_in(imposed_on) == [ONE, THREE] and sums_agree(imposed_on, ALICE)

    def test_a_mailbox_that_is_not_here_is_refused(self, imposed_on):
        update = word(imposed_on)
        unknown = replace(update, state=replace(update.state, uniqueid="unknown"))
        with pytest.raises(ReplyError), imposed_on.write(ALICE) as writer:
            writer.impose_mailbox(unknown, Stage())
        with pytest.raises(ReplyError), imposed_on.write(ALICE) as writer:
            writer.change_header("unknown", acl="")

    # -- change_header

    def test_changed_header_fields_are_a_local_change(self, imposed_on, log):
        before = mailbox_in(imposed_on)
        notes = (Annotation("/z", "", 0, b"2"), Annotation("/comment", "", 0, b"1"))
        with imposed_on.write(ALICE) as writer:
            writer.change_header(before.uniqueid, acl="zoe\tlr\t", options="PS", annotations=notes)
        after = mailbox_in(imposed_on)
        assert (after.acl, after.options) == ("zoe\tlr\t", "PS")
        assert [note.entry for note in after.annotations] == ["/comment", "/z"]
        assert after.highestmodseq == after.foldermodseq > before.highestmodseq
        assert after.usergroups == before.usergroups
        assert ("MAILBOX", INBOX) in log.take()

    def test_what_is_so_already_changes_nothing(self, imposed_on, log):
        before = mailbox_in(imposed_on)
        with imposed_on.write(ALICE) as writer:
            writer.change_header(before.uniqueid, acl=before.acl, annotations=before.annotations)
            writer.change_header(before.uniqueid)
        assert mailbox_in(imposed_on) == before and log.take() == []

    def test_annotations_that_are_not_given_go_away(self, imposed_on):
        uniqueid = mailbox_in(imposed_on).uniqueid
        with imposed_on.write(ALICE) as writer:
            writer.annotate(INBOX, "/comment", "", b"x")
        with imposed_on.write(ALICE) as writer:
            writer.change_header(uniqueid, annotations=())
        assert mailbox_in(imposed_on).annotations == ()
