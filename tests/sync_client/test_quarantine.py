"""Setting owners aside: when, for how long, in files that an administrator reads and edits."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.sync_client.quarantine import (
    FIRST_RETRY,
    LONGEST_RETRY,
    PATIENCE,
    PATIENCE_LOCKED,
    Quarantine,
)
from cyrus_sync.sync_client.quarantine_file import owner_from_key, owner_key
from cyrus_sync.sync_client.sources import owner_of_line

ALICE = Owner("user", "alice")
BOB = Owner("user", "bob")
NEWS = Owner("shared", "news")
NOW = 1_800_000_000


class Clock:
    now: float = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quarantine(tmp_path: Path, clock: Clock) -> Quarantine:
    made = Quarantine(tmp_path, clock, owner_of_line)
    made.load()
    return made


def again(quarantine: Quarantine) -> Quarantine:
    """What a new process finds."""
    made = Quarantine(quarantine.directory, quarantine.clock, owner_of_line)
    made.load()
    return made


def fail_often(quarantine: Quarantine, owner: Owner, times: int = PATIENCE) -> None:
    for _ in range(times):
        quarantine.failed(owner, "Checksum Failure [mailbox=user.alice]")


def test_an_owner_is_set_aside_after_failing_three_times_in_a_row(quarantine):
    assert [quarantine.failed(ALICE, "no") for _ in range(PATIENCE)] == [False, False, True]
    assert quarantine.holds(ALICE) and not quarantine.holds(BOB)


def test_a_success_in_between_starts_the_count_anew(quarantine):
    fail_often(quarantine, ALICE, PATIENCE - 1)
    quarantine.succeeded([ALICE])
    fail_often(quarantine, ALICE, PATIENCE - 1)
    assert not quarantine.holds(ALICE)


def test_locked_owners_get_more_patience_and_always_the_short_wait(quarantine, clock):
    for _ in range(PATIENCE_LOCKED - 1):
        assert not quarantine.failed(ALICE, "locked", locked=True)
    for _ in range(5):
        assert quarantine.failed(ALICE, "locked", locked=True)
        assert quarantine.entries[ALICE].next_retry == clock.now + FIRST_RETRY


def test_retries_come_ever_later_up_to_an_hour(quarantine, clock):
    fail_often(quarantine, ALICE)
    waits = []
    for _ in range(9):
        entry = quarantine.entries[ALICE]
        waits.append(entry.next_retry - clock.now)
        clock.now = entry.next_retry
        assert quarantine.due() == [ALICE]
        quarantine.failed(ALICE, "still no")
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert waits[0] == FIRST_RETRY and waits[-1] == LONGEST_RETRY


def test_the_file_says_who_why_since_when_and_until_when(quarantine, clock):
    quarantine.failed(ALICE, "first")
    clock.now += 10
    quarantine.failed(ALICE, "second")
    clock.now += 10
    quarantine.failed(ALICE, "Checksum Failure [mailbox=user.alice.Work]")
    quarantine.save()
    (said,) = yaml.safe_load(quarantine.path.read_text())["set_aside"].items()
    name, entry = said
    assert name == "alice"
    assert entry["reason"] == "Checksum Failure [mailbox=user.alice.Work]"
    assert entry["failures"] == 3
    assert entry["first_failure"].timestamp() == NOW
    assert entry["last_failure"].timestamp() == NOW + 20
    assert entry["next_retry"].timestamp() == NOW + 20 + FIRST_RETRY
    assert quarantine.path.read_text().startswith("#")


def test_others_may_not_read_the_files(quarantine):
    fail_often(quarantine, ALICE)
    quarantine.keep([("USER", "alice")])
    quarantine.save()
    for path in (quarantine.path, quarantine.lines_path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_everything_is_there_after_a_restart(quarantine):
    fail_often(quarantine, ALICE)
    fail_often(quarantine, NEWS)
    quarantine.keep([("MAILBOX", "user.alice"), ("MAILBOX", "news.comp"), ("META", "alice")])
    quarantine.reject("MAILBOX x/y", "Invalid mailbox name")
    quarantine.save()
    found = again(quarantine)
    assert found.entries == quarantine.entries
    assert found.kept(ALICE) == [("MAILBOX", "user.alice"), ("META", "alice")]
    assert found.kept(NEWS) == [("MAILBOX", "news.comp")]
    assert found.rejected == quarantine.rejected


def test_a_line_is_kept_once_however_often_it_is_logged(quarantine):
    for _ in range(3):
        quarantine.keep([("MAILBOX", "user.alice"), ("MAILBOX", "user.alice.x")])
    assert quarantine.lines_path.read_bytes() == b"MAILBOX user.alice\nMAILBOX user.alice.x\n"


def test_success_removes_the_entry_and_the_lines_and_leaves_no_empty_files(quarantine):
    fail_often(quarantine, ALICE)
    fail_often(quarantine, BOB)
    quarantine.keep([("USER", "alice"), ("USER", "bob")])
    quarantine.save()
    quarantine.succeeded([ALICE])
    quarantine.save()
    assert again(quarantine).owners == {BOB}
    assert again(quarantine).kept(ALICE) == []
    quarantine.succeeded([BOB])
    quarantine.save()
    assert sorted(path.name for path in quarantine.directory.iterdir()) == []


def test_removing_an_entry_releases_the_owner_at_once(quarantine):
    fail_often(quarantine, ALICE)
    fail_often(quarantine, BOB)
    quarantine.keep([("USER", "alice"), ("USER", "bob")])
    quarantine.save()
    document = yaml.safe_load(quarantine.path.read_text())
    del document["set_aside"]["alice"]
    quarantine.path.write_text(yaml.safe_dump(document))
    assert quarantine.refresh()
    assert not quarantine.holds(ALICE) and quarantine.holds(BOB)
    assert quarantine.due() == [ALICE]
    assert quarantine.kept(ALICE) == [("USER", "alice")]


def test_removing_the_file_releases_everybody(quarantine):
    fail_often(quarantine, ALICE)
    quarantine.keep([("USER", "alice")])
    quarantine.save()
    quarantine.path.unlink()
    assert quarantine.refresh()
    assert quarantine.due() == [ALICE]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("never", None),
        ("now", 0),
        (NOW + 5, NOW + 5),
        ("2027-01-15T08:00:00Z", NOW),
        ("'2027-01-15 08:00:00+00:00'", NOW),
        ("2027-01-15 08:00:00", NOW),
        ("2027-01-15", NOW - 8 * 3600),
    ],
)
def test_an_administrator_may_write_the_next_retry_as_he_likes(quarantine, written, seconds):
    quarantine.path.write_text(f"set_aside:\n  alice: {{next_retry: {written}}}\n")
    assert quarantine.refresh()
    assert quarantine.entries[ALICE].next_retry == seconds


def test_an_entry_made_by_hand_holds_somebody_until_further_notice(quarantine, clock):
    quarantine.path.write_text("set_aside:\n  alice:\n  shared:news: {reason: moving house}\n")
    quarantine.refresh()
    clock.now += 10**8
    assert quarantine.holds(ALICE) and quarantine.holds(NEWS)
    assert quarantine.entries[ALICE].reason == "set aside by hand"


@pytest.mark.parametrize(
    "broken", ["set_aside: [", "set_aside: 5\n", "- a\n", "set_aside:\n  a: {failures: x}\n"]
)
def test_a_half_finished_edit_changes_nothing_yet(quarantine, broken):
    fail_often(quarantine, ALICE)
    quarantine.save()
    quarantine.path.write_text(broken)
    assert not quarantine.refresh()
    assert quarantine.holds(ALICE)


def test_an_unreadable_file_at_start_is_moved_aside_and_the_lines_are_tried(quarantine):
    quarantine.keep([("USER", "alice")])
    quarantine.path.write_text("set_aside: [")
    found = again(quarantine)
    assert found.due() == [ALICE]
    assert not quarantine.path.exists()
    assert quarantine.path.with_suffix(".unreadable").read_text() == "set_aside: ["


def test_an_edit_between_reading_and_writing_is_not_lost(quarantine, clock):
    fail_often(quarantine, ALICE)
    quarantine.save()
    clock.now += 100
    document = yaml.safe_load(quarantine.path.read_text())
    document["set_aside"]["alice"]["next_retry"] = "never"
    document["set_aside"]["carol"] = {"next_retry": "never"}
    quarantine.path.write_text(yaml.safe_dump(document))
    fail_often(quarantine, BOB)
    quarantine.save()
    found = again(quarantine)
    assert found.entries[ALICE].next_retry is None
    assert found.holds(Owner("user", "carol")) and found.holds(BOB)


def test_a_torn_last_line_spoils_no_other(quarantine):
    quarantine.keep([("USER", "alice")])
    with quarantine.lines_path.open("ab") as file:
        file.write(b"USER ")
    quarantine.keep([("USER", "bob")])
    found = again(quarantine)
    assert found.kept(ALICE) == [("USER", "alice")] and found.kept(BOB) == [("USER", "bob")]


def test_poison_lines_are_counted_not_repeated(quarantine, clock):
    quarantine.reject("MAILBOX x/y", "Invalid mailbox name")
    clock.now += 60
    quarantine.reject("MAILBOX x/y", "Invalid mailbox name")
    (line,) = quarantine.rejected
    assert (line.times, line.first_seen, line.last_seen) == (2, NOW, NOW + 60)


@pytest.mark.parametrize(
    "owner", [ALICE, NEWS, SERVER, Owner("user", "no"), Owner("user", "123"), Owner("user", "a:b")]
)
def test_owners_keep_their_name_in_the_file(quarantine, owner):
    assert owner_from_key(owner_key(owner)) == owner
    fail_often(quarantine, owner)
    quarantine.save()
    assert again(quarantine).holds(owner)
