"""The log wakes us by itself."""

from __future__ import annotations

import select
from pathlib import Path
from typing import Any

from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.sync_client.watch import FileWatch, NoWatch
from tests.reactors import open_descriptors


class Reader:
    """As much of a reactor as a watch needs."""

    def __init__(self) -> None:
        self.readers: set[Any] = set()

    def addReader(self, reader: Any) -> None:
        self.readers.add(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.discard(reader)

    def removeWriter(self, writer: Any) -> None:
        """There are none."""

    def turn(self) -> None:
        for reader in list(self.readers):
            if select.select([reader.fileno()], [], [], 0)[0]:
                reader.doRead()


def watching(path: Path) -> tuple[Reader, FileWatch, list[None]]:
    reactor, woken = Reader(), []
    watch = FileWatch(reactor, path)
    watch.start(lambda: woken.append(None))
    return reactor, watch, woken


def test_a_line_in_the_log_wakes_even_if_the_log_was_not_there(tmp_path):
    reactor, watch, woken = watching(tmp_path / "log")
    SyncLog(tmp_path / "log").append([("USER", "alice")])
    reactor.turn()
    assert woken
    watch.stop()
    assert not reactor.readers


def test_the_log_wakes_again_after_it_was_claimed(tmp_path):
    reactor, watch, woken = watching(tmp_path / "log")
    log = SyncLog(tmp_path / "log")
    log.append([("USER", "alice")])
    claimed = log.claim()
    assert claimed is not None
    reactor.turn()
    woken.clear()
    claimed.finish()
    reactor.turn()
    assert not woken, "our own work on the run file wakes nobody"
    log.append([("USER", "bob")])
    reactor.turn()
    assert woken
    watch.stop()


def test_a_log_that_is_moved_into_place_wakes(tmp_path):
    reactor, watch, woken = watching(tmp_path / "log")
    (tmp_path / "other").write_text("USER alice\n")
    reactor.turn()
    assert not woken
    (tmp_path / "other").rename(tmp_path / "log")
    reactor.turn()
    assert woken
    watch.stop()


def test_without_inotify_there_is_a_word_of_warning_and_no_failure(tmp_path, caplog):
    watch = FileWatch(Reader(), tmp_path / "no-such-directory" / "log")
    watch.start(lambda: None)
    assert "once a second" in caplog.text
    watch.stop()


def watches() -> int:
    """Of the descriptors of this process those that watch: others may be closed by anybody in between."""
    return sum("inotify" in name for name in open_descriptors())


def test_stopping_leaves_no_descriptor_behind(tmp_path):
    before = watches()
    for _ in range(20):
        watching(tmp_path / "log")[1].stop()
    assert watches() == before


def test_no_watch_at_all_does_nothing():
    watch = NoWatch()
    watch.start(lambda: None)
    watch.stop()
