"""The log itself: numbers without gaps, what somebody lacks, what waits, whose word counts, names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.names import MAX_MAILBOX_NAME, SERVER, Owner, check_mailbox_name, is_deleted, owner_of
from cyrus_sync.common.newnames import check_new_name
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.oplog.apply_command import parse
from cyrus_sync.multisite.oplog.forks import link_before, link_of
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.masters import Base, Master, prevails
from cyrus_sync.multisite.oplog.objects import generated_name
from cyrus_sync.multisite.oplog.operations import (
    FAMILY,
    LogEntry,
    OperationState,
    owner_from,
    owner_text,
    verb_of,
)

A, B = "a" * 32, "b" * 32
BOB, EVE = Owner("user", "bob"), Owner("user", "eve")
LINE = b"APPLY SUB %(USERID bob MBOXNAME user.bob)\r\n"
GUID = b"g" * 20


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    log = Log(tmp_path, A, clock=lambda: 1_700_000_000.5)
    yield log
    log.close()


def entry(number: int, origin: str = B, owner: Owner = BOB, **more: object) -> LogEntry:
    return LogEntry(origin, number, 5, owner, LINE, **more)  # type: ignore[arg-type]


def test_own_operations_are_numbered_from_one(log: Log) -> None:
    made = [log.operations.append(BOB, LINE, time=5, attributes={"a": "b"}) for _ in range(3)]
    assert [one.id for one in made] == [1, 2, 3]
    assert log.epochs.row(A) == {A: 3}
    (first, *_) = log.operations.of_owner(BOB)
    assert (first.line, first.attributes["a"], first.verb, first.owner) == (LINE, "b", "SUB", BOB)


def test_each_operation_names_the_one_before_it(log: Log) -> None:
    made = [log.operations.append(BOB, LINE, time=5) for _ in range(3)]
    links = [link_of(one.attributes) for one in made]
    assert [link_before(one.attributes) for one in made] == ["", *links[:2]] and len(set(links)) == 3
    assert [log.operations.link(A, number) for number in (1, 2, 3, 4)] == [*links, ""]


def test_what_goes_on_from_another_operation_is_noticed(log: Log, tmp_path: Path) -> None:
    log.operations.append(BOB, LINE, time=5)
    with Log(tmp_path / "other life", A) as other:
        for moment in (5, 6, 7):
            other.operations.append(BOB, LINE, time=moment)
        first, second, third = other.operations.of_owner(BOB)
    assert log.forks.fits(A, 1, first.attributes, after=0)
    assert log.forks.fits(A, 2, second.attributes, after=0)
    log.operations.append(BOB, LINE, time=60)
    assert not log.forks.fits(A, 2, second.attributes, after=0)
    assert not log.forks.fits(A, 3, third.attributes, after=0)
    assert log.forks.fits(A, 3, third.attributes, after=2), "two operations may differ, that is known"
    assert not log.forks.has(A, 2, link_of(second.attributes)) and log.forks.has(
        A, 1, link_of(first.attributes)
    )


def test_what_the_last_trimmed_operation_was_is_known_of_the_one_behind_it(log: Log) -> None:
    for moment in (5, 6, 7):
        log.operations.append(BOB, LINE, time=moment)
    links = [link_of(one.attributes) for one in log.operations.of_owner(BOB)]
    log.db.execute("DELETE FROM operations WHERE id <= 2")
    assert log.forks.has(A, 2, links[1]) and not log.forks.has(A, 2, "f" * len(links[1]))
    assert not log.forks.has(A, 4, links[1])


def test_the_log_goes_back_to_an_epoch_row(log: Log) -> None:
    for _ in range(2):
        log.operations.append(BOB, LINE, time=5, guids=[GUID])
    log.operations.add(entry(1))
    assert log.operations.roll_back({A: 1}) == {BOB}
    assert [(e.origin, e.id) for e in log.operations.lacking({})] == [(A, 1)]
    assert log.epochs.row(A) == {A: 1} and log.operations.introduced(BOB, GUID)


@pytest.mark.parametrize("number", [1, 3])
def test_those_of_others_come_without_gaps_and_once(log: Log, number: int) -> None:
    log.operations.add(entry(1))
    with pytest.raises(MultisiteError, match="out of order"):
        log.operations.add(entry(number))
    assert log.operations.last(B) == 1


def test_what_somebody_lacks_is_told_in_the_order_in_which_it_came(log: Log) -> None:
    log.operations.append(BOB, LINE, time=5)
    log.operations.add(entry(1))
    log.operations.append(BOB, LINE, time=5)
    log.operations.add(entry(2))
    assert [(e.origin, e.id) for e in log.operations.lacking({A: 1})] == [(B, 1), (A, 2), (B, 2)]
    assert log.operations.count_lacking({A: 1}) == 3
    assert list(log.operations.lacking({A: 2, B: 2})) == []


def test_operations_wait_behind_those_of_the_same_owner(log: Log) -> None:
    first, other, second = (
        log.operations.add(entry(1)),
        log.operations.add(entry(2, owner=EVE)),
        log.operations.add(entry(3)),
    )
    assert log.operations.begun() and log.operations.begun(BOB)
    log.operations.set_state(first.seq, OperationState.WAITS)
    log.operations.set_state(other.seq, OperationState.DONE)
    assert log.operations.waits(second) and not log.operations.waits(first)
    assert [e.id for e in log.operations.pending()] == [1, 3]
    log.operations.set_state(second.seq, OperationState.WAITS)
    assert not log.operations.begun()
    assert log.operations.has_pending(BOB) and not log.operations.has_pending(EVE)


def test_who_has_the_operation_that_brought_a_message_has_the_message(log: Log) -> None:
    log.operations.append(BOB, LINE, time=5)
    log.operations.append(BOB, LINE, time=5, guids=[GUID], octets=9)
    log.operations.append(BOB, LINE, time=5, guids=[GUID])
    operations = log.operations
    assert operations.introduced(BOB, GUID) and not operations.introduced(EVE, GUID)
    assert not operations.known_to(BOB, GUID, {A: 1}) and operations.known_to(BOB, GUID, {A: 2})
    assert not operations.known_to(EVE, GUID, {A: 9})
    assert operations.introducers(GUID) == [BOB]


def test_messages_are_asked_for_and_promised(log: Log) -> None:
    log.want(BOB, [GUID, GUID])
    log.request(B, [GUID])
    assert log.wanted() == (GUID,) and log.requested(B) == [GUID] and log.requested(A) == []
    log.unwant([GUID])
    log.fulfilled(B)
    assert log.wanted() == () and log.requested(B) == []


@pytest.mark.parametrize("owner", [BOB, Owner("shared", "a:b"), SERVER, FAMILY])
def test_owners_stand_in_the_log_as_text(owner: Owner) -> None:
    assert owner_from(owner_text(owner)) == owner


def test_the_verb_of_a_line() -> None:
    assert verb_of(LINE) == "SUB" and verb_of(b"") == ""


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"APPLY SUB %(USERID bob",
        b"GET USER bob\r\n",
        b"APPLY NONSENSE %()\r\n",
        LINE + b"x\r\n",
        b"\x00\r\n",
    ],
)
def test_a_line_that_is_no_transaction_is_refused(line: bytes) -> None:
    with pytest.raises(MultisiteError):
        parse(line)


# -- masters


def test_the_first_who_tells_of_an_owner_claims_him(log: Log) -> None:
    assert not log.is_master(BOB)
    log.claim(BOB)
    log.claim(BOB)
    assert log.is_master(BOB)
    (told,) = log.operations.of_owner(BOB)
    assert (told.verb, told.attributes["version"], told.attributes["replica"]) == ("MASTER", "0", A)


def test_nobody_claims_the_owner_of_another(log: Log) -> None:
    log.masters.put(BOB, Master(0, B))
    log.claim(BOB)
    assert not log.is_master(BOB) and list(log.operations.of_owner(BOB)) == []


def test_of_two_claims_the_lower_id_prevails_and_a_handover_over_both() -> None:
    assert prevails(Master(0, A), Master(0, B)) and not prevails(Master(0, B), Master(0, A))
    assert prevails(Master(1, B), Master(0, A)) and not prevails(Master(0, A), Master(1, B))
    assert not prevails(Master(0, A), Master(0, A))


def test_what_is_settled_only_rises(log: Log) -> None:
    log.masters.note_settled(BOB, {A: 5, B: 2})
    log.masters.note_settled(BOB, {A: 3, B: 4})
    assert log.masters.settled(BOB) == {A: 5, B: 4} and log.masters.settled(EVE) == {}


def test_bases_and_who_followed_alone(log: Log) -> None:
    masters = log.masters
    masters.put_base("id", Base(1, 2, 3, 4))
    assert masters.base("id") == Base(1, 2, 3, 4) and masters.base("other") == Base()
    masters.drop_base("id")
    assert masters.base("id") == Base()
    masters.put_followed("id", B, 7)
    assert (masters.followed("id", B), masters.followed("id", A)) == (7, 0)
    masters.drop_followed("id")
    assert masters.followed("id", B) == 0


# -- names


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("user.bob.Work.Sub", "user.bob.Work.hub_Sub"),
        ("user.bob", "user.bob.hub_INBOX"),
        ("example.org!user.bob", "example.org!user.bob.hub_INBOX"),
        ("projects", "projects.hub_projects"),
        ("example.org!projects", "example.org!projects.hub_projects"),
        ("projects.one", "projects.hub_one"),
        ("DELETED.user.bob.Work.6B013001", "DELETED.user.bob.hub_Work.6B013001"),
        ("DELETED.user.bob.6B013001", "DELETED.user.bob.hub_INBOX.6B013001"),
        ("example.org!DELETED.projects.6B013001", "example.org!DELETED.projects.hub_projects.6B013001"),
    ],
)
def test_a_generated_name_stays_with_its_owner(name: str, made: str) -> None:
    assert generated_name(name, "hub") == made
    assert owner_of(made) == owner_of(name) and is_deleted(made) == is_deleted(name)
    numbered = generated_name(name, "hub", 2)
    assert numbered != made and owner_of(numbered) == owner_of(name)
    assert is_deleted(numbered) == is_deleted(name)


def test_the_replica_is_one_component_whatever_it_is_called() -> None:
    assert generated_name("user.bob.Work", "a.b/c^d") == "user.bob.a_b_c_d_Work"


@pytest.mark.parametrize("name", ["user.bob." + "x" * 480, "DELETED.user.bob." + "x" * 463 + ".6B013001"])
def test_a_generated_name_is_never_too_long(name: str) -> None:
    for number in (0, 12):
        made = generated_name(name, "hub", number)
        assert len(made) <= MAX_MAILBOX_NAME and check_mailbox_name(made)
        assert is_deleted(made) == is_deleted(name)
    assert made.removesuffix(".6B013001").endswith("_12")


def test_the_log_tells_the_wanted_name_until_somebody_renames_the_mailbox(log: Log) -> None:
    objects = log.objects
    objects.note("id", BOB, B)
    assert objects.wanted_name("id", "user.bob.x") == "user.bob.x"
    objects.set_names("id", "user.bob.Work", "user.bob.hub_Work")
    assert objects.wanted_name("id", "user.bob.hub_Work") == "user.bob.Work"
    assert [one.wanted for one in objects.in_conflict()] == ["user.bob.Work"]
    assert objects.wanted_name("id", "user.bob.Other") == "user.bob.Other"
    assert objects.in_conflict() == []


def test_who_made_a_mailbox_and_in_whom_is_remembered_for_good(log: Log) -> None:
    log.objects.note("id", BOB, B)
    log.objects.note("id", EVE, A)
    known = log.objects.get("id")
    assert known is not None and (known.owner, known.creator) == (BOB, B)


def test_a_generated_name_is_one_that_a_cyrus_creates() -> None:
    name = "user.bob." + "x" * 473 + "&APwA/A-"
    assert len(name) <= MAX_MAILBOX_NAME
    for replica in ("hub", "hu", "h", "a&b", "50%", "hub_of_all_hubs"):
        assert check_new_name(generated_name(name.replace("/", ","), replica))
    assert generated_name("example.org!user.bob.Yahoo!", "hub") == "example.org!user.bob.hub_Yahoo!"
