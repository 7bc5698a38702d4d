"""Settling: what has gathered in the journal goes into objects, and then out of the journal.

Of one owner: the base and the rows behind it give the index, which becomes a new base; the octets of packs
that stand in rows become objects. All of it is put, and read back. Then one statement makes the new base
count and deletes the rows. Whoever is killed before that leaves objects of which nobody knows; the next one
deletes them. Any number of settlers may be at work: the one whose statement is first wins, and the others'
objects go in the same way.

Which objects are nobody's is told by their keys alone, by no clock: a key has the number of the commit for
which it was made. Once that commit is settled, whatever is not in the base never will be.

What the base before needed is kept for a while (`KEEP`). A failover of PostgreSQL to a standby that was
behind may lose the statement that made the new base count; then the older one counts again, and the rows
behind it are there again too. How long that is, goes by the object store's own clock.
"""

from __future__ import annotations

import contextlib
import logging
import random
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import CyrusSyncError, ObjectsUnavailable, StoreCorrupt
from cyrus_sync.common.names import Owner
from cyrus_sync.fleet.base import About, encode_base, get_base, get_object
from cyrus_sync.fleet.cache import pack_lengths
from cyrus_sync.fleet.delta import Image
from cyrus_sync.fleet.finding import Head
from cyrus_sync.fleet.journal import Entry, Journal, Piece
from cyrus_sync.fleet.outgoing import MOST, new_key
from cyrus_sync.objects.store import ObjectStore

log = logging.getLogger(__name__)

ENOUGH = 4 * 1024 * 1024
"""Octets in the journal with which an owner is settled."""

MANY = 1000
"""So are so many rows: whoever opens the owner anew has to go through them."""

LONGEST = 24 * 3600
"""Seconds after the first commit that is not settled when an owner is settled, however little there is: also
one whose mail changes a little every day."""

KEEP = 3600.0
"""Seconds for which objects stay that are not needed any more."""

_SMALL = 1024 * 1024
"""An object of fewer octets is put together with what follows it in its pack."""


class Settled(NamedTuple):
    """What was done for one owner."""

    rows: int
    octets: int
    """Of packs, that were put into objects."""


class Settler:
    """At work on everybody who needs it."""

    def __init__(self, journal: Journal, objects: ObjectStore, *, keep: float = KEEP) -> None:
        self._journal = journal
        self._objects = objects
        self._keep = keep

    def due(self, *, everybody: bool = False) -> list[Owner]:
        """Of whom there is enough in the journal, or for long enough; `everybody`: of whom there is anything.
        In no order, so that two settlers seldom meet."""
        found = [
            standing.owner
            for standing in self._journal.standings()
            if everybody or standing.octets >= ENOUGH or standing.rows >= MANY or standing.age >= LONGEST
        ]
        random.shuffle(found)
        return found

    def run(self, owners: Sequence[Owner]) -> Iterator[tuple[Owner, Settled | CyrusSyncError | None]]:
        """Settle each of them; what became of it. What goes wrong with one stops no other."""
        for owner in owners:
            try:
                yield owner, self.settle(owner)
            except CyrusSyncError as error:
                log.warning("%s is not settled: %s", owner, reason(error))
                yield owner, error

    def settle(self, owner: Owner) -> Settled | None:
        """None where there is nothing to do, or somebody else has done it. `Away`, `StoreError`."""
        head = self._journal.head(owner)
        if head is None or head.seq == head.base_seq:
            return None
        with tempfile.TemporaryDirectory(prefix="cyrus-sync-settle.") as scratch:
            gathered = self._gather(owner, head, Path(scratch) / "image")
        if gathered is None:
            return None
        index, found = gathered
        lengths = found.lengths
        known = [piece for piece in found.pieces if lengths.get(piece.pack)]
        needed = {piece.key for piece in known}
        kept = self._still_kept(found.kept, found.old - needed)
        key = new_key(head.place, head.seq)
        self.put(key, encode_base(owner, head.seq, head.head, index, known, kept=kept))
        if not self._journal.settle(owner, head, key, head.seq):
            return None
        self._drop_needless(head, {key, *needed, *kept})
        return Settled(head.seq - head.base_seq, found.octets)

    def _still_kept(self, kept: Mapping[str, float], needless: Iterable[str]) -> dict[str, float]:
        """What stays although nothing needs it, and since when: what was kept before and is not old, and what
        is not needed from now on."""
        now = self._objects.now().timestamp()
        found = {key: since for key, since in kept.items() if since > now - self._keep}
        return found | (dict.fromkeys(needless, now) if self._keep > 0 else {})

    def _gather(self, owner: Owner, head: Head, path: Path) -> tuple[bytes, _Gathering] | None:
        """The index, and the pieces of packs, all of them in objects by now; None where a settler was
        faster."""
        image, at = Image(path), 0
        gathering = _Gathering(self, head)
        if head.base:
            about, index = get_base(self._objects, head.base)
            path.write_bytes(index)
            at = about.head
            gathering.begin(about)
        expected = head.base_seq + 1
        for entry in self._journal.since(head, head.base_seq):
            if entry.seq != expected or entry.prev != at:
                self._check_moved(owner, head)
                return None
            image.apply(entry.data)
            gathering.take(entry)
            expected, at = expected + 1, entry.head
        if expected != head.seq + 1 or at != head.head:
            self._check_moved(owner, head)
            return None
        gathering.flush()
        gathering.lengths = pack_lengths(path)
        return path.read_bytes(), gathering

    def _check_moved(self, owner: Owner, head: Head) -> None:
        """`StoreCorrupt` where the rows are not what they should be, and no settler was here meanwhile."""
        now = self._journal.head(owner)
        if now is not None and (now.id, now.base_seq) == (head.id, head.base_seq):
            raise StoreCorrupt("the journal has a gap").at(user=str(owner))

    def get(self, key: str) -> bytes:
        """An object. `ObjectMissing`, `Away`."""
        return get_object(self._objects, key)

    def put(self, key: str, data: bytes) -> None:
        """An object that is there when this returns: it was read back."""
        self._objects.put(key, data, check=True)

    def _drop_needless(self, head: Head, needed: set[str]) -> None:
        """Delete what no base and no row will ever name."""
        needless = [
            one.key
            for one in self._objects.listed(head.place)
            if one.key not in needed and _seq_of(one.key) <= head.seq
        ]
        if needless:
            self._objects.delete(needless)

    def empty_gone(self) -> int:
        """Delete the objects of owners who are no more; of how many."""
        count = 0
        for server, place in self._journal.gone(self._keep):
            with contextlib.suppress(ObjectsUnavailable):
                self._objects.delete([one.key for one in self._objects.listed(place)])
                server.tell("DELETE FROM gone WHERE place = %s", place)
                count += 1
        return count


class _Gathering:
    """The octets of packs out of rows, put together to objects."""

    def __init__(self, settler: Settler, head: Head) -> None:
        self._settler = settler
        self._head = head
        self.pieces: list[Piece] = []
        self.lengths: Mapping[int, int] = {}
        """Of the packs, as the index says in the end."""
        self.octets = 0
        """That were put."""
        self.old: set[str] = set()
        """Objects that were needed until now."""
        self.kept: Mapping[str, float] = {}
        self._run: list[bytes] = []
        self._pack = self._start = self._end = 0

    def begin(self, about: About) -> None:
        """With what the base before has."""
        self.pieces = list(about.pieces)
        self.old = {self._head.base, *(piece.key for piece in about.pieces)}
        self.kept = about.kept

    def take(self, entry: Entry) -> None:
        for piece in entry.pieces:
            if piece.key:
                self.old.add(piece.key)
                self.flush()
                self.pieces.append(piece)
                continue
            length = piece.end - piece.start
            follows = (piece.pack, piece.start) == (self._pack, self._end)
            if not follows or self._end - self._start + length > MOST:
                self.flush()
                self._begin(piece)
            self._run.append(entry.data[piece.offset : piece.offset + length])
            self._end = piece.end

    def _begin(self, piece: Piece) -> None:
        self._pack, self._start, self._end = piece.pack, piece.start, piece.start
        before = self.pieces[-1] if self.pieces else None
        if (
            before is not None
            and (before.pack, before.end) == (piece.pack, piece.start)
            and before.end - before.start < _SMALL
            and not before.offset
        ):
            self._run = [self._settler.get(before.key)]
            self._start = before.start
            self.pieces.pop()

    def flush(self) -> None:
        """Put what is gathered."""
        if not self._run:
            return
        data, self._run = b"".join(self._run), []
        if len(data) != self._end - self._start:
            raise StoreCorrupt("an object of a pack has another length than it should")
        key = new_key(self._head.place, self._head.seq)
        self._settler.put(key, data)
        self.pieces.append(Piece(self._pack, self._start, self._end, key))
        self.octets += len(data)


def _seq_of(key: str) -> int:
    """The number of the commit for which an object was made."""
    return int(key.rpartition("/")[2].partition("-")[0])
