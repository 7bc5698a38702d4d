"""Files that stay open between uses: how many, and what they cost."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native import opened
from cyrus_sync.common.stores.native.opened import Heat
from cyrus_sync.common.stores.native.store import NativeStore
from tests.common.stores.tools import message, native_store

ROOT = Path(__file__).parents[3]


def fill(store: NativeStore, number: int) -> Owner:
    owner = Owner("user", f"u{number}")
    with store.write(owner) as writer:
        writer.create(f"user.u{number}")
    with store.write(owner) as writer:  # who is new was made apart, and nothing of him is open yet
        writer.append(f"user.u{number}", [(message(number), 1, "")])
    return owner


def subject(store: NativeStore, owner: Owner) -> bytes:
    with store.read(owner) as reader:
        state = reader.mailbox(f"user.{owner.name}")
        assert state is not None
        (record,) = [record for batch in reader.records(state.uniqueid) for record in batch]
        body = reader.body(record.guid)
        assert body is not None and isinstance(body.data, bytes)
        return body.data


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NativeStore:
    monkeypatch.setattr(opened, "_most_open", lambda: 6)
    monkeypatch.setattr(opened, "_MOST_WARM", 4)
    monkeypatch.setattr(opened, "_MOST_HOT", 2)
    return native_store(tmp_path)


def heats(store: NativeStore) -> list[Heat]:
    return [each._heat for each in store.open._open.values()]


def test_the_last_used_keep_pages_some_more_statements_and_the_rest_an_open_file(store):
    for number in range(9):
        fill(store, number)
    assert heats(store) == [Heat.COOL] * 2 + [Heat.WARM] * 2 + [Heat.HOT] * 2


def test_who_is_used_again_is_hot_again(store):
    owners = [fill(store, number) for number in range(6)]
    assert subject(store, owners[0]) == message(0)
    assert list(store.open._open)[-1] == owners[0] and heats(store)[-1] is Heat.HOT
    assert heats(store).count(Heat.HOT) == 2


def test_what_is_kept_of_a_cool_owner_is_another_connection_that_has_done_nothing(store):
    first = fill(store, 0)
    (before,) = store.open._open[first]._idle
    for number in range(1, 5):
        fill(store, number)
    (after,) = store.open._open[first]._idle
    assert after is not before
    assert subject(store, first) == message(0)


def test_the_packs_of_who_was_not_used_for_long_are_not_kept_open(
    store: NativeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may have removed them: their room on the disk is free when nobody has them open."""
    monkeypatch.setattr(opened, "_COOL_AFTER", 0.0)
    first, second = fill(store, 0), fill(store, 1)
    directory = store.directory_of(first)
    assert directory is not None and subject(store, first) == message(0)
    assert any("/pack-" in path for path in open_files(directory))
    subject(store, second)
    subject(store, second)
    assert not any("/pack-" in path for path in open_files(directory))
    assert subject(store, first) == message(0)


def open_files(directory: Path) -> list[str]:
    held = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            held.append(str(entry.readlink()))
    return [path for path in held if path.startswith(str(directory))]


def test_cooling_costs_no_checkpoint_and_closing_does(store):
    owners = [fill(store, number) for number in range(6)]
    logs = [store.directory_of(owner) / "index.sqlite-wal" for owner in owners]  # type: ignore[operator]
    assert all(log.stat().st_size for log in logs)
    for number in range(6, 12):
        fill(store, number)
    assert not any(log.exists() for log in logs)


def test_a_reader_that_lasts_is_not_disturbed_by_cooling_and_gives_everything_back(store):
    first = fill(store, 0)
    with store.read(first) as reader, store.read(first) as another:
        for number in range(1, 20):
            fill(store, number)
        for each in (reader, another):
            assert each.mailbox("user.u0") is not None
    assert len(store.open._open[first]._idle) == 1
    for number in range(20, 30):
        fill(store, number)
    assert len(store.open._open) == 6
    store.close()


def test_nothing_stays_open_when_a_store_is_closed(store, tmp_path):
    for number in range(9):
        fill(store, number)
    store.close()
    assert not open_files(tmp_path)


MEMORY = """
import sys
from pathlib import Path
from cyrus_sync.common.stores.native import opened
from tests.common.stores.test_opened import fill, subject
from tests.common.stores.tools import native_store

def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

store = native_store(Path(sys.argv[1]))
opened._MOST_WARM = 16  # of these the statements are kept, which is bounded and not measured here
for number in range(30):
    subject(store, fill(store, number))
before = rss()
for number in range(30, 130):
    subject(store, fill(store, number))
print((rss() - before) // 100)
"""


def test_another_hundred_users_take_less_than_100_kb_each(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert int(ran.stdout) < 100_000, ran.stdout
