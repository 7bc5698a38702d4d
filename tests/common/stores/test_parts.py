"""The small parts of the native store, each by itself."""

from __future__ import annotations

import doctest
import errno
import fcntl
import sqlite3
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import (
    MailboxLocked,
    PartitionUnknown,
    ProtocolError,
    StoreCorrupt,
    StoreError,
    UnknownFailure,
)
from cyrus_sync.common.model import MAX_MODSEQ
from cyrus_sync.common.names import SERVER, Owner
from cyrus_sync.common.newnames import new_uniqueid
from cyrus_sync.common.stores import frames, open_store
from cyrus_sync.common.stores.native import flags, layout
from cyrus_sync.common.stores.native.layout import MAX_COMPONENT, Layout, decode_name, encode_name
from cyrus_sync.common.stores.native.locks import FileLock, Gone
from cyrus_sync.common.stores.native.packs import PackFiles, PackReader, PackWriter, Place
from cyrus_sync.common.stores.native.registry import Registry
from cyrus_sync.common.stores.native.rows import storable, to_signed, to_unsigned
from cyrus_sync.common.stores.native.verbs.apply import crcs_differ, same_kind
from cyrus_sync.common.stores.native.verbs.folders import acl_with
from cyrus_sync.common.stores.trouble import store_trouble
from cyrus_sync.common.synclog.log import SyncLog

ALICE = Owner("user", "alice")


@pytest.mark.parametrize("module", [frames, flags, layout], ids=lambda module: module.__name__)
def test_examples_in_the_documentation_are_true(module):
    assert doctest.testmod(module).failed == 0


# -- names and places


@given(st.text(min_size=1, max_size=300))
def test_a_directory_name_is_safe_and_gives_the_name_back(name):
    made = encode_name(name)
    assert "/" not in made and "\0" not in made
    assert not made.startswith(".")
    assert len(made) <= MAX_COMPONENT + 70
    assert decode_name(made) in (name, None)
    assert (decode_name(made) is None) == (len(made) > MAX_COMPONENT or "%h" in made)


def test_different_names_have_different_directories(tmp_path):
    names = [
        "a",
        "A",
        "a.",
        ".a",
        "%2Ea",
        "a%",
        "a%25",
        "ä",
        "x" * 300,
        "x" * 299 + "y",
        "%" * 200,
        "%" * 201,
    ]
    assert len({encode_name(name) for name in names}) == len(names)


def test_a_partition_must_be_configured(tmp_path):
    places = Layout({"default": tmp_path}, "default", tmp_path / "conf")
    assert places.check_partition("") == "default"
    with pytest.raises(PartitionUnknown):
        places.check_partition("../x")
    assert places.find(ALICE) is None
    assert places.directory(SERVER, "") == tmp_path / "conf" / "server"


@pytest.mark.covers("imapd.conf", "partition-<name>")
def test_open_store_follows_the_configuration(tmp_path: Path):
    path = tmp_path / "imapd.conf"
    path.write_text(
        f"configdirectory: {tmp_path}/conf\npartition-main: {tmp_path}/main\ndefaultpartition: main\n"
        "sync_log: yes\nservername: here.example\n"
    )
    store = open_store(Config.load(path))
    assert not (tmp_path / "conf").exists()
    with store.write(ALICE) as writer:
        assert writer.create("user.alice").partition == "main"
        writer.put_script("a", b"keep;")
        assert (
            b"@here.example>"
            in writer.body(
                next(iter(writer.new_guids(writer.mailbox("user.alice.#sieve").uniqueid, 0)))[0][1]
            ).data
        )
    store.close()
    claimed = SyncLog(tmp_path / "conf" / "sync" / "log").claim()
    assert claimed is not None
    assert claimed.read().splitlines()[0] == b"MAILBOX user.alice"
    claimed.finish()
    quiet = open_store(Config.load(path), log=False)
    with quiet.write(ALICE) as writer:
        writer.subscribe("user.alice")
    quiet.close()
    assert SyncLog(tmp_path / "conf" / "sync" / "log").claim() is None


# -- locks


def test_a_lock_excludes_and_gives_up_in_time(tmp_path):
    path = tmp_path / "lock"
    with FileLock(path, 0):
        with pytest.raises(MailboxLocked):
            FileLock(path, 0.02)
        got = []
        waiter = threading.Thread(target=lambda: got.append(FileLock(path, 10)))
        waiter.start()
    waiter.join()
    got[0].release()


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    first = FileLock(path, 0)
    flock = fcntl.flock

    def remove_while_waiting(descriptor: int, operation: int) -> None:
        try:
            flock(descriptor, operation)
        except BlockingIOError:
            path.unlink()
            first.release()
            raise

    monkeypatch.setattr(fcntl, "flock", remove_while_waiting)
    with pytest.raises(Gone):
        FileLock(path, 10)
    FileLock(path, 0).release()


# -- packs


def test_a_pack_takes_back_what_was_appended_since_a_mark(tmp_path):
    writer = PackWriter(tmp_path, {})
    places = [writer.append(b"one"), writer.append(b"two")]
    mark = writer.mark()
    writer.append(b"x" * 2_000_000)
    writer.next_pack()
    writer.append(b"y" * 2_000_000)
    assert (tmp_path / "pack-000002.zst").exists()
    writer.rewind(mark)
    assert not (tmp_path / "pack-000002.zst").exists()
    places.append(writer.append(b"three"))
    start = writer.mark()
    writer.append(b"unwritten")
    writer.rewind(start)
    assert writer.sync() == {1: 11}
    writer.close()
    reader = PackReader(PackFiles(tmp_path))
    assert reader.read_all(places) == [b"one", b"two", b"three"]
    assert reader.read_all(places[::-1]) == [b"three", b"two", b"one"]
    assert list(reader.pieces(Place(1, 0, 11), 4)) == [b"onet", b"woth", b"ree"]
    with pytest.raises(StoreCorrupt):
        reader.read(Place(1, 5, 50))
    reader.close()


def test_a_full_pack_is_followed_by_another(tmp_path, monkeypatch):
    monkeypatch.setattr("cyrus_sync.common.stores.native.packs.PACK_TARGET", 10)
    writer = PackWriter(tmp_path, {})
    places = [writer.append(b"123456") for _ in range(4)]
    assert [place.pack for place in places] == [1, 1, 2, 2]
    assert writer.sync() == {1: 12, 2: 12}
    writer.close()
    again = PackWriter(tmp_path, {1: 12, 2: 12})
    assert again.append(b"x").pack == 3
    again.close()


# -- frames


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=60))
def test_frames_give_their_messages_back(messages):
    made = frames.compress_all(messages)
    assert frames.contents(made, [len(message) for message in messages]) == messages
    for frame, message in zip(made, messages, strict=True):
        assert frames.whole_frame(frame, len(message)) == frames.make_frame(message)


def test_many_messages_compress_as_each_alone_would():
    messages = [b"Subject: %d\r\n\r\n%s" % (n, b"text " * n) for n in range(200)]
    assert [
        frames.frame_content(f, len(m)) for f, m in zip(frames.compress_all(messages), messages, strict=True)
    ] == messages


@given(st.binary(max_size=300), st.integers(0, 400))
def test_junk_is_no_frame(junk, size):
    assert frames.whole_frame(junk, size) is None or size == 0
    with pytest.raises(StoreCorrupt):
        frames.frame_content(junk, size + 1)


def test_a_frame_cut_short_is_noticed_when_it_is_streamed():
    frame = frames.make_frame(b"x" * 1000).frame
    with pytest.raises(StoreCorrupt):
        list(frames.content_pieces([frame[:-3]]))
    assert b"".join(frames.content_pieces([frame[:5], frame[5:]])) == b"x" * 1000


# -- flags, numbers, ACLs


def test_flags_keep_order_and_spelling():
    assert flags.flags_text(["b", "\\SEEN", "a", "B", "\\answered", "\\Recent"]) == "\\Answered \\Seen b a"
    assert flags.changed_flags("\\Seen a b", ["c"], ["A", "\\seen"]) == "b c"
    for bad in ("", "a b", "a(", "\\Expunged", "\\Other", "ü", "a%", 'a"'):
        with pytest.raises(UnknownFailure):
            flags.flags_text([bad])


def test_keywords_fill_slots_in_order():
    assert flags.with_keywords(["Old"], flags.keywords_of(["\\Seen b a", "a old c"])) == (
        "Old",
        "b",
        "a",
        "c",
    )


@given(st.integers(0, 2**64 - 1))
def test_64_bits_fit_into_signed_numbers(value):
    assert -(2**63) <= to_signed(value) <= MAX_MODSEQ
    assert to_unsigned(to_signed(value)) == value


def test_more_than_64_bits_are_out_of_range():
    with pytest.raises(ProtocolError):
        to_signed(2**64)


def test_only_unicode_is_storable():
    assert storable("user.é") and not storable("user.\udcff")


def test_acl_entries_are_set_and_removed():
    acl = acl_with("", "a", "lrs")
    acl = acl_with(acl, "b", "l")
    assert acl == "a\tlrs\tb\tl\t"
    assert acl_with(acl, "a", "") == "b\tl\t"
    assert acl_with(acl, "c", "") == acl


def test_uniqueids_differ():
    made = {new_uniqueid() for _ in range(100)}
    assert len(made) == 100
    assert all(len(one) == 24 and one.isalnum() and one == one.lower() for one in made)


@pytest.mark.parametrize(
    "one, other, same", [("", "e", True), ("f", "f", True), ("", "f", False), ("el", "l", True)]
)
def test_mailbox_types_compare_by_letters(one, other, same):
    assert same_kind(one, other) is same


@pytest.mark.parametrize(
    "one, other, differ",
    [((0, 5), (7, 5), False), ((1, 5), (7, 5), True), ((1, 0), (1, 9), False), ((1, 2), (1, 3), True)],
)
def test_a_crc_of_zero_agrees_with_everything(one, other, differ):
    assert crcs_differ(one, other) is differ


# -- errors and the registry


@pytest.mark.covers("Other errors", "StoreError")
@pytest.mark.parametrize(
    "raised, kind, words",
    [
        (OSError(errno.ENOSPC, "No space left on device", "f"), StoreError, "no room left"),
        (OSError(errno.EFBIG, "File too large"), StoreError, "no room left"),
        (sqlite3.OperationalError("database or disk is full"), StoreError, "no room left"),
        (sqlite3.OperationalError("database is locked"), MailboxLocked, "Mailbox locked"),
        (sqlite3.DatabaseError("database disk image is malformed"), StoreCorrupt, "damaged"),
        (sqlite3.DatabaseError("file is not a database"), StoreCorrupt, "damaged"),
        (OverflowError("too large"), ProtocolError, "range"),
    ],
)
def test_trouble_is_told_in_our_words(raised, kind, words):
    found = store_trouble(raised, ALICE)
    assert type(found) is kind
    assert words in str(found)
    assert found.address["user"] == "alice"


def test_the_registry_knows_every_possible_holder(tmp_path):
    registry = Registry(tmp_path / "r.sqlite", lambda: ())
    bob = Owner("user", "bob")
    assert registry.holders("id") == []
    registry.note([("id", ALICE)], ALICE)
    registry.note([("id", bob)], bob)
    assert registry.holders("id") == [ALICE, bob]
    registry.note([("id", None)], ALICE)
    assert registry.holders("id") == [bob]
    registry.replace(bob, [])
    registry.replace(ALICE, ["other"])
    assert registry.entries() == [("other", ALICE)]
    registry.close()
    readonly = Registry(tmp_path / "r.sqlite", lambda: (), readonly=True)
    assert readonly.holders("other") == [ALICE]
    readonly.close()
