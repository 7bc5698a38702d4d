"""The answers to FETCH and SEARCH, piece by piece out of the store. All of it blocks: it runs in threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from cyrus_sync.common.errors import MessageUnavailable, StoreCorrupt
from cyrus_sync.common.model import MessageBody, Record
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.lifeboat.fetch import Item, answer
from cyrus_sync.lifeboat.mime import Part, parse
from cyrus_sync.lifeboat.search import Candidate, Key, Program
from cyrus_sync.lifeboat.selected import Selected

T = TypeVar("T")

PIECE = 128 * 1024
"""Octets that are given at once, about."""

_AT_ONCE = 2 << 20
"""Octets of messages that are read together."""

_MOST_AT_ONCE = 200


class Fetch:
    """A FETCH. Iterate it for octets to send; afterwards `unread` has the UIDs of unreadable messages."""

    def __init__(
        self,
        reader: MailReader,
        selected: Selected,
        runs: Sequence[range],
        items: Sequence[Item],
        changed_since: int = 0,
    ) -> None:
        self._reader = reader
        self._selected = selected
        self._runs = runs
        self._items = items
        self._since = changed_since
        self.unread: list[int] = []

    def __iter__(self) -> Iterator[bytes]:
        waiting: list[bytes] = []
        size = 0
        for piece in self._pieces():
            waiting.append(piece)
            size += len(piece)
            if size >= PIECE:
                yield b"".join(waiting)
                waiting, size = [], 0
        if waiting:
            yield b"".join(waiting)

    def _pieces(self) -> Iterator[bytes]:
        wanted = (
            (index, record)
            for index, record in self._selected.records(self._reader, self._runs)
            if record.modseq > self._since
        )
        if not any(item.of_message for item in self._items):
            for index, record in wanted:
                yield answer(index + 1, record, self._items, self._selected.flags, None)
            return
        for batch in _batches(wanted, lambda one: one[1].size):
            yield from self._with_messages(batch)

    def _with_messages(self, batch: Sequence[tuple[int, Record]]) -> Iterator[bytes]:
        bodies = _bodies(self._reader, (record.guid for _, record in batch))
        for index, record in batch:
            body = bodies.get(record.guid)
            if body is None:
                self.unread.append(record.uid)
            elif isinstance(body.data, bytes):
                yield answer(index + 1, record, self._items, self._selected.flags, parse(body.data))
            else:
                yield from self._large(index, record, body.data)

    def _large(self, index: int, record: Record, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """A message that comes in pieces goes out so where the client wants it whole."""
        whole = [item for item in self._items if item.of_message]
        try:
            if len(whole) == 1 and whole[0].whole:
                others = [item for item in self._items if not item.of_message]
                head = answer(index + 1, record, others, self._selected.flags, None).removesuffix(b")\r\n")
                blank = b" " if others else b""
                yield head + blank + whole[0].label + b" {%d}\r\n" % record.size
                yield from pieces
                yield b")\r\n"
            else:
                part = parse(b"".join(pieces))
                yield answer(index + 1, record, self._items, self._selected.flags, part)
        except (StoreCorrupt, MessageUnavailable):
            self.unread.append(record.uid)
            raise


def _batches(wanted: Iterable[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    """As many as are read together."""
    batch: list[T] = []
    size = 0
    for one in wanted:
        if batch and (size + size_of(one) > _AT_ONCE or len(batch) == _MOST_AT_ONCE):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += size_of(one)
    if batch:
        yield batch


def _bodies(reader: MailReader, guids: Iterable[bytes]) -> dict[bytes, MessageBody]:
    """The messages with these GUIDs, without those that cannot be read."""
    source = reader.bodies(list(dict.fromkeys(guids)), unreadable=lambda guid, error: None)
    return {body.guid: body for batch in source for body in batch}


class Found(NamedTuple):
    """What a SEARCH has found: indexes, and the highest modseq among them."""

    indexes: list[int]
    modseq: int


def search(reader: MailReader, selected: Selected, program: Program) -> Found:
    """Look at every message of the mailbox; those that cannot be read have no content."""
    found = _by_index(reader, selected, program)
    if program.content is not None:
        found = _by_content(reader, found, program.content)
    indexes, highest = [], 0
    for candidate in found:
        indexes.append(candidate.index)
        highest = max(highest, candidate.record.modseq)
    return Found(indexes, highest)


def _by_index(reader: MailReader, selected: Selected, program: Program) -> Iterator[Candidate]:
    everything = [range(len(selected.uids))] if selected.uids else []
    for index, record in selected.records(reader, everything):
        candidate = Candidate(index, record, frozenset(selected.flags(record).decode().split()))
        if program.index.test(candidate):
            yield candidate


def _by_content(reader: MailReader, candidates: Iterable[Candidate], key: Key) -> Iterator[Candidate]:
    for batch in _batches(candidates, lambda candidate: candidate.record.size):
        bodies = _bodies(reader, (candidate.record.guid for candidate in batch))
        for candidate in batch:
            candidate.part = _parsed(bodies.get(candidate.record.guid))
            if key.test(candidate):
                yield candidate
            candidate.part = None


def _parsed(body: MessageBody | None) -> Part | None:
    if body is None:
        return None
    try:
        return parse(body.data if isinstance(body.data, bytes) else b"".join(body.data))
    except (StoreCorrupt, MessageUnavailable):
        return None
