"""What becomes of our changes when the master has spoken of a mailbox that was changed here, too. Pure.

`ours` are the records that differ here from the *base*, the master's state on which ours was built. A change
of ours is *answered* when the master had seen it before it spoke. In the table, M is the master's record of
the same UID in its new word; "–" means that the word says nothing of that UID.

=======================  ======================================================================
answered, changed here   M counts; "–": the master left it alone, and so do we
answered, new here       M counts; "–": the master has it under another UID, and ours goes
unanswered, changed      "–": ours stays. M: expunge wins; else both, flag by flag (`three_way`)
unanswered, new here     the master has got it by another way (same message, same dates): its
                         record, with our later flags; else ours stays, under a new UID where the
                         master's word has taken that UID or has gone past it
=======================  ======================================================================

What stays gets modseqs above all of the master's. Changes that are in the log already come first, so that the
log is not told of them again. Where a UID would mean another message than it did to people here, UIDVALIDITY
rises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cyrus_sync.common.identity import Identity, identities, identity, is_same, merged, same_content
from cyrus_sync.common.model import Record
from cyrus_sync.multisite.oplog.masters import Base
from cyrus_sync.multisite.replay.three_way import records

Before = Callable[[int], Record | None]


@dataclass(slots=True)
class RebasePlan:
    """UIDs to forget, records to keep, and up to which modseq and UID those kept are in the log."""

    drop: set[int] = field(default_factory=set)
    keep: list[Record] = field(default_factory=list)
    told_modseq: int = 0
    told_uid: int = 0
    reused: bool = False
    """Whether a UID means another message now than it did to people here."""


def plan_rebase(
    theirs: Mapping[int, Record],
    ours: Iterable[Record],
    base: Base,
    *,
    answered_modseq: int,
    their_last_uid: int,
    highestmodseq: int,
    last_uid: int,
    before: Before = lambda _uid: None,
) -> RebasePlan:
    """What to do with `ours`. `before` gives the master's record of a UID on which ours is built.

    `theirs` is the master's new word by UID, and `their_last_uid` its LAST_UID. Ours is answered up to
    `answered_modseq`. No modseq and no UID of either side is above `highestmodseq` and `last_uid`."""
    word = _Word(theirs, their_last_uid, before)
    return _Rebase(word, base, answered_modseq, highestmodseq, last_uid).plan(ours)


@dataclass(frozen=True, slots=True)
class _Word:
    """What the master says: records by UID, and its LAST_UID; and what it had said before of a UID."""

    records: Mapping[int, Record]
    last_uid: int
    before: Before


class _Rebase:
    def __init__(
        self, word: _Word, base: Base, answered_modseq: int, highestmodseq: int, last_uid: int
    ) -> None:
        self._theirs = word.records
        self._before = word.before
        self._their_last_uid = word.last_uid
        self._base = base
        self._answered = answered_modseq
        self._modseq = highestmodseq
        self._last_uid = last_uid
        self._by_identity: dict[Identity, list[Record]] = {}
        for record in word.records.values():
            if record.uid > base.last_uid:
                for key in dict.fromkeys(identities(record)):
                    self._by_identity.setdefault(key, []).append(record)
        self._taken: set[int] = set()
        """UIDs of the master's records that stand for one of ours: a message may be there twice."""
        self._alive: set[Identity] = set()
        self._plan = RebasePlan(told_modseq=highestmodseq)

    def plan(self, ours: Iterable[Record]) -> RebasePlan:
        told, ours = self._base.told_modseq, list(ours)
        self._alive = {identity(record) for record in ours if not record.expunged}
        self._taken = {record.uid for record in ours if self._is_theirs(record)}
        for record in sorted(ours, key=lambda one: (one.modseq > told, one.modseq, one.uid)):
            kept = self._kept(record)
            if kept is None:
                continue
            self._modseq += 1
            kept = kept._replace(modseq=self._modseq)
            self._plan.keep.append(kept)
            if record.modseq <= told:
                self._plan.told_modseq = kept.modseq
                self._plan.told_uid = max(self._plan.told_uid, kept.uid)
        self._plan.keep.sort(key=lambda one: one.uid)
        return self._plan

    def _kept(self, ours: Record) -> Record | None:
        """What stays of one of our records, without its new modseq; None if nothing does."""
        known = ours.uid <= self._base.last_uid
        answered = ours.modseq <= self._answered
        theirs = self._theirs.get(ours.uid)
        if known and (theirs is None or theirs.guid == ours.guid):
            # A UID means one message in the master's history.
            if answered:
                return None
            return ours if theirs is None else _later(theirs, ours, self._before(ours.uid))
        if theirs is not None and is_same(theirs, ours):
            return None if answered else _later(theirs, ours)
        self._drop(ours, theirs)
        if answered:
            return None
        if ours.expunged and identity(ours) in self._alive:
            return None  # the message got another UID here, and was not removed
        twins = self._by_identity.get(identity(ours), ())
        twin = next((one for one in twins if one.uid not in self._taken), None)
        if twin is not None:
            self._taken.add(twin.uid)
            return _later(twin, ours)
        if ours.uid > self._their_last_uid:
            self._plan.drop.discard(ours.uid)
            return ours
        self._last_uid += 1
        return ours._replace(uid=self._last_uid)

    def _is_theirs(self, ours: Record) -> bool:
        theirs = self._theirs.get(ours.uid)
        return theirs is not None and is_same(theirs, ours)

    def _drop(self, ours: Record, theirs: Record | None) -> None:
        self._plan.drop.add(ours.uid)
        if theirs is not None and not theirs.expunged and not ours.expunged:
            self._plan.reused = True


def _later(theirs: Record, ours: Record, before: Record | None = None) -> Record | None:
    """The master's record with our change on top; None where the master's stands as it is. With what was
    `before` both, flag by flag and entry by entry; else the later one has all."""
    if same_content(theirs, ours) or theirs.expunged:
        return None
    later = ours.last_updated >= theirs.last_updated
    if ours.expunged or before is None:
        if not (ours.expunged or later):
            return None
        return merged(theirs, ours, other_wins=True)._replace(last_updated=ours.last_updated)
    both = records(before, theirs, ours, other_wins=later).record
    if same_content(theirs, both):
        return None
    return both._replace(last_updated=max(ours.last_updated, theirs.last_updated))


def changed_here(records: Iterable[Sequence[Record]], base: Base) -> list[Record]:
    """The records that differ from the base: changed since, or beyond its last UID."""
    return [
        record
        for batch in records
        for record in batch
        if record.modseq > base.modseq or record.uid > base.last_uid
    ]
