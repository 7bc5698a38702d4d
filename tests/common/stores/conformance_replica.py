"""The contract of a mail store, first part: the verbs of a master, as a replica carries them out."""

from __future__ import annotations

import pytest

from cyrus_sync.common.errors import (
    BadParameters,
    InvalidUser,
    MailboxMoved,
    MailboxNonexistent,
    PartitionUnknown,
    ProtocolError,
    ReplyError,
    SyncBadSieve,
    SyncChanged,
    SyncChecksum,
)
from cyrus_sync.common.model import (
    Annotation,
    MailboxAnnotation,
    MailboxState,
    MailboxUpdate,
    MessageBody,
    Quota,
    Seen,
    Since,
)
from cyrus_sync.common.names import SERVER
from cyrus_sync.common.stores.mailstore import ChangesKept
from tests.common.stores.conformance_base import ONE, THREE, TWO, Conformance
from tests.common.stores.tools import (
    ALICE,
    BOB,
    INBOX,
    START,
    Stage,
    apply,
    bodies_in,
    guid_of,
    mailbox_in,
    message,
    record_of,
    records_in,
    state_of,
    sums_agree,
    update_of,
)


class ReplicaConformance(Conformance):
    """APPLY MAILBOX and the other verbs of a master."""

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY MAILBOX")
    def test_a_new_mailbox_is_made_with_all_that_was_sent(self, store):
        record = record_of(
            ONE, 1, flags="\\Answered \\Seen $Label1", thrid=2**64 - 3, modseq=2**63 - 1,
            annotations=(Annotation("/comment", "alice", 9, b"caf\xc3\xa9\0\n"),),
        )  # fmt: skip
        sent = state_of(
            INBOX, [record], mbtype="ez", recentuid=1, recenttime=2, last_appenddate=3, pop3_last_login=4,
            pop3_show_after=5, xconvmodseq=6, raclmodseq=7, usergroups="a\tb", acl="alice\tlrs\tbob\tl\t",
            options="PS", createdmodseq=8, foldermodseq=9, userflags=("$Label1", "Old"), deletedmodseq=2,
            annotations=(Annotation("/a", "", 0, b"shared"), Annotation("/a", "alice", 0, b"own")),
        )  # fmt: skip
        apply(store, MailboxUpdate(sent, [[record]]), Stage(ONE))
        assert mailbox_in(store) == sent
        assert records_in(store) == [record]
        assert bodies_in(store) == [ONE]

    @pytest.mark.parametrize("date", [-(10**9), -1, 2**32, 2**62])
    def test_a_date_that_came_is_kept_until_the_message_is_changed_here(self, store, date):
        record = record_of(ONE, 1, internaldate=date)
        apply(store, MailboxUpdate(state_of(INBOX, [record]), [[record]]), Stage(ONE))
        assert records_in(store) == [record]
        assert sums_agree(store, ALICE)
        with store.write(ALICE) as writer:
            writer.set_flags(INBOX, [1], add=["\\Seen"])
        assert records_in(store)[0].internaldate == min(max(date, 1), 2**32 - 1)
        assert sums_agree(store, ALICE)

    def test_records_come_in_batches_of_the_size_asked_for(self, store, inbox):
        with store.read(ALICE) as reader:
            source = reader.records("id-" + INBOX, batch=2)
            assert [[record.uid for record in batch] for batch in source] == [[1, 2], [3]]
            assert [record for batch in source for record in batch] == inbox

    def test_records_are_found_by_modseq_and_by_uid(self, store, inbox):
        with store.read(ALICE) as reader:
            newer = [r.uid for batch in reader.records("id-" + INBOX, since_modseq=11) for r in batch]
            above = [r.uid for batch in reader.records("id-" + INBOX, above_uid=1) for r in batch]
            both = [r.uid for b in reader.records("id-" + INBOX, since_modseq=11, above_uid=2) for r in b]
            guids = [pair for batch in reader.new_guids("id-" + INBOX, 1) for pair in batch]
        assert (newer, above, both) == ([2, 3], [2, 3], [3])
        assert guids == [(2, guid_of(TWO)), (3, guid_of(THREE))]

    def test_a_flag_change_updates_record_and_crc(self, store, inbox):
        changed = inbox[1]._replace(modseq=20, flags="\\Flagged", last_updated=START + 9)
        held = [inbox[0], changed, inbox[2]]
        apply(store, update_of(INBOX, [changed], held))
        assert records_in(store) == held
        assert sums_agree(store, ALICE)

    def test_an_expunge_keeps_the_record(self, store, inbox):
        gone = inbox[0]._replace(modseq=20, expunged=True, flags="\\Deleted")
        held = [gone, *inbox[1:]]
        apply(store, update_of(INBOX, [gone], held))
        assert records_in(store) == held
        assert sums_agree(store, ALICE)

    def test_message_annotations_are_replaced(self, store, inbox):
        noted = inbox[0]._replace(modseq=20, annotations=(Annotation("/comment", "", 20, b"x"),))
        apply(store, update_of(INBOX, [noted], [noted, *inbox[1:]]))
        assert records_in(store)[0] == noted
        bare = noted._replace(modseq=21, annotations=())
        apply(store, update_of(INBOX, [bare], [bare, *inbox[1:]]))
        assert records_in(store)[0] == bare

    def test_mailbox_annotations_that_are_not_sent_are_deleted(self, store, inbox):
        apply(store, update_of(INBOX, [], inbox, annotations=(Annotation("/a", "", 0, b"1"),)))
        assert mailbox_in(store).annotations == (Annotation("/a", "", 0, b"1"),)
        apply(store, update_of(INBOX, [], inbox))
        assert mailbox_in(store).annotations == ()

    def test_an_expunged_record_needs_no_message(self, store):
        record = record_of(ONE, 1, expunged=True)
        apply(store, update_of(INBOX, [record]))
        assert records_in(store) == [record]
        with store.read(ALICE) as reader:
            assert list(reader.new_guids("id-" + INBOX, 0)) == []
            assert reader.body(record.guid) is None

    def test_a_live_record_without_its_message_is_refused(self, store, inbox):
        held = [*inbox, record_of(message(4), 4)]
        with pytest.raises(ProtocolError):
            apply(store, update_of(INBOX, held[3:], held))
        assert records_in(store) == inbox
        assert mailbox_in(store) == state_of(INBOX, inbox)

    def test_a_message_with_another_sha1_is_refused_and_nothing_changes(self, store, inbox):
        stage = Stage()
        fake = record_of(message(4), 4)
        stage[fake.guid] = MessageBody("default", fake.guid, fake.size, b"x" * fake.size)
        changed = inbox[0]._replace(modseq=20, flags="\\Seen")
        with pytest.raises(ProtocolError):
            apply(store, update_of(INBOX, [changed, fake]), stage)
        assert records_in(store) == inbox
        with store.read(ALICE) as reader:
            assert reader.has_guids([fake.guid]) == set()

    def test_a_size_that_is_not_the_message_s_is_refused(self, store, inbox):
        with pytest.raises(ProtocolError):
            apply(store, update_of(INBOX, [record_of(message(4), 4, size=7)]), Stage(message(4)))
        with pytest.raises(ProtocolError):
            apply(store, update_of(INBOX, [record_of(ONE, 4, size=7)]), Stage())

    @pytest.mark.parametrize(
        "bad",
        [
            [record_of(message(5), 5), record_of(message(4), 4)],
            [record_of(message(4), 4), record_of(message(4), 4)],
            [record_of(message(4), 4, size=0)],
            [record_of(message(4), 4, guid=bytes(20))],
            [record_of(message(4), 4, modseq=10**6)],
            [record_of(message(4), 40)],
            [record_of(message(4), 4, internaldate=2**64)],
        ],
        ids=["order", "twice", "size", "guid", "modseq", "uid", "date"],
    )
    def test_records_that_make_no_sense_are_refused(self, store, inbox, bad):
        stage = Stage(message(4), message(5))
        with pytest.raises(ProtocolError):
            apply(store, update_of(INBOX, bad, inbox, last_uid=9, highestmodseq=99), stage)
        assert records_in(store) == inbox

    def test_a_large_message_survives(self, store):
        raw = message(1, 3_000_000)
        apply(store, update_of(INBOX, [record_of(raw, 1)]), Stage(raw))
        assert bodies_in(store) == [raw]

    def test_a_message_in_two_mailboxes_is_taken_from_the_store_the_second_time(self, store, inbox):
        apply(store, update_of(INBOX + ".x", [record_of(ONE, 1)]))
        assert bodies_in(store, INBOX + ".x") == [ONE]

    # -- steps 3 to 9

    @pytest.mark.covers("Codes after NO", "IMAP_MAILBOX_MOVED")
    def test_a_mailbox_known_under_another_name_is_moved(self, store, inbox):
        with pytest.raises(MailboxMoved):
            apply(store, update_of(INBOX + ".x", [], uniqueid="id-" + INBOX))

    def test_a_mailbox_known_to_another_owner_is_moved(self, store, inbox):
        with pytest.raises(MailboxMoved):
            apply(store, update_of("user.bob", [], uniqueid="id-" + INBOX))
        assert not store.exists(BOB)

    @pytest.mark.covers("Other errors", "UnknownFailure")
    def test_a_folder_without_inbox_is_refused_with_that_reason(self, store):
        with pytest.raises(ReplyError) as caught:
            apply(store, update_of("user.nobody.x", []))
        assert caught.value.reply == "nobody has no INBOX" and not caught.value.code
        assert list(store.owners()) == []

    @pytest.mark.covers("Codes after NO", "IMAP_MAILBOX_MOVED")
    def test_another_uniqueid_under_the_name_is_moved(self, store, inbox):
        with pytest.raises(MailboxMoved):
            apply(store, update_of(INBOX, [], uniqueid="other"))

    def test_an_empty_mailbox_gives_way_to_another_uniqueid(self, store, inbox):
        apply(store, update_of(INBOX + ".x", []))
        apply(store, update_of(INBOX + ".x", [record_of(ONE, 1)], uniqueid="other"), Stage(ONE))
        assert mailbox_in(store, INBOX + ".x").uniqueid == "other"

    def test_force_replaces_a_mailbox_of_another_uniqueid(self, store, inbox):
        apply(store, update_of(INBOX, [record_of(TWO, 1)], uniqueid="other"), Stage(), force=True)
        assert records_in(store) == [record_of(TWO, 1)]

    def test_since_that_fits_is_accepted(self, store, inbox):
        now = mailbox_in(store)
        update = update_of(INBOX, [record_of(message(4), 4)], [*inbox, record_of(message(4), 4)])
        since = Since(now.highestmodseq, now.sync_crc, now.sync_crc_annot or 0)
        apply(store, MailboxUpdate(update.state, update.records, since), Stage(message(4)))
        assert len(records_in(store)) == 4

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY MAILBOX")
    @pytest.mark.covers("Codes after NO", "IMAP_SYNC_CHANGED")
    @pytest.mark.parametrize("modseq, crc", [(12, None), (13, 1)], ids=["modseq", "crc"])
    def test_since_that_does_not_fit_is_changed(self, store, inbox, modseq, crc):
        now = mailbox_in(store)
        since = Since(modseq, crc or now.sync_crc, now.sync_crc_annot or 0)
        with pytest.raises(SyncChanged):
            apply(store, MailboxUpdate(state_of(INBOX, inbox), [], since))

    def test_since_of_a_mailbox_that_is_not_there_is_changed(self, store, inbox):
        with pytest.raises(SyncChanged):
            apply(store, MailboxUpdate(state_of(INBOX + ".x", []), [], Since(5, 0, 0)))
        with store.read(ALICE) as reader:
            assert reader.mailbox(INBOX + ".x") is None

    def test_another_type_is_refused_with_that_reason(self, store, inbox):
        with pytest.raises(ReplyError) as caught:
            apply(store, update_of(INBOX, [], inbox, mbtype="c"))
        assert caught.value.reply == "mailbox is of type e, not c" and not caught.value.code
        apply(store, update_of(INBOX, [], inbox, mbtype="e"))

    @pytest.mark.covers("Codes after NO", "IMAP_SYNC_CHECKSUM")
    @pytest.mark.parametrize(
        "behind", [{"highestmodseq": 12}, {"uidvalidity": 5}, {"last_uid": 2}], ids=lambda d: next(iter(d))
    )
    def test_a_master_that_is_behind_is_refused_unless_forced(self, store, inbox, behind):
        with pytest.raises(SyncChecksum):
            apply(store, update_of(INBOX, [], inbox, **behind))
        assert mailbox_in(store) == state_of(INBOX, inbox)
        apply(store, update_of(INBOX, [], inbox, **behind), force=True)
        assert mailbox_in(store) == state_of(INBOX, inbox, **behind)

    # -- step 10

    def test_another_message_under_a_uid_is_refused_even_by_force(self, store, inbox):
        other = record_of(message(9), 1, modseq=20)
        for force in (False, True):
            with pytest.raises(SyncChecksum):
                apply(
                    store, update_of(INBOX, [other], inbox, highestmodseq=20), Stage(message(9)), force=force
                )

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY FORCE")
    def test_a_newer_record_on_the_replica_is_refused_unless_forced(self, store, inbox):
        older = inbox[0]._replace(modseq=5)
        with pytest.raises(SyncChecksum):
            apply(store, update_of(INBOX, [older], [older, *inbox[1:]]))
        apply(store, update_of(INBOX, [older], [older, *inbox[1:]]), force=True)
        assert records_in(store)[0] == older

    def test_an_expunged_record_does_not_come_alive(self, store, inbox):
        gone = inbox[0]._replace(expunged=True, modseq=20)
        apply(store, update_of(INBOX, [gone], [gone, *inbox[1:]]))
        back = inbox[0]._replace(modseq=21)
        with pytest.raises(SyncChecksum):
            apply(store, update_of(INBOX, [back], [back, *inbox[1:]]))

    def test_both_expunged_is_ignored_whatever_the_guid(self, store, inbox):
        gone = inbox[0]._replace(expunged=True, modseq=20)
        held = [gone, *inbox[1:]]
        apply(store, update_of(INBOX, [gone], held))
        other = record_of(message(9), 1, modseq=21, expunged=True)
        apply(store, update_of(INBOX, [other], held, highestmodseq=21))
        assert records_in(store) == held

    def test_an_unknown_uid_below_last_uid_is_refused_if_live_and_ignored_if_expunged(self, store):
        first = [record_of(ONE, 1), record_of(THREE, 3)]
        apply(store, update_of(INBOX, first), Stage(ONE, THREE))
        between = record_of(TWO, 2, modseq=20)
        with pytest.raises(SyncChecksum):
            apply(store, update_of(INBOX, [between], first, highestmodseq=20), Stage(TWO))
        gone = between._replace(expunged=True)
        apply(store, update_of(INBOX, [gone], first, highestmodseq=20))
        assert records_in(store) == first

    # -- steps 11 to 13

    def test_foldermodseq_is_never_lowered(self, store, inbox):
        apply(store, update_of(INBOX, [], inbox, foldermodseq=50, highestmodseq=50))
        apply(store, update_of(INBOX, [], inbox, foldermodseq=3, highestmodseq=50))
        assert mailbox_in(store).foldermodseq == 50

    def test_local_changes_lie_above_what_was_applied(self, store, inbox):
        apply(store, update_of(INBOX, [], inbox, highestmodseq=1000))
        with store.write(ALICE) as writer:
            writer.set_flags(INBOX, [1], add=["\\Seen"])
            assert writer.create(INBOX + ".x").uidvalidity > 1_700_000_001
        assert records_in(store)[0].modseq == 1001

    @pytest.mark.covers("Codes after NO", "IMAP_SYNC_CHECKSUM")
    def test_a_wrong_crc_keeps_the_changes_and_is_told(self, store, inbox):
        changed = inbox[0]._replace(modseq=20, flags="\\Seen")
        update = update_of(INBOX, [changed], [changed, *inbox[1:]], sync_crc=12345)
        with pytest.raises(ChangesKept) as caught:
            apply(store, update)
        assert caught.value.reply.startswith("IMAP_SYNC_CHECKSUM ")
        assert records_in(store)[0] == changed
        assert mailbox_in(store).highestmodseq == 20

    def test_a_wrong_crc_inside_a_group_keeps_the_changes_too(self, store, inbox):
        with store.write(ALICE) as writer:
            with pytest.raises(ChangesKept), writer.savepoint():
                writer.apply_mailbox(update_of(INBOX, [], inbox, sync_crc=1, highestmodseq=30), Stage())
            with writer.savepoint():
                writer.apply_sub(INBOX, True)
        assert mailbox_in(store).highestmodseq == 30

    @pytest.mark.parametrize("crcs", [{"sync_crc": 0}, {"sync_crc_annot": None}, {"sync_crc_annot": 0}])
    def test_a_crc_of_zero_is_not_compared(self, store, inbox, crcs):
        apply(store, update_of(INBOX, [], inbox, **crcs))

    def test_partial_updates_add_up(self, store):
        records = [record_of(message(n), n) for n in range(1, 8)]
        stage = Stage(*(message(n) for n in range(1, 8)))
        for end in (3, 6):
            part = records[end - 3 : end]
            header = state_of(INBOX, part, sync_crc=0, sync_crc_annot=None, last_appenddate=0)
            apply(store, MailboxUpdate(header, [part], partial=True), stage)
        apply(store, update_of(INBOX, records[6:], records), stage)
        assert records_in(store) == records

    def test_records_may_come_in_many_batches(self, store):
        records = [record_of(message(n), n) for n in range(1, 30)]
        stage = Stage(*(message(n) for n in range(1, 30)))
        batches = [records[:10], [], records[10:11], records[11:]]
        apply(store, MailboxUpdate(state_of(INBOX, records), batches), stage)
        assert records_in(store) == records

    # -- types

    @pytest.mark.covers("Capabilities", "SIEVE-MAILBOX")
    def test_a_sieve_mailbox_needs_the_capability(self, store, inbox):
        with pytest.raises(BadParameters):
            apply(store, update_of(INBOX + ".#sieve", [], mbtype="f"), sieve_mailbox=False)
        apply(store, update_of(INBOX + ".#sieve", [], mbtype="f"))
        assert mailbox_in(store, INBOX + ".#sieve").mbtype == "f"

    def test_an_intermediate_is_an_entry_without_counters(self, store, inbox):
        header = MailboxState("idx", INBOX + ".x", mbtype="i", highestmodseq=7, createdmodseq=4)
        apply(store, MailboxUpdate(header))
        assert mailbox_in(store, INBOX + ".x") == MailboxState(
            "idx", INBOX + ".x", mbtype="ei", sync_crc_annot=0, createdmodseq=4, foldermodseq=7
        )

    def test_an_intermediate_that_comes_again_is_still_held(self, store, inbox):
        for modseq in (7, 8):
            apply(store, MailboxUpdate(MailboxState("idx", INBOX + ".x", mbtype="i", highestmodseq=modseq)))
            assert store.owner_of_uniqueid("idx") == ALICE

    def test_a_real_mailbox_replaces_an_intermediate(self, store, inbox):
        apply(store, MailboxUpdate(MailboxState("idx", INBOX + ".x", mbtype="i", highestmodseq=7)))
        apply(store, update_of(INBOX + ".x", [record_of(ONE, 1)]))
        assert mailbox_in(store, INBOX + ".x").mbtype == ""

    def test_an_intermediate_does_not_hide_a_real_mailbox(self, store, inbox):
        with pytest.raises(MailboxMoved):
            apply(store, MailboxUpdate(MailboxState("idx", INBOX, mbtype="i", highestmodseq=7)))
        assert records_in(store) == inbox

    def test_a_tombstone_is_remembered_and_never_listed(self, store, inbox):
        apply(store, MailboxUpdate(MailboxState("idx", INBOX + ".x", mbtype="d", highestmodseq=7)))
        with store.read(ALICE) as reader:
            assert [state.name for state in reader.mailboxes()] == [INBOX]
            stone = reader.tombstones()[0]
        assert (stone.name, stone.uniqueid, stone.modseq) == (INBOX + ".x", "idx", 7)

    @pytest.mark.covers("Codes after NO", "IMAP_MAILBOX_BADNAME")
    @pytest.mark.parametrize(
        "name", ["user.alice.\x01", "user.alice./x", "user.alice..x", "user.alice." + "x" * 490]
    )
    def test_bad_names_are_refused(self, store, inbox, name):
        with pytest.raises(ReplyError):
            apply(store, update_of(name, [], uniqueid="idx"))

    @pytest.mark.covers("Codes after NO", "IMAP_PARTITION_UNKNOWN")
    def test_an_unknown_partition_is_refused(self, store):
        with pytest.raises(PartitionUnknown):
            apply(store, update_of(INBOX, [], partition="nowhere"))
        assert not store.exists(ALICE)

    # -- the smaller verbs

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY EXPUNGE")
    def test_expunge_leaves_modseq_and_time(self, store, inbox):
        with store.write(ALICE) as writer:
            writer.apply_expunge(INBOX, "id-" + INBOX, [2, 99])
        assert records_in(store) == [inbox[0], inbox[1]._replace(expunged=True), inbox[2]]
        assert sums_agree(store, ALICE)

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY EXPUNGE")
    def test_expunge_by_another_uniqueid_is_moved(self, store, inbox):
        with pytest.raises(MailboxMoved), store.write(ALICE) as writer:
            writer.apply_expunge(INBOX, "other", [2])

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY UNMAILBOX")
    def test_unmailbox_leaves_a_tombstone(self, store, inbox):
        with store.write(ALICE) as writer:
            writer.apply_unmailbox(INBOX)
        with store.read(ALICE) as reader:
            assert reader.mailboxes() == []
            assert [(stone.name, stone.uniqueid) for stone in reader.tombstones()] == [(INBOX, "id-" + INBOX)]
        assert store.owner_of_uniqueid("id-" + INBOX) is None

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY UNMAILBOX")
    def test_unmailbox_of_an_unknown_mailbox_is_told(self, store, inbox):
        with pytest.raises(MailboxNonexistent), store.write(ALICE) as writer:
            writer.apply_unmailbox(INBOX + ".x")

    def test_a_mailbox_may_come_again_after_unmailbox(self, store, inbox):
        with store.write(ALICE) as writer:
            writer.apply_unmailbox(INBOX)
        apply(store, update_of(INBOX, inbox), Stage(ONE, TWO, THREE))
        assert records_in(store) == inbox
        with store.read(ALICE) as reader:
            assert reader.tombstones() == []

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY UNUSER")
    def test_unuser_takes_everything_but_what_was_set_aside(self, store, inbox):
        aside = "DELETED.user.alice.old.6B013001"
        apply(store, update_of(INBOX + ".x", []))
        apply(store, update_of(aside, []))
        with store.write(ALICE) as writer:
            writer.apply_sub(INBOX, True)
            writer.apply_seen(Seen("other", 1, 2, 3, "1:2"))
            writer.apply_quota(Quota(INBOX, {"STORAGE": 5}, 3))
            writer.apply_unuser()
        with store.read(ALICE) as reader:
            assert [state.name for state in reader.mailboxes()] == [aside]
            assert reader.quotas() == []
            meta = reader.meta(with_sieve=True)
        assert (meta.seen, meta.subscriptions, meta.sieve) == ((), (), ())

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY UNUSER")
    def test_unuser_of_an_unknown_user_changes_nothing(self, store):
        with store.write(ALICE) as writer:
            writer.apply_unuser()
        assert list(store.owners()) == []

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY QUOTA", "APPLY UNQUOTA")
    def test_quota_limits_are_kept_and_removed(self, store, inbox):
        quota = Quota(INBOX, {"STORAGE": 100, "X-NUM-FOLDERS": 4}, 17)
        with store.write(ALICE) as writer:
            writer.apply_quota(quota)
        with store.read(ALICE) as reader:
            assert reader.quota(INBOX) == quota
            assert reader.mailbox(INBOX).quotaroot == INBOX
        with store.write(ALICE) as writer:
            writer.apply_unquota(INBOX)
            writer.apply_unquota(INBOX + ".never")
        with store.read(ALICE) as reader:
            assert reader.quotas() == []
            assert reader.mailbox(INBOX).quotaroot == ""

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY SUB", "APPLY SEEN")
    def test_seen_and_subscriptions_are_kept_by_user(self, store):
        seen = Seen("uniqueid", 2**64 - 1, 7, 8, "1:4,7")
        with store.write(BOB) as writer:
            writer.apply_seen(seen)
            writer.apply_sub("user.alice.b", True)
            writer.apply_sub("user.alice", True)
            writer.apply_sub("user.alice.c", True)
            writer.apply_sub("user.alice.c", False)
        with store.read(BOB) as reader:
            meta = reader.meta(with_sieve=True)
            assert reader.seen("uniqueid") == seen
        assert meta.seen == (seen,)
        assert meta.subscriptions == ("user.alice", "user.alice.b")

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY ANNOTATION")
    def test_annotations_of_mailboxes_and_of_the_server(self, store, inbox):
        with store.write(ALICE) as writer:
            writer.apply_annotation(MailboxAnnotation(INBOX, "/comment", "", b"x"))
            writer.apply_annotation(MailboxAnnotation(INBOX, "/comment", "bob", b"y"))
            writer.apply_unannotation(INBOX, "/comment", "bob")
        with store.write(SERVER) as writer:
            writer.apply_annotation(MailboxAnnotation("", "/motd", "", b"hello"))
        with store.read(ALICE) as reader:
            assert reader.annotations(INBOX) == [MailboxAnnotation(INBOX, "/comment", "", b"x")]
            assert reader.mailbox(INBOX).highestmodseq == 13
        with store.read(SERVER) as reader:
            assert reader.annotations("") == [MailboxAnnotation("", "/motd", "", b"hello")]
        assert list(store.owners()) == [ALICE]

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY ANNOTATION")
    def test_annotations_of_an_unknown_mailbox_are_refused(self, store, inbox):
        with pytest.raises(MailboxNonexistent), store.write(ALICE) as writer:
            writer.apply_annotation(MailboxAnnotation(INBOX + ".x", "/comment", "", b"x"))

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY SIEVE")
    def test_sieve_by_command(self, store, inbox):
        with store.write(ALICE) as writer:
            writer.apply_sieve("main.script", 1_650_000_000, b"keep;\r\n")
            writer.apply_sieve("main.bc", 5, b"ignored")
            writer.apply_sieve("second.script", 1_650_000_001, b"discard;\r\n")
            writer.apply_active_sieve("main.bc")
        with store.read(ALICE) as reader:
            lines = [(s.filename, s.last_update, s.guid, s.active) for s in reader.sieve_scripts()]
            assert reader.sieve_content("main.script") == b"keep;\r\n"
            assert reader.sieve_content("other.script") is None
        assert lines == [
            ("main.script", 1_650_000_000, guid_of(b"keep;\r\n"), False),
            ("main.bc", 1_650_000_000, bytes(20), True),
            ("second.script", 1_650_000_001, guid_of(b"discard;\r\n"), False),
        ]
        with store.write(ALICE) as writer:
            writer.apply_active_sieve(None)
            writer.apply_unsieve("main.script")
            writer.apply_unsieve("main.bc")
        with store.read(ALICE) as reader:
            assert [script.filename for script in reader.sieve_scripts()] == ["second.script"]

    @pytest.mark.covers("Codes after NO", "IMAP_SYNC_BADSIEVE")
    def test_a_script_that_does_not_compile_is_refused(self, store, inbox):
        with pytest.raises(SyncBadSieve), store.write(ALICE) as writer:
            writer.apply_sieve("main.script", 1, b"if {")

    @pytest.mark.covers("Codes after NO", "IMAP_INVALID_USER")
    def test_a_script_needs_a_user(self, store):
        with pytest.raises(InvalidUser), store.write(BOB) as writer:
            writer.apply_sieve("main.script", 1, b"keep;")
        assert list(store.owners()) == []
