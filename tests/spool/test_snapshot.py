"""A mailbox is seen as it is at one moment, whatever is done to it meanwhile, and nobody waits for us."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.spool import copying, locks
from cyrus_sync.spool.copying import TRIES, peek
from cyrus_sync.spool.db import items_of
from cyrus_sync.spool.snapshot import WINDOW, take
from cyrus_sync.spool.trouble import Gone, SpoolDamaged
from tests.deadlines import scaled

from .golden import DATA, MOVED, NAMES, copied, files, records, snapshot
from .indexes import Index, enlarge


@contextlib.contextmanager
def held(path: Path, kind: str, how: str = "lockf") -> Iterator[None]:
    """The lock of a daemon on the whole file, in another process."""
    program = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        f"fcntl.{how}(file, fcntl.{kind})\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as daemon:
        assert daemon.stdout is not None
        assert daemon.stdout.readline() == b"held\n"
        yield
        daemon.communicate()


@pytest.fixture
def locked_times(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kinds of locks that are taken or given back."""
    seen: list[str] = []
    real = locks._try

    def counting(descriptor: int, kind: int, *where: int) -> bool:
        seen.append({fcntl.F_RDLCK: "shared", fcntl.F_UNLCK: "none"}[kind])
        return real(descriptor, kind, *where)

    monkeypatch.setattr(locks, "_try", counting)
    return seen


def interfering(monkeypatch: pytest.MonkeyPatch, times: int, interfere: Callable[[int], Any]) -> list[int]:
    """Call `interfere` after the index was copied, `times` times; how often it was copied."""
    copies: list[int] = []
    real = copying.copy_of

    def copy_of(source: int, size: int) -> Any:
        made = real(source, size)
        copies.append(size)
        if len(copies) <= times:
            interfere(len(copies))
        return made

    monkeypatch.setattr(copying, "copy_of", copy_of)
    return copies


def test_nobody_waits_while_nothing_is_written(locked_times: list[str]) -> None:
    for name in NAMES:
        if name != MOVED:
            snapshot(DATA / name).close()
            peek(files(DATA / name))
    assert not locked_times


@pytest.mark.parametrize("how", ["lockf", "flock"])
def test_a_daemon_that_writes_all_the_time_is_waited_for_at_last(tmp_path: Path, how: str) -> None:
    """Its lock does not keep us from reading what is complete, and makes us wait for what is not; however
    Cyrus was built to lock files."""
    directory = copied("v17", tmp_path)
    with held(directory / "cyrus.index", "LOCK_EX", how):
        snapshot(directory).close()
        (directory / "cyrus.index").write_bytes(b"half")
        begun = time.monotonic()
        with pytest.raises(MailboxLocked, match=r"cyrus\.index: not had within 0\.2 s"):
            snapshot(directory, patience=0.2)
        with pytest.raises(MailboxLocked):
            peek(files(directory), patience=0.2)
        assert time.monotonic() - begun < scaled(5)


@pytest.mark.parametrize("how", ["lockf", "flock"])
def test_our_lock_keeps_writers_out_and_lets_readers_in(tmp_path: Path, how: str) -> None:
    path = copied("v17", tmp_path) / "cyrus.index"
    other = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "for kind in (fcntl.LOCK_SH, fcntl.LOCK_EX):\n"
        "    try:\n"
        f"        fcntl.{how}(file, kind | fcntl.LOCK_NB); print('had')\n"
        "    except OSError:\n"
        "        print('refused')\n"
    )
    with path.open("rb") as file, locks.shared(file.fileno(), 1):
        with path.open("rb"):
            pass  # a classic lock would be lost here
        ran = subprocess.run([sys.executable, "-c", other, str(path)], capture_output=True, check=True)
        assert ran.stdout.split() == [b"had", b"refused"]
    ran = subprocess.run([sys.executable, "-c", other, str(path)], capture_output=True, check=True)
    assert ran.stdout.split() == [b"had", b"had"]


def test_a_write_under_our_hands_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked_times: list[str]
) -> None:
    """What a daemon changes first is a record; the header follows."""
    directory = copied("v17", tmp_path)
    path = directory / "cyrus.index"
    good = path.read_bytes()
    index = Index(path)
    index.put_in(0, 80, 39, 8).put_in(0, 32, 0x11).save()
    copies = interfering(monkeypatch, 1, lambda _: path.write_bytes(good))
    with snapshot(directory) as found:
        assert found.index.sync_crc == found.crcs[0]
    assert len(copies) == 2
    assert not locked_times


def test_a_repack_under_our_hands_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked_times: list[str]
) -> None:
    directory = copied("v17", tmp_path)

    def repack(_: int) -> None:
        """Another file takes the place of the index."""
        new = directory / "cyrus.index.NEW"
        shutil.copyfile(directory / "cyrus.index", new)
        new.rename(directory / "cyrus.index")

    copies = interfering(monkeypatch, 2, repack)
    snapshot(directory).close()
    assert (len(copies), locked_times) == (3, [])


def test_after_three_tries_the_index_is_locked_for_the_copy_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked_times: list[str]
) -> None:
    directory = copied("v17", tmp_path)
    path = directory / "cyrus.index"

    def write(_: int) -> None:
        assert not locked_times
        index = Index(path)
        index.put(104, index.header.recentuid - 1).save()

    copies = interfering(monkeypatch, TRIES, write)
    with snapshot(directory) as found:
        assert locked_times == ["shared", "none"]
        assert found.index == Index(path).header
    assert len(copies) == TRIES + 1


def test_annotations_that_change_under_our_hands_are_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 12 has no sum of them."""
    directory = copied("v12", tmp_path)
    path = directory / "cyrus.annotations"
    good = path.read_bytes()
    path.unlink()
    interfering(monkeypatch, 1, lambda _: path.write_bytes(good))
    with snapshot(directory) as found:
        assert found.annotations


def test_a_mailbox_that_is_not_there_is_gone(tmp_path: Path) -> None:
    for look in (snapshot, lambda directory: peek(files(directory))):
        with pytest.raises(Gone):
            look(tmp_path / "nowhere")
    directory = copied("v17", tmp_path)
    index = Index(directory / "cyrus.index")
    index.put(60, index.header.options | 1 << 31).save()
    for look in (snapshot, lambda directory: peek(files(directory))):
        with pytest.raises(Gone, match="deleted"):
            look(directory)


def test_a_mailbox_that_is_removed_under_our_hands_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = copied("v17", tmp_path)
    interfering(monkeypatch, 1, lambda _: shutil.rmtree(directory))
    with pytest.raises(Gone):
        snapshot(directory)


def test_an_index_without_header_is_damage(tmp_path: Path) -> None:
    directory = copied("v17", tmp_path)
    (directory / "cyrus.header").unlink()
    with pytest.raises(SpoolDamaged, match=r"cyrus\.header, offset 0: not there"):
        snapshot(directory)
    with pytest.raises(SpoolDamaged):
        peek(files(directory))


def test_permissions_that_lack_are_named(tmp_path: Path) -> None:
    directory = copied("v17", tmp_path)
    (directory / "cyrus.header").unlink()
    (directory / "cyrus.header").mkdir()
    with pytest.raises(StoreError, match=r"directory.*cyrus\.header"):
        snapshot(directory)


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A directory that anybody may look into: those that pytest makes are the user's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("name", ["cyrus.index", "cyrus.header", "cyrus.annotations"])
def test_who_may_not_read_a_file_is_told_which(open_to_all: Path, name: str) -> None:
    directory = copied("v17", open_to_all)
    (directory / name).chmod(0o600)
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from cyrus_sync.common.errors import StoreError\n"
        "from tests.spool.golden import snapshot\n"
        "os.setgroups([]), os.setgid(65534), os.setuid(65534)\n"
        "try:\n"
        "    snapshot(Path(sys.argv[1]))\n"
        "except StoreError as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(directory)], capture_output=True, text=True, check=True
    )
    assert ran.stdout == f"permission denied to this program's user: Permission denied: {directory / name}\n"


def test_a_peek_is_what_a_snapshot_begins_with() -> None:
    for name in NAMES:
        seen = peek(files(DATA / name))
        with snapshot(DATA / name) as found:
            assert (seen.index, seen.header) == (found.index, found.header)


def test_sums_that_cyrus_lost_count_of_need_a_lock_once(tmp_path: Path, locked_times: list[str]) -> None:
    directory = copied(MOVED, tmp_path)
    for _ in range(3):
        with snapshot(directory) as found:
            assert found.complaint
    assert locked_times == ["shared", "none"]


def test_a_difference_that_is_another_one_needs_a_lock_again(tmp_path: Path, locked_times: list[str]) -> None:
    directory = copied(MOVED, tmp_path)
    snapshot(directory).close()
    Index(directory / "cyrus.index").put(100, 12345).save()
    snapshot(directory).close()
    assert locked_times == ["shared", "none"] * 2


def test_a_mailbox_of_many_windows_is_read_whole_and_in_parts(tmp_path: Path) -> None:
    directory = copied("v17", tmp_path)
    count = 3 * WINDOW + 17
    enlarge(directory, count)
    with take(files(directory), "alice", items_of) as found:
        whole = records(found)
        assert [record.uid for record in whole] == list(range(1, count + 1))
        assert [len(batch) for batch in found.records(batch=1000)] == [1000, count - 1000]
        assert [r.uid for batch in found.records(since_modseq=count) for r in batch] == [count]
        assert next(iter(found.records(above_uid=WINDOW, batch=1)))[0].uid == WINDOW + 1
        assert sum(len(batch) for batch in found.places(above_uid=count - 3)) == 3


def test_a_large_index_is_copied_into_a_file_that_has_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = copied("v17", tmp_path)
    enlarge(directory, 2000)
    with snapshot(directory) as small:
        wanted = records(small)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("cyrus_sync.spool.copies.IN_MEMORY", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    with snapshot(directory) as found:
        assert not list(temporary.iterdir())
        assert records(found) == wanted
        (directory / "cyrus.index").unlink()
        assert records(found) == wanted


def test_threads_do_not_disturb_one_another(tmp_path: Path) -> None:
    directory = copied("v19", tmp_path)
    with snapshot(directory) as found:
        wanted = records(found)
    wrong: list[Any] = []

    def read() -> None:
        for _ in range(30):
            with snapshot(directory) as found:
                if records(found) != wanted:
                    wrong.append(found)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_large_mailbox_takes_little_memory(tmp_path: Path) -> None:
    """Its index, here 17 MB, is copied into a file and read window by window."""
    directory = copied("v17", tmp_path)
    enlarge(directory, 150_000)
    program = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from tests.spool.golden import snapshot\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with snapshot(Path(sys.argv[1])) as mailbox:\n"
        "    assert sum(len(batch) for batch in mailbox.records()) == 150_000\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(directory)], capture_output=True, check=True)
    assert int(ran.stdout) < 12 * 1024


def test_who_wants_only_changes_has_every_record_checked_but_no_sums(tmp_path: Path) -> None:
    """The sums are the replica's to compare; a mailbox that Cyrus has lost count of costs no lock then."""
    directory = copied("v17", tmp_path)
    index = Index(directory / "cyrus.index")
    index.put(100, index.header.sync_crc ^ 1).save()
    with snapshot(directory, summed=False) as found:
        last = found.index.highestmodseq
        changed = [record for batch in found.records(since_modseq=last - 1) for record in batch]
        assert [record.modseq for record in changed] == [last]
        assert not found.summed
    damaged = bytearray(index.path.read_bytes())
    damaged[index.header_size + 40] ^= 1
    index.path.write_bytes(damaged)
    with pytest.raises(SpoolDamaged, match="checksum"):
        snapshot(directory, summed=False)
    index.put_in(0, 80, index.header.highestmodseq + 1, 8).save()
    with pytest.raises(SpoolDamaged, match="modseq above its highest"):
        snapshot(directory, summed=False)
