"""Settling: the journal becomes objects, and nothing is deleted before these were read back."""

from __future__ import annotations

import secrets
import tracemalloc
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.errors import CyrusSyncError, MailboxLocked, ObjectMissing, ObjectsUnavailable
from cyrus_sync.common.stores.native.care.keeper import NativeCare
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.fleet import settler as settling
from cyrus_sync.fleet.database import Server
from cyrus_sync.fleet.outgoing import LARGE
from cyrus_sync.fleet.settler import Settler
from cyrus_sync.objects.store import PIECE
from tests.common.stores.conformance_nodes import append
from tests.common.stores.tools import ALICE, INBOX, bodies_in, message
from tests.fleet.nodes import Fleet


class Killed(BaseException):
    """What ends a settler in the middle."""


@pytest.fixture
def fleet(tmp_path: Path, database: str) -> Fleet:
    return Fleet(tmp_path, database)


@pytest.fixture
def here(fleet: Fleet) -> Iterator[NativeStore]:
    store = fleet.node("here")
    yield store
    store.close()


@pytest.fixture
def settler(fleet: Fleet, here: NativeStore) -> Settler:
    """One that keeps nothing that is not needed."""
    return Settler(here.home.journal, fleet.objects, keep=0)


def rows(store: NativeStore) -> int:
    return sum(one.rows for one in store.home.journal.standings())


def keys(fleet: Fleet) -> list[str]:
    try:
        return sorted(one.key for one in fleet.objects.listed())
    except ObjectsUnavailable:
        return []


def noise(number: int, size: int) -> bytes:
    """A message that can hardly be compressed."""
    return b"Subject: %d\r\n\r\n" % number + secrets.token_hex(size).encode()


def test_what_is_much_larger_than_memory_may_be_is_committed_settled_and_read_in_parts(fleet, here, settler):
    with here.write(ALICE) as writer:
        writer.create(INBOX)
    tracemalloc.start()
    try:
        for _ in range(3):
            with here.write(ALICE) as writer:
                for _ in range(80):
                    writer.append(INBOX, [(secrets.token_bytes(LARGE * 3 // 4), 1, "")])
        assert settler.settle(ALICE) is not None
        with fleet.node("there").read(ALICE) as reader:
            guids = [row.guid for rows in reader.records(reader.mailbox(INBOX).uniqueid) for row in rows]
            octets = sum(len(body.data) for batch in reader.bodies(guids) for body in batch)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert octets > 5 * PIECE and most < 4 * PIECE


def test_a_node_that_knows_nothing_reads_what_was_settled_and_what_came_after(fleet, here, settler):
    append(here, 1, 2)
    append(here, 3)
    assert rows(here) == 2 and keys(fleet) == []
    assert settler.settle(ALICE).rows == 2
    assert rows(here) == 0 and len(keys(fleet)) == 2, "a base, and the messages together"
    append(here, 4)
    there = fleet.node("there")
    assert bodies_in(there) == [message(number) for number in (1, 2, 3, 4)]
    append(there, 5)
    assert bodies_in(here) == [message(number) for number in (1, 2, 3, 4, 5)]
    assert settler.settle(ALICE).rows == 2 and settler.settle(ALICE) is None
    assert list(NativeCare(fleet.node("third")).verify(ALICE)) == []
    there.close()


def test_who_is_settled_again_and_again_has_few_objects(fleet, here, settler):
    for number in range(1, 6):
        append(here, number)
        settler.settle(ALICE)
    assert len(keys(fleet)) == 2
    assert bodies_in(fleet.node("there")) == [message(number) for number in range(1, 6)]


def test_a_large_message_is_an_object_before_it_is_committed(fleet, here, settler):
    large = noise(1, 2 * LARGE)
    with here.write(ALICE) as writer:
        writer.create(INBOX)
        writer.append(INBOX, [(message(7), 1, ""), (large, 1, ""), (message(8), 1, "")])
    assert len(keys(fleet)) == 1
    (standing,) = here.home.journal.standings()
    assert standing.octets < LARGE
    assert bodies_in(fleet.node("there")) == [message(7), large, message(8)]
    settler.settle(ALICE)
    assert bodies_in(fleet.node("third")) == [message(7), large, message(8)]
    assert list(NativeCare(fleet.node("third")).verify(ALICE)) == []


def test_a_large_message_cannot_be_committed_while_the_object_store_is_away_and_all_else_can(
    fleet, here, monkeypatch
):
    append(here, 1)

    def away(*_: object, **__: object) -> None:
        raise ObjectsUnavailable("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(fleet.objects, "put", away)
        with pytest.raises(MailboxLocked, match="no answer"), here.write(ALICE) as writer:
            writer.append(INBOX, [(noise(2, 2 * LARGE), 1, "")])
        append(here, 3)
    assert bodies_in(here) == [message(1), message(3)]


@pytest.mark.covers("A fleet: losing a part of it", "6")
def test_what_the_object_store_forgets_at_once_stays_in_the_journal(fleet, here, settler, monkeypatch):
    append(here, 1)
    put = fleet.objects.put

    def forgetful(key: str, content: Any, *, check: bool = False) -> Any:
        done = put(key, content)
        fleet.objects.delete([key])
        if check:
            fleet.objects.get(key)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(fleet.objects, "put", forgetful)
        with pytest.raises(ObjectMissing):
            settler.settle(ALICE)
        ((_, outcome),) = settler.run([ALICE])
        assert isinstance(outcome, CyrusSyncError)
    assert rows(here) == 1
    assert bodies_in(fleet.node("there")) == [message(1)]
    assert settler.settle(ALICE).rows == 1


@pytest.mark.covers("A fleet: losing a part of it", "7")
@pytest.mark.parametrize("step", range(5))
def test_a_settler_may_be_killed_anywhere(fleet, here, settler, monkeypatch, step):
    """Before or after each of its steps; the next one ends what it has begun, and leaves no object behind."""
    append(here, 1, 2)
    settler.settle(ALICE)
    append(here, 3)
    steps = iter(range(100))

    def dies(function: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            if next(steps) == step:
                raise Killed
            result = function(*arguments, **more)
            return result

        return call

    with monkeypatch.context() as patch:
        patch.setattr(fleet.objects, "put", dies(fleet.objects.put))
        patch.setattr(fleet.objects, "delete", dies(fleet.objects.delete))
        patch.setattr(settler._journal, "settle", dies(settler._journal.settle))
        patch.setattr(settler, "_drop_needless", dies(settler._drop_needless))
        with pytest.raises(Killed):
            settler.settle(ALICE)
    expected = [message(1), message(2), message(3)]
    assert bodies_in(fleet.node("there")) == expected
    append(here, 4)
    settler.settle(ALICE)
    assert bodies_in(fleet.node("third")) == [*expected, message(4)]
    assert len(keys(fleet)) == 2


def test_of_two_settlers_at_once_one_wins_and_nothing_is_lost(fleet, here, settler, monkeypatch):
    append(here, 1)
    other = Settler(here.home.journal, fleet.objects, keep=0)
    settle = here.home.journal.settle

    def second(*arguments: Any) -> bool:
        monkeypatch.setattr(here.home.journal, "settle", settle)
        append(here, 2)
        assert other.settle(ALICE).rows == 2
        return settle(*arguments)

    monkeypatch.setattr(here.home.journal, "settle", second)
    assert settler.settle(ALICE) is None
    append(here, 3)
    settler.settle(ALICE)
    assert bodies_in(fleet.node("there")) == [message(1), message(2), message(3)]
    assert len(keys(fleet)) == 2


def test_a_reader_whose_octets_are_settled_meanwhile_finds_them_where_they_are_now(fleet, here, settler):
    append(here, 1)
    there = fleet.node("there")
    with there.read(ALICE):
        pass
    there.home.drop_packs(there.find(ALICE), ())
    assert bodies_in(there) == [message(1)], "out of the journal"
    settler.settle(ALICE)
    assert bodies_in(there) == [message(1)], "out of an object"
    append(here, 2)
    settler.settle(ALICE)
    there.home.drop_packs(there.find(ALICE), ())
    assert bodies_in(there) == [message(1), message(2)]
    there.close()


def test_the_objects_of_who_is_gone_and_of_packs_that_were_compacted_go_too(fleet, here, settler):
    append(here, 1, 2)
    settler.settle(ALICE)
    with here.write(ALICE) as writer:
        writer.expunge(INBOX, [1])
    NativeCare(here).expire(ALICE, -1)
    settler.settle(ALICE)
    assert len(keys(fleet)) == 2 and bodies_in(fleet.node("there")) == [message(2)]
    with here.write(ALICE) as writer:
        writer.apply_unuser()
    here._clock.now += 400 * 86400
    NativeCare(here).expire(ALICE, 0)
    assert settler.empty_gone() == 1 and settler.empty_gone() == 0
    assert keys(fleet) == []


def test_who_has_enough_in_the_journal_is_due_and_so_is_whose_first_commit_waits_for_a_day(
    here, settler, database, monkeypatch
):
    append(here, 1)
    assert settler.due() == [] and settler.due(everybody=True) == [ALICE]
    monkeypatch.setattr(settling, "ENOUGH", 100)
    assert settler.due() == [ALICE]
    monkeypatch.undo()
    server = Server(database)
    server.tell("UPDATE journal SET made = made - interval '25 hours' WHERE seq = 1")
    server.close()
    append(here, 2)
    assert settler.due() == [ALICE], "who is changed a little every day is, too"


@pytest.mark.covers("A fleet: losing a part of it", "5")
def test_an_object_store_that_is_away_leaves_what_this_node_has_to_be_read(fleet, here, settler, monkeypatch):
    append(here, 1)
    settler.settle(ALICE)
    append(here, 2)

    def away(*_: object) -> None:
        raise ObjectsUnavailable("no answer")

    for name in ("get", "get_range", "put"):
        monkeypatch.setattr(fleet.objects, name, away)
    assert bodies_in(here) == [message(1), message(2)]
    append(here, 3)
    with pytest.raises(MailboxLocked), fleet.node("there").read(ALICE):
        pass
    ((_, outcome),) = settler.run([ALICE])
    assert isinstance(outcome, CyrusSyncError)


def test_a_failover_that_has_lost_a_settlement_finds_the_base_before_and_all_that_belongs_to_it(fleet, here):
    """PostgreSQL's rows are put back as they were: so does a standby that was behind."""
    settler = Settler(here.home.journal, fleet.objects)
    append(here, 1)
    settler.settle(ALICE)
    append(here, 2)
    server = here.home.journal._servers.of(ALICE)
    owners = server.ask("SELECT id, base, base_seq FROM owners")
    rows = server.ask("SELECT owner, seq, head, prev, packs, data FROM journal")
    settler.settle(ALICE)
    for number, base, seq in owners:
        server.tell("UPDATE owners SET base = %s, base_seq = %s WHERE id = %s", base, seq, number)
    for row in rows:
        server.tell(
            "INSERT INTO journal (owner, seq, head, prev, packs, data) VALUES (%s, %s, %s, %s, %s, %b)", *row
        )
    assert bodies_in(fleet.node("there")) == [message(1), message(2)]
    append(here, 3)
    assert settler.settle(ALICE).rows == 2
    assert bodies_in(fleet.node("third")) == [message(1), message(2), message(3)]


def test_what_is_not_needed_any_more_goes_when_it_was_kept_for_long_enough(fleet, here, monkeypatch):
    settler = Settler(here.home.journal, fleet.objects)
    now = fleet.objects.now()
    for number in range(1, 4):
        append(here, number)
        settler.settle(ALICE)
    assert len(keys(fleet)) == 6, "three bases, and the messages as they were three times"
    monkeypatch.setattr(fleet.objects, "now", lambda: now + timedelta(hours=2))
    append(here, 4)
    settler.settle(ALICE)
    assert len(keys(fleet)) == 4, "those of this time and of the one before"
    assert bodies_in(fleet.node("there")) == [message(number) for number in (1, 2, 3, 4)]
