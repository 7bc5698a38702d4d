"""The file of the log, and the lock of a site."""

from __future__ import annotations

import multiprocessing
import sqlite3
import time
from pathlib import Path

import pytest

from cyrus_sync.common.errors import EX_TEMPFAIL, StoreError
from cyrus_sync.multisite.errors import SiteLocked
from cyrus_sync.multisite.oplog import database
from cyrus_sync.multisite.oplog.database import FILE, MIGRATIONS, VERSION, Database, SiteLock
from tests.deadlines import scaled


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return Database(tmp_path)


def put(db: Database, guid: bytes) -> None:
    db.execute("INSERT INTO wanted (guid, owner) VALUES (?, 'user:bob')", (guid,))


def count(db: Database) -> int:
    return int(db.row("SELECT count(*) FROM wanted")[0])


def test_what_is_executed_alone_is_committed_at_once(db: Database, tmp_path: Path) -> None:
    put(db, b"a")
    assert count(Database(tmp_path)) == 1


def test_a_transaction_is_whole_or_not_at_all(db: Database, tmp_path: Path) -> None:
    with pytest.raises(KeyError), db.transaction():
        put(db, b"a")
        raise KeyError
    assert count(db) == 0
    with db.transaction():
        put(db, b"a")
        assert count(Database(tmp_path)) == 0
    assert count(Database(tmp_path)) == 1


def test_transactions_nest_and_the_outermost_one_decides(db: Database) -> None:
    with pytest.raises(KeyError), db.transaction():
        with db.transaction():
            put(db, b"a")
        raise KeyError
    assert count(db) == 0


def test_commit_keeps_what_was_done_so_far(db: Database) -> None:
    with pytest.raises(KeyError), db.transaction():
        put(db, b"a")
        db.commit()
        put(db, b"b")
        raise KeyError
    assert count(db) == 1
    db.commit()  # outside of a transaction it is nothing


def test_after_a_failed_statement_nothing_is_committed_whoever_caught_the_error(db: Database) -> None:
    with pytest.raises(sqlite3.IntegrityError), db.transaction():
        put(db, b"a")
        with pytest.raises(sqlite3.IntegrityError):
            put(db, b"a")
        with pytest.raises(sqlite3.IntegrityError):
            put(db, b"b")
    assert count(db) == 0
    put(db, b"a")
    with pytest.raises(sqlite3.IntegrityError):
        put(db, b"a")
    put(db, b"b")
    assert count(db) == 2, "outside of a transaction every statement is one"


def test_a_newer_file_is_refused_and_left_alone(db: Database, tmp_path: Path) -> None:
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(StoreError, match=f"of version {VERSION + 1}, newer than this program's {VERSION}"):
        Database(tmp_path)
    assert (tmp_path / FILE).read_bytes() == before


def test_no_version_was_released_that_would_have_to_be_upgraded() -> None:
    assert set(MIGRATIONS) == set(range(1, VERSION))


def test_an_older_file_is_upgraded_and_a_copy_of_it_kept(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(db, b"a")
    db.close()
    monkeypatch.setattr(database, "VERSION", VERSION + 1)
    monkeypatch.setattr(database, "MIGRATIONS", {VERSION: "ALTER TABLE wanted ADD COLUMN why TEXT;"})
    with Database(tmp_path) as upgraded:
        assert upgraded.row("SELECT guid, why FROM wanted") == (b"a", None)
        assert upgraded.row("PRAGMA user_version") == (VERSION + 1,)
    copy = sqlite3.connect(tmp_path / f"{FILE}.v{VERSION}")
    assert copy.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert copy.execute("SELECT count(*) FROM wanted").fetchone() == (1,)


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be one" * 40, b""])
def test_a_file_that_is_no_log_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StoreError, match="cannot use the operations log"):
        Database(tmp_path)


def test_a_file_that_was_being_made_is_made_again(tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.new").write_bytes(b"half")
    with Database(tmp_path) as db:
        assert count(db) == 0
    assert not (tmp_path / f"{FILE}.new").exists()


def test_reading_only_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        Database(tmp_path, readonly=True)
    assert list(tmp_path.iterdir()) == []


# -- the lock


def test_one_command_at_a_time(tmp_path: Path) -> None:
    with SiteLock(tmp_path), pytest.raises(SiteLocked) as refused:
        SiteLock(tmp_path)
    assert refused.value.exit_status == EX_TEMPFAIL
    with SiteLock(tmp_path):
        pass


def _hold(directory: Path, ready: object, seconds: float) -> None:
    with SiteLock(directory):
        ready.set()  # type: ignore[attr-defined]
        time.sleep(seconds)


def test_the_lock_ends_with_its_process_and_may_be_waited_for(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, 60))
    process.start()
    assert ready.wait(scaled(10))
    with pytest.raises(SiteLocked):
        SiteLock(tmp_path, wait=0.1)
    process.kill()
    with SiteLock(tmp_path, wait=10):
        process.join()
