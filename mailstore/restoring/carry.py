"""Carry out a plan at a csync server.

Only reads, RESERVE, MESSAGE, MAILBOX, QUOTA, SUB, SEEN, SIEVE, ACTIVATE_SIEVE and RESTART are ever sent:
nothing that deletes, renames or expunges. A mailbox that changed between the plan and its being carried out
refuses the update, is looked at again, and planned anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from cyrus_sync.common.errors import ConnectionLost, CyrusSyncError, MailboxMoved, SyncChanged, SyncChecksum
from cyrus_sync.common.model import MailboxUpdate, MessageBody
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.threads import Threads
from cyrus_sync.mailstore.restoring.plan import (
    Addition,
    BoxPlan,
    CreatedRecords,
    addition,
    advanced,
    creation,
    steps,
)
from cyrus_sync.mailstore.restoring.survey import MetaPlan, TargetSurvey
from cyrus_sync.mailstore.source import Source

RESERVE_LIMIT = 8193
"""GUIDs in one APPLY RESERVE."""

ATTEMPTS = 3
"""How often a mailbox is tried, because it changes at the target meanwhile."""


class Bodies:
    """Messages of one owner by GUID (`common.model.MessageSource`), read when it is iterated."""

    def __init__(self, store: Source, owner: Owner, guids: Sequence[bytes], partition: str) -> None:
        self._store = store
        self._owner = owner
        self._guids = guids
        self._partition = partition

    def __iter__(self) -> Iterator[Sequence[MessageBody]]:
        with self._store.read(self._owner) as reader:
            yield from reader.bodies(self._guids, self._partition)


class Carrier:
    """Does at the target of `survey` what was planned."""

    def __init__(
        self, store: Source, survey: TargetSurvey, threads: Threads, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._survey = survey
        self._replica = survey.replica
        self._threads = threads
        self._clock = clock
        self.sent: Callable[[int], object] = lambda messages: None
        """Told how many messages have come over. May be replaced."""

    async def mailbox(self, plan: BoxPlan) -> None:
        """Create or complete one mailbox. Raises a `CyrusSyncError` with its address."""
        for attempt in range(1, ATTEMPTS + 1):
            if plan.idle:
                return
            try:
                await self._mailbox(plan)
                return
            except (SyncChanged, SyncChecksum, MailboxMoved) as error:
                if attempt == ATTEMPTS:
                    error.at(mailbox=plan.wish.target, uniqueid=plan.state.uniqueid)
                    raise
                plan = await self._survey.plan_again(plan.wish)
            except ConnectionLost as error:
                hint = f"a Cyrus server that has no partition '{plan.state.partition}' ends like this"
                error.message = f"{error.message} ({hint})"
                error.at(mailbox=plan.wish.target)
                raise
            except CyrusSyncError as error:
                error.at(mailbox=plan.wish.target, uniqueid=plan.state.uniqueid)
                raise

    async def _mailbox(self, plan: BoxPlan) -> None:
        if plan.create:
            update = creation(self._store, plan)
            guids = [] if plan.state.intermediate else await self._threads.run(self._guids_of, plan)
            plan = await self._send(plan, update, guids)
        parts: list[tuple[Addition, ...]] = list(steps(plan.additions))
        if plan.annotations and not parts:
            parts.append(())
        for part in parts:
            update = await self._threads.run(self._addition, plan, part)
            guids = list(dict.fromkeys(record.guid for batch in update.records for record in batch))
            plan = await self._send(plan, update, guids)

    async def _send(self, plan: BoxPlan, update: MailboxUpdate, guids: list[bytes]) -> BoxPlan:
        if guids:
            await self._stage(plan, guids)
        await self._replica.mailbox(update)
        if guids:
            await self._replica.restart()
            self.sent(len(guids))
        return advanced(plan, update)

    def _addition(self, plan: BoxPlan, part: Sequence[Addition]) -> MailboxUpdate:
        with self._store.read(plan.wish.owner) as reader:
            return addition(reader, plan, part, now=int(self._clock()), modseq=plan.state.highestmodseq + 1)

    def _guids_of(self, plan: BoxPlan) -> list[bytes]:
        guids: dict[bytes, None] = {}
        with self._store.read(plan.wish.owner) as reader:
            for batch in CreatedRecords(self._store, plan):
                stored = reader.has_guids([record.guid for record in batch])
                guids.update((record.guid, None) for record in batch if record.guid in stored)
        return list(guids)

    async def _stage(self, plan: BoxPlan, guids: list[bytes]) -> None:
        """Let the target take what it has already, and send the rest."""
        known = await self._survey.known(owner_of(plan.state.name))
        names = [state.name for state in known if not state.intermediate]
        lacking = guids
        if names:
            lacking = []
            for begin in range(0, len(guids), RESERVE_LIMIT):
                part = guids[begin : begin + RESERVE_LIMIT]
                lacking += await self._replica.reserve(plan.state.partition, names, part)
        if lacking:
            bodies = Bodies(self._store, plan.wish.owner, lacking, plan.state.partition)
            await self._replica.message(bodies)

    async def meta(self, plan: MetaPlan, source: str) -> None:
        """Quotas, subscriptions, seen state, scripts; `source` is the user here whose scripts they are."""
        replica = self._replica
        try:
            for quota in plan.quotas:
                await replica.quota(quota)
            for name in plan.subscriptions:
                await replica.sub(plan.userid, name)
            for seen in plan.seen:
                await replica.seen(plan.userid, seen)
            for script in plan.scripts:
                content = await self._threads.run(self._script, source, script.filename)
                if content is not None:
                    await replica.sieve(plan.userid, script.filename, script.last_update, content)
            if plan.activate:
                await replica.activate_sieve(plan.userid, plan.activate)
        except CyrusSyncError as error:
            error.at(user=plan.userid)
            raise

    def _script(self, userid: str, filename: str) -> bytes | None:
        with self._store.read(Owner("user", userid)) as reader:
            return reader.sieve_content(filename)
