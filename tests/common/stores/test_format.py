"""The files of the native store: versions and upgrades, order of syncing, what a shell can do with them."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from cyrus_sync.common.errors import NotRemembered, StoreCorrupt, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native import schema
from cyrus_sync.common.stores.native.care.past import PastStore
from cyrus_sync.common.stores.native.care.verify import verify
from tests.common.stores.tools import (
    ALICE,
    INBOX,
    Log,
    Stage,
    apply,
    bodies_in,
    guid_of,
    message,
    native_store,
    record_of,
    records_in,
    update_of,
)

DOCS = Path(__file__).parents[3] / "docs" / "store-format.md"


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """The directory of a user with three messages; the store is closed."""
    store = native_store(tmp_path)
    records = [record_of(message(n), n) for n in (1, 2, 3)]
    apply(store, update_of(INBOX, records), Stage(*(message(n) for n in (1, 2, 3))))
    directory = store.directory_of(ALICE)
    store.close()
    assert directory is not None
    return directory


def test_the_directory_is_where_the_document_says(tmp_path, filled):
    digits = hashlib.sha1(b"alice").hexdigest()[:2]
    assert filled == tmp_path / "default" / "users" / digits / "alice"
    assert sorted(path.name for path in filled.iterdir()) == ["index.sqlite", "lock", "pack-000001.zst"]
    assert stat.S_IMODE(filled.stat().st_mode) == 0o700


@pytest.mark.skipif(not (shutil.which("sqlite3") and shutil.which("zstd")), reason="needs sqlite3 and zstd")
def test_the_recipe_of_the_document_gets_a_message_out(filled):
    recipe = DOCS.read_text().split("```sh recipe\n")[1].split("```")[0]
    run = subprocess.run(
        ["sh", "-eu", "-c", recipe], cwd=filled, capture_output=True, check=True,
        env={**os.environ, "MAILBOX": INBOX, "UID_WANTED": "2"},
    )  # fmt: skip
    assert run.stdout == message(2)


def test_a_whole_pack_can_be_decompressed_at_once(filled):
    if not shutil.which("zstd"):
        pytest.skip("needs zstd")
    run = subprocess.run(["zstd", "-dc", filled / "pack-000001.zst"], capture_output=True, check=True)
    assert run.stdout == message(1) + message(2) + message(3)


def test_connections_are_durable(tmp_path, filled):
    connection = schema.connect(filled / "index.sqlite", readonly=False)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    connection.close()


def test_a_commit_syncs_the_pack_then_the_index_and_then_logs(tmp_path, monkeypatch):
    events: list[str] = []

    class Order(Log):
        def write(self, lines):  # type: ignore[no-untyped-def]
            events.append("log")
            super().write(lines)

    store = native_store(tmp_path, log=Order())
    with store.write(ALICE) as writer:
        writer.create(INBOX)
    events.clear()
    fdatasync = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (events.append("pack"), fdatasync(fd))[1])
    with store.write(ALICE) as writer:
        connection = writer.transaction.db
        connection.set_trace_callback(lambda text: events.append(text) if text == "COMMIT" else None)
        for number in range(5):
            with writer.savepoint():
                writer.append(INBOX, [(message(number), 1, "")])
    connection.set_trace_callback(None)
    assert events == ["pack", "COMMIT", "log"]
    store.close()


def test_the_first_commit_of_an_owner_syncs_every_new_name(tmp_path, monkeypatch):
    synced: list[str] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd))[1]
    )
    store = native_store(tmp_path)
    with store.write(ALICE) as writer:
        writer.apply_sub(INBOX, True)
        assert not synced[-1].endswith("alice")
    directory = store.directory_of(ALICE)
    assert directory is not None
    built = directory.with_name(".new-alice")
    for name in (built, built / "index.sqlite", *list(directory.parents)[:3]):
        assert str(name) in synced
    assert synced.index(str(built)) < len(synced) - 1 - synced[::-1].index(str(directory.parent))
    store.close()


def test_lines_that_could_not_be_logged_are_logged_by_the_next_writer(tmp_path):
    class Broken(Log):
        broken = True

        def write(self, lines):  # type: ignore[no-untyped-def]
            if self.broken:
                raise StoreError("disk full")
            super().write(lines)

    log = Broken()
    store = native_store(tmp_path, log=log)
    with store.write(ALICE) as writer:
        writer.create(INBOX)
    assert list(store.owners()) == [ALICE]
    store.close()
    log.broken = False
    store = native_store(tmp_path, log=log)
    with store.write(ALICE) as writer:
        writer.subscribe(INBOX)
    assert log.take() == [("MAILBOX", INBOX), ("SUB", "alice", INBOX)]
    with store.write(ALICE) as writer:
        writer.subscribe(INBOX, False)
    assert log.take() == [("SUB", "alice", INBOX)]
    store.close()


@pytest.mark.covers("imapd.conf", "sync_log_chain")
def test_replicated_changes_are_logged_only_where_replication_is_chained(tmp_path):
    local, chain = Log(), Log()
    store = native_store(tmp_path, log=local, chain_log=chain)
    apply(store, update_of(INBOX, [record_of(message(1), 1)]), Stage(message(1)))
    with store.write(ALICE) as writer:
        writer.apply_sub(INBOX, True)
    store.rename(INBOX, "user.bob", log=False)
    with store.write(ALICE) as writer:
        writer.apply_unuser()
    assert local == []
    assert chain == [
        ("APPEND", INBOX), ("MAILBOX", INBOX), ("SUB", "alice", INBOX),
        ("RENAME", INBOX, "user.bob"), ("MAILBOX", INBOX), ("MAILBOX", "user.bob"), ("UNUSER", "alice"),
    ]  # fmt: skip
    store.close()


# -- versions


def test_an_older_index_is_upgraded_and_a_copy_kept(tmp_path, filled, monkeypatch):
    now = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", now + 2)
    monkeypatch.setattr(
        schema,
        "MIGRATIONS",
        {
            now: "ALTER TABLE seen ADD COLUMN new TEXT NOT NULL DEFAULT 'x';",
            now + 1: "CREATE TABLE more (a TEXT);",
        },
    )
    store = native_store(tmp_path)
    assert len(records_in(store)) == 3
    with store.read(ALICE) as reader:
        assert schema.stored_version(reader.connection) == now + 2
        reader.connection.execute("SELECT new FROM seen")
    store.close()
    old = sqlite3.connect(filled / f"index.sqlite.v{now}")
    assert schema.stored_version(old) == now
    assert old.execute("SELECT count(*) FROM records").fetchone() == (3,)
    old.close()


def test_a_writer_who_comes_first_upgrades_the_index_under_the_lock_that_he_has(
    tmp_path, filled, monkeypatch
):
    now = schema.VERSION
    monkeypatch.setattr(schema, "VERSION", now + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", {now: "CREATE TABLE more (a TEXT);"})
    store = native_store(tmp_path)
    begun = time.monotonic()
    with store.write(ALICE) as writer:
        writer.create("user.alice.Work")
    assert time.monotonic() - begun < 30, "he does not wait for himself"
    store.close()


def test_an_upgrade_that_fails_leaves_the_old_index(tmp_path, filled, monkeypatch):
    with monkeypatch.context() as patched:
        now = schema.VERSION
        patched.setattr(schema, "VERSION", now + 1)
        patched.setattr(schema, "MIGRATIONS", {now: "CREATE TABLE more (a TEXT); SELECT nonsense;"})
        store = native_store(tmp_path)
        with pytest.raises(StoreError):
            records_in(store)
        store.close()
    store = native_store(tmp_path)
    assert len(records_in(store)) == 3
    store.close()


def downgraded(directory: Path) -> None:
    """Make the index one of the first version."""
    with closing(sqlite3.connect(directory / "index.sqlite", isolation_level=None)) as index:
        index.executescript(
            "DROP TABLE history; ALTER TABLE owner DROP COLUMN known_since; PRAGMA user_version = 1;"
        )


def test_an_index_of_the_first_version_is_upgraded_and_tells_since_when_it_knows(tmp_path, filled):
    downgraded(filled)
    store = native_store(tmp_path, clock=time.time)
    before = int(time.time())
    with store.write(ALICE) as writer:
        writer.create("user.alice.Work")
    with store.read(ALICE) as reader:
        (since,) = reader.connection.execute("SELECT known_since FROM owner").fetchone()
        made = sqlite3.connect(":memory:")
        made.executescript(schema.schema_sql())
        for name in ("owner", "history"):
            columns = made.execute(f"PRAGMA table_info({name})").fetchall()
            assert reader.connection.execute(f"PRAGMA table_info({name})").fetchall() == columns
        made.close()
    assert before <= since <= time.time()
    with pytest.raises(NotRemembered, match="the history begins at"):
        PastStore(store, before - 1).exists(ALICE)
    assert PastStore(store, int(time.time())).exists(ALICE)
    store.close()


def test_an_index_of_the_first_version_is_read_where_nothing_may_be_changed(tmp_path, filled):
    downgraded(filled)
    store = native_store(tmp_path, readonly=True)
    assert len(records_in(store)) == 3
    with pytest.raises(NotRemembered, match="with the next change"):
        PastStore(store, 1).exists(ALICE)
    store.close()
    assert not (filled / "index.sqlite.v1").exists()


def test_an_index_from_the_future_is_refused_clearly(tmp_path, filled):
    connection = sqlite3.connect(filled / "index.sqlite")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    store = native_store(tmp_path)
    with pytest.raises(StoreError, match="version 99 is newer"):
        records_in(store)
    with pytest.raises(StoreError, match="version 99 is newer"), store.write(ALICE):
        pass
    store.close()


# -- read-only and damaged


def test_a_store_opened_for_reading_only_writes_nothing(tmp_path, filled):
    store = native_store(tmp_path, readonly=True)
    assert len(bodies_in(store)) == 3
    assert list(store.owners()) == [ALICE]
    assert store.owner_of_uniqueid("id-" + INBOX) == ALICE
    with pytest.raises(StoreError, match="reading only"), store.write(ALICE):
        pass
    store.close()
    nothing = native_store(tmp_path / "nothing", readonly=True)
    assert list(nothing.owners()) == []
    nothing.close()
    assert not (tmp_path / "nothing").exists()


@pytest.mark.covers("Other errors", "StoreCorrupt")
def test_writing_to_a_damaged_store_is_a_clear_error(tmp_path, filled):
    (filled / "index.sqlite").write_bytes(b"x" * 8192)
    store = native_store(tmp_path)
    with pytest.raises(StoreCorrupt), store.write(ALICE):
        pass
    with pytest.raises(StoreCorrupt):
        records_in(store)
    apply(store, update_of("user.bob", []))
    store.close()


def test_a_pack_that_lost_bytes_is_not_written_to(tmp_path, filled):
    path = filled / "pack-000001.zst"
    path.write_bytes(path.read_bytes()[:-5])
    store = native_store(tmp_path)
    length = path.stat().st_size
    with store.write(ALICE) as writer:
        writer.append(INBOX, [(message(9), 1, "")])
    assert len(records_in(store)) == 4
    assert path.stat().st_size == length and (filled / "pack-000002.zst").exists()
    store.close()


def test_bytes_behind_the_end_of_a_pack_are_cut_off_by_the_next_writer(tmp_path, filled):
    path = filled / "pack-000001.zst"
    end = path.stat().st_size
    with path.open("ab") as pack:
        pack.write(b"torn" * 1000)
    store = native_store(tmp_path)
    assert list(verify(store, ALICE)) == []
    with store.write(ALICE) as writer:
        writer.append(INBOX, [(message(9), 1, "")])
    assert bodies_in(store)[-1] == message(9)
    assert path.stat().st_size < end + 200
    assert list(verify(store, ALICE)) == []
    store.close()


def test_odd_userids_have_their_own_directories(tmp_path):
    store = native_store(tmp_path)
    names = ["a", "A", "a b", "a%20b", "a@b.org", "x" * 400, "x" * 399 + "y", "..a" * 3, "é"]
    for name in names:
        with store.write(Owner("user", name)) as writer:
            writer.apply_sub("user.q", True)
    assert list(store.owners()) == sorted(Owner("user", name) for name in names)
    for path in (tmp_path / "default").rglob("index.sqlite"):
        assert path.parent.parent.parent == tmp_path / "default" / "users"
    store.close()


def test_messages_are_stored_once_an_owner(tmp_path, filled):
    store = native_store(tmp_path)
    size = (filled / "pack-000001.zst").stat().st_size
    apply(store, update_of(INBOX + ".x", [record_of(message(1), 1)]), Stage(message(1)))
    assert (filled / "pack-000001.zst").stat().st_size == size
    with store.read(ALICE) as reader:
        assert reader.has_guids([guid_of(message(1))]) == {guid_of(message(1))}
    store.close()
