"""One run: the items of a plan through the engine, over one connection.

The rules it guards: one item's failure touches nobody else's work; items of one lane never overlap; and
when the run is over, every item of the plan is in exactly one place of the `Outcome`: done, deferred,
failed or remaining.

Items start in the order of the plan, up to `width` at a time, so that answers for one user are awaited
while another's commands go out. (The engine sees to RESTART, at moments when nobody needs what is staged.)
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import field
from typing import Any

from twisted.internet.defer import Deferred

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import (
    EX_FAILURE,
    EX_OK,
    EX_TEMPFAIL,
    CyrusSyncError,
    PeerError,
    QuietLogout,
    ReplyError,
)
from cyrus_sync.common.names import Owner
from cyrus_sync.sync_client.connection import EngineConnection, perform
from cyrus_sync.sync_client.engine.errors import GaveWay, LeftOut, OwnersTrouble
from cyrus_sync.sync_client.merge import WorkPlan
from cyrus_sync.sync_client.promote import Decision, OwnerOfUniqueid, Promoted, promote
from cyrus_sync.sync_client.promote import Deferred as PutOff
from cyrus_sync.sync_client.work import Item, Kind, owner_of_name

REFUSALS = 5
"""So many owners refused in a row, and nobody served: the trouble is the server's, not theirs."""


class ServerRefuses(PeerError):
    """One owner after the other failed; blaming them singly would be wrong."""

    text = "the server refuses one user after the other"


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that was given up, with the error that ended it."""

    item: Item
    error: Exception


@dataclass(slots=True)
class Outcome:
    """Where the items of a run ended up. `broken` says why the run could not go on, if so."""

    done: int = 0
    deferred: list[Item] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    remaining: list[Item] = field(default_factory=list)
    broken: Exception | None = None
    suspects: tuple[Owner, ...] = ()
    """Whose work was under way when the connection broke."""
    explained: bool = False
    """It broke for a reason that the next try takes into account."""
    gave_way: bool = False
    """It ended before its work was done, as others wait."""

    @property
    def complete(self) -> bool:
        return not (self.deferred or self.failed or self.remaining or self.broken)

    @property
    def exit_status(self) -> int:
        """Of a command that was to do just this run."""
        for failure in self.failed:
            if isinstance(failure.error, CyrusSyncError):
                return failure.error.exit_status
        if self.complete:
            return EX_OK
        return EX_TEMPFAIL if self.deferred and not self.failed else EX_FAILURE


Decide = Callable[[Item, Exception, OwnerOfUniqueid], Decision]
"""What becomes of an item that failed; `promote` in rolling mode."""

ReportFailure = Callable[[Item, Exception, str], None]
"""Called for every failure with what happens next."""


Rank = Callable[[Item], Any]
"""What is less goes first; among equals the order of the plan."""


def by_kind(item: Item) -> Kind:
    return item.kind


def waits(item: Item) -> bool:
    """Whether an item can be left to the next run, if this one is to give way: any can."""
    del item
    return True


def say_nothing(item: Item, error: Exception, following: str) -> None:
    del item, error, following


_COMPARED = frozenset(
    (Kind.MAILBOXES, Kind.QUOTA, Kind.ANNOTATION, Kind.SEEN, Kind.SUB, Kind.META, Kind.USER)
)


def is_covered(item: Item, agreeing: Collection[str]) -> bool:
    """Whether an item asks for nothing but what both ends have alike, of these users."""
    owner = item.owner
    if item.kind not in _COMPARED or owner.kind != "user" or owner.name not in agreeing:
        return False
    return item.kind is not Kind.MAILBOXES or all(owner_of_name(name) == owner for name in item.args)


class Run:
    """Carries one plan out. `go` once; `interrupt` ends it after the items that are under way."""

    def __init__(
        self,
        plan: WorkPlan,
        connection: EngineConnection,
        *,
        width: int = 1,
        rank: Rank = by_kind,
        can_wait: Callable[[Item], bool] = waits,
        owner_of_uniqueid: OwnerOfUniqueid = lambda _id: None,
        decide: Decide = promote,
        refusals: int | None = REFUSALS,
        known: Collection[Owner] = (),
        report: ReportFailure = say_nothing,
        agreeing: Collection[str] = (),
        finished: Callable[[], object] = lambda: None,
    ) -> None:
        """`known`: owners who have failed before, so that they fail again says nothing of the server.
        `agreeing`: users whom both ends have alike, so that what is to be done for them is done. `finished`
        is called for each item that is done, or will not be."""
        self.outcome = Outcome()
        self._finished = finished
        self._plan = plan
        self._connection = connection
        self._width = width
        self._rank = rank
        self._can_wait = can_wait
        self._owner_of_uniqueid = owner_of_uniqueid
        self._decide = decide
        self._refusals = refusals
        self._known = known
        self._report = report
        self._numbers = itertools.count()
        self._ready: list[tuple[Any, int, Item]] = []
        self._parked: dict[Owner, deque[Item]] = {}
        self._queued: set[Item] = set()
        self._active: dict[Owner, Item] = {}
        self._refused: set[Owner] = set()
        self._stopping = self._giving_way = False
        self._wake: Deferred[None] | None = None
        for item in plan.items:
            if agreeing and is_covered(item, agreeing):
                self.outcome.done += 1
                finished()
            else:
                self._push(item)

    @property
    def queue(self) -> int:
        """Items not yet finished."""
        return len(self._queued)

    def interrupt(self) -> None:
        self._stopping = True

    def give_way(self) -> None:
        """End after the items that are under way, and those that cannot wait: others come first."""
        self.outcome.gave_way = self._giving_way = True

    async def go(self) -> Outcome:
        """Until everything is done or the run broke. Does not raise for what an item meets."""
        self._launch()
        while self._active:
            self._wake = Deferred()
            await self._wake
            self._wake = None
            self._launch()
        self._collect()
        return self.outcome

    # -- which item is next

    def _push(self, item: Item) -> None:
        if item not in self._queued:
            self._queued.add(item)
            heapq.heappush(self._ready, (self._rank(item), next(self._numbers), item))

    def _launch(self) -> None:
        while self._ready and not self._stopping and len(self._active) < self._width:
            if self._giving_way and self._can_wait(self._ready[0][2]):
                return
            item = heapq.heappop(self._ready)[2]
            lane = self._plan.lane(item.owner)
            if lane in self._active:
                self._parked.setdefault(lane, deque()).append(item)
                continue
            self._active[lane] = item
            Deferred.fromCoroutine(self._do(item)).addBoth(self._ended, lane)

    def _ended(self, result: object, lane: Owner) -> None:
        del self._active[lane]
        parked = self._parked.get(lane)
        if parked:
            item = parked.popleft()
            heapq.heappush(self._ready, (self._rank(item), next(self._numbers), item))
        if self._wake is not None and not self._wake.called:
            self._wake.callback(None)

    # -- one item

    async def _do(self, item: Item) -> None:
        try:
            await perform(self._connection.engine, item)
        except Exception as error:  # whatever it was, it is this item's failure and nobody else's
            self._failed(item, error)
        else:
            self.outcome.done += 1
            self._refused.clear()
            self._out_of_the_queue(item)

    def _failed(self, item: Item, error: Exception) -> None:
        if isinstance(error, PeerError) and not isinstance(error, ReplyError):
            self._broke(item, error)
            return
        if isinstance(error, GaveWay):
            self.give_way()
            return
        self._out_of_the_queue(item)
        decision = self._decide(item, error, self._owner_of_uniqueid)
        if isinstance(decision, Promoted):
            for bigger in decision.items:
                self._push(bigger)
            self._report(item, error, "trying " + ", ".join(str(bigger) for bigger in decision.items))
        elif isinstance(decision, PutOff):
            self.outcome.deferred.append(decision.item)
            self._report(item, error, "deferred")
        else:
            self.outcome.failed.append(Failure(decision.item, error))
            self._report(item, error, "given up for now")
            if not isinstance(error, (LeftOut, OwnersTrouble)) and item.owner not in self._known:
                self._refused.add(item.owner)
            if self._refusals is not None and len(self._refused) >= self._refusals:
                self._break(ServerRefuses())

    def _out_of_the_queue(self, item: Item) -> None:
        self._queued.discard(item)
        self._finished()

    def _broke(self, item: Item, error: PeerError) -> None:
        if self.outcome.broken is None:
            if error.explained:
                self.outcome.explained = True
                self._report(item, error, "reconnecting")
            elif not isinstance(error, QuietLogout):
                self.outcome.suspects = tuple(active.owner for active in self._active.values())
                self._report(item, error, "reconnecting")
            self._break(error)

    def _break(self, error: PeerError) -> None:
        self.outcome.broken = error
        self._stopping = True

    def _collect(self) -> None:
        """What was not done, in the order of work; who was refused comes last the next time."""
        left = [item for _, _, item in sorted(self._ready)]
        left += sorted(self._queued.difference(left))
        self.outcome.remaining = left
        if isinstance(self.outcome.broken, ServerRefuses):
            self.outcome.remaining += [failure.item for failure in self.outcome.failed]
            self.outcome.failed = []
