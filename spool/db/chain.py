"""What twoskip and twom have in common: skip lists in a file that is only ever appended to.

The header tells the end of what is committed. Every record has pointers to records behind it in the order
of keys; on the lowest level there are two of them, and the larger that is below that end is right, so what a
writer is about just now cannot be seen. A reader needs no lock: it is right if the header is the same
afterwards. Where it is not, or a record cannot be read (its checksum is being rewritten, maybe), it looks
again; after several times it locks as Cyrus's own readers do, for one piece of at most `PIECE` entries.

Keys must rise with every step, on every level. So no damage makes a reader go round in circles.
"""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from cyrus_sync.spool.db.database import Order, raw_order
from cyrus_sync.spool.db.mapped import Data, MappedFile
from cyrus_sync.spool.trouble import SpoolDamaged

FIRST_PIECE, PIECE = 8, 500
"""Entries that are read in one go, at first and at most."""

PIECE_OCTETS = 1 << 20
"""Octets of them after which a piece ends."""

_LANDMARK_LEVEL = 3
_MOST_LANDMARKS = 20_000

ATTEMPTS = 4
"""Looks without a lock."""

T = TypeVar("T")


class Flaw(Exception):
    """Something is not as the format says: damage, or a writer at work."""

    def __init__(self, what: str, offset: int) -> None:
        super().__init__(what)
        self.what = what
        self.offset = offset


class FileHeader(NamedTuple):
    """`image`: its octets; while they are the same, nothing was committed. `end`: of what is committed."""

    image: bytes
    end: int
    version: int


class Node(NamedTuple):
    """A record: its key, where its value stands, where its pointers stand and how many levels it has."""

    offset: int
    key: bytes
    value: int
    length: int
    pointers: int
    levels: int
    live: bool = True
    """False for one that stands for a key that was deleted."""


class Format(Protocol):
    """How to read one kind of such a file. Every method raises `Flaw`."""

    name: str

    def header(self, data: Data) -> FileHeader: ...

    def first(self, data: Data, end: int) -> Node:
        """The record before all others, with an empty key and every level."""

    def node(self, data: Data, offset: int, end: int) -> Node:
        """The record at `offset`, where a pointer of a higher level leads."""

    def higher(self, data: Data, node: Node, level: int) -> int:
        """Its pointer on `level` (1 …), 0 for none."""

    def following(self, data: Data, node: Node, end: int) -> Node | None:
        """The record behind `node` on the lowest level."""

    def value(self, data: Data, node: Node) -> bytes:
        """Its value, checked against its checksum."""

    def locked(self, file: MappedFile) -> AbstractContextManager[Data]:
        """The lock that a reader of Cyrus takes."""


class _Overtaken(Exception):
    """Something was committed while we looked."""


Landmarks = dict[int, Node]
"""Records of the higher levels by offset, which look-ups come by again and again. Of a record only pointers
ever change."""


class _Chain(NamedTuple):
    """What is committed in `data` up to `end`."""

    form: Format
    order: Order
    data: Data
    end: int
    landmarks: Landmarks

    def get(self, key: bytes) -> bytes | None:
        found = self.form.following(self.data, self._before(key), self.end)
        if found is None or found.key != key or not found.live:
            return None
        return self.form.value(self.data, found)

    def items(self, prefix: bytes, last: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        """Those whose keys begin with `prefix`, behind the key `last` if it is given."""
        form, order, data, end = self.form, self.order, self.data, self.end
        node: Node | None = self._before(prefix if last is None else last)
        assert node is not None
        at, first = order(node.key), order(prefix)
        while (node := form.following(data, node, end)) is not None:
            before, at = at, order(node.key)
            if at <= before:
                raise Flaw("keys out of order", node.offset)
            if not node.key.startswith(prefix):
                if at > first:
                    return
            elif node.live and node.key != last:
                yield node.key, form.value(data, node)

    def _before(self, key: bytes) -> Node:
        """The last record whose key is before `key`."""
        form, order, data, end, landmarks = self
        wanted = order(key)
        node = form.first(data, end)
        at = order(node.key)
        beyond = 0
        for level in range(node.levels - 1, 0, -1):
            while level < node.levels:
                offset = form.higher(data, node, level)
                if not offset or offset >= end or offset == beyond:
                    break
                ahead = landmarks.get(offset)
                if ahead is None:
                    ahead = form.node(data, offset, end)
                    if level >= _LANDMARK_LEVEL and len(landmarks) < _MOST_LANDMARKS:
                        landmarks[offset] = ahead
                there = order(ahead.key)
                if there >= wanted:
                    beyond = offset
                    break
                if there <= at:
                    raise Flaw("keys out of order", offset)
                node, at = ahead, there
            else:
                raise Flaw(f"a pointer of level {level} leads to a record without it", node.offset)
        while (following := form.following(data, node, end)) is not None:
            there = order(following.key)
            if there >= wanted:
                break
            if there <= at:
                raise Flaw("keys out of order", following.offset)
            node, at = following, there
        return node


class ChainDatabase:
    """A `Database` in such a file."""

    def __init__(self, path: Path, form: Format, order: Order = raw_order) -> None:
        self.path = path
        self.kind = form.name
        self._form = form
        self._order = order
        self._file = MappedFile(path)
        self._landmarks: tuple[object, Landmarks] = (None, {})

    def is_current(self) -> bool:
        return self._file.is_current()

    def close(self) -> None:
        self._file.close()

    def get(self, key: bytes) -> bytes | None:
        return self._undisturbed(lambda chain: chain.get(key))

    def items(self, prefix: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        last: bytes | None = None
        size = FIRST_PIECE
        while piece := self._undisturbed(partial(_piece, prefix=prefix, last=last, size=size)):
            yield from piece
            last = piece[-1][0]
            size = min(PIECE, 8 * size)

    def _undisturbed(self, look: Callable[[_Chain], T]) -> T:
        """What `look` finds in one committed state."""
        for attempt in range(ATTEMPTS):
            try:
                return self._once(self._file.look(), look)
            except (Flaw, _Overtaken):
                time.sleep(0.001 * attempt)
        with self._form.locked(self._file) as data:
            try:
                return self._once(data, look)
            except Flaw as flaw:
                raise damaged(self.path, self._form, data, flaw) from flaw
            except _Overtaken:
                what = "it changes under a lock that its writers respect"
                raise SpoolDamaged(self.path, 0, what, self.kind) from None

    def _known(self, data: Data) -> Landmarks:
        """Those of this mapping of the file."""
        mapping, known = self._landmarks
        if mapping is not data:
            known = {}
            self._landmarks = (data, known)
        return known

    def _once(self, data: Data, look: Callable[[_Chain], T]) -> T:
        with _no_short_records():
            chain, image = _chain(data, self._form, self._order, self._known(data))
            found = look(chain)
        if data[: len(image)] != image:
            raise _Overtaken
        return found


def _chain(data: Data, form: Format, order: Order, landmarks: Landmarks) -> tuple[_Chain, bytes]:
    """And the header's octets."""
    header = form.header(data)
    if header.end > len(data):
        raise Flaw(f"{header.end} octets are committed, and there are {len(data)}", 0)
    return _Chain(form, order, data, header.end, landmarks), header.image


def _piece(chain: _Chain, prefix: bytes, last: bytes | None, size: int) -> list[tuple[bytes, bytes]]:
    """The next few entries; none at the end."""
    found: list[tuple[bytes, bytes]] = []
    octets = 0
    for key, value in chain.items(prefix, last):
        found.append((key, value))
        octets += len(key) + len(value)
        if len(found) >= size or octets >= PIECE_OCTETS:
            break
    return found


@contextlib.contextmanager
def _no_short_records() -> Iterator[None]:
    try:
        yield
    except struct.error as error:
        raise Flaw(f"a record ends too early ({error})", 0) from error


def items_of(data: Data, path: Path, form: Format) -> Iterator[tuple[bytes, bytes]]:
    """What is in a whole file, which nobody changes."""
    try:
        with _no_short_records():
            yield from _chain(data, form, raw_order, {})[0].items(b"", None)
    except Flaw as flaw:
        raise damaged(path, form, data, flaw) from flaw


def damaged(path: Path, form: Format, data: Data, flaw: Flaw) -> SpoolDamaged:
    """The error that names file, offset and version."""
    try:
        version = f"{form.name} {form.header(data).version}"
    except Flaw:
        version = form.name
    return SpoolDamaged(path, flaw.offset, flaw.what, version)
