"""What every object store does: a real S3 server, a directory, and both with what is sealed in them."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import ObjectDamaged, ObjectMissing, ObjectsUnavailable
from cyrus_sync.objects import s3
from cyrus_sync.objects.opening import open_objects
from cyrus_sync.objects.s3 import S3Objects
from cyrus_sync.objects.sealed import SealedObjects
from cyrus_sync.objects.store import PIECE, ObjectStore, Put, check_key, in_pieces, pieces_of
from tests.objects.seaweed import Seaweed, bucket

LARGE = os.urandom(1024 * 1024) * 18 + b"the end"


@pytest.fixture(params=["directory", "s3", "sealed-directory", "sealed-s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    kind = request.param
    lines = [f"configdirectory: {tmp_path}"]
    if kind.endswith("s3"):
        server: Seaweed = request.getfixturevalue("s3_server")
        lines.append(server.lines(f"{request.node.name.partition('[')[0]}/{kind}"))
    if kind.startswith("sealed"):
        (tmp_path / "key").write_text(os.urandom(32).hex())
        (tmp_path / "key").chmod(0o600)
        lines.append(f"s3_encrypt: {tmp_path}/key")
    (tmp_path / "imapd.conf").write_text("\n".join(lines) + "\n")
    config = Config.load(tmp_path / "imapd.conf", "mailstore")
    store = open_objects(config, "s3:" if kind.endswith("s3") else f"file:{tmp_path}/objects")
    yield store
    store.close()


def _in_three(data: bytes) -> Iterator[bytes]:
    third = len(data) // 3
    yield from (data[:third], data[third : 2 * third], data[2 * third :])


@pytest.mark.covers("imapd.conf", "s3_endpoint", "s3_encrypt")
@pytest.mark.parametrize("data", [b"", b"x", b"y" * 65536, b"z" * (65536 * 3 + 1)])
def test_what_is_put_comes_back_whole_and_by_range(objects: ObjectStore, data: bytes) -> None:
    put = objects.put("users/ab/alice@example.org/a%40=b,+", data, check=True)
    key = "users/ab/alice@example.org/a%40=b,+"
    assert put == Put(len(data), hashlib.sha256(data).hexdigest())
    assert objects.get(key) == data
    assert objects.size(key) == len(data)
    for offset, length in [(0, 1), (0, len(data)), (1, 70000), (len(data) - 1, 10), (len(data), 5), (3, 0)]:
        if offset >= 0:
            assert objects.get_range(key, offset, length) == data[offset : offset + length]


def test_a_large_object_passes_in_pieces(objects: ObjectStore) -> None:
    put = objects.put("large", _in_three(LARGE), check=True)
    assert put == Put(len(LARGE), hashlib.sha256(LARGE).hexdigest())
    pieces = list(objects.pieces("large"))
    assert max(map(len, pieces)) <= PIECE
    assert b"".join(pieces) == LARGE
    assert objects.get_range("large", PIECE - 5, 10) == LARGE[PIECE - 5 : PIECE + 5]


@pytest.mark.parametrize("sizes", [(PIECE,), (5,), (PIECE, PIECE, 7), (3, PIECE, 2 * PIECE + 1), (0, 9, 0)])
def test_pieces_have_one_size_whatever_they_come_in(sizes: tuple[int, ...]) -> None:
    given = [os.urandom(1) * size for size in sizes]
    found = list(in_pieces(given))
    assert b"".join(found) == b"".join(given)
    assert all(len(piece) == PIECE for piece in found[:-1]) and all(found)
    if len(given[0]) == PIECE:
        assert found[0] is given[0], "it is not copied"


def test_an_object_that_breaks_off_on_its_way_is_asked_for_once_more(
    s3_server: Seaweed, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = S3Objects(bucket(s3_server.endpoint, "broken"), patience=1)
    objects.put("large", LARGE)
    get, broken = objects._obstore.get, []

    class Broken:
        def __init__(self, stream: Iterator[bytes]) -> None:
            self._stream = stream

        def stream(self, min_chunk_size: int) -> Iterator[bytes]:
            yield next(self._stream)
            broken.append(True)
            raise OSError("the line is dead")

    def breaking(*words: object, **more: object) -> Broken:
        return Broken(iter(get(*words, **more).stream(min_chunk_size=100_000)))

    monkeypatch.setattr(objects._obstore, "get", breaking)
    assert objects.get("large") == LARGE and len(broken) == 3
    with s3_server.stopped(), pytest.raises(ObjectsUnavailable):
        monkeypatch.setattr(s3, "_QUICK_SECONDS", 1)
        monkeypatch.setattr(s3, "_PATIENT_SECONDS", 1)
        S3Objects(bucket(s3_server.endpoint, "broken"), patience=1).get("large")


def test_a_put_replaces_and_a_delete_removes(objects: ObjectStore) -> None:
    objects.put("folder/one", b"older and longer")
    objects.get_range("folder/one", 0, 3)
    objects.put("folder/one", b"newer")
    assert objects.get_range("folder/one", 1, 3) == b"ewe"
    objects.delete(["folder/one", "folder/never"])
    with pytest.raises(ObjectMissing, match="folder/one"):
        objects.get("folder/one")


@pytest.mark.covers("Other errors", "ObjectMissing")
def test_what_is_not_there_is_missing_with_its_address(objects: ObjectStore) -> None:
    objects.put("there", b"")
    for ask in (
        objects.get,
        objects.size,
        lambda key: objects.get_range(key, 0, 1),
        lambda key: [*objects.pieces(key)],
    ):
        with pytest.raises(ObjectMissing) as caught:
            ask("a/b")
        assert objects.place in str(caught.value)
        assert "a/b" in str(caught.value)


def test_folders_are_listed_with_all_that_is_below_them(objects: ObjectStore) -> None:
    before = objects.now()
    for key in ("a/1", "a/b/2", "a/b/3", "ab/4", "c/5"):
        objects.put(key, key.encode())
    assert sorted(one.key for one in objects.listed("a")) == ["a/1", "a/b/2", "a/b/3"]
    found = {one.key: one for one in objects.listed()}
    assert set(found) >= {"a/1", "a/b/2", "a/b/3", "ab/4", "c/5"}
    assert found["a/b/2"].size == 5
    assert (found["a/b/2"].modified - before).total_seconds() > -2
    assert objects.folders() == ["a", "ab", "c"]
    assert objects.folders("a") == ["a/b"]
    assert list(objects.listed("never")) == [] == objects.folders("never")


def test_content_that_fails_leaves_what_was_there(objects: ObjectStore) -> None:
    objects.put("kept", b"as it was")

    def breaks() -> Iterator[bytes]:
        yield LARGE
        raise EOFError("the pack ends early")

    with pytest.raises(EOFError):
        objects.put("kept", breaks())
    for error in (FileNotFoundError(2, "a pack that is gone"), OSError(5, "a disk that is broken")):

        def fails(error: OSError = error) -> Iterator[bytes]:
            yield LARGE
            raise error

        with pytest.raises(OSError, match=r"pack|disk") as caught:
            objects.put("kept", fails())
        assert caught.value is error, "it is not the store's"
    assert objects.get("kept") == b"as it was"
    assert [one.key for one in objects.listed() if one.key not in ("clock", "here")] == ["kept"]


def test_many_threads_use_one_store(objects: ObjectStore) -> None:
    gate = threading.Barrier(8)

    def work(number: int) -> bool:
        gate.wait()
        data = f"thread {number}".encode() * 1000
        for turn in range(3):
            objects.put(f"threads/{number}/{turn}", data, check=True)
        return all(objects.get_range(f"threads/{number}/{turn}", 0, 8) == data[:8] for turn in range(3))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    objects.delete([one.key for one in objects.listed("threads")])
    assert list(objects.listed("threads")) == []


@pytest.mark.covers("Other errors", "ObjectDamaged")
def test_a_store_that_forgets_what_it_took_is_found_out(tmp_path: Path) -> None:
    from cyrus_sync.objects.directory import DirectoryObjects

    class Forgetful(DirectoryObjects):
        def pieces(self, key: str) -> Iterator[bytes]:
            yield self.get(key)[:-1]

    for store in (Forgetful(tmp_path), SealedObjects(Forgetful(tmp_path), bytes(32))):
        with pytest.raises(ObjectDamaged, match="key"):
            store.put("key", b"what was put", check=True)


# -- where nobody answers


@pytest.mark.covers("Other errors", "ObjectsUnavailable")
def test_a_server_that_is_not_there_is_named_with_bucket_and_key(tmp_path: Path) -> None:
    lines = f"configdirectory: {tmp_path}\ns3_endpoint: http://127.0.0.1:1\ns3_bucket: mail\n"
    (tmp_path / "imapd.conf").write_text(f"{lines}s3_access_key: a\ns3_secret_key: b\n")
    objects = open_objects(Config.load(tmp_path / "imapd.conf"), patience=0.2)
    for call in (
        lambda: objects.get("users/alice"),
        lambda: objects.put("users/alice", b"x"),
        lambda: objects.size("users/alice"),
        lambda: list(objects.listed("users/alice")),
        lambda: objects.folders("users/alice"),
        lambda: objects.delete(["users/alice"]),
    ):
        with pytest.raises(ObjectsUnavailable) as caught:
            call()
        assert str(caught.value) == "s3://mail at http://127.0.0.1:1: users/alice: Connection refused"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("s3_secret_key: a", "s3_secret_key: another"), "SignatureDoesNotMatch"),
        (("s3_access_key: w", "s3_access_key: not-w"), "InvalidAccessKeyId"),
        (("s3_bucket: mail", "s3_bucket: elsewhere"), "NoSuchBucket"),
    ],
)
def test_a_server_that_does_not_let_us_in_has_lost_nothing(
    s3_server: Seaweed, tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    lines = s3_server.lines("refused").replace(*change)
    (tmp_path / "imapd.conf").write_text(f"configdirectory: {tmp_path}\n{lines}")
    objects = open_objects(Config.load(tmp_path / "imapd.conf"))
    for call in (
        lambda: objects.get("one"),
        lambda: objects.get_range("one", 5, 5),
        lambda: objects.size("one"),
        lambda: list(objects.listed()),
    ):
        with pytest.raises(ObjectsUnavailable, match=said):
            call()


def test_a_directory_that_is_not_mounted_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "imapd.conf").write_text(f"configdirectory: {tmp_path}\n")
    objects = open_objects(Config.load(tmp_path / "imapd.conf"), f"file:{tmp_path}/away")
    with pytest.raises(ObjectsUnavailable, match="no such directory"):
        list(objects.listed())
    with pytest.raises(ObjectsUnavailable, match="no such directory"):
        objects.get("users/alice")


@pytest.mark.parametrize("key", ["", "/a", "a/", "a//b", "../a", "a/./b", "a\nb", "a" * 256])
def test_a_key_that_is_none_goes_nowhere(key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        check_key(key)


def test_a_part_of_a_file_is_read_to_its_end_or_not_taken(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    assert b"".join(pieces_of(tmp_path / "file", 2, 5)) == b"23456"
    assert b"".join(pieces_of(tmp_path / "file")) == b"0123456789"
    with pytest.raises(EOFError, match="ends 2 octets before"):
        list(pieces_of(tmp_path / "file", 5, 7))
