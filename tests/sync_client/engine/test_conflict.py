"""Both sides changed: every row of the table, as a decision and as what it does to two stores."""

from __future__ import annotations

import pytest

from cyrus_sync.common.errors import SyncChecksum
from cyrus_sync.common.model import NULL_GUID, Annotation, Record
from cyrus_sync.sync_client.engine.conflict import (
    Action,
    Adopt,
    Counters,
    ExpungeRemote,
    Renumber,
    Rewrite,
    decide,
    walk,
    without_adopted,
)
from cyrus_sync.sync_client.engine.errors import FoldersFailed
from tests.sync_client.engine.world import (
    INBOX,
    World,
    content,
    deliver,
    finish,
    guid_of,
    live,
    records,
    state,
    write,
)

LOW, HIGH = b"\x01" * 20, b"\x02" * 20
COUNTERS = Counters(
    master_last_uid=10, master_deletedmodseq=50, replica_last_uid=8, replica_highestmodseq=100
)


def record(uid: int = 5, modseq: int = 60, guid: bytes = LOW, **fields: object) -> Record:
    base = Record(uid, modseq, 1000, "", False, 1, 10, guid)
    return base._replace(**fields)  # type: ignore[arg-type]


def gone(uid: int = 5, modseq: int = 60, guid: bytes = LOW) -> Record:
    return record(uid, modseq, guid, expunged=True)


NOTES = (Annotation("/c", "", 1, b"x"),)
NEWER_THERE = record(modseq=61, last_updated=1001, flags="\\Seen", thrid=7, annotations=NOTES)
TABLE: list[tuple[str, Record | None, Record | None, list[Action]]] = [
    ("equal records: nothing", record(), record(), []),
    ("both expunged: nothing, even if the messages differ", gone(), gone(guid=HIGH, modseq=99), []),
    ("expunged on the replica: expunge wins", record(), gone(), [Rewrite(gone())]),
    ("expunged on the master: it stays so, with a new modseq", gone(), record(), [Rewrite(gone())]),
    (
        "changed later on the replica: its flags, thread and annotations win",
        record(),
        NEWER_THERE,
        [Rewrite(record(flags="\\Seen", thrid=7, annotations=NOTES))],
    ),
    (
        "a higher modseq but an earlier change on the replica: the master's flags win",
        record(flags="\\Flagged"),
        record(modseq=61, last_updated=999, flags="\\Seen"),
        [Rewrite(record(flags="\\Flagged"))],
    ),
    (
        "changed later on the master: its flags win",
        record(modseq=62, flags="\\Flagged"),
        record(modseq=61, last_updated=2000, flags="\\Seen"),
        [Rewrite(record(modseq=62, flags="\\Flagged"))],
    ),
    (
        "two messages, the master's GUID lower: it moves first",
        record(guid=LOW),
        record(guid=HIGH),
        [
            Renumber(record(guid=LOW)),
            Adopt(record(guid=HIGH), keep_uid=False),
            Rewrite(gone(guid=LOW)),
            ExpungeRemote(5),
        ],
    ),
    (
        "two messages, the replica's GUID lower: it moves first",
        record(guid=HIGH),
        record(guid=LOW),
        [
            Adopt(record(guid=LOW), keep_uid=False),
            Renumber(record(guid=HIGH)),
            Rewrite(gone(guid=HIGH)),
            ExpungeRemote(5),
        ],
    ),
    (
        "two messages, the replica's expunged: the master's moves",
        record(guid=LOW),
        gone(guid=HIGH),
        [Renumber(record(guid=LOW)), Rewrite(gone(guid=LOW))],
    ),
    (
        "two messages, the master's expunged: the replica's moves",
        gone(guid=LOW),
        record(guid=HIGH),
        [Adopt(record(guid=HIGH), keep_uid=False), ExpungeRemote(5)],
    ),
    (
        "only on the master, below the replica's LAST_UID: renumbered",
        record(uid=8),
        None,
        [Renumber(record(uid=8)), Rewrite(gone(uid=8))],
    ),
    ("only on the master, above, with a modseq that will be sent: nothing", record(9, 101), None, []),
    (
        "only on the master, above, with a modseq that would be overlooked: a new one",
        record(9, 100),
        None,
        [Rewrite(record(9, 100))],
    ),
    (
        "only on the replica, above the master's LAST_UID: adopted",
        None,
        record(11),
        [Adopt(record(11), True)],
    ),
    (
        "only on the replica, below, changed since the master last cleaned up: a new UID",
        None,
        record(10, 50),
        [Adopt(record(10, 50), False), ExpungeRemote(10)],
    ),
    ("only on the replica, below, older than that: stale", None, record(10, 49), [ExpungeRemote(10)]),
    ("expunged on the master, unknown there: nothing", gone(), None, []),
    ("expunged on the replica, unknown here: nothing", None, gone(11), []),
]


@pytest.mark.parametrize(
    ("master", "replica", "actions"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_one_row(master: Record | None, replica: Record | None, actions: list[Action]) -> None:
    assert decide(master, replica, COUNTERS) == actions


@pytest.mark.parametrize(
    "change",
    [
        {"modseq": 61},
        {"last_updated": 1},
        {"internaldate": 2},
        {"flags": "\\Draft"},
        {"flags": "Keyword"},
        {"thrid": 1},
        {"savedate": 1},
        {"createdmodseq": 1},
        {"annotations": (Annotation("/c", "a", 1, b"v"),)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_any_difference_gives_the_record_a_new_modseq(change: dict[str, object]) -> None:
    assert [type(action) for action in decide(record(), record(**change), COUNTERS)] == [Rewrite]


def test_the_order_and_case_of_flags_are_no_difference() -> None:
    assert decide(record(flags="\\Seen Work"), record(flags="work \\seen"), COUNTERS) == []


def test_a_walk_goes_through_both_lists_by_uid() -> None:
    master = [[record(1), record(2)], [record(4, guid=HIGH)]]
    replica = [[record(2), record(3, 40)], [], [record(4, guid=LOW), record(11)]]
    actions = list(walk(master, replica, COUNTERS))
    assert [type(action).__name__ for action in actions] == [
        "Renumber", "Rewrite", "ExpungeRemote", "Adopt", "Renumber", "Rewrite", "ExpungeRemote", "Adopt",
    ]  # fmt: skip
    assert NULL_GUID not in {a.record.guid for a in actions if isinstance(a, Adopt)}


@pytest.mark.parametrize("known", [{"savedate": 9, "createdmodseq": 8}, {"savedate": 9}, {}])
def test_an_adoption_that_was_made_before_an_interruption_is_not_made_again(known: dict[str, int]) -> None:
    there = record(5, guid=HIGH, **known)
    actions = decide(None, there, COUNTERS)
    made = there._replace(uid=11, modseq=70, createdmodseq=there.createdmodseq or 70)
    assert without_adopted(actions, [[made]], [[there]]) == [ExpungeRemote(5)]
    assert without_adopted(actions, [[made._replace(expunged=True)]], [[there]]) == [ExpungeRemote(5)]


def test_a_copy_that_somebody_made_is_not_taken_for_an_adoption() -> None:
    there = record(5, guid=HIGH, savedate=9, createdmodseq=8)
    actions = decide(None, there, COUNTERS)
    for other in ({"savedate": 10}, {"createdmodseq": 9}, {"internaldate": 99}):
        copy = there._replace(uid=11, **other)
        assert without_adopted(actions, [[copy]], [[there]]) == actions


def test_two_equal_messages_are_both_adopted_and_both_recognised() -> None:
    one, two = record(5, guid=HIGH, createdmodseq=8), record(6, guid=HIGH, createdmodseq=8)
    actions = decide(None, one, COUNTERS) + decide(None, two, COUNTERS)
    assert without_adopted(actions, [], [[one, two]]) == actions
    made = [one._replace(uid=11), one._replace(uid=12)]
    assert without_adopted(actions, [made[:1]], [[one, two]]) == actions[1:]
    assert without_adopted(actions, [made], [[one, two]]) == [ExpungeRemote(5), ExpungeRemote(6)]


# -- the same on two stores


def bodies(world: World) -> list[bytes]:
    return sorted(live(world.master, INBOX).values())


def both(world: World) -> None:
    assert content(world.replica) == content(world.master)
    assert world.sync() == [("GET USER", "alice")]


def test_messages_on_both_sides_under_one_uid_survive_with_the_lower_guid_first(alice: World) -> None:
    deliver(alice.master, INBOX, "from the master")
    deliver(alice.replica, INBOX, "from the replica")
    alice.sync()
    lower, higher = sorted([guid_of("from the master"), guid_of("from the replica")])
    assert {uid: guid for uid, guid in live(alice.master, INBOX).items() if uid > 2} == {4: lower, 5: higher}
    assert f"FULLMAILBOX {INBOX}" in alice.lines
    both(alice)


@pytest.mark.covers("GET, APPLY, RESTORE", "GET FETCH")
def test_what_only_the_replica_got_is_fetched_under_its_uid(alice: World) -> None:
    deliver(alice.replica, INBOX, "news", "more news")
    events = alice.sync()
    assert ("GET FETCH", INBOX, 3) in events
    assert not any(event[0] == "EXPUNGE" for event in events)
    assert live(alice.master, INBOX)[3] == guid_of("news")
    both(alice)


def test_what_was_expunged_on_the_replica_only_is_expunged_here(alice: World) -> None:
    with write(alice.replica) as writer:
        writer.expunge(INBOX, [1])
    alice.sync()
    assert set(live(alice.master, INBOX)) == {2}
    both(alice)


def test_flags_changed_on_both_sides_follow_the_later_change(alice: World) -> None:
    with write(alice.master) as writer:
        writer.set_flags(INBOX, [1], add=["\\Flagged"])
    for flag in ("\\Draft", "\\Answered"):
        with write(alice.replica) as writer:
            writer.set_flags(INBOX, [1], add=[flag])
    alice.sync()
    assert records(alice.master, INBOX)[0].flags == "\\Answered \\Draft"
    both(alice)


def test_annotations_of_a_message_follow_the_later_change(alice: World) -> None:
    with write(alice.master) as writer:
        writer.annotate(INBOX, "/comment", "alice", b"here", uid=1)
    for text in (b"there", b"there again"):
        with write(alice.replica) as writer:
            writer.annotate(INBOX, "/comment", "alice", text, uid=1)
    alice.sync()
    assert records(alice.master, INBOX)[0].annotations[0].value == b"there again"
    both(alice)


def test_mailbox_annotations_are_the_replicas_if_it_was_ahead(alice: World) -> None:
    with write(alice.replica) as writer:
        writer.annotate(INBOX, "/comment", "", b"there")
        writer.set_flags(INBOX, [1], add=["x"])
    alice.sync()
    assert state(alice.master, INBOX).annotations[0].value == b"there"
    both(alice)


def test_mailbox_annotations_are_the_masters_if_it_was_ahead(alice: World) -> None:
    with write(alice.replica) as writer:
        writer.annotate(INBOX, "/comment", "", b"there")
    for flag in "xyz":
        with write(alice.master) as writer:
            writer.set_flags(INBOX, [1], add=[flag])
    with write(alice.master) as writer:
        writer.annotate(INBOX, "/comment", "", b"here")
    alice.sync()
    assert state(alice.master, INBOX).annotations[0].value == b"here"
    both(alice)


def test_a_message_that_the_replica_lost_sight_of_is_renumbered(alice: World) -> None:
    deliver(alice.master, INBOX, "early")
    for _ in range(2):
        ids = deliver(alice.replica, INBOX, "x")
        with write(alice.replica) as writer:
            writer.expunge(INBOX, ids)
    alice.sync()
    assert guid_of("early") in bodies(alice)
    assert max(live(alice.master, INBOX)) > 4
    both(alice)


def test_a_uidvalidity_that_was_raised_on_the_replica_reaches_the_master(alice: World) -> None:
    deliver(alice.replica, INBOX, "news")
    box = state(alice.replica, INBOX)
    with write(alice.replica) as writer:
        writer.raise_counters(box.uniqueid, uidvalidity=box.uidvalidity + 7)
    alice.sync()
    assert state(alice.master, INBOX).uidvalidity == box.uidvalidity + 7
    both(alice)


def count_conversations(world: World) -> None:
    """As a replica with conversations does; the master hears of it when a conflict is settled."""
    theirs = state(world.replica, INBOX)
    with write(world.replica) as writer:
        writer.raise_counters(theirs.uniqueid, xconvmodseq=theirs.highestmodseq)


def test_after_a_settled_conflict_conversations_count_no_less_than_messages(alice: World) -> None:
    alice.sync()
    count_conversations(alice)
    deliver(alice.replica, INBOX, "there")
    deliver(alice.master, INBOX, "here")
    alice.sync()
    ours, theirs = state(alice.master, INBOX), state(alice.replica, INBOX)
    assert ours.xconvmodseq == ours.highestmodseq == theirs.xconvmodseq
    assert alice.sync() == [("GET USER", "alice")]


def test_a_higher_count_of_conversations_on_the_replica_is_taken_without_a_refusal(alice: World) -> None:
    alice.sync()
    ours = state(alice.master, INBOX)
    for store, count in ((alice.master, ours.highestmodseq - 1), (alice.replica, ours.highestmodseq)):
        with write(store) as writer:
            writer.raise_counters(ours.uniqueid, xconvmodseq=count)
    assert alice.sync() == [("GET USER", "alice")], "nothing else differs"
    assert state(alice.master, INBOX).xconvmodseq == ours.highestmodseq


@pytest.mark.covers("sync_client: options", "-O")
def test_no_copyback_never_touches_the_master_and_never_asks_for_a_full_mailbox(alice: World) -> None:
    with write(alice.replica) as writer:
        for flag in ("a", "b", "c"):
            writer.set_flags(INBOX, [1], add=[flag])
    with write(alice.master) as writer:
        writer.set_flags(INBOX, [1], add=["mine"])
    before = state(alice.master, INBOX)
    with pytest.raises(FoldersFailed) as caught:
        alice.sync(no_copyback=True)
    assert isinstance(caught.value.failures[0][1], SyncChecksum)
    assert alice.line.events[0] == ("FORCE",)
    assert ("GET FULLMAILBOX", INBOX) not in alice.line.events
    assert state(alice.master, INBOX) == before


def test_force_is_asked_for_once_a_connection(alice: World) -> None:
    alice.connect()
    engine = alice.engine(no_copyback=True)
    finish(engine.user("alice"))
    finish(engine.meta("alice"))
    assert alice.line.events.count(("FORCE",)) == 1


def test_the_same_name_born_on_both_sides_is_told_not_merged(alice: World) -> None:
    with write(alice.master) as writer:
        writer.create("user.alice.x")
    with write(alice.replica) as writer:
        writer.create("user.alice.x")
    deliver(alice.replica, "user.alice.x", "there")
    with pytest.raises(Exception, match="another name or uniqueid"):
        alice.sync()
    assert live(alice.replica, "user.alice.x") == {1: guid_of("there")}


def test_an_unused_mailbox_of_the_same_name_gives_way(alice: World) -> None:
    with write(alice.master) as writer:
        writer.create("user.alice.x")
    with write(alice.replica) as writer:
        writer.create("user.alice.x")
    alice.sync()
    both(alice)
