"""A store as the master of a replication: messages by mailbox and UID, settlements in one transaction."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.errors import MailboxNonexistent, StoreError, SyncChanged
from cyrus_sync.common.master import Master, Renumbered, Settlement
from cyrus_sync.common.model import MailboxState, MessageBody, Record
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.common.stores.native.store import NativeStore
from tests.common.stores.test_healing import spoil
from tests.sync_client.engine.world import (
    ALICE,
    INBOX,
    Clock,
    deliver,
    guid_of,
    live,
    make_store,
    message,
    records,
    state,
    write,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[NativeStore]:
    """Alice with two messages."""
    store = make_store(tmp_path, Clock())
    with write(store) as writer:
        writer.create(INBOX)
    deliver(store, INBOX, "one", "two")
    yield store
    store.close()


@pytest.fixture
def master(store: NativeStore) -> Master:
    return NativeMaster(store)


class Bodies:
    """Messages by their texts, as if they had been fetched."""

    def __init__(self, *texts: str) -> None:
        self._messages = {guid_of(text): message(text) for text in texts}

    def get(self, guid: bytes) -> MessageBody | None:
        data = self._messages.get(guid)
        return None if data is None else MessageBody("", guid, len(data), data)


def there(uid: int, text: str) -> Record:
    """A record of the replica's."""
    return Record(
        uid, 100, 1, "\\Seen", False, 1_600_000_000, len(message(text)), guid_of(text), createdmodseq=9
    )


def settlement(base: MailboxState, **fields: object) -> Settlement:
    return Settlement(base, base, **fields)  # type: ignore[arg-type]


def test_a_settlement_adopts_renumbers_and_rewrites(store: NativeStore, master: Master) -> None:
    base = state(store, INBOX)
    one, two = records(store, INBOX)
    done = master.settle(
        ALICE,
        settlement(
            base,
            counters={"last_uid": 5, "highestmodseq": 1000, "uidvalidity": base.uidvalidity + 1},
            adopt=(there(4, "four"),),
            renumber=(Renumbered(there(1, "theirs"), True), Renumbered(one, False)),
            rewrite=(one._replace(expunged=True), two._replace(flags="\\Flagged")),
            expunge=(1,),
            bodies=Bodies("four", "theirs"),
        ),
    )
    assert list(done) == [1]
    assert live(store, INBOX) == {2: two.guid, 4: guid_of("four"), 6: guid_of("theirs"), 7: one.guid}
    after = {record.uid: record for record in records(store, INBOX)}
    assert after[1].expunged
    assert after[2].flags == "\\Flagged"
    assert (after[6].flags, after[6].createdmodseq) == ("\\Seen", 9)
    assert min(record.modseq for record in after.values()) > 1000
    assert state(store, INBOX).uidvalidity == base.uidvalidity + 1


def test_a_settlement_that_does_not_hold_any_more_changes_nothing(store: NativeStore, master: Master) -> None:
    base, (one, _) = state(store, INBOX), records(store, INBOX)
    with write(store) as writer:
        writer.set_flags(INBOX, [1], add=["\\Seen"])
    before = records(store, INBOX)
    with pytest.raises(SyncChanged):
        master.settle(ALICE, settlement(base, rewrite=(one._replace(expunged=True),)))
    assert records(store, INBOX) == before


def test_mail_that_came_meanwhile_does_not_hold_a_settlement_up(store: NativeStore, master: Master) -> None:
    base, (one, _) = state(store, INBOX), records(store, INBOX)
    deliver(store, INBOX, "news")
    master.settle(ALICE, settlement(base, rewrite=(one._replace(expunged=True),)))
    assert set(live(store, INBOX)) == {2, 3}


def test_a_settlement_that_fails_leaves_no_trace(store: NativeStore, master: Master) -> None:
    base, before = state(store, INBOX), records(store, INBOX)
    with pytest.raises(StoreError):
        master.settle(
            ALICE, settlement(base, adopt=(there(3, "three"), there(4, "four")), bodies=Bodies("three"))
        )
    assert records(store, INBOX) == before


def test_a_mailbox_that_is_gone_is_not_settled(store: NativeStore, master: Master) -> None:
    base = state(store, INBOX)
    with write(store) as writer:
        writer.delete(INBOX, delayed=False)
    with pytest.raises(MailboxNonexistent):
        master.settle(ALICE, settlement(base, counters={"last_uid": 9}))


def test_messages_come_in_the_order_asked_for_and_others_are_left_out(
    master: Master, store: NativeStore
) -> None:
    uniqueid = state(store, INBOX).uniqueid
    wanted = [(2, guid_of("two")), (9, guid_of("nine")), (1, guid_of("one"))]
    source = master.messages(ALICE, uniqueid, wanted, "ssd")
    for _ in range(2):
        bodies = [body for batch in source for body in batch]
        assert [(body.guid, body.partition) for body in bodies] == [
            (guid_of("two"), "ssd"),
            (guid_of("one"), "ssd"),
        ]


def test_readable_messages_are_those_that_are_stored(master: Master, store: NativeStore) -> None:
    uniqueid = state(store, INBOX).uniqueid
    with master.read(ALICE) as reader:
        for verify in (False, True):
            found = reader.readable(uniqueid, [(1, guid_of("one")), (9, guid_of("nine"))], verify=verify)
            assert found == {guid_of("one")}


def test_a_damaged_message_is_told_of_and_healed(master: Master, store: NativeStore) -> None:
    assert master.damaged(ALICE) == set()
    spoil(store, "two")
    uniqueid = state(store, INBOX).uniqueid
    wanted = [(record.uid, record.guid) for record in records(store, INBOX)]
    lost: list[bytes] = []
    for batch in master.messages(ALICE, uniqueid, wanted, unreadable=lambda guid, _: lost.append(guid)):
        assert [body.guid for body in batch] == [guid_of("one")]
    assert lost == [guid_of("two")]
    with master.read(ALICE) as reader:
        assert reader.readable(uniqueid, wanted, verify=True) == {guid_of("one")}
    assert (master.damaged(ALICE), master.damaged_owners()) == ({guid_of("two")}, [ALICE])
    body = Bodies("two").get(guid_of("two"))
    assert body is not None
    master.heal(ALICE, body)
    assert (master.damaged(ALICE), master.damaged_owners()) == (set(), [])
