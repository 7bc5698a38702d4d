"""The contract of a mail store, second part: what mail daemons do, and the lines they leave in the log."""

from __future__ import annotations

import pytest

from cyrus_sync.common.errors import (
    CyrusSyncError,
    ProtocolError,
    ReplyError,
)
from cyrus_sync.common.model import (
    Annotation,
    MessageBody,
    Seen,
)
from cyrus_sync.common.names import SERVER
from cyrus_sync.common.stores.mailstore import MailStore
from tests.common.stores.conformance_base import ONE, THREE, TWO, Conformance
from tests.common.stores.tools import (
    ALICE,
    BOB,
    INBOX,
    START,
    Log,
    bodies_in,
    guid_of,
    mailbox_in,
    message,
    record_of,
    records_in,
    sums_agree,
)


class LocalConformance(Conformance):
    """What mail daemons do, and the lines that they leave in the action log."""

    @pytest.fixture
    def mail(self, store: MailStore, log: Log) -> MailStore:
        """A user with an INBOX of two messages and a folder."""
        with store.write(ALICE) as writer:
            writer.create(INBOX)
            writer.create(INBOX + ".Work")
            assert writer.append(INBOX, [(ONE, 1_600_000_000, ""), (TWO, 1_600_000_001, "\\Seen")]) == [1, 2]
        log.clear()
        return store

    def test_where_conversations_are_counted_a_changed_message_counts_there_too(self, mail):
        uniqueid = mailbox_in(mail).uniqueid
        with mail.write(ALICE) as writer:
            writer.set_flags(INBOX, [1], add=["\\Flagged"])
        assert mailbox_in(mail).xconvmodseq == 0, "not counted"
        with mail.write(ALICE) as writer:
            writer.raise_counters(uniqueid, xconvmodseq=1)
        for change in (
            lambda writer: writer.set_flags(INBOX, [1], add=["\\Seen"]),
            lambda writer: writer.append(INBOX, [(THREE, 1_600_000_000, "")]),
            lambda writer: writer.expunge(INBOX, [2]),
            lambda writer: writer.rewrite_records(uniqueid, records_in(mail)[:1]),
        ):
            before = mailbox_in(mail).xconvmodseq
            with mail.write(ALICE) as writer:
                change(writer)
            now = mailbox_in(mail)
            assert before < now.xconvmodseq == now.highestmodseq
        with mail.write(ALICE) as writer:
            writer.set_acl(INBOX, "bob", "lr")
        assert mailbox_in(mail).xconvmodseq < mailbox_in(mail).highestmodseq, "no message was changed"

    def test_create_makes_a_mailbox_as_cyrus_does(self, store, log):
        with store.write(ALICE) as writer:
            made = writer.create(INBOX)
            below = writer.create(INBOX + ".x")
        assert len(made.uniqueid) == 24
        assert made.acl == below.acl == "alice\tlrswipkxtecdan\t"
        assert (made.highestmodseq, made.createdmodseq, made.foldermodseq) == (1, 1, 1)
        assert (made.options, made.partition, made.last_uid) == ("P", "default", 0)
        assert (made.uidvalidity, below.uidvalidity) == (START, START + 1)
        assert (made.sync_crc, made.sync_crc_annot) == (0, 12345678)
        assert log.take() == [("MAILBOX", INBOX), ("MAILBOX", INBOX + ".x")]
        assert store.owner_of_uniqueid(made.uniqueid) == ALICE

    def test_create_refuses_what_is_there_and_what_has_no_inbox(self, mail):
        with mail.write(ALICE) as writer:
            with pytest.raises(ReplyError):
                writer.create(INBOX)
            with pytest.raises(ReplyError):
                writer.create("user.bob")
        with pytest.raises(ReplyError), mail.write(BOB) as writer:
            writer.create("user.bob.x")

    @pytest.mark.covers("Lines of the action log", "APPEND")
    def test_append_counts_and_logs(self, mail, log):
        with mail.write(ALICE) as writer:
            assert writer.append(INBOX, [(THREE, 5, "work \\flagged \\SEEN Work \\Recent")]) == [3]
        record = records_in(mail)[2]
        assert record.flags == "\\Flagged \\Seen work"
        assert (record.internaldate, record.size, record.guid) == (5, len(THREE), guid_of(THREE))
        assert (record.last_updated, record.savedate) == (START, START)
        state = mailbox_in(mail)
        assert record.modseq == record.createdmodseq == state.highestmodseq
        assert (state.last_uid, state.last_appenddate, state.recentuid) == (3, START, 0)
        assert state.userflags == ("work",)
        assert log.take() == [("APPEND", INBOX), ("MAILBOX", INBOX)]
        assert bodies_in(mail) == [ONE, TWO, THREE]
        assert sums_agree(mail, ALICE)

    @pytest.mark.parametrize(
        ("date", "held"),
        [(-1, 1), (0, 1), (1, 1), (2**32 - 1, 2**32 - 1), (2**32, 2**32 - 1), (2**70, 2**32 - 1)],
    )
    def test_append_keeps_dates_that_every_cyrus_can_hold(self, mail, date, held):
        with mail.write(ALICE) as writer:
            writer.append(INBOX, [(THREE, date, "")])
        assert records_in(mail)[2].internaldate == held
        assert sums_agree(mail, ALICE)

    def test_a_large_message_may_come_in_pieces(self, mail):
        pieces = [b"Subject: large\r\n\r\n", *[b"x" * 70_000 + b"\r\n"] * 20]
        raw = b"".join(pieces)
        with mail.write(ALICE) as writer:
            writer.append(INBOX, [(MessageBody("", guid_of(raw), len(raw), pieces), 5, "")])
        assert (records_in(mail)[2].guid, records_in(mail)[2].size) == (guid_of(raw), len(raw))
        assert bodies_in(mail)[2] == raw
        other = MessageBody("", guid_of(b"another"), len(raw), pieces)
        with pytest.raises(ProtocolError), mail.write(ALICE) as writer:
            writer.append(INBOX, [(other, 5, "")])
        assert len(records_in(mail)) == 3

    def test_append_takes_uids_that_lie_above_all_that_were_used(self, mail):
        with mail.write(ALICE) as writer:
            messages = [(message(number), 5, "") for number in range(10, 15)]
            assert writer.append(INBOX, messages, uids=[7, 0, 2, 20]) == [7, 8, 9, 20, 21]
        assert [record.uid for record in records_in(mail)] == [1, 2, 7, 8, 9, 20, 21]
        assert mailbox_in(mail).last_uid == 21
        assert sums_agree(mail, ALICE)

    def test_a_mailbox_that_never_held_a_message_may_be_numbered_anew(self, mail, log):
        with mail.write(ALICE) as writer:
            before = writer.mailbox(INBOX + ".Work")
            writer.number_anew(INBOX + ".Work", 17)
            after = writer.mailbox(INBOX + ".Work")
            assert after.uidvalidity == 17
            assert after.highestmodseq == after.foldermodseq > before.highestmodseq
            assert writer.create(INBOX + ".Next").uidvalidity > before.uidvalidity
        assert ("MAILBOX", INBOX + ".Work") in log.take()
        with pytest.raises(ReplyError), mail.write(ALICE) as writer:
            writer.number_anew(INBOX, 17)

    @pytest.mark.parametrize("delayed", [True, False])
    def test_an_inbox_may_begin_anew_and_all_else_of_the_user_stays(self, mail, log, delayed):
        with mail.write(ALICE) as writer:
            writer.annotate(INBOX, "/comment", "", b"mine")
            writer.subscribe(INBOX)
            writer.put_script("x", b"keep;")
            before = writer.mailbox(INBOX)
            log.take()
            made = writer.renew(INBOX, 17, delayed=delayed)
            assert writer.append(INBOX, [(message(11), 5, "")], uids=[1]) == [1]
        after = mailbox_in(mail)
        assert (after.uniqueid, after.uidvalidity, after.last_uid) == (made.uniqueid, 17, 1)
        assert after.uniqueid != before.uniqueid and after.acl == before.acl
        assert [(one.entry, one.value) for one in after.annotations] == [("/comment", b"mine")]
        with mail.read(ALICE) as reader:
            assert reader.mailbox(f"{INBOX}.Work") is not None
            assert reader.meta(with_sieve=False).subscriptions and reader.sieve_scripts()
            aside = [one for one in reader.mailboxes() if one.uniqueid == before.uniqueid]
            assert [one.name.startswith("DELETED.") for one in aside] == [True] * delayed
            assert delayed or reader.tombstone(before.uniqueid) is not None
        assert ("MAILBOX", INBOX) in log.take()
        assert sums_agree(mail, ALICE)
        with pytest.raises(ReplyError), mail.write(ALICE) as writer:
            writer.renew(f"{INBOX}.None", 17)

    def test_append_refuses_an_empty_message_and_a_bad_flag(self, mail):
        for bad in [(b"", 5, ""), (ONE, 5, "a(b"), (ONE, 5, "\\Expunged")]:
            with pytest.raises(ReplyError), mail.write(ALICE) as writer:
                writer.append(INBOX, [bad])
        assert len(records_in(mail)) == 2

    @pytest.mark.covers("Lines of the action log", "MAILBOX")
    def test_flags_change_modseq_and_time_only_where_they_change(self, mail, log, clock):
        clock.now += 60
        before = records_in(mail)
        with mail.write(ALICE) as writer:
            writer.set_flags(INBOX, [1, 2, 77], add=["\\Seen"], remove=["\\Draft"])
        after = records_in(mail)
        assert after[1] == before[1]
        assert (after[0].flags, after[0].last_updated) == ("\\Seen", START + 60)
        assert after[0].modseq == mailbox_in(mail).highestmodseq > before[0].modseq
        assert log.take() == [("MAILBOX", INBOX)]
        assert sums_agree(mail, ALICE)

    def test_changing_nothing_logs_nothing(self, mail, log):
        before = mailbox_in(mail)
        with mail.write(ALICE) as writer:
            writer.set_flags(INBOX, [2], add=["\\seen"])
            writer.expunge(INBOX, [99])
        assert log.take() == []
        assert mailbox_in(mail) == before

    def test_selecting_clears_recent(self, mail):
        with mail.write(ALICE) as writer:
            writer.set_flags(INBOX, [1], add=["\\Deleted"])
        state = mailbox_in(mail)
        assert (state.recentuid, state.recenttime) == (2, START)

    def test_a_mailbox_takes_128_keywords_and_no_more(self, mail):
        with mail.write(ALICE) as writer:
            writer.set_flags(INBOX, [1], add=[f"k{n}" for n in range(128)])
            with pytest.raises(ReplyError), writer.savepoint():
                writer.set_flags(INBOX, [1], add=["one-more"])
        assert len(mailbox_in(mail).userflags) == 128

    def test_expunge_and_unexpunge(self, mail, log):
        with mail.write(ALICE) as writer:
            writer.set_flags(INBOX, [1], add=["\\Deleted"])
            writer.expunge(INBOX, [1])
        assert log.take() == [("MAILBOX", INBOX)]
        assert records_in(mail)[0].expunged
        with mail.write(ALICE) as writer:
            assert writer.unexpunge(INBOX, [1, 2]) == [3]
            assert writer.unexpunge(INBOX, [1]) == []
        records = records_in(mail)
        assert [(r.uid, r.expunged, r.flags) for r in records] == [
            (1, True, "\\Deleted"),
            (2, False, "\\Seen"),
            (3, False, ""),
        ]
        assert records[2].guid == guid_of(ONE)
        assert log.take() == [("APPEND", INBOX), ("MAILBOX", INBOX)]
        assert sums_agree(mail, ALICE)

    @pytest.mark.covers("Lines of the action log", "DOUBLEMAILBOX")
    def test_copy_and_move(self, mail, log):
        work = INBOX + ".Work"
        with mail.write(ALICE) as writer:
            writer.annotate(INBOX, "/comment", "alice", b"note", uid=1)
            log.clear()
            assert writer.copy(INBOX, [1], work) == [1]
        assert log.take()[-3:] == [("APPEND", work), ("MAILBOX", work), ("DOUBLEMAILBOX", INBOX, work)]
        with mail.write(ALICE) as writer:
            assert writer.copy(INBOX, [2], work, move=True) == [2]
        assert log.take() == [
            ("APPEND", work), ("MAILBOX", work), ("MAILBOX", INBOX), ("DOUBLEMAILBOX", INBOX, work),
        ]  # fmt: skip
        assert bodies_in(mail, work) == [ONE, TWO]
        assert [record.expunged for record in records_in(mail)] == [False, True]
        copied = records_in(mail, work)
        assert copied[0].annotations[0].value == b"note"
        assert copied[1].flags == "\\Seen"
        assert copied[1].createdmodseq == copied[1].modseq
        assert sums_agree(mail, ALICE)

    def test_a_delayed_delete_renames(self, mail, log):
        work = mailbox_in(mail, INBOX + ".Work")
        aside = f"DELETED.user.alice.Work.{START:08X}"
        with mail.write(ALICE) as writer:
            writer.delete(INBOX + ".Work")
        assert log.take() == [("RENAME", work.name, aside), ("MAILBOX", work.name), ("MAILBOX", aside)]
        with mail.read(ALICE) as reader:
            assert [state.name for state in reader.mailboxes()] == [INBOX, aside]
            moved = reader.mailbox(aside)
            assert reader.former_names(work.uniqueid) == [work.name]
            assert [stone.name for stone in reader.tombstones()] == [work.name]
        assert moved.uniqueid == work.uniqueid
        assert moved.uidvalidity == work.uidvalidity
        assert moved.foldermodseq == moved.highestmodseq > work.highestmodseq

    @pytest.mark.covers("Lines of the action log", "UNMAILBOX")
    def test_an_immediate_delete_leaves_a_tombstone(self, mail, log):
        with mail.write(ALICE) as writer:
            writer.delete(INBOX + ".Work", delayed=False)
        assert log.take() == [("UNMAILBOX", INBOX + ".Work"), ("MAILBOX", INBOX + ".Work")]
        with mail.read(ALICE) as reader:
            assert [state.name for state in reader.mailboxes()] == [INBOX]
            assert [stone.name for stone in reader.tombstones()] == [INBOX + ".Work"]

    def test_deleting_the_inbox_deletes_the_user(self, mail, log):
        with mail.write(ALICE) as writer:
            writer.subscribe(INBOX)
            writer.set_quota(INBOX, {"STORAGE": 1})
        log.clear()
        with mail.write(ALICE) as writer:
            writer.delete(INBOX)
        stamp = f"{START:08X}"
        assert log.take() == [
            ("RENAME", INBOX, f"DELETED.user.alice.{stamp}"),
            ("MAILBOX", INBOX),
            ("MAILBOX", f"DELETED.user.alice.{stamp}"),
            ("RENAME", INBOX + ".Work", f"DELETED.user.alice.Work.{stamp}"),
            ("MAILBOX", INBOX + ".Work"),
            ("MAILBOX", f"DELETED.user.alice.Work.{stamp}"),
            ("QUOTA", INBOX),
            ("UNUSER", "alice"),
        ]
        with mail.read(ALICE) as reader:
            assert reader.meta(with_sieve=True).subscriptions == ()
            assert reader.quotas() == []

    def test_acl(self, mail, log):
        with mail.write(ALICE) as writer:
            writer.set_acl(INBOX, "bob", "lrs")
        state = mailbox_in(mail)
        assert state.acl == "alice\tlrswipkxtecdan\tbob\tlrs\t"
        assert state.foldermodseq == state.highestmodseq
        assert log.take() == [("MAILBOX", INBOX)]
        with mail.write(ALICE) as writer:
            writer.set_acl(INBOX, "bob", "")
            with pytest.raises(ReplyError):
                writer.set_acl(INBOX, "bo\tb", "l")
        assert mailbox_in(mail).acl == "alice\tlrswipkxtecdan\t"

    def test_usage_follows_every_change(self, mail, log):
        with mail.write(ALICE) as writer:
            writer.set_quota(INBOX, {"STORAGE": 1000})
        assert log.take() == [("QUOTA", INBOX)]

        def used() -> dict[str, int]:
            with mail.read(ALICE) as reader:
                (usage,) = reader.usage()
            return usage.used

        both = len(ONE) + len(TWO)
        assert used() == {"STORAGE": both, "MESSAGE": 2, "X-ANNOTATION-STORAGE": 0, "X-NUM-FOLDERS": 2}
        with mail.write(ALICE) as writer:
            writer.annotate(INBOX, "/comment", "", b"12345", uid=1)
            writer.annotate(INBOX, "/comment", "", b"123")
            writer.expunge(INBOX, [2])
        assert used() == {"STORAGE": len(ONE), "MESSAGE": 1, "X-ANNOTATION-STORAGE": 8, "X-NUM-FOLDERS": 2}
        with mail.write(ALICE) as writer:
            writer.expunge(INBOX, [1])
            writer.annotate(INBOX, "/comment", "", None)
            writer.delete(INBOX + ".Work")
        assert used() == {"STORAGE": 0, "MESSAGE": 0, "X-ANNOTATION-STORAGE": 0, "X-NUM-FOLDERS": 1}

    def test_the_innermost_quota_root_counts(self, mail):
        with mail.write(ALICE) as writer:
            writer.set_quota(INBOX, {"STORAGE": 1000})
            writer.set_quota(INBOX + ".Work", {"MESSAGE": 10})
        with mail.read(ALICE) as reader:
            assert [state.quotaroot for state in reader.mailboxes()] == [INBOX, INBOX + ".Work"]
        with mail.write(ALICE) as writer:
            writer.set_quota(INBOX + ".Work", None)
        assert mailbox_in(mail, INBOX + ".Work").quotaroot == INBOX

    def test_mailbox_annotations_move_the_foldermodseq(self, mail, log):
        with mail.write(ALICE) as writer:
            writer.annotate(INBOX, "/comment", "alice", b"private")
        state = mailbox_in(mail)
        assert state.annotations == (Annotation("/comment", "alice", 0, b"private"),)
        assert state.foldermodseq == state.highestmodseq
        assert log.take() == [("MAILBOX", INBOX)]

    def test_message_annotations_move_the_record(self, mail, log):
        with mail.write(ALICE) as writer:
            writer.annotate(INBOX, "/comment", "alice", b"note", uid=1)
        record = records_in(mail)[0]
        assert record.annotations == (Annotation("/comment", "alice", record.modseq, b"note"),)
        assert log.take() == [("MAILBOX", INBOX)]
        with mail.write(ALICE) as writer:
            writer.annotate(INBOX, "/comment", "alice", None, uid=1)
        assert records_in(mail)[0].annotations == ()
        assert sums_agree(mail, ALICE)

    @pytest.mark.covers("Lines of the action log", "ANNOTATION")
    def test_server_annotations_are_logged_as_such(self, store, log):
        with store.write(SERVER) as writer:
            writer.annotate("", "/comment", "", b"motd")
        assert log.take() == [("ANNOTATION", "")]

    @pytest.mark.covers("Lines of the action log", "SEEN")
    def test_subscriptions_and_seen_are_logged(self, store, log):
        with store.write(BOB) as writer:
            writer.subscribe(INBOX)
            writer.subscribe(INBOX, False)
            writer.set_seen(Seen("some-id", 1, 2, 3, "1"))
        assert log.take() == [("SUB", "bob", INBOX), ("SEEN", "bob", "some-id")]

    def test_scripts_live_in_their_mailbox(self, mail, log):
        box = INBOX + ".#sieve"
        with mail.write(ALICE) as writer:
            writer.put_script("main", b"keep;\r\n")
            writer.put_script("other", b"discard;\r\n")
            writer.activate_script("main")
        assert log.take() == [("MAILBOX", box), ("APPEND", box)]
        assert mailbox_in(mail, box).mbtype == "f"
        assert [record.flags for record in records_in(mail, box)] == ["\\Flagged", ""]
        with mail.write(ALICE) as writer:
            writer.activate_script("other")
            writer.put_script("other", b"stop;\r\n")
            writer.delete_script("main")
            with pytest.raises(CyrusSyncError):
                writer.delete_script("main")
        with mail.read(ALICE) as reader:
            assert [s.filename for s in reader.sieve_scripts()] == ["other.script", "other.bc"]
            assert reader.sieve_content("other.script") == b"stop;\r\n"
        assert sums_agree(mail, ALICE)

    # -- settling conflicts

    def test_counters_are_raised_and_never_lowered(self, mail, log):
        before = mailbox_in(mail)
        with mail.write(ALICE) as writer:
            writer.raise_counters(before.uniqueid, highestmodseq=100, last_uid=50, uidvalidity=1)
        after = mailbox_in(mail)
        assert (after.highestmodseq, after.last_uid, after.uidvalidity) == (100, 50, before.uidvalidity)
        assert log.take() == [("MAILBOX", INBOX)]
        with mail.write(ALICE) as writer:
            assert writer.append(INBOX, [(THREE, 1, "")]) == [51]
        assert records_in(mail)[2].modseq == 101

    def test_records_are_rewritten_with_a_new_modseq(self, mail, log, clock):
        clock.now += 5
        uniqueid = mailbox_in(mail).uniqueid
        old = records_in(mail)[1]
        note = (Annotation("/comment", "", 3, b"theirs"),)
        with mail.write(ALICE) as writer:
            writer.rewrite_records(uniqueid, [old._replace(flags="\\Draft", thrid=9, annotations=note)])
        new = records_in(mail)[1]
        assert (new.flags, new.thrid, new.annotations) == ("\\Draft", 9, note)
        assert new.modseq > old.modseq
        assert new.last_updated == START + 5
        assert log.take() == [("MAILBOX", INBOX)]
        assert sums_agree(mail, ALICE)

    def test_a_message_of_the_replica_is_adopted(self, mail, log):
        uniqueid = mailbox_in(mail).uniqueid
        theirs = record_of(THREE, 9, flags="\\Answered", annotations=(Annotation("/c", "", 4, b"v"),))
        body = MessageBody("", theirs.guid, theirs.size, THREE)
        with mail.write(ALICE) as writer:
            assert writer.adopt(uniqueid, theirs, body, keep_uid=True) == 9
            assert writer.adopt(uniqueid, theirs, None, keep_uid=False) == 10
            with pytest.raises(CyrusSyncError):
                writer.adopt(uniqueid, record_of(message(77), 11), None, keep_uid=True)
        adopted = records_in(mail)[2]
        assert (adopted.uid, adopted.flags, adopted.savedate) == (9, "\\Answered", theirs.savedate)
        assert adopted.annotations == theirs.annotations
        assert mailbox_in(mail).last_uid == 10
        assert bodies_in(mail) == [ONE, TWO, THREE, THREE]
        assert sums_agree(mail, ALICE)

    def test_mailbox_annotations_are_replaced_as_a_set(self, mail, log):
        uniqueid = mailbox_in(mail).uniqueid
        with mail.write(ALICE) as writer:
            writer.annotate(INBOX, "/a", "", b"1")
            writer.replace_mailbox_annotations(uniqueid, [Annotation("/b", "", 0, b"2")])
        assert mailbox_in(mail).annotations == (Annotation("/b", "", 0, b"2"),)
