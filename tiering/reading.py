"""`BlockReader`: far packs, read in blocks that are proved, out of memory, the cache, or the object store.

Blocks that lie together are fetched by one request. Who reads on where he stopped gets more than he asked
for, twice as much each time: a first synchronisation takes few requests, a message that is looked at takes
one. Who has read on for long enough is expected to go on: what comes next is fetched while he is at what he
has (`ahead`), never more than he has read by then. Whoever copies a whole pack displaces nothing.

An object store that does not answer is left alone for a moment: a thousand messages are refused at once, and
not after a thousand times the patience of a request.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from cyrus_sync.common.errors import ObjectDamaged, ObjectMissing, ObjectsUnavailable, StoreCorrupt
from cyrus_sync.common.farfigures import AWAY, CACHE, DAMAGED, FAR, HIT, MISS, MISSING
from cyrus_sync.common.stores.native.farpack import FarPack, block_sum
from cyrus_sync.objects.store import ObjectStore
from cyrus_sync.tiering.ahead import Ahead
from cyrus_sync.tiering.cache import BlockCache
from cyrus_sync.tiering.names import MARKER, nothing_there

_IN_MEMORY = 64
"""Blocks."""

_COPY = 16
"""Who reads so many blocks at once makes a copy."""

_FURTHEST = 16
"""Blocks that are fetched at once at most, unless more are asked for."""

_LINE = 4
"""Times `_FURTHEST` that are fetched in advance for one reader: at 50 ms a request, 160 MB/s."""

_STREAMS = 256
_PAUSE = 5.0
"""Seconds for which a store that has not answered is not asked again."""


class _Stream(NamedTuple):
    """Somebody who reads an object: the block at which he would go on, how many were fetched for him at last,
    and how many he has read on end."""

    next: int = 0
    fetched: int = 0
    read: int = 0

    def reading(self, first: int, end: int) -> _Stream:
        """What he is when he comes to these blocks: one who goes on, or another one."""
        return self if first <= self.next <= end else _Stream(first)

    def on(self, end: int) -> _Stream:
        """He has read up to this block."""
        return self._replace(next=end, read=self.read + max(end - self.next, 0))


class _Silence(NamedTuple):
    """An object store has not answered: until when it is not asked again, and what was said of which key."""

    until: float
    of: str
    said: str


class BlockReader:
    """`native.farpack.FarReader`."""

    def __init__(
        self, objects: ObjectStore, cache: BlockCache, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._objects = objects
        self._cache = cache
        self._clock = clock
        self._lock = threading.Lock()
        self._memory: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._ahead = Ahead(self._proved)
        self._silent: _Silence | None = None

    def close(self) -> None:
        self._ahead.close()
        self._objects.close()

    def read(self, far: FarPack, offset: int, length: int) -> bytes:
        length = min(length, far.octets - offset)
        if length <= 0:
            return b""
        first, last = offset // far.block, (offset + length - 1) // far.block
        if last - first >= _COPY:
            blocks = self._fetch(far, first, last + 1)
        else:
            blocks = self._blocks(far, first, last + 1)
        data = blocks[0] if len(blocks) == 1 else b"".join(blocks)
        start = offset - first * far.block
        return data[start : start + length]

    def _blocks(self, far: FarPack, first: int, end: int) -> list[bytes]:
        found = {number: data for number in range(first, end) if (data := self._here(far, number))}
        FAR.had(HIT, len(found))
        with self._lock:
            known = self._streams.get(far.key, _Stream())
        stream = known.reading(first, end)
        if stream is not known:
            self._ahead.leave(far)
        number = first
        while number < end:
            if number in found:
                number += 1
                continue
            behind = next((one for one in range(number, end) if one in found), end)
            blocks = self._fetch_ahead(far, number, behind, stream)
            for one, data in enumerate(blocks, number):
                found[one] = data
                self._keep(far, one, data)
            stream = stream.on(min(number + len(blocks), end))._replace(fetched=len(blocks))
        with self._lock:
            self._streams[far.key] = stream.on(end)
            self._streams.move_to_end(far.key)
            if len(self._streams) > _STREAMS:
                self._streams.popitem(last=False)
        return [found[number] for number in range(first, end)]

    # -- here

    def _here(self, far: FarPack, number: int) -> bytes | None:
        """A block that this machine has, and that is what it should be."""
        with self._lock:
            data = self._memory.get((far.key, number))
            if data is not None:
                self._memory.move_to_end((far.key, number))
                return data
        data = self._cache.get(far.key, number)
        if data is None:
            return None
        if block_sum(data) != far.sum_of(number):
            FAR.failed(CACHE)
            self._cache.drop(far.key, number)
            return None
        self._remember(far, number, data)
        return data

    def _remember(self, far: FarPack, number: int, data: bytes) -> None:
        with self._lock:
            self._memory[far.key, number] = data
            if len(self._memory) > _IN_MEMORY:
                self._memory.popitem(last=False)

    def _keep(self, far: FarPack, number: int, data: bytes) -> None:
        self._remember(far, number, data)
        self._cache.put(far.key, number, data)

    # -- far

    def _fetch_ahead(self, far: FarPack, first: int, end: int, stream: _Stream) -> list[bytes]:
        """Blocks that are not here, and some of those behind them where somebody reads on."""
        wanted = end - first
        if stream.fetched and first >= stream.next:
            most = max(min(_FURTHEST, self._cache.most_blocks // 4), 1)
            wanted = max(wanted, min(stream.fetched * 2, most))
            window = self._ahead.take(far, first)
            behind = window.end if window is not None else first + wanted
            self._ahead.go_on(far, behind, most, min(stream.read // most, _LINE))
            if window is not None and (blocks := window.await_from(first)):
                return blocks
        further = min(first + wanted, far.blocks)
        try:
            return self._fetch(far, first, further)
        except (ObjectDamaged, StoreCorrupt):
            if further == end:
                raise
        return self._fetch(far, first, end)  # What is damaged was perhaps not asked for.

    def _fetch(self, far: FarPack, first: int, end: int) -> list[bytes]:
        """Blocks from the object store, proved. What came wrong is asked for once more."""
        try:
            return self._proved(far, first, end)
        except (ObjectDamaged, StoreCorrupt):
            try:
                return self._proved(far, first, end)
            except (ObjectDamaged, StoreCorrupt) as error:
                FAR.failed(DAMAGED)
                raise StoreCorrupt(f"an object is damaged: {error}") from error

    def _proved(self, far: FarPack, first: int, end: int) -> list[bytes]:
        start = first * far.block
        data = self._ask(far, start, min(end * far.block, far.octets) - start)
        blocks = []
        for number in range(first, end):
            at = (number - first) * far.block
            block = data[at : at + far.length_of(number)]
            if block_sum(block) != far.sum_of(number):
                raise StoreCorrupt(
                    f"{self._objects.place}: {far.key}: octets from {number * far.block} to"
                    f" {number * far.block + far.length_of(number)} are not those that were put"
                )
            blocks.append(block)
        FAR.had(MISS, len(blocks), len(data))
        return blocks

    def _ask(self, far: FarPack, offset: int, length: int) -> bytes:
        """`ObjectMissing` only of a store that has others of ours."""
        silent = self._silent
        if silent is not None and self._clock() < silent.until:
            raise ObjectsUnavailable(silent.said.replace(silent.of, far.key))
        try:
            try:
                data = self._objects.get_range(far.key, offset, length)
            except ObjectMissing:
                if _is_ours(self._objects):
                    FAR.failed(MISSING)
                    raise
                raise nothing_there(self._objects) from None
        except ObjectsUnavailable as error:
            FAR.failed(AWAY)
            self._silent = _Silence(self._clock() + _PAUSE, far.key, error.message)
            raise
        self._silent = None
        return data


def _is_ours(objects: ObjectStore) -> bool:
    """Whether anything was ever put there by `mailstore tier`."""
    try:
        objects.size(MARKER)
    except ObjectMissing:
        return False
    return True
