"""Look at a csync server, and plan what has to be done there. Nothing is changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cyrus_sync.common.errors import CyrusSyncError, ReplyError
from cyrus_sync.common.model import (
    MailboxState,
    MessageBody,
    Quota,
    Record,
    RecordSource,
    Seen,
    SieveScript,
    UserState,
)
from cyrus_sync.common.names import Owner, inbox_of, is_deleted, is_inbox, owner_of
from cyrus_sync.common.protocol.crc import ANNOT_SEED, mailbox_crcs
from cyrus_sync.common.replica import Replica
from cyrus_sync.common.sieve import from_message
from cyrus_sync.common.stores.queries import is_sieve
from cyrus_sync.common.threads import Threads
from cyrus_sync.mailstore.restoring.plan import BoxPlan, There, plan_addition, plan_creation, same
from cyrus_sync.mailstore.restoring.wishes import Revive, UserWish, Wish
from cyrus_sync.mailstore.source import Source


@dataclass(frozen=True, slots=True)
class MetaPlan:
    """What a user has besides mailboxes and the target lacks."""

    userid: str
    quotas: tuple[Quota, ...] = ()
    subscriptions: tuple[str, ...] = ()
    seen: tuple[Seen, ...] = ()
    scripts: tuple[SieveScript, ...] = ()
    """Only where scripts travel by commands."""
    activate: str = ""
    stays: tuple[str, ...] = ()
    """Scripts by file name, and quota roots, of which the target has others; it keeps them."""

    @property
    def idle(self) -> bool:
        return not (self.quotas or self.subscriptions or self.seen or self.scripts or self.activate)


@dataclass(slots=True)
class RestorePlan:
    """All that is to be done, in this order."""

    boxes: list[BoxPlan] = field(default_factory=list)
    meta: MetaPlan | None = None
    source: str = ""
    """The user here whose scripts `meta` speaks of."""
    besides: list[str] = field(default_factory=list)
    """Mailboxes of the user at the target that are not wished for, and stay."""

    @property
    def idle(self) -> bool:
        return all(box.idle for box in self.boxes) and (self.meta is None or self.meta.idle)


class TargetSurvey:
    """What a csync server (or a store behind the same verbs) has, and what it lacks."""

    def __init__(
        self,
        store: Source,
        replica: Replica,
        threads: Threads,
        *,
        revive: Revive | None = None,
        partition: str = "",
        deleted_stay: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`partition`: where new mailboxes go; "" = where the user's INBOX is there, or the partition that
        they have here. `deleted_stay`: what the target knows as expunged is not lacking there."""
        self._store = store
        self.replica = replica
        self._threads = threads
        self._revive = revive
        self._partition = partition
        self._deleted_stay = deleted_stay
        self._clock = clock
        self._users: dict[str, UserState] = {}

    # -- planning

    async def plan_user(self, wish: UserWish, source: str) -> RestorePlan:
        """Everything of the user `source` here, for whom `wish` says."""
        there = await self._user(wish.userid)
        boxes = [
            await self._plan_box(one)
            for one in wish.mailboxes
            if self._sieve_mailbox or not is_sieve(one.state)
        ]
        wished = {one.target for one in wish.mailboxes}
        besides = [
            state.name
            for state in there.mailboxes
            if state.name not in wished and not (state.intermediate or is_deleted(state.name))
        ]
        return RestorePlan(boxes, self._plan_meta(wish, there), source, besides)

    async def plan_mailbox(self, wish: Wish) -> BoxPlan:
        """One mailbox alone. The user whose it will be has to exist at the target."""
        owner = owner_of(wish.target)
        if owner.kind == "user" and not is_inbox(wish.target):
            known = {state.name for state in (await self._user(owner.name)).mailboxes}
            if inbox_of(owner.name) not in known:
                trouble = f"the target has no user {owner.name}: restore the user, or his INBOX, first"
                return BoxPlan(wish, wish.state, create=False, trouble=trouble)
        if is_sieve(wish.state) and not self._sieve_mailbox:
            trouble = "the target keeps scripts otherwise: restore the user"
            return BoxPlan(wish, wish.state, create=False, trouble=trouble)
        return await self._plan_box(wish)

    @property
    def _sieve_mailbox(self) -> bool:
        return "SIEVE-MAILBOX" in self.replica.capabilities

    async def plan_again(self, wish: Wish) -> BoxPlan:
        """Look anew at a mailbox that has changed at the target meanwhile."""
        self._users.pop(owner_of(wish.target).name, None)
        return await self._plan_box(wish)

    async def _user(self, userid: str) -> UserState:
        if userid not in self._users:
            self._users[userid] = await self.replica.get_user(userid)
        return self._users[userid]

    async def known(self, owner: Owner) -> tuple[MailboxState, ...]:
        """The target's mailboxes of this user, as they were when first asked; of a shared one none."""
        return (await self._user(owner.name)).mailboxes if owner.kind == "user" else ()

    async def _plan_box(self, wish: Wish) -> BoxPlan:
        owner = owner_of(wish.target)
        known = await self.known(owner)
        if owner.kind == "user":
            found = next((state for state in known if state.name == wish.target), None)
        else:
            found = next(iter(await self.replica.get_mailboxes([wish.target])), None)
        if wish.state.intermediate and found is not None:
            return BoxPlan(wish, found, create=False)
        if found is None or found.intermediate:
            elsewhere = "" if wish.renamed else await self._elsewhere(wish, known)
            inbox = next((state for state in known if is_inbox(state.name)), None)
            partition = self._partition or (inbox or wish.state).partition
            return await self._threads.run(self._creation, wish, partition, elsewhere)
        if same(wish, found) and self._revive is None:
            return BoxPlan(wish, found, create=False)
        state, records = await self.replica.get_full_mailbox(wish.target)
        there = await self._threads.run(_there, state, records, self._deleted_stay)
        skip = await self._scripts_not_wanted(wish, state, records) if is_sieve(wish.state) else set()
        return await self._threads.run(self._addition, wish, there, skip)

    async def _elsewhere(self, wish: Wish, known: Sequence[MailboxState]) -> str:
        """Under which other name the target has a mailbox of this uniqueid, "" if it has none."""
        uniqueid = wish.state.uniqueid
        found = [state.name for state in known if state.uniqueid == uniqueid]
        with suppress(ReplyError):  # releases before 3.6 cannot be asked so
            found += [state.name for state in await self.replica.get_uniqueids([uniqueid])]
        return next((name for name in found if name != wish.target), "")

    def _creation(self, wish: Wish, partition: str, elsewhere: str) -> BoxPlan:
        now = int(self._clock())
        with self._store.read(wish.owner) as reader:
            return plan_creation(
                reader, wish, self._revive, partition=partition, elsewhere=elsewhere, now=now
            )

    def _addition(self, wish: Wish, there: There, skip: set[bytes]) -> BoxPlan:
        with self._store.read(wish.owner) as reader:
            return plan_addition(reader, wish, self._revive, there, skip=skip)

    async def _scripts_not_wanted(self, wish: Wish, state: MailboxState, records: RecordSource) -> set[bytes]:
        """GUIDs of our scripts that have a namesake there, which is left alone."""
        theirs = set()
        for record in await self._threads.run(_live, records):
            body = await self.replica.fetch(
                state.name, state.partition, state.uniqueid, record.guid, record.uid
            )
            if body is not None:
                with suppress(CyrusSyncError):
                    theirs.add(from_message(_octets(body)).name)
        return await self._threads.run(self._namesakes, wish, theirs)

    def _namesakes(self, wish: Wish, names: set[str]) -> set[bytes]:
        found = set()
        with self._store.read(wish.owner) as reader:
            for batch in reader.records(wish.state.uniqueid):
                for record in batch:
                    body = reader.body(record.guid)
                    if body is not None:
                        with suppress(CyrusSyncError):
                            if from_message(_octets(body)).name in names:
                                found.add(record.guid)
        return found

    def _plan_meta(self, wish: UserWish, there: UserState) -> MetaPlan:
        roots = {quota.root: quota.limits for quota in there.quotas}
        seen = {one.uniqueid for one in there.meta.seen}
        subscribed = set(there.meta.subscriptions)
        scripts: tuple[SieveScript, ...] = ()
        activate = ""
        stays = [q.root for q in wish.quotas if roots.get(q.root, q.limits) != q.limits]
        if not self._sieve_mailbox:
            names = {script.filename: script.guid for script in there.meta.sieve}
            mine = [s for s in wish.meta.sieve if s.filename.endswith(".script")]
            stays += [s.filename for s in mine if names.get(s.filename, s.guid) != s.guid]
            scripts = tuple(s for s in mine if s.filename not in names)
            if not any(script.active for script in there.meta.sieve):
                activate = next((s.filename for s in wish.meta.sieve if s.active), "")
        return MetaPlan(
            wish.userid,
            quotas=tuple(q for q in wish.quotas if q.root not in roots and q.limits),
            subscriptions=tuple(name for name in wish.meta.subscriptions if name not in subscribed),
            seen=tuple(one for one in wish.meta.seen if one.uniqueid not in seen),
            scripts=scripts,
            activate=activate,
            stays=tuple(stays),
        )


def _there(state: MailboxState, records: RecordSource, deleted_stay: bool) -> There:
    flags: dict[bytes, str | None] = {}
    crcs = (0, ANNOT_SEED)
    for batch in records:
        crcs = mailbox_crcs(batch, crcs)
        for record in batch:
            if deleted_stay or not record.expunged:
                flags[record.guid] = None if record.guid in flags else record.flags
    return There(state, flags, crcs)


def _live(records: RecordSource) -> list[Record]:
    return [record for batch in records for record in batch if not record.expunged]


def _octets(body: MessageBody) -> bytes:
    return body.data if isinstance(body.data, bytes) else b"".join(body.data)
