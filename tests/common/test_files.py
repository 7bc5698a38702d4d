"""Names that last, and files that are replaced as a whole."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cyrus_sync.common.commands import described
from cyrus_sync.common.directory import Directory
from cyrus_sync.common.files import make_directories, write_new, write_over
from cyrus_sync.common.nameless import NamelessFile
from cyrus_sync.common.synclog.log import SyncLog


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What has been fsynced, in order."""
    done: list[Path] = []

    def note(descriptor: int) -> None:
        done.append(Path(f"/proc/self/fd/{descriptor}").readlink())

    monkeypatch.setattr(os, "fsync", note)
    return done


def test_every_new_directory_is_synced_in_the_one_above(tmp_path: Path, synced: list[Path]) -> None:
    (tmp_path / "a").mkdir()
    make_directories(tmp_path / "a/b/c", 0o700)
    assert synced == [tmp_path / "a", tmp_path / "a/b"]
    assert stat.S_IMODE((tmp_path / "a/b").stat().st_mode) == 0o700
    make_directories(tmp_path / "a/b/c")
    assert len(synced) == 2, "nothing was made"


def test_a_file_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(FileExistsError):
        make_directories(tmp_path / "a")


def test_a_file_is_synced_before_it_gets_its_name_and_the_name_after(
    tmp_path: Path, synced: list[Path]
) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    write_over(path, b"after", 0o640)
    assert path.read_bytes() == b"after" and stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [one.name != "file" for one in synced] == [True, True] and synced[1] == tmp_path
    assert [one.name for one in tmp_path.iterdir()] == ["file"]


def test_a_file_that_cannot_be_written_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_text("before")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_over(path, b"after")
    assert path.read_text() == "before" and [one.name for one in tmp_path.iterdir()] == ["file"]


def test_the_name_of_a_new_action_log_lasts_before_its_first_line(tmp_path: Path, synced: list[Path]) -> None:
    log = SyncLog(tmp_path / "conf/sync/log")
    log.append([("USER", "alice")])
    assert synced == [tmp_path, tmp_path / "conf", tmp_path / "conf/sync", tmp_path / "conf/sync/log"]
    log.append([("USER", "bob")])
    assert synced[4:] == [tmp_path / "conf/sync/log"]
    (tmp_path / "conf/sync/log").unlink()
    (tmp_path / "conf/sync/log").touch()  # by somebody who died before he could write
    log.append([("USER", "carol")], fsync=False)
    assert synced[5:] == [tmp_path / "conf/sync"]


@contextmanager
def full() -> Iterator[None]:
    """No file may be larger than a few octets: write(2) fails as on a full disk, and names no file. Nor may
    that to which pytest writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def _copy_into(path: Path) -> None:
    with Directory.open(path.parent) as directory, directory.new_file() as copy:
        os.write(copy.descriptor, bytes(10))
        os.write(copy.descriptor, b"more")


def _new_file_in(path: Path) -> None:
    with Directory.open(path.parent) as directory:
        directory.new_file(bytes(100))


@pytest.mark.parametrize(
    ("work", "named"),
    [
        (lambda path: write_over(path, bytes(100)), "file"),
        (lambda path: write_new(path, bytes(100)), "file"),
        (_copy_into, ""),
        (_new_file_in, ""),
        (lambda path: NamelessFile.filled(path.parent, [bytes(100)]), ""),
    ],
    ids=["write_over", "write_new", "copy", "new_file", "nameless"],
)
def test_an_error_of_writing_names_the_file_or_its_directory(
    tmp_path: Path, work: Callable[[Path], object], named: str
) -> None:
    with full(), pytest.raises(OSError) as caught:
        work(tmp_path / "file")
    assert caught.value.errno == errno.EFBIG
    assert described(caught.value) == f"{tmp_path / named}: File too large"
    assert list(tmp_path.iterdir()) == []
