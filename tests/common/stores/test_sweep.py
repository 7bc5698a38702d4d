"""Lines for the action log that a change has left behind are found and written, whatever ended the writer."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native import unlogged
from cyrus_sync.common.stores.native.care.sweep import sweep, waiting
from cyrus_sync.common.stores.native.care.verify import verify
from cyrus_sync.common.stores.native.store import NativeStore
from tests.common.stores.tools import ALICE, BOB, Log, message, native_store

ROOT = Path(__file__).parents[3]
LINE = ("MAILBOX", "user.alice")


class FullDisk(Log):
    """A log that cannot be written."""

    def write(self, lines: Iterable[Sequence[str]]) -> None:
        raise StoreError("No space left on device")


def change(store: NativeStore, owner: Owner = ALICE) -> None:
    with store.write(owner) as writer:
        if writer.mailbox(f"user.{owner.name}") is None:
            writer.create(f"user.{owner.name}")
        writer.append(f"user.{owner.name}", [(message(1), 1, "")])


@pytest.fixture
def swept(tmp_path: Path) -> Log:
    """Everybody has been looked at since the machine started; the log of the store at `tmp_path`."""
    log = Log()
    store = native_store(tmp_path, log=log)
    for owner in (ALICE, BOB):
        change(store, owner)
    assert sweep(store) == []
    store.close()
    log.clear()
    return log


def notes(path: Path) -> list[Path]:
    return [each for each in (path / "conf" / "unlogged").iterdir() if each.name != unlogged.SWEPT]


DYING = """
import os, signal, sys
from pathlib import Path
from tests.common.stores.test_sweep import change
from tests.common.stores.tools import Log, native_store

class Death(Log):
    def write(self, lines):
        os.kill(os.getpid(), signal.SIGKILL)

change(native_store(Path(sys.argv[1]), log=Death()))
"""


def die(path: Path) -> None:
    """A process is killed between its commit and the action log."""
    ended = subprocess.run([sys.executable, "-c", DYING, str(path)], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL


def test_what_a_killed_process_left_over_is_written_and_nobody_else_is_opened(tmp_path, swept, monkeypatch):
    die(tmp_path)
    store = native_store(tmp_path, log=swept)
    assert waiting(store, ALICE) and swept == []
    monkeypatch.setattr(f"{sweep.__module__}._owners", lambda _: pytest.fail("all looked at"))
    assert sweep(store) == [ALICE]
    assert LINE in swept
    assert not waiting(store, ALICE) and sweep(store) == []
    store.close()
    assert notes(tmp_path) == []


def test_a_full_disk_leaves_a_note_for_the_next_process(tmp_path, swept):
    store = native_store(tmp_path, log=FullDisk())
    change(store)
    assert sweep(store) == [] and waiting(store, ALICE)
    store.close()
    assert notes(tmp_path)
    another = native_store(tmp_path, log=Log())
    change(another, BOB)
    another.close()
    store = native_store(tmp_path, log=swept)
    assert sweep(store) == [ALICE] and LINE in swept
    store.close()
    assert notes(tmp_path) == []


def test_a_process_that_is_alive_keeps_its_notes(tmp_path, swept):
    alive = native_store(tmp_path, log=FullDisk())
    change(alive)
    store = native_store(tmp_path, log=swept)
    assert sweep(store) == [ALICE]
    assert len(notes(tmp_path)) == 2
    store.close()
    alive.close()


def test_after_a_power_cut_everybody_is_looked_at_once(tmp_path, swept, monkeypatch):
    """Of the notes, which are never synced, nothing has reached the disk."""
    die(tmp_path)
    for note in notes(tmp_path):
        note.unlink()
    store = native_store(tmp_path, log=swept)
    assert sweep(store) == []
    monkeypatch.setattr(unlogged, "boot_id", lambda: "another")
    assert sweep(store) == [ALICE] and LINE in swept
    monkeypatch.setattr(f"{sweep.__module__}._owners", lambda _: pytest.fail("looked at again"))
    assert sweep(store) == []


def test_who_cannot_be_noted_has_everybody_looked_at(tmp_path, swept, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(unlogged.os, "pwrite", full)
        change(native_store(tmp_path, log=FullDisk()))
    for note in notes(tmp_path):
        note.unlink()
    store = native_store(tmp_path, log=swept)
    assert sweep(store) == [ALICE] and LINE in swept


def test_a_sweep_that_is_stopped_begins_anew(tmp_path, swept, monkeypatch):
    die(tmp_path)
    monkeypatch.setattr(unlogged, "boot_id", lambda: "another")
    store = native_store(tmp_path, log=swept)
    stop = threading.Event()
    stop.set()
    assert sweep(store, stop) == [] and waiting(store, ALICE)
    assert sweep(store) == [ALICE]


def test_one_damaged_index_does_not_have_everybody_looked_at_for_ever(tmp_path, swept, monkeypatch):
    store = native_store(tmp_path, log=swept)
    index = store.directory_of(BOB) / "index.sqlite"
    store.close()
    index.write_bytes(b"no index" * 1000)
    monkeypatch.setattr(unlogged, "boot_id", lambda: "another")
    die(tmp_path)
    store = native_store(tmp_path, log=swept)
    assert sweep(store) == [ALICE]
    monkeypatch.setattr(f"{sweep.__module__}._owners", lambda _: pytest.fail("all looked at"))
    assert sweep(store) == []


def test_without_a_log_nothing_is_noted_and_nothing_left_over_is_lost(tmp_path, swept):
    die(tmp_path)
    before = notes(tmp_path)
    silent = native_store(tmp_path)
    change(silent)
    assert sweep(silent) == [] and waiting(silent, ALICE)
    assert notes(tmp_path) == before
    silent.close()


def test_replicated_changes_are_kept_for_a_chained_log_only(tmp_path):
    for chain in (None, FullDisk()):
        store = native_store(tmp_path / str(chain is None), log=Log(), chain_log=chain)
        with store.write(ALICE) as writer:
            writer.apply_sub("user.alice", True)
        assert bool(waiting(store, ALICE)) is (chain is not None)


def test_many_changes_keep_the_file_of_notes_small(tmp_path, monkeypatch):
    monkeypatch.setattr(unlogged, "_LONG", 300)
    store = native_store(tmp_path, log=Log())
    for _ in range(50):
        change(store)
    (file,) = notes(tmp_path)
    assert file.stat().st_size < 400
    store.close()
    assert not file.exists()


def test_a_torn_note_is_passed_over(tmp_path, swept):
    die(tmp_path)
    with notes(tmp_path)[0].open("ab") as file:
        file.write(b'+["user", "bo')
    store = native_store(tmp_path, log=swept)
    assert sweep(store) == [ALICE]


@pytest.mark.covers("mailstore: commands and options", "verify")
def test_verify_names_lines_that_wait(tmp_path, swept, monkeypatch):
    monkeypatch.setattr("cyrus_sync.common.stores.native.care.verify._PAUSE", 0)
    die(tmp_path)
    store = native_store(tmp_path, readonly=True)
    (problem,) = verify(store, ALICE)
    assert problem.kind == "log" and "not written yet" in str(problem)
    assert list(verify(store, BOB)) == []
