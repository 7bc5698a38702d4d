"""What a replica has said itself and got back: by runs of numbers."""

from __future__ import annotations

from pathlib import Path

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.operations import LogEntry

SELF, BOB = "a" * 32, Owner("user", "bob")
LINE = b"APPLY UNUSER bob\r\n"


def for_master(log: Log) -> list[int]:
    entries = (LogEntry(SELF, number, 0, BOB, LINE, {"reign": "0:b"}) for number in range(1, 10))
    return [entry.id for entry in entries if log.regained.is_for_master(entry)]


def test_what_came_back_in_several_restores_is_known_and_what_was_said_between_is_not(tmp_path: Path) -> None:
    with Log(tmp_path, SELF) as log:
        for number in (2, 3, 3, 6, 7):
            log.regained.add(number)
        assert for_master(log) == [2, 3, 6, 7]
        log.regained.lower_to(6)
        assert for_master(log) == [2, 3, 6]
        log.regained.lower_to(1)
        assert for_master(log) == []


def test_of_a_snapshot_it_is_all_that_the_log_has_then(tmp_path: Path) -> None:
    with Log(tmp_path, SELF) as log:
        log.regained.add(9)
        for _ in range(4):
            log.operations.append(BOB, LINE, time=0)
        log.regained.begin()
        log.operations.append(BOB, LINE, time=0)
        assert for_master(log) == [1, 2, 3, 4]


def test_what_was_said_as_the_master_is_for_the_one_whose_claim_prevails(tmp_path: Path) -> None:
    with Log(tmp_path, SELF) as log:
        log.regained.add(1)
        said = {"reign": f"0:{SELF}", "settled": ""}
        assert log.regained.is_for_master(LogEntry(SELF, 1, 0, BOB, LINE, said))
        assert not log.regained.is_for_master(LogEntry(SELF, 1, 0, BOB, LINE, {"version": "1"}))
