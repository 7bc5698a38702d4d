"""Who reads on finds the next blocks on their way: a few, thrown away when he jumps, no trouble of his."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from cyrus_sync.common.errors import ObjectsUnavailable, StoreCorrupt
from cyrus_sync.common.stores.native.farpack import BLOCK, FarPack, Summing
from cyrus_sync.objects.directory import DirectoryObjects
from cyrus_sync.tiering.ahead import MOST, Ahead
from cyrus_sync.tiering.cache import BlockCache
from cyrus_sync.tiering.names import MARKER
from cyrus_sync.tiering.reading import BlockReader
from tests.deadlines import until
from tests.tiering.far_store import objects_at

BLOCKS = 144
OCTETS = os.urandom(1024) * (BLOCKS * BLOCK // 1024)
KEY = "tier/users/52/alice/pack-000001-00.zst"


class Distant(DirectoryObjects):
    """An object store at the end of a long line."""

    def __init__(self, path: Path) -> None:
        super().__init__(objects_at(path)._directory)
        self.latency = 0.02
        self.away = False
        self.together: set[int] = set()
        """Blocks whose requests are answered when all of them have been made."""
        self.asked: list[tuple[int, int]] = []
        self.under_way = self.most = 0
        self._lock = threading.Lock()

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        with self._lock:
            self.asked.append((offset // BLOCK, -(-length // BLOCK)))
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            time.sleep(self.latency)
            if offset // BLOCK in self.together:
                until(lambda: self.together <= {first for first, _ in self.asked}, "all are under way")
            if self.away:
                raise ObjectsUnavailable(f"{key}: no answer")
            return super().get_range(key, offset, length)
        finally:
            with self._lock:
                self.under_way -= 1

    @property
    def blocks(self) -> int:
        return sum(count for _, count in self.asked)


@pytest.fixture
def objects(tmp_path: Path) -> Distant:
    return Distant(tmp_path)


@pytest.fixture
def far(objects: Distant) -> FarPack:
    pieces = Summing([OCTETS])
    done = objects.put(KEY, pieces)
    objects.put(MARKER, b"here")
    return FarPack(KEY, done.size, done.sha256, "1.2", 1_700_000_000, pieces.sums)


@pytest.fixture
def reader(objects: Distant, tmp_path: Path) -> Iterator[BlockReader]:
    """One who asks a store again that was away a moment ago."""
    ticks = count(step=10)
    cache = BlockCache(tmp_path / "cache", 64 * BLOCK)
    with closing(BlockReader(objects, cache, clock=lambda: float(next(ticks)))) as one:
        yield one


def read_on(reader: BlockReader, far: FarPack, first: int, end: int) -> bytes:
    """Block for block, as who goes through all messages of a user."""
    return b"".join(reader.read(far, number * BLOCK, BLOCK) for number in range(first, end))


def octets(first: int, end: int) -> bytes:
    return OCTETS[first * BLOCK : end * BLOCK]


def is_left(reader: BlockReader) -> bool:
    """Whether nothing is under way, nor kept for anybody."""
    return reader._ahead._room == MOST


def test_who_reads_all_waits_for_few_of_the_requests_and_asks_nothing_twice(objects, far, reader):
    objects.latency = 0.0
    objects.together = {79, 95, 111, 127}
    assert read_on(reader, far, 0, BLOCKS) == OCTETS
    assert objects.blocks == BLOCKS and objects.most <= 5


def test_who_goes_through_messages_of_any_size_reads_them_as_they_are(objects, far, reader):
    objects.latency = 0.0
    at, step = 0, 1
    while at < len(OCTETS):
        assert reader.read(far, at, step * 7919) == OCTETS[at : at + step * 7919]
        at, step = at + step * 7919, step % 200 + 13
    assert objects.blocks == BLOCKS


@pytest.mark.parametrize("end", [1, 3, 8, 20, 40, 70])
def test_no_more_is_fetched_in_advance_than_was_read(objects, far, reader, end):
    objects.latency = 0.0
    read_on(reader, far, 0, end)
    until(lambda: not objects.under_way, "nothing is under way")
    assert objects.blocks <= 2 * end


def test_what_is_on_its_way_is_thrown_away_when_he_jumps(objects, far, reader):
    assert read_on(reader, far, 0, 80) == octets(0, 80)
    assert not is_left(reader)
    assert reader.read(far, 5, 10) == OCTETS[5:15]
    until(lambda: is_left(reader), "nothing is kept")
    assert read_on(reader, far, 100, BLOCKS) == octets(100, BLOCKS)


def test_an_object_that_is_damaged_further_on_costs_the_blocks_that_it_is_in(objects, far, reader):
    with (objects._directory / KEY).open("r+b") as file:
        file.seek(70 * BLOCK)
        file.write(bytes(100))
    assert read_on(reader, far, 0, 70) == octets(0, 70)
    with pytest.raises(StoreCorrupt, match="damaged"):
        reader.read(far, 70 * BLOCK, 10)
    assert read_on(reader, far, 71, BLOCKS) == octets(71, BLOCKS)


def test_a_store_that_goes_away_in_between_is_away_for_what_comes_then(objects, far, reader):
    assert read_on(reader, far, 0, 64) == octets(0, 64)
    objects.away = True
    with pytest.raises(ObjectsUnavailable, match="no answer"):
        read_on(reader, far, 64, BLOCKS)
    objects.away = False
    assert read_on(reader, far, 64, BLOCKS) == octets(64, BLOCKS)


def test_where_no_thread_can_be_had_each_window_is_waited_for(objects, far, reader, monkeypatch):
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    objects.latency = 0.0
    assert read_on(reader, far, 0, BLOCKS) == OCTETS and objects.most == 1
    assert is_left(reader)


def test_many_who_read_at_once_have_a_few_windows_between_them(far):
    begun, go = list[str](), threading.Event()

    def fetch(far: FarPack, first: int, end: int) -> list[bytes]:
        begun.append(far.key)
        go.wait()
        return [b""] * (end - first)

    ahead = Ahead(fetch)
    readers = [far._replace(key=f"tier/{number}") for number in range(5)]
    for one in readers:
        ahead.go_on(one, 0, 16, 4)
    until(lambda: len(begun) == MOST, "they have begun")
    for one in readers:
        ahead.leave(one)
        ahead.go_on(one, 0, 16, 4)
    assert len(begun) == MOST, "who has jumped has to wait for what is under way"
    go.set()
    until(lambda: ahead._room == MOST, "it is thrown away")


@pytest.mark.parametrize("closed", [False, True])
def test_a_window_that_fails_in_whatever_way_gives_its_room_back(far, caplog, closed):
    """As where the objects are closed under it: then nobody is told."""
    go = threading.Event()

    def fetch(far: FarPack, first: int, end: int) -> list[bytes]:
        go.wait()
        raise ValueError("I/O operation on closed file")

    ahead = Ahead(fetch)
    ahead.go_on(far, 0, 2, 1)
    window = ahead.take(far, 0)
    if closed:
        ahead.close()
    go.set()
    assert window is not None and window.await_from(0) is None
    until(lambda: ahead._room == MOST, "there is room")
    assert ("closed file" in caplog.text) != closed


def test_what_nobody_comes_for_is_let_go(far):
    ahead = Ahead(lambda far, first, end: [b"x"] * (end - first), stale=0.02)
    ahead.go_on(far, 0, 2, 2)
    until(lambda: ahead._room == MOST, "it is let go")
    assert ahead.take(far, 0) is None
