"""How far packs are read: in proved blocks, few requests, and a cache that is bounded and never believed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.errors import ObjectMissing, ObjectsUnavailable, StoreCorrupt
from cyrus_sync.common.stores.native.farpack import BLOCK, FarPack, Summing, read_far, write_far
from cyrus_sync.objects.directory import DirectoryObjects
from cyrus_sync.objects.sealed import SealedObjects
from cyrus_sync.objects.store import ObjectStore
from cyrus_sync.tiering.cache import BlockCache
from cyrus_sync.tiering.names import MARKER
from cyrus_sync.tiering.reading import BlockReader
from tests.tiering.far_store import objects_at

OCTETS = os.urandom(40 * BLOCK + 17)
KEY = "tier/users/52/alice/pack-000001-00.zst"


class Watched(DirectoryObjects):
    """An object store that tells what it was asked for, and may be away."""

    def __init__(self, path: Path) -> None:
        super().__init__(objects_at(path)._directory)
        self.asked: list[tuple[int, int]] = []
        self.away = False

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        self.asked.append((offset // BLOCK, -(-length // BLOCK)))
        if self.away:
            raise ObjectsUnavailable(f"{key}: no answer")
        return super().get_range(key, offset, length)


@pytest.fixture
def objects(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def put(objects: ObjectStore) -> FarPack:
    pieces = Summing([OCTETS[:1000], OCTETS[1000:]])
    done = objects.put(KEY, pieces)
    objects.put(MARKER, b"here")
    return FarPack(KEY, done.size, done.sha256, "1.2", 1_700_000_000, pieces.sums)


@pytest.fixture
def far(objects: Watched) -> FarPack:
    return put(objects)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def reader(objects: ObjectStore, cache: Path, most: int = 64 * BLOCK, clock=lambda: 0.0) -> BlockReader:
    return BlockReader(objects, BlockCache(cache, most), clock=clock)


def kept(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file() and path.name != "lock"]


def test_any_range_is_what_was_put(objects, far, cache):
    one = reader(objects, cache)
    for offset, length in (
        (0, 1),
        (BLOCK - 1, 2),
        (0, len(OCTETS)),
        (len(OCTETS) - 5, 99),
        (len(OCTETS), 1),
        (3 * BLOCK, 5 * BLOCK),
    ):
        assert one.read(far, offset, length) == OCTETS[offset : offset + length], (offset, length)


def test_a_message_that_is_looked_at_is_one_request_and_the_next_look_none(objects, far, cache):
    assert reader(objects, cache).read(far, 5 * BLOCK + 7, 100) == OCTETS[5 * BLOCK + 7 :][:100]
    assert objects.asked == [(5, 1)]
    objects.away = True
    another_process = reader(objects, cache)
    assert another_process.read(far, 5 * BLOCK + 9, 50) == OCTETS[5 * BLOCK + 9 :][:50]


def test_who_reads_on_takes_few_requests(objects, far, cache):
    one = reader(objects, cache)
    data = b"".join(one.read(far, at, 5000) for at in range(0, len(OCTETS), 5000))
    assert data == OCTETS
    assert len(objects.asked) < 9 and sum(blocks for _, blocks in objects.asked) == far.blocks


def test_who_copies_all_leaves_the_cache_to_others(objects, far, cache):
    assert reader(objects, cache).read(far, 0, len(OCTETS)) == OCTETS
    assert objects.asked == [(0, 41)] and kept(cache) == []


@pytest.mark.covers("imapd.conf", "s3_tier_cache")
def test_the_cache_keeps_within_its_size_and_what_is_used(objects, far, cache):
    most = 20 * BLOCK
    one = BlockCache(cache, most)
    for number in range(41):
        one.put(KEY, number, OCTETS[:BLOCK])
        for path in kept(cache):
            age = 100 if path != one._path(KEY, 3) else 0
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
        assert sum(path.stat().st_size for path in kept(cache)) <= most
    assert one.get(KEY, 3) is not None and len(kept(cache)) == 20


def test_a_cache_of_no_size_keeps_nothing(objects, far, cache):
    one = reader(objects, cache, most=0)
    assert one.read(far, 7, 9) == OCTETS[7:16] and kept(cache) == []


def test_another_size_begins_the_cache_anew(objects, far, cache):
    BlockCache(cache, 30 * BLOCK).put(KEY, 1, b"old")
    new = BlockCache(cache, 40 * BLOCK)
    new.put(KEY, 2, b"new")
    assert len(kept(cache)) == 1 and new.get(KEY, 2) == b"new"


@pytest.mark.parametrize("damage", [b"", b"\0" * BLOCK, b"cut"])
@pytest.mark.covers("Old mail in an object store: what is lost when", "5")
def test_damage_in_the_cache_is_noticed_and_fetched_anew(objects, far, cache, damage):
    reader(objects, cache).read(far, 0, 10)
    (path,) = kept(cache)
    path.write_bytes(damage)
    assert reader(objects, cache).read(far, 0, 10) == OCTETS[:10]
    assert objects.asked == [(0, 1), (0, 1)]
    objects.away = True
    assert reader(objects, cache).read(far, 0, 10) == OCTETS[:10]


def test_a_cache_that_cannot_be_written_costs_only_itself(objects, far, cache):
    cache.write_text("no directory")
    assert reader(objects, cache).read(far, 0, 10) == OCTETS[:10]


def test_many_threads_and_caches_on_one_directory_read_the_same(objects, far, cache):
    wrong: list[int] = []

    def work(seed: int) -> None:
        one = reader(objects, cache, most=17 * BLOCK)
        for step in range(60):
            at = (seed * 7919 + step * 104729) % len(OCTETS)
            if one.read(far, at, 3000) != OCTETS[at : at + 3000]:
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sum(path.stat().st_size for path in kept(cache)) <= 17 * BLOCK


# -- what goes wrong there


def damaged(objects: Watched, at: int) -> None:
    path = objects._directory / KEY
    with path.open("r+b") as file:
        file.seek(at)
        file.write(bytes(100))


@pytest.mark.parametrize("sealed", [False, True])
def test_damage_in_an_object_costs_the_blocks_that_it_is_in(tmp_path, cache, sealed):
    inner = Watched(tmp_path)
    objects: ObjectStore = SealedObjects(inner, bytes(32)) if sealed else inner
    far = put(objects)
    damaged(inner, 9 * BLOCK + 5000)
    one = reader(objects, cache)
    assert (
        b"".join(one.read(far, at, 5000) for at in range(0, 8 * BLOCK, 5000))[: 8 * BLOCK]
        == OCTETS[: 8 * BLOCK]
    )
    with pytest.raises(StoreCorrupt, match="damaged"):
        one.read(far, 9 * BLOCK, 10)
    assert one.read(far, 11 * BLOCK, 10) == OCTETS[11 * BLOCK :][:10]


def test_a_store_that_does_not_answer_is_asked_once_in_a_while(objects, far, cache):
    now = [0.0]
    one = reader(objects, cache, clock=lambda: now[0])
    objects.away = True
    for _ in range(100):
        with pytest.raises(ObjectsUnavailable, match="no answer"):
            one.read(far, 0, 10)
    assert len(objects.asked) == 1
    with pytest.raises(ObjectsUnavailable, match="tier/other: no answer"):
        one.read(far._replace(key="tier/other"), 0, 10)
    objects.away = False
    now[0] += 6
    assert one.read(far, 0, 10) == OCTETS[:10]


def test_an_object_that_is_missing_is_told_from_a_store_that_is(objects, far, cache, tmp_path):
    lost = far._replace(key=f"{KEY}-other")
    with pytest.raises(ObjectMissing):
        reader(objects, cache).read(lost, 0, 1)
    objects.delete([MARKER])
    with pytest.raises(ObjectsUnavailable, match="is it mounted"):
        reader(objects, cache).read(lost, 0, 1)


@pytest.fixture
def word(far: FarPack, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "pack-000001.far"
    write_far(path, far)
    yield path


def test_the_word_of_a_pack_says_all_of_it(word, far):
    assert read_far(word) == far


@pytest.mark.parametrize(
    ("old", "new"),
    [("sums", "some"), ('"octets": 5', '"octets": 9'), ("{", ""), ('"format": 1', '"format": 2')],
)
def test_a_word_that_is_damaged_is_not_believed(word, old, new):
    text = word.read_text()
    assert old in text
    word.write_text(text.replace(old, new, 1))
    with pytest.raises(StoreCorrupt):
        read_far(word)
