"""Restore many owners to a csync server: several in flight, one connection each; who fails holds up nobody.

An owner is planned and carried out like one alone (`survey`, `carry`), so memory is that of the owners in
flight. What was interrupted goes on when it is done again: of who is there already only the state is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from cyrus_sync.common.errors import CyrusSyncError, PeerError, ReplyError, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.replica import Replica
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.mailstore.restoring.carry import Carrier
from cyrus_sync.mailstore.restoring.plan import BoxPlan
from cyrus_sync.mailstore.restoring.survey import RestorePlan, TargetSurvey
from cyrus_sync.mailstore.restoring.target import Opened, Target
from cyrus_sync.mailstore.restoring.wishes import Revive, Wish, wish_for_mailbox, wish_for_user
from cyrus_sync.mailstore.source import Source

MOST_LOST = 3
"""Connections in a row that end before anybody is done: then the server is gone."""


@dataclass
class Tally:
    """What was done, or would be."""

    owners: int = 0
    """Who lacked something there."""
    complete: int = 0
    mailboxes: int = 0
    messages: int = 0
    octets: int = 0
    failed: set[Owner] = field(default_factory=set)

    def add(self, plan: RestorePlan) -> None:
        boxes = [box for box in plan.boxes if not box.idle]
        self.owners += not plan.idle
        self.complete += plan.idle
        self.mailboxes += len(boxes)
        self.messages += sum(box.messages + len(box.additions) for box in boxes)
        self.octets += sum(box.size + sum(one.size for one in box.additions) for box in boxes)


class Everybody:
    """One run. The owners are taken one by one by whoever is free."""

    def __init__(
        self,
        store: Source,
        target: Target,
        reactor: Reactor,
        owners: Iterator[Owner],
        *,
        revive: Revive | None = None,
        partition: str = "",
        dry_run: bool = False,
    ) -> None:
        self.tally = Tally()
        self.planned: Callable[[Owner, RestorePlan], object] = lambda owner, plan: None
        """Told of every owner's plan before it is carried out. May be replaced."""
        self.failed: Callable[[Owner, CyrusSyncError], object] = lambda owner, error: None
        """Told who cannot be restored, wholly or in part, and why. May be replaced."""
        self.done: Callable[[Owner], object] = lambda owner: None
        """Told when an owner is over, well or not. May be replaced."""
        self._store = store
        self._target = target
        self._reactor = reactor
        self._threads = ThreadRunner(reactor)
        self._owners = owners
        self._revive = revive
        self._partition = partition
        self._dry_run = dry_run
        self._lost = 0

    async def go(self, jobs: int) -> None:
        """Work on `jobs` owners at a time until all are done. Raises `PeerError` when the server is gone."""
        results = await DeferredList(
            [Deferred.fromCoroutine(self._work()) for _ in range(jobs)], consumeErrors=True
        )
        for good, result in results:
            if not good and isinstance(result, Failure):
                result.raiseException()

    async def _work(self) -> None:
        """One connection, made anew after it was lost."""
        replica: Opened | None = None
        try:
            while self._lost < MOST_LOST and (owner := next(self._owners, None)):
                try:
                    if replica is None:
                        replica = await self._target.open(self._reactor, self._threads)
                    await self._one(owner, replica)
                    self._lost = 0
                except PeerError as error:
                    self._note_failed(owner, error)
                    if not isinstance(error, ReplyError):
                        self._lost += 1
                        await _closed(replica)
                        replica = None
                        if self._lost >= MOST_LOST:
                            raise
                except CyrusSyncError as error:
                    self._note_failed(owner, error)
                self.done(owner)
        finally:
            await _closed(replica)

    async def _one(self, owner: Owner, replica: Replica) -> None:
        survey = TargetSurvey(
            self._store, replica, self._threads, revive=self._revive, partition=self._partition
        )
        plan = await self._plan(owner, survey)
        self.planned(owner, plan)
        lacking = [_lack(box) for box in plan.boxes if box.trouble or box.absent]
        if not self._dry_run:
            carrier = Carrier(self._store, survey, self._threads)
            for box in plan.boxes:
                try:
                    await carrier.mailbox(box)
                except ReplyError as error:
                    self._note_failed(owner, error)
            if plan.meta is not None:
                await carrier.meta(plan.meta, plan.source)
        for lack in lacking:
            self._note_failed(owner, lack)
        self.tally.add(plan)

    async def _plan(self, owner: Owner, survey: TargetSurvey) -> RestorePlan:
        if owner.kind == "user":
            wish = await self._threads.run(wish_for_user, self._store, owner.name, owner.name)
            if wish is not None:
                return await survey.plan_user(wish, owner.name)
        wishes = await self._threads.run(self._mailboxes, owner)
        return RestorePlan([await survey.plan_mailbox(wish) for wish in wishes])

    def _mailboxes(self, owner: Owner) -> list[Wish]:
        """Of a shared owner, or of a user who has no INBOX (the server will say what it makes of him)."""
        with self._store.read(owner) as reader:
            return [wish_for_mailbox(reader, state, state.name) for state in reader.mailboxes()]

    def _note_failed(self, owner: Owner, error: CyrusSyncError) -> None:
        self.tally.failed.add(owner)
        self.failed(owner, error)


def _lack(box: BoxPlan) -> CyrusSyncError:
    """What of a mailbox cannot be restored."""
    text = box.trouble or f"{len(box.absent)} messages are not stored here"
    return StoreError(text).at(mailbox=box.wish.state.name)


async def _closed(replica: Opened | None) -> None:
    if replica is not None:
        with suppress(CyrusSyncError):  # it may be lost
            await replica.close()
