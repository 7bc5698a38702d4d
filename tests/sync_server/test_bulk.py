"""Records of one command: few in memory, many in a file without a name."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import pytest

from cyrus_sync.common.model import Annotation, Record
from cyrus_sync.sync_server.bulk import RECORDS_IN_MEMORY, Records


def batch(first: int, count: int) -> list[Record]:
    note = (Annotation("/comment", "alice", 3, b"\x00\xff"),)
    return [
        Record(uid, uid + 7, 1700000000, "\\Seen $x", False, 1600000000, 10, bytes(20), annotations=note)
        for uid in range(first, first + count)
    ]


def test_few_records_stay_in_memory(tmp_path: Path) -> None:
    records = Records(tmp_path / "not-there")
    records.add(batch(1, 100))
    records.add(batch(101, 100))
    assert [r.uid for b in records for r in b] == list(range(1, 201))


def test_many_records_come_back_unchanged_and_more_than_once(tmp_path: Path) -> None:
    records = Records(tmp_path)
    sent = [batch(n * 2000 + 1, 2000) for n in range(10)]
    for each in sent:
        records.add(each)
    assert records.count == 20000
    for _ in range(2):
        assert [list(b) for b in records] == sent


def test_at_most_a_bounded_number_is_held_in_memory(tmp_path: Path) -> None:
    records = Records(tmp_path)
    for n in range(10):
        records.add(batch(n * 2000 + 1, 2000))
    assert records.in_memory <= RECORDS_IN_MEMORY


def test_the_spool_has_no_name_and_goes_with_its_command(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.add(batch(1, RECORDS_IN_MEMORY + 1))
    assert list(tmp_path.iterdir()) == []
    records.close()
    assert list(records) == []


def test_a_full_disk_is_an_error_of_the_command(tmp_path: Path) -> None:
    records = Records(tmp_path)
    pid = os.fork()
    if pid == 0:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        try:
            records.add(batch(1, RECORDS_IN_MEMORY + 1))
        except OSError as error:
            os._exit(0 if error.errno == errno.EFBIG else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("count", [0, 1])
def test_it_is_true_when_there_is_a_record(tmp_path: Path, count: int) -> None:
    records = Records(tmp_path)
    records.add(batch(1, count))
    assert bool(records) is (count > 0)
