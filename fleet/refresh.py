"""Bringing a node's copy of an owner up to date: from the base, or from where the copy is, along the journal.

The rows of the journal form a chain: each names the head on which it was made. Where the chain does not go
through the copy's head, PostgreSQL has another history than this node has seen: a failover has lost commits.
"""

from __future__ import annotations

import logging
import time

from cyrus_sync.common.errors import ObjectMissing, StoreCorrupt
from cyrus_sync.common.files import private
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import StaleOwner
from cyrus_sync.fleet.base import decode_base, get_object
from cyrus_sync.fleet.cache import CachedOwner, Gate, Phase, State, new_state
from cyrus_sync.fleet.finding import Head
from cyrus_sync.fleet.journal import Journal
from cyrus_sync.fleet.tallies import Tallies
from cyrus_sync.objects.store import ObjectStore

log = logging.getLogger(__name__)

_LOOKS = 5
_PAUSE = 0.02


class _Moved(Exception):
    """A settler was faster: what was asked for is elsewhere now."""


class _OtherHistory(Exception):
    """The copy is of commits that PostgreSQL does not have."""


class Refresh:
    """Of one owner, once. The caller has the owner's lock on this node."""

    def __init__(
        self, owner: Owner, cached: CachedOwner, journal: Journal, objects: ObjectStore, tallies: Tallies
    ) -> None:
        self._tallies = tallies
        self._octets = 0
        self._owner = owner
        self._cached = cached
        self._journal = journal
        self._objects = objects

    def run(self, patience: float, head: Head | None) -> tuple[State, Head] | None:
        """What is here then; None for an owner that is not stored. `head`: what PostgreSQL said a moment ago.
        `Away`, `StoreCorrupt`; `MailboxLocked` after `patience` seconds."""
        state = self._cached.state(patience)
        for look in range(_LOOKS):
            if head is not None and state is not None and state.is_of(head):
                if not look:
                    self._tallies.count("copies current")
                return state, head
            head = self._journal.head(self._owner)
            with self._cached.gate(closed=True, timeout=patience) as gate:
                state = gate.state
                if head is None:
                    self._cached.wipe()
                    gate.clear()
                    return None
                try:
                    if state is None or not state.is_of(head):
                        state = self._renew(gate, state, head, last=look == _LOOKS - 1)
                except _Moved:
                    time.sleep(_PAUSE)
        if head is not None and state is not None and state.is_of(head):
            return state, head
        raise StaleOwner()

    def _renew(self, gate: Gate, state: State | None, head: Head, *, last: bool) -> State:
        known = (
            state if state is not None and state.phase is not Phase.WRITING and state.id == head.id else None
        )
        if known is not None and known.seq < head.base_seq:
            known = None
        try:
            try:
                self._go(gate, known, head)
            except (_OtherHistory, StoreCorrupt) as error:
                if known is None:
                    raise
                self._tell(error, known, head)
                known = None
                self._go(gate, None, head)
        except _OtherHistory as error:
            self._tallies.count("failures lost")
            raise StoreCorrupt("the journal and the base do not go together") from error
        except (ObjectMissing, _Moved) as error:
            if not last:
                raise _Moved from error
            self._tallies.count("failures lost")
            what = f"the object store has lost {head.base}" if head.base else "the journal has a gap"
            raise StoreCorrupt(f"{what}; nothing of the owner can be read without it") from error
        made = new_state(head, self._cached.new_generation())
        if known is None or known.phase is not Phase.CLEAN:
            self._cached.trim(made.generation)
        gate.state = made
        self._tallies.count("copies journal" if known is not None else "copies base", self._octets)
        return made

    def _tell(self, error: Exception, known: State, head: Head) -> None:
        self._tallies.count("failures history" if isinstance(error, _OtherHistory) else "failures copy")
        if isinstance(error, _OtherHistory):
            log.error(
                "%s: PostgreSQL does not have commit %d any more, which this node has seen, and is at %d:"
                " commits were lost, as by a failover to a standby that was behind",
                self._owner, known.seq, head.seq,
            )  # fmt: skip
        else:
            log.warning("%s: the copy on this node is made anew: %s", self._owner, error)

    def _go(self, gate: Gate, known: State | None, head: Head) -> None:
        """Make the image what `head` says."""
        cached = self._cached
        writing = new_state(head, "")._replace(phase=Phase.WRITING)
        if known is None:
            gate.state = writing
            cached.wipe()
            seq, at = self._base(head)
        else:
            seq, at = known.seq, known.head
            if seq > head.seq:
                raise _OtherHistory
        for entry in self._journal.since(head, seq):
            if entry.seq != seq + 1:
                raise _Moved
            if entry.prev != at:
                raise _OtherHistory
            gate.state = writing
            cached.image.apply(entry.data)
            cached.take_in(entry.pieces, entry.data)
            self._octets += len(entry.data)
            seq, at = entry.seq, entry.head
        if seq != head.seq:
            raise _Moved
        if at != head.head:
            raise _OtherHistory

    def _base(self, head: Head) -> tuple[int, int]:
        """Begin with the base, if there is one: the commit that it is of, and its head."""
        if not head.base:
            return 0, 0
        data = get_object(self._objects, head.base)
        self._octets += len(data)
        about, index = decode_base(data)
        with open(self._cached.image.path, "wb", opener=private) as file:
            file.write(index)
        return about.seq, about.head
