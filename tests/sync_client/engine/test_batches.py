"""A large mailbox goes over in bounded pieces, and each piece leaves a replica that can go on."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.errors import ConnectionLost
from cyrus_sync.common.model import Record
from cyrus_sync.sync_client.engine.batches import Cut, Limits, ReplicaBase, fits, plan_cuts, select
from tests.sync_client.engine.lines import BrokenLine
from tests.sync_client.engine.world import ALICE, INBOX, World, content, deliver, finish, state, write


def record(uid: int, modseq: int, size: int = 10) -> Record:
    return Record(uid, modseq, 0, "", False, 0, size, bytes(20))


def big(world: World, count: int = 12) -> None:
    with write(world.master) as writer:
        writer.create(INBOX)
    for number in range(count):
        deliver(world.master, INBOX, f"number {number}")


def applied(events: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [event[2:] for event in events if event[0] == "MAILBOX"]


def test_a_first_sync_is_cut_into_batches_that_follow_in_the_same_run(world: World) -> None:
    big(world)
    events = world.sync(batchsize=5)
    assert applied(events) == [
        ("PARTIAL", (1, 2, 3, 4, 5)),
        ("PARTIAL", (6, 7, 8, 9, 10)),
        ("SINCE", (11, 12)),
    ]
    assert [event[1] for event in events if event[0] == "MESSAGE"] == [5, 5, 2]
    assert content(world.replica) == content(world.master)


def test_what_fits_is_not_cut(world: World) -> None:
    big(world)
    assert applied(world.sync(batchsize=12)) == [("ALL", tuple(range(1, 13)))]


def test_bytes_are_bounded_too(world: World) -> None:
    big(world, 4)
    size = sum(r.size for batch in _batches(world) for r in batch)
    assert len(applied(world.sync(batch_bytes=size // 2))) >= 2
    assert content(world.replica) == content(world.master)


def _batches(world: World) -> list[Any]:
    with world.master.read(ALICE) as reader:
        box = reader.mailbox(INBOX)
        assert box is not None
        return list(reader.records(box.uniqueid))


def test_messages_that_all_came_with_one_modseq_are_cut_and_completed(world: World) -> None:
    with write(world.master) as writer:
        writer.create(INBOX)
    deliver(world.master, INBOX, *(f"number {number}" for number in range(12)))
    events = world.sync(batchsize=5)
    assert [event[0] for event in applied(events)] == ["PARTIAL", "PARTIAL", "SINCE"]
    assert [event[1] for event in events if event[0] == "MESSAGE"] == [5, 5, 2]
    assert content(world.replica) == content(world.master)


def test_many_changed_flags_are_cut_by_modseq(world: World) -> None:
    big(world)
    world.sync()
    for uid in range(1, 13):
        with write(world.master) as writer:
            writer.set_flags(INBOX, [uid], add=["\\Flagged"])
    events = world.sync(batchsize=5)
    assert applied(events) == [
        ("PARTIAL", (1, 2, 3, 4, 5)),
        ("PARTIAL", (6, 7, 8, 9, 10)),
        ("SINCE", (11, 12)),
    ]
    assert content(world.replica) == content(world.master)


def test_a_change_of_all_messages_at_once_cannot_be_cut_and_streams(world: World) -> None:
    big(world)
    world.sync()
    with write(world.master) as writer:
        writer.set_flags(INBOX, range(1, 13), add=["\\Flagged"])
    assert applied(world.sync(batchsize=5)) == [("SINCE", tuple(range(1, 13)))]
    assert content(world.replica) == content(world.master)


@pytest.mark.parametrize("at", range(8))
def test_a_batch_that_was_interrupted_goes_on_where_it_was(world: World, at: int) -> None:
    big(world)
    line = BrokenLine(world.store_replica(), at, after=True)
    with contextlib.suppress(ConnectionLost):
        finish(world.engine(line, batchsize=5).user("alice"))
    deliver(world.master, INBOX, "meanwhile")
    with write(world.master) as writer:
        writer.set_flags(INBOX, [2, 7], add=["\\Seen"])
        writer.expunge(INBOX, [3])
    events = world.sync(batchsize=5)
    assert ("GET FULLMAILBOX", INBOX) not in events
    assert content(world.replica) == content(world.master)


def test_a_partial_header_has_the_cut_and_no_crcs(world: World) -> None:
    big(world)
    sent: list[Any] = []
    replica = world.store_replica()
    apply = replica.mailbox

    def spy(update: Any, *, local: bool = False) -> Any:
        sent.append(update.state)
        return apply(update, local=local)

    replica.mailbox = spy  # type: ignore[method-assign]
    finish(world.engine(replica, batchsize=5).user("alice"))
    first, complete = sent[0], sent[-1]
    modseqs = [record.modseq for batch in _batches(world) for record in batch]
    assert (first.last_uid, first.highestmodseq) == (5, modseqs[5] - 1)
    assert (first.sync_crc, first.sync_crc_annot, first.last_appenddate) == (0, None, 0)
    assert complete == replace(state(world.master, INBOX), partition="default")


RECORDS = st.lists(st.integers(2, 15), min_size=1, max_size=40).map(
    lambda modseqs: [record(uid + 1, modseq) for uid, modseq in enumerate(modseqs)]
)


@given(RECORDS, st.integers(0, 40), st.integers(0, 15), st.integers(1, 6))
def test_cuts_lead_to_the_complete_mailbox_and_never_back(
    records: list[Record], base_uid: int, base_modseq: int, size: int
) -> None:
    """A replica that starts at any base and takes every batch ends with all that was to be sent."""
    base = ReplicaBase(min(base_uid, len(records)), base_modseq if base_uid else 0)
    source = [r for r in records if r.modseq > base.modseq]
    replica = {r.uid: min(r.modseq, base.modseq) for r in records if r.uid <= base.uid}
    limits = Limits(size, 1 << 30)
    if fits([source], base, limits) is not None:
        return
    cuts: list[Cut | None] = [*plan_cuts([source], base, limits), None]
    for cut in cuts:
        known = [r for r in records if r.modseq > base.modseq]
        sent = [r for batch in select([known], base, cut) for r in batch]
        for one in sent:
            assert one.modseq >= replica.get(one.uid, 0), "a record goes back"
            replica[one.uid] = one.modseq
            if cut:
                assert one.uid <= max(cut.uid, base.uid)
                assert one.modseq <= cut.modseq
        if cut:
            assert cut.uid >= base.uid
            assert cut.modseq >= base.modseq
            assert (cut.uid, cut.modseq) != base
            assert len([r for r in sent if r.uid > base.uid]) <= size
            base = ReplicaBase(cut.uid, cut.modseq)
    assert {uid: replica[uid] for uid in (r.uid for r in source)} == {r.uid: r.modseq for r in source}
