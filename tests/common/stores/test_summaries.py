"""What is known of everybody without opening anybody: always as it is now, whoever has changed it and however
he ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.model import Seen
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailWriter
from cyrus_sync.common.stores.native import schema, stamps, summaries
from cyrus_sync.common.stores.native.care.expire import expirable, expire
from cyrus_sync.common.stores.native.care.stats import stats, survey
from cyrus_sync.common.stores.native.store import NativeStore
from cyrus_sync.common.stores.native.summary import Summary, summarise
from tests.common.stores.tools import ALICE, BOB, INBOX, Clock, Log, message, native_store
from tests.forking import fork

DAY = 86400

CHANGES: dict[str, Callable[[MailWriter], object]] = {
    "create": lambda box: box.create(INBOX),
    "append": lambda box: box.append(INBOX, [(message(n), 1, "") for n in range(3)]),
    "flag": lambda box: box.set_flags(INBOX, [1], add=["\\Seen"]),
    "expunge": lambda box: box.expunge(INBOX, [2]),
    "folder": lambda box: box.create(INBOX + ".x"),
    "rights": lambda box: box.set_acl(INBOX, "bob", "lr"),
    "quota": lambda box: box.set_quota(INBOX, {"STORAGE": 100}),
    "subscribe": lambda box: box.subscribe(INBOX),
    "seen": lambda box: box.set_seen(Seen("abcdefgh", 1, 2, 3, "1:2")),
    "note": lambda box: box.annotate(INBOX, "/comment", "", b"x"),
    "delete": lambda box: box.delete(INBOX + ".x", delayed=False),
    "aside": lambda box: box.delete(INBOX),
}


def change(store: NativeStore, name: str) -> None:
    with store.write(ALICE) as writer:
        CHANGES[name](writer)


def from_outside(directory: Path) -> dict[Owner, Summary | None]:
    """As another process sees them."""
    store = native_store(directory, readonly=True)
    try:
        return {known.owner: known.summary for known in store.summaries.everybody()}
    finally:
        store.close()


def from_inside(directory: Path, owner: Owner = ALICE) -> Summary:
    store = native_store(directory, readonly=True)
    try:
        with store.read(owner) as reader:
            return summarise(owner, reader.connection)
    finally:
        store.close()


def no_index_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(path: Path, **_: object) -> None:
        raise AssertionError(f"{path} was opened")

    for name in ("connect", "glance"):
        monkeypatch.setattr(schema, name, opened)


@pytest.mark.parametrize("stays_open", [True, False])
def test_every_change_is_seen_from_outside_at_once(tmp_path, stays_open):
    store = native_store(tmp_path)
    seen: list[Summary] = []
    for name in CHANGES:
        change(store, name)
        if not stays_open:
            store.close()
            store = native_store(tmp_path)
        (found,) = from_outside(tmp_path).values()
        assert found == from_inside(tmp_path), name
        assert found is not None and found not in seen, name
        seen.append(found)
    store.close()
    assert len({found.digest for found in seen}) >= len(CHANGES) - 1


def test_two_hundred_changes_in_a_row_are_all_seen(tmp_path):
    store = native_store(tmp_path)
    change(store, "create")
    for count in range(1, 201):
        with store.write(ALICE) as writer:
            writer.append(INBOX, [(message(count), 1, "")])
        if count % 3 == 0:
            store.close()
            store = native_store(tmp_path)
        summary = from_outside(tmp_path)[ALICE]
        assert summary is not None and summary.messages == count
    store.close()


def test_a_summary_that_was_kept_is_taken_without_opening_anybody(tmp_path, monkeypatch):
    store = native_store(tmp_path)
    change(store, "create")
    change(store, "append")
    store.close()
    with monkeypatch.context() as patched:
        no_index_is_opened(patched)
        (found,) = from_outside(tmp_path).values()
        other = native_store(tmp_path)
        assert list(other.owners()) == [ALICE]
        ((owner, known),) = survey(other)
        assert list(expirable(other, 7 * DAY)) == []
    assert found == from_inside(tmp_path)
    asked = stats(other, ALICE)
    assert owner == ALICE and known is not None and asked is not None
    # SQLite leaves files while it is asked; where packs are is not known from outside.
    assert replace(asked, index_bytes=known.index_bytes, far_bytes=-1) == known
    other.close()


def test_a_process_that_is_killed_behind_its_commit_leaves_no_wrong_answer(tmp_path):
    store = native_store(tmp_path, log=Log())
    change(store, "create")
    store.close()
    before = from_outside(tmp_path)[ALICE]

    def work() -> int:
        mine = native_store(tmp_path, log=Log())
        change(mine, "append")
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    os.waitpid(fork(work), 0)
    after = from_outside(tmp_path)[ALICE]
    assert before is not None and after is not None
    assert (before.messages, after.messages) == (0, 3)
    assert after == from_inside(tmp_path)


def test_a_commit_that_comes_while_an_index_is_read_without_locks_is_seen(tmp_path, monkeypatch):
    store = native_store(tmp_path)
    change(store, "create")
    store.close()
    (tmp_path / "conf" / summaries.FILE).unlink()
    monkeypatch.setattr(stamps, "GRAIN", -1)
    read = summaries.summarise

    def with_a_writer(owner: Owner, connection: object) -> Summary:
        found = read(owner, connection)  # type: ignore[arg-type]
        monkeypatch.setattr(summaries, "summarise", read)
        other = native_store(tmp_path)
        change(other, "append")
        other.close()
        return found

    monkeypatch.setattr(summaries, "summarise", with_a_writer)
    summary = from_outside(tmp_path)[ALICE]
    assert summary is not None and summary.messages == 3


def test_a_file_of_summaries_that_is_damaged_costs_time_and_nothing_else(tmp_path):
    store = native_store(tmp_path)
    change(store, "create")
    store.close()
    path = tmp_path / "conf" / summaries.FILE
    for damage in (b"", b"no database at all" * 100, path.read_bytes()[:5000]):
        path.write_bytes(damage)
        assert from_outside(tmp_path)[ALICE] == from_inside(tmp_path)
    store = native_store(tmp_path)
    change(store, "append")
    store.close()
    assert from_outside(tmp_path)[ALICE] == from_inside(tmp_path)


def test_who_cannot_be_read_is_not_answered_for(tmp_path):
    store = native_store(tmp_path)
    change(store, "create")
    with store.write(BOB) as writer:
        writer.create("user.bob")
    directory = store.directory_of(BOB)
    store.close()
    assert directory is not None
    (directory / "index.sqlite").write_bytes(b"rubbish" * 1000)
    found = from_outside(tmp_path)
    assert found[ALICE] is not None and found[BOB] is None
    store = native_store(tmp_path)
    assert list(store.owners()) == [ALICE, BOB]
    with pytest.raises(StoreError), store.read(BOB):
        pass
    assert list(expirable(store, 0)) == [BOB]
    store.close()


def test_expire_is_asked_for_those_of_whom_something_has_become_old_enough(tmp_path):
    clock = Clock()
    store = native_store(tmp_path, clock=clock)
    for name in ("create", "append", "expunge"):
        change(store, name)
    with store.write(BOB) as writer:
        writer.create("user.bob")
    assert list(expirable(store, 7 * DAY)) == []
    clock.now += 6 * DAY
    assert list(expirable(store, 7 * DAY)) == []
    clock.now += 2 * DAY
    assert list(expirable(store, 7 * DAY)) == [ALICE]
    assert expire(store, ALICE, 7 * DAY).records == 1
    assert list(expirable(store, 7 * DAY)) == []
    change(store, "aside")
    clock.now += 8 * DAY
    assert list(expirable(store, 7 * DAY)) == [ALICE]
    expire(store, ALICE, 7 * DAY)
    clock.now += 366 * DAY
    assert list(expirable(store, 7 * DAY)) == [ALICE]
    expire(store, ALICE, 7 * DAY)
    assert list(store.home.everybody()) == [BOB]
    store.close()


def test_a_pack_that_a_crash_has_left_is_found(tmp_path):
    store = native_store(tmp_path)
    change(store, "create")
    directory = store.directory_of(ALICE)
    assert directory is not None
    (directory / "pack-000007.zst").write_bytes(b"x")
    assert list(expirable(store, 0)) == [ALICE]
    expire(store, ALICE, 0)
    assert list(expirable(store, 0)) == []
    store.close()
