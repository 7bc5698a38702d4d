import multiprocessing
import os
import resource
import threading
from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.synclog.lines import parse_lines
from cyrus_sync.common.synclog.log import ATTEMPTS, ClaimedLog, SyncLog
from tests.deadlines import scaled

WRITERS = 10
LINES_EACH = int(os.environ.get("SYNCLOG_RACE_LINES", "1500"))


def claimed(log: SyncLog) -> ClaimedLog:
    found = log.claim()
    assert found is not None
    return found


def test_directories_and_file_are_made_on_demand(tmp_path: Path) -> None:
    log = SyncLog(tmp_path / "sync" / "north" / "log")
    log.append([("MAILBOX", "user.al"), ("SUB", "al", "user.al.x y")])
    assert log.path.read_bytes() == b'MAILBOX user.al\nSUB al "user.al.x y"\n'
    assert log.path.stat().st_mode & 0o777 & ~0o640 == 0


def test_nothing_to_append_touches_nothing(tmp_path: Path) -> None:
    log = SyncLog(tmp_path / "log")
    log.append([])
    assert not log.path.exists()
    assert log.claim() is None


def test_a_claim_takes_the_log_away_and_finish_removes_it(tmp_path: Path) -> None:
    log = SyncLog(tmp_path / "log")
    log.append([("USER", "al")])
    run = claimed(log)
    assert not run.reprocessing
    assert run.read() == b"USER al\n" == run.read()
    assert not log.path.exists()
    log.append([("USER", "bo")])
    run.finish()
    assert not log.run_path.exists()
    assert claimed(log).read() == b"USER bo\n"


def test_a_left_over_run_file_comes_first(tmp_path: Path) -> None:
    log = SyncLog(tmp_path / "log")
    log.append([("USER", "al")])
    claimed(log).release()
    log.append([("USER", "bo")])
    again = claimed(log)
    assert again.reprocessing
    assert again.read() == b"USER al\n"
    again.finish()
    after = claimed(log)
    assert not after.reprocessing
    assert after.read() == b"USER bo\n"


def test_only_one_reader_at_a_time(tmp_path: Path) -> None:
    log = SyncLog(tmp_path / "log")
    log.append([("USER", "al")])
    with claimed(log):
        log.append([("USER", "bo")])
        assert SyncLog(log.path).claim() is None
    assert claimed(SyncLog(log.path)).reprocessing


def test_finish_spares_a_run_file_of_another_reader(tmp_path: Path) -> None:
    log = SyncLog(tmp_path / "log")
    log.append([("USER", "al")])
    run = claimed(log)
    log.run_path.unlink()
    log.run_path.write_bytes(b"USER bo\n")
    run.finish()
    assert log.run_path.read_bytes() == b"USER bo\n"


def test_a_claim_waits_for_a_writer_that_has_the_file_open(tmp_path: Path) -> None:
    log = SyncLog(tmp_path / "log")
    log.append([("USER", "al")])
    fd = log._open_locked()
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(claimed(log).read()))
    reader.start()
    while not log.run_path.exists():
        pass
    os.write(fd, b"USER bo\n")
    os.close(fd)
    reader.join(scaled(10))
    assert seen == [b"USER al\nUSER bo\n"]


def test_a_torn_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    log = SyncLog(tmp_path / "log")
    log.path.write_bytes(b"USER al\nMAILBOX user.b")
    log.append([("USER", "cy")])
    assert log.path.read_bytes() == b"USER al\nMAILBOX user.b\nUSER cy\n"


def test_a_log_that_vanishes_again_and_again_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SyncLog(tmp_path / "log")
    opened: list[int] = []
    real_open = log._open

    def open_and_lose() -> int:
        fd = real_open()
        opened.append(fd)
        log.path.unlink()
        return fd

    monkeypatch.setattr(log, "_open", open_and_lose)
    with pytest.raises(StoreError, match="replaced again and again"):
        log.append([("USER", "al")])
    assert len(opened) == ATTEMPTS


def test_a_log_that_vanishes_once_is_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SyncLog(tmp_path / "log")
    real_open, times = log._open, []

    def open_and_lose_once() -> int:
        fd = real_open()
        if not times:
            log.path.rename(log.run_path)
        times.append(fd)
        return fd

    monkeypatch.setattr(log, "_open", open_and_lose_once)
    log.append([("USER", "al")])
    assert log.path.read_bytes() == b"USER al\n"
    assert log.run_path.read_bytes() == b""


def _append_beyond_a_limit(path: Path, results: "multiprocessing.Queue[str]") -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    try:
        SyncLog(path).append([("USER", f"user{n}") for n in range(200)])
    except StoreError as error:
        results.put(str(error))


def test_on_a_full_disk_none_of_the_lines_is_in_the_log(tmp_path: Path) -> None:
    log = SyncLog(tmp_path / "log")
    log.append([("USER", "al")])
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[str] = context.Queue()
    process = context.Process(target=_append_beyond_a_limit, args=(log.path, results))
    process.start()
    assert "cannot append to the action log" in results.get(timeout=scaled(30))
    process.join(scaled(30))
    assert log.path.read_bytes() == b"USER al\n"


def _write_many(path: Path, writer: int, lines: int) -> None:
    log = SyncLog(path)
    for number in range(lines):
        log.append([("SEEN", f"u{writer}", str(number))], fsync=False)


def test_ten_writers_racing_the_reader_lose_no_line_and_keep_their_order(tmp_path: Path) -> None:
    log = SyncLog(tmp_path / "log")
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(log.path, n, LINES_EACH)) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    seen: dict[str, list[int]] = {f"u{n}": [] for n in range(WRITERS)}
    claims = 0
    while True:
        alive = any(writer.is_alive() for writer in writers)
        run = log.claim()
        if run is not None:
            claims += 1
            for line in parse_lines(run.read(), lambda line, problem: pytest.fail(f"{line!r}: {problem}")):
                seen[line.args[0]].append(int(line.args[1]))
            run.finish()
        elif not alive:
            break
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert claims > 1
    assert seen == {f"u{n}": list(range(LINES_EACH)) for n in range(WRITERS)}


def test_threads_of_one_process_and_its_reader_lose_no_line(tmp_path: Path) -> None:
    log = SyncLog(tmp_path / "log")
    threads = [threading.Thread(target=_write_many, args=(log.path, n, 300)) for n in range(4)]
    for thread in threads:
        thread.start()
    seen: list[tuple[str, ...]] = []
    while True:
        alive = any(thread.is_alive() for thread in threads)
        run = log.claim()
        if run is not None:
            seen += [line.args for line in parse_lines(run.read())]
            run.finish()
        elif not alive:
            break
    assert sorted(seen) == sorted((f"u{n}", str(i)) for n in range(4) for i in range(300))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what is another's")
def test_a_channel_whose_first_line_root_writes_is_the_daemons(tmp_path: Path) -> None:
    daemons = 65534
    os.chown(tmp_path, daemons, daemons)
    log = SyncLog(tmp_path / "sync" / "multisite" / "log")
    log.append([("USER", "bob")])
    made = (log.path.parent.parent, log.path.parent, log.path)
    assert [path.stat().st_uid for path in made] == [daemons] * 3
