"""The annotations of a mailbox by UID, in memory while there are few: what is more goes into a file without a
name, and sixteen octets a message are kept of it."""

from __future__ import annotations

import marshal
import tempfile
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby, pairwise
from operator import itemgetter
from typing import IO

from cyrus_sync.common.model import Annotation

FEW = 10_000
"""Annotations that are kept in memory, at most."""

_BUFFER = 1 << 20

Noted = Mapping[int, tuple[Annotation, ...]]


def by_uid(notes: Iterable[tuple[int, Annotation]], few: int = FEW) -> Noted:
    """`notes` by UID, those of one message sorted by (entry, userid). Raises OSError where there are more
    than a `few`, and no room for them."""
    found: dict[int, list[Annotation]] = {}
    source = iter(notes)
    for kept, (uid, note) in enumerate(source, 1):
        found.setdefault(uid, []).append(note)
        if kept >= few:
            return _ManyNotes(found, source)
    return {uid: _sorted(notes_of) for uid, notes_of in found.items()}


def _sorted(notes: Iterable[Annotation]) -> tuple[Annotation, ...]:
    return tuple(sorted(notes, key=lambda note: (note.entry, note.userid)))


class _ManyNotes(Mapping[int, tuple[Annotation, ...]]):
    """In a file. A message whose annotations did not come together has several places in it."""

    def __init__(
        self, begun: Mapping[int, list[Annotation]], further: Iterator[tuple[int, Annotation]]
    ) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="cyrus-sync-", buffering=_BUFFER)  # noqa: SIM115 (with the mapping)
        self._uids, self._offsets = array("Q"), array("Q")
        end = 0
        for uid, notes in _grouped(begun, further):
            self._uids.append(uid)
            self._offsets.append(end)
            end += self._file.write(marshal.dumps([tuple(note) for note in notes]))
        self._file.flush()
        if any(before > after for before, after in pairwise(self._uids)):
            order = sorted(range(len(self._uids)), key=self._uids.__getitem__)
            self._offsets = array("Q", map(self._offsets.__getitem__, order))
            self._uids = array("Q", sorted(self._uids))

    def __getitem__(self, uid: int) -> tuple[Annotation, ...]:
        first, behind = bisect_left(self._uids, uid), bisect_right(self._uids, uid)
        if first == behind:
            raise KeyError(uid)
        notes: list[Annotation] = []
        for place in range(first, behind):
            self._file.seek(self._offsets[place])
            written = marshal.load(self._file)  # noqa: S302 (nobody else can write into it)
            notes += (Annotation(*fields) for fields in written)
        return _sorted(notes)

    def __contains__(self, uid: object) -> bool:
        if not isinstance(uid, int):
            return False
        place = bisect_left(self._uids, uid)
        return place < len(self._uids) and self._uids[place] == uid

    def __iter__(self) -> Iterator[int]:
        return (uid for uid, _ in groupby(self._uids))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        return bool(self._uids)


def _grouped(
    begun: Mapping[int, list[Annotation]], further: Iterator[tuple[int, Annotation]]
) -> Iterator[tuple[int, list[Annotation]]]:
    yield from begun.items()
    for uid, group in groupby(further, key=itemgetter(0)):
        yield uid, [note for _, note in group]
