"""`verify` is silent on a sound store and names every kind of planted damage; `recount` repairs sums."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.model import Annotation
from cyrus_sync.common.stores.native.care.verify import rebuild_registry, recount, verify
from cyrus_sync.common.stores.native.store import NativeStore
from tests.common.stores.tools import (
    ALICE,
    INBOX,
    Stage,
    apply,
    bodies_in,
    guid_of,
    message,
    native_store,
    record_of,
    state_of,
    update_of,
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A sound store with one user, closed."""
    store = native_store(tmp_path)
    big = message(9, 600_000)
    records = [record_of(message(n), n) for n in range(1, 9)] + [record_of(big, 9)]
    records[0] = records[0]._replace(annotations=(Annotation("/comment", "", 1, b"note"),))
    apply(store, update_of(INBOX, records), Stage(*(message(n) for n in range(1, 9)), big))
    with store.write(ALICE) as writer:
        writer.set_quota(INBOX, {"STORAGE": 9})
        writer.annotate(INBOX, "/comment", "", b"of the mailbox")
        writer.delete(INBOX, delayed=False)
    apply(store, update_of(INBOX, records))
    assert list(verify(store, ALICE)) == []
    found = store.directory_of(ALICE)
    assert found is not None
    store.close()
    return found


def sql(statement: str) -> Callable[[Path], None]:
    def plant(directory: Path) -> None:
        connection = sqlite3.connect(directory / "index.sqlite")
        with connection:
            assert connection.execute(statement).rowcount > 0
        connection.close()

    return plant


def pack(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def plant(directory: Path) -> None:
        path = directory / "pack-000001.zst"
        path.write_bytes(change(path.read_bytes()))

    return plant


LIVE = "(SELECT id FROM mailboxes WHERE deleted_at = 0)"

DAMAGE = {
    "a flipped bit": (pack(lambda data: data[:20] + bytes([data[20] ^ 4]) + data[21:]), "message"),
    "a pack cut short": (pack(lambda data: data[:-1]), "pack"),
    "a pack that is gone": (lambda path: (path / "pack-000001.zst").unlink(), "pack"),
    "a message under another GUID": (
        sql("UPDATE messages SET guid = x'00000000000000000000000000000000000000aa' WHERE offset = 0"),
        "message",
    ),
    "a place outside": (sql("UPDATE messages SET offset = 100000000 WHERE offset = 0"), "pack"),
    "a wrong raw size": (sql("UPDATE messages SET size = size + 1 WHERE offset = 0"), "message"),
    "a message not indexed": (sql("DELETE FROM messages WHERE offset = 0"), "message"),
    "a changed flag": (sql(f"UPDATE records SET flags = 'x' WHERE uid = 2 AND mailbox IN {LIVE}"), "crc"),
    "a lost record": (sql(f"DELETE FROM records WHERE uid = 2 AND mailbox IN {LIVE}"), "usage"),
    "a changed annotation": (sql("UPDATE annotations SET value = x'00' WHERE uid = 1"), "crc"),
    "a wrong CRC": (sql("UPDATE mailboxes SET sync_crc = 5"), "crc"),
    "a wrong annotation CRC": (sql("UPDATE mailboxes SET sync_crc_annot = 5"), "crc"),
    "a wrong count": (sql("UPDATE mailboxes SET messages = 5"), "usage"),
    "wrong bytes": (sql("UPDATE mailboxes SET bytes = 5"), "usage"),
    "wrong annotation bytes": (sql("UPDATE mailboxes SET annotation_bytes = 5"), "usage"),
    "a LAST_UID too low": (sql("UPDATE mailboxes SET last_uid = 5"), "header"),
    "a HIGHESTMODSEQ too low": (sql("UPDATE mailboxes SET highestmodseq = 5"), "header"),
    "an owner's modseq too low": (sql("UPDATE owner SET highestmodseq = 5"), "header"),
    "a wrong sort key": (sql("UPDATE mailboxes SET sort = 'x'"), "header"),
    "a record of no size": (sql("UPDATE records SET size = 0 WHERE uid = 2"), "header"),
    "a wrong quota root": (sql("UPDATE mailboxes SET quotaroot = 'user.bob'"), "quota"),
    "orphan records": (sql(f"UPDATE records SET mailbox = 77 WHERE uid = 2 AND mailbox IN {LIVE}"), "orphan"),
    "orphan annotations": (sql("UPDATE annotations SET uid = 77 WHERE uid = 1"), "orphan"),
    "annotations of nothing": (sql("UPDATE annotations SET mailbox = 77 WHERE uid = 0"), "orphan"),
    "a row of the history": (sql("UPDATE history SET was = x'5b31' WHERE seq = 1"), "index"),
    "an entry of the history": (sql("UPDATE history SET was = '[[\"r\", 1]]' WHERE seq = 1"), "index"),
    "an index overwritten": (lambda path: _overwrite(path / "index.sqlite"), "index"),
    "an index that is none": (lambda path: (path / "index.sqlite").write_bytes(b"x" * 9000), "index"),
}  # fmt: skip


def _overwrite(path: Path) -> None:
    """Zeros over every page but the first."""
    data = path.read_bytes()
    path.write_bytes(data[:4096] + bytes(len(data) - 4096))


@pytest.mark.parametrize("name", DAMAGE)
def test_planted_damage_is_found(tmp_path, directory, name):
    plant, kind = DAMAGE[name]
    for left in ("index.sqlite-wal", "index.sqlite-shm"):
        assert not (directory / left).exists()
    plant(directory)
    store = native_store(tmp_path)
    problems = list(verify(store, ALICE))
    store.close()
    assert kind in {problem.kind for problem in problems}, problems
    assert all(str(problem).startswith(f"{problem.kind}: ") for problem in problems)


def test_a_mailbox_that_is_not_registered_is_found_and_registered(tmp_path, directory):
    (tmp_path / "conf" / "registry.sqlite").unlink()
    store = native_store(tmp_path)
    assert [problem.kind for problem in verify(store, ALICE)] == ["registry"]
    assert store.owner_of_uniqueid("id-" + INBOX) is None
    assert rebuild_registry(store) == (1, [], None)
    assert list(verify(store, ALICE)) == []
    assert store.owner_of_uniqueid("id-" + INBOX) == ALICE
    store.close()


def test_recount_makes_sums_right(tmp_path, directory):
    for statement in ("UPDATE mailboxes SET sync_crc = 5, bytes = 1", "UPDATE mailboxes SET quotaroot = 'x'"):
        sql(statement)(directory)
    store = native_store(tmp_path)
    with store.read(ALICE) as reader:
        removed = [
            row[0] for row in reader.connection.execute("SELECT id FROM mailboxes WHERE deleted_at > 0")
        ]
    assert recount(store, ALICE) == 1
    assert {
        problem.where for problem in verify(store, ALICE) if problem.kind in ("crc", "usage", "quota")
    } <= {INBOX}
    assert recount(store, ALICE) == 0
    assert removed
    store.close()


def test_reading_a_damaged_message_says_which(tmp_path, directory):
    pack(lambda data: data[:20] + bytes([data[20] ^ 4]) + data[21:])(directory)
    store = native_store(tmp_path)
    with pytest.raises(StoreCorrupt) as caught:
        bodies_in(store)
    assert caught.value.address == {"guid": guid_of(message(1)).hex(), "user": "alice"}
    store.close()


def test_a_damaged_message_is_stored_anew_when_it_comes_again(tmp_path, directory):
    pack(lambda data: data[:20] + bytes([data[20] ^ 4]) + data[21:])(directory)
    store = native_store(tmp_path)
    with store.read(ALICE) as reader:
        reader.note_damaged(guid_of(message(1)))
    again = record_of(message(1), 10)
    with store.read(ALICE) as reader:
        state = reader.mailbox(INBOX)
        records = [record for batch in reader.records("id-" + INBOX) for record in batch]
    assert state is not None
    apply(
        store,
        update_of(INBOX, [again], [*records, again], highestmodseq=99),
        Stage(message(1)),
    )
    assert bodies_in(store)[-1] == message(1)
    assert list(verify(store, ALICE)) == []
    store.close()


def test_verify_of_an_unknown_owner_is_silent(tmp_path):
    store: NativeStore = native_store(tmp_path)
    assert list(verify(store, ALICE)) == []
    assert state_of(INBOX, []).name == INBOX
    store.close()
