"""docs/backup.md: a copy that is made while the store is in use holds all that was acknowledged before."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.stores.native.care.reconstruct import reconstruct
from cyrus_sync.common.stores.native.care.verify import verify
from cyrus_sync.common.stores.native.store import NativeStore
from tests.common.stores.tools import ALICE, BOB, guid_of, message, native_store

PEOPLE = {ALICE: "user.alice", BOB: "user.bob"}


class Writers:
    """Two users who get mail and flags all the time. `kept`: what was acknowledged, by owner."""

    def __init__(self, store: NativeStore) -> None:
        self.kept = {owner: [] for owner in PEOPLE}
        self._store = store
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(owner,)) for owner in PEOPLE]
        for owner, inbox in PEOPLE.items():
            with store.write(owner) as writer:
                writer.create(inbox)
        for thread in self._threads:
            thread.start()

    def _write(self, owner) -> None:
        number = 0
        while not self._over.is_set():
            raws = [message(10_000 * len(owner.name) + number + n, 3000) for n in range(5)]
            number += 5
            with self._store.write(owner) as writer:
                writer.append(PEOPLE[owner], [(raw, 1, "") for raw in raws])
                writer.set_flags(PEOPLE[owner], [number // 2], add=["\\Seen"])
            self.kept[owner] += [guid_of(raw) for raw in raws]

    @property
    def least(self) -> int:
        return min(map(len, self.kept.values()))

    def wait_for(self, messages: int) -> None:
        while self.least < messages:
            assert all(thread.is_alive() for thread in self._threads)
            self._over.wait(0.01)

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def copied(source: Path, target: Path, writers: Writers, names: Callable[[list[Path]], list[Path]]) -> None:
    """As rsync does it: file by file, each as it is when its turn comes, while the writers go on."""
    for path in names(sorted(path for path in source.rglob("*") if path.is_file())):
        to = target / path.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, to)
        except FileNotFoundError:
            to.unlink(missing_ok=True)
        if path.name.startswith("index"):
            writers.wait_for(writers.least + 15)


@pytest.mark.parametrize("names", [list, lambda paths: paths[::-1]], ids=["index first", "log first"])
def test_what_was_acknowledged_before_a_copy_was_begun_is_in_it_after_a_repair(tmp_path: Path, names) -> None:
    store = native_store(tmp_path / "live")
    writers = Writers(store)
    try:
        writers.wait_for(100)
        copied(tmp_path / "live", tmp_path / "copy", writers, names)
        writers.wait_for(200)
        promised = {owner: list(kept) for owner, kept in writers.kept.items()}
        copied(tmp_path / "live", tmp_path / "copy", writers, names)
    finally:
        writers.end()
        store.close()
    copy = native_store(tmp_path / "copy")
    for owner in PEOPLE:
        try:
            sound = not list(verify(copy, owner))
        except CyrusSyncError:
            sound = False
        if not sound:
            reconstruct(copy, owner)
        with copy.read(owner) as reader:
            held = {
                record.guid
                for state in reader.mailboxes()
                for batch in reader.records(state.uniqueid)
                for record in batch
            }
            assert set(promised[owner]) <= held
            assert reader.unsound(promised[owner]) == set()
    copy.close()
