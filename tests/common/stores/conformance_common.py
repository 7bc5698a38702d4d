"""The contract of a mail store, third part: transactions, locking, renames, and what is unknown."""

from __future__ import annotations

import threading

import pytest

from cyrus_sync.common.errors import (
    MailboxLocked,
    MailboxNonexistent,
    PartitionUnknown,
    ReplyError,
)
from cyrus_sync.common.model import (
    Annotation,
)
from cyrus_sync.common.names import Owner
from tests.common.stores.conformance_base import ONE, THREE, TWO, Conformance
from tests.common.stores.tools import (
    ALICE,
    BOB,
    INBOX,
    Stage,
    all_records,
    apply,
    bodies_in,
    guid_of,
    mailbox_in,
    message,
    record_of,
    records_in,
    sums_agree,
    text_of,
    update_of,
)


class CommonConformance(Conformance):
    """Transactions, locking, renames, and what is unknown."""

    def test_an_unknown_owner_reads_as_empty(self, store):
        with store.read(ALICE) as reader:
            assert reader.mailboxes() == []
            assert reader.mailbox(INBOX) is None
            assert list(reader.records("nothing")) == []
            assert reader.has_guids([guid_of(ONE)]) == set()
            assert list(reader.bodies([guid_of(ONE)])) == []
            assert reader.highest_modseq() == 0
        assert not store.exists(ALICE)
        assert store.owner_of_uniqueid("nothing") is None

    def test_owners_are_users_then_shared_mailboxes(self, store):
        for name in ("user.zoe", "shared", "user.alice", "archive"):
            apply(store, update_of(name, []))
        assert list(store.owners()) == [
            Owner("user", "alice"), Owner("user", "zoe"),
            Owner("shared", "archive"), Owner("shared", "shared"),
        ]  # fmt: skip

    def test_mailboxes_come_in_the_order_of_mailboxes_db(self, store):
        names = [
            INBOX,
            INBOX + ".a",
            INBOX + ".a.b",
            INBOX + ".a^b",
            INBOX + ".ab",
            "DELETED.user.alice.a.00000001",
        ]
        for name in names[:1] + names[:0:-1]:
            apply(store, update_of(name, []))
        with store.read(ALICE) as reader:
            assert [state.name for state in reader.mailboxes()] == names

    def test_an_exception_undoes_the_whole_write(self, store, log, inbox):
        with pytest.raises(KeyError), store.write(ALICE) as writer:
            writer.set_flags(INBOX, [1], add=["\\Seen"])
            writer.append(INBOX, [(message(9), 1, "")])
            raise KeyError
        assert records_in(store) == inbox
        assert log.take() == []
        with store.read(ALICE) as reader:
            assert reader.has_guids([guid_of(message(9))]) == set()

    def test_an_exception_in_a_first_write_leaves_no_owner(self, store):
        with pytest.raises(KeyError), store.write(ALICE) as writer:
            writer.create(INBOX)
            raise KeyError
        assert list(store.owners()) == []
        assert not store.exists(ALICE)

    def test_a_savepoint_undoes_its_part_alone(self, store, log, inbox):
        with store.write(ALICE) as writer:
            with writer.savepoint():
                writer.append(INBOX, [(message(7), 1, "")])
                with pytest.raises(KeyError), writer.savepoint():
                    writer.append(INBOX, [(message(8), 1, "")])
                    writer.subscribe(INBOX)
                    raise KeyError
            writer.append(INBOX, [(message(9), 1, "")])
        assert bodies_in(store)[3:] == [message(7), message(9)]
        assert log.take() == [("APPEND", INBOX), ("MAILBOX", INBOX)]

    def test_a_savepoint_of_a_first_write_undoes_its_part_alone(self, store):
        with store.write(ALICE) as writer:
            with pytest.raises(KeyError), writer.savepoint():
                writer.create(INBOX)
                raise KeyError
            assert writer.mailboxes() == []
            with writer.savepoint():
                writer.create(INBOX)
        assert mailbox_in(store).name == INBOX

    def test_a_writer_reads_its_own_changes(self, store, inbox):
        with store.write(ALICE) as writer:
            writer.append(INBOX, [(message(9), 1, "")])
            assert len(all_records(writer)) == 4
            assert text_of(writer.body(guid_of(message(9)))) == message(9)

    def test_a_reader_keeps_its_snapshot(self, store, inbox):
        with store.read(ALICE) as reader:
            with store.write(ALICE) as writer:
                writer.expunge(INBOX, [1])
            assert all_records(reader) == inbox
        assert records_in(store)[0].expunged

    def test_a_second_writer_is_told_that_the_mailbox_is_locked(self, store, inbox):
        failed = []

        def second() -> None:
            try:
                with store.write(ALICE, timeout=0.05):
                    failed.append("got in")
            except MailboxLocked:
                failed.append("locked")

        with store.write(ALICE):
            thread = threading.Thread(target=second)
            thread.start()
            thread.join()
        assert failed == ["locked"]
        with store.write(ALICE, timeout=0.05):
            pass

    def test_writing_without_create_makes_no_owner(self, store):
        with pytest.raises(MailboxNonexistent), store.write(ALICE, create=False) as writer:
            writer.create(INBOX)
        assert not store.exists(ALICE)

    def test_bodies_come_in_the_order_asked_for(self, store, inbox):
        wanted = [guid_of(THREE), guid_of(message(50)), guid_of(ONE), guid_of(THREE)]
        with store.read(ALICE) as reader:
            bodies = [body for batch in reader.bodies(wanted, "other") for body in batch]
        assert [text_of(body) for body in bodies] == [THREE, ONE, THREE]
        assert {body.partition for body in bodies} == {"other"}

    # -- rename

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY RENAME")
    def test_a_rename_keeps_what_the_mailbox_is(self, store, log, inbox):
        apply(store, update_of(INBOX + ".x", [record_of(ONE, 1)]))
        before = mailbox_in(store, INBOX + ".x")
        store.rename(INBOX + ".x", INBOX + ".y", log=False)
        with store.read(ALICE) as reader:
            after = reader.mailbox(INBOX + ".y")
            assert reader.mailbox(INBOX + ".x") is None
            assert reader.former_names(before.uniqueid) == [INBOX + ".x"]
            assert [stone.name for stone in reader.tombstones()] == [INBOX + ".x"]
        assert (after.uniqueid, after.highestmodseq, after.uidvalidity) == (
            before.uniqueid, before.highestmodseq, before.uidvalidity,
        )  # fmt: skip
        assert bodies_in(store, INBOX + ".y") == [ONE]
        assert log.take() == []

    @pytest.mark.covers("Lines of the action log", "RENAME")
    def test_a_local_rename_is_logged_and_counted(self, store, log, inbox):
        apply(store, update_of(INBOX + ".x", []))
        store.rename(INBOX + ".x", INBOX + ".y", log=True)
        state = mailbox_in(store, INBOX + ".y")
        assert state.highestmodseq == state.foldermodseq == 14
        assert log.take() == [
            ("RENAME", INBOX + ".x", INBOX + ".y"), ("MAILBOX", INBOX + ".x"), ("MAILBOX", INBOX + ".y"),
        ]  # fmt: skip

    def test_a_rename_done_twice_is_fine(self, store, inbox):
        apply(store, update_of(INBOX + ".x", []))
        store.rename(INBOX + ".x", INBOX + ".y", log=False)
        store.rename(INBOX + ".x", INBOX + ".y", log=False)
        assert mailbox_in(store, INBOX + ".y").uniqueid == "id-" + INBOX + ".x"

    def test_a_rename_of_nothing_or_onto_something_is_refused(self, store, inbox):
        apply(store, update_of(INBOX + ".x", []))
        with pytest.raises(MailboxNonexistent):
            store.rename(INBOX + ".a", INBOX + ".b", log=False)
        with pytest.raises(ReplyError):
            store.rename(INBOX + ".x", INBOX, log=False)

    @pytest.mark.covers("GET, APPLY, RESTORE", "APPLY RENAME")
    def test_a_rename_may_move_to_another_partition(self, store, inbox):
        store.rename(INBOX, INBOX, partition="other", uidvalidity=77, log=False)
        assert (mailbox_in(store).partition, mailbox_in(store).uidvalidity) == ("other", 77)
        with pytest.raises(PartitionUnknown):
            store.rename(INBOX, INBOX, partition="nowhere", log=False)

    def test_names_can_be_swapped_through_a_third(self, store, inbox):
        for name in "ab":
            apply(store, update_of(f"{INBOX}.{name}", []))
        for old, new in ("ac", "ba", "cb"):
            store.rename(f"{INBOX}.{old}", f"{INBOX}.{new}", log=False)
        assert mailbox_in(store, INBOX + ".a").uniqueid == f"id-{INBOX}.b"
        assert mailbox_in(store, INBOX + ".b").uniqueid == f"id-{INBOX}.a"
        with store.read(ALICE) as reader:
            assert [stone.name for stone in reader.tombstones()] == [INBOX + ".a", INBOX + ".b", INBOX + ".c"]

    def test_a_mailbox_goes_from_owner_to_owner(self, store, inbox):
        noted = record_of(ONE, 1, annotations=(Annotation("/c", "", 2, b"v"),), thrid=2**63)
        gone = record_of(message(8), 2, expunged=True)
        sent = [noted, gone, record_of(message(3, 2_000_000), 3)]
        apply(store, update_of(INBOX + ".x", sent), Stage(message(3, 2_000_000)))
        apply(store, update_of("user.bob", []))
        store.rename(INBOX + ".x", "user.bob.y", log=False)
        assert records_in(store, "user.bob.y") == sent
        assert bodies_in(store, "user.bob.y") == [ONE, message(3, 2_000_000)]
        assert store.owner_of_uniqueid(f"id-{INBOX}.x") == BOB
        assert sums_agree(store, BOB)
        with store.read(ALICE) as reader:
            assert [state.name for state in reader.mailboxes()] == [INBOX]
            assert [stone.name for stone in reader.tombstones()] == [INBOX + ".x"]
        with store.read(BOB) as reader:
            assert reader.former_names(f"id-{INBOX}.x") == [INBOX + ".x"]
        store.rename(INBOX + ".x", "user.bob.y", log=False)

    def test_a_renamed_user_keeps_what_unuser_of_the_old_one_takes(self, store, inbox):
        with store.write(ALICE) as writer:
            writer.apply_sub(INBOX, True)
        store.rename(INBOX, "user.bob", log=False)
        with store.write(BOB) as writer:
            writer.apply_sub("user.bob", True)
        with store.write(ALICE) as writer:
            writer.apply_unuser()
        assert bodies_in(store, "user.bob") == [ONE, TWO, THREE]
        with store.read(BOB) as reader:
            assert reader.meta(with_sieve=False).subscriptions == ("user.bob",)
        assert list(store.owners()) == [BOB]
