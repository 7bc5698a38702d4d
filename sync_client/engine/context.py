"""What every part of the engine works with: the master, the replica, and the run's options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from twisted.internet.defer import Deferred

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.master import Master
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.protocol.commands import UNMAILBOX_ID
from cyrus_sync.common.replica import Replica
from cyrus_sync.common.threads import Threads
from cyrus_sync.sync_client.engine.concurrency import Budget, start
from cyrus_sync.sync_client.engine.locks import UserLocks
from cyrus_sync.sync_client.engine.options import Options
from cyrus_sync.sync_client.engine.staging import Stage

RECORDS_IN_FLIGHT = 16_384
"""Records that are held in memory at once for mailboxes whose answers are awaited."""

RECORDS_ESTIMATE = 1024
"""What a mailbox counts for until its records have been read."""


class EngineContext:
    """One connection to a replica, and what is remembered as long as it lasts."""

    def __init__(self, master: Master, replica: Replica, threads: Threads, options: Options) -> None:
        self.master = master
        self.replica = replica
        self.threads = threads
        self.options = options
        self.stage = Stage(replica, options)
        self.locks = UserLocks(options, threads)
        self.records_in_flight = Budget(RECORDS_IN_FLIGHT)
        self.slow = Budget(2)
        """Full updates and mailboxes of many batches: two at a time, the others flow past."""
        self.damaged_users: set[str] | None = None
        """Of whom the replica has damaged messages; None before it was asked."""
        self._forced = False
        self._remembered: list[MailboxState] = []

    @property
    def sieve_mailbox(self) -> bool:
        """True if Sieve scripts travel as messages of ``#sieve``."""
        return "SIEVE-MAILBOX" in self.replica.capabilities

    @property
    def encoding(self) -> str:
        """How message bodies are handed over."""
        return "zstd" if "zstd" in self.replica.message_encodings else "identity"

    def target_partition(self, local: str) -> str:
        """Where a mailbox of the local partition `local` belongs on the replica."""
        return self.options.partition or local

    def remember(self, states: Iterable[MailboxState]) -> None:
        """The replica is known to have these states; they go to the cache with the next flush."""
        if self.options.cache is not None:
            self._remembered.extend(states)

    async def flush_cache(self) -> None:
        """Write what was remembered."""
        if self.options.cache is not None and self._remembered:
            states, self._remembered = self._remembered, []
            await self.threads.run(self.options.cache.put, states)

    async def forget(self, names: Sequence[str]) -> None:
        """Drop `names` from the cache: the next run asks."""
        if self.options.cache is not None and names:
            gone = set(names)
            self._remembered = [state for state in self._remembered if state.name not in gone]
            await self.threads.run(self.options.cache.drop, list(names))

    def report(self, verb: str, *words: str) -> None:
        """A verbose line; `words` are printed after the verb."""
        self.options.report(" ".join((verb, *words)))

    def report_localizable(self, verb: str, *words: str) -> None:
        """A verbose line of a verb that has a LOCAL_ form."""
        self.report(f"LOCAL_{verb}" if self.options.local_only else verb, *words)

    def unmailbox(self, state: MailboxState) -> Deferred[None]:
        """UNMAILBOX for just this mailbox of the replica, if it can be told which is meant."""
        local = self.options.local_only
        if UNMAILBOX_ID not in self.replica.capabilities:
            return self.replica.unmailbox(state.name, local=local)
        return self.replica.unmailbox(
            state.name, local=local, uniqueid=state.uniqueid, uidvalidity=state.uidvalidity
        )

    def begin(self) -> None:
        """Before the first item: force mode where the master is always right."""
        if self.options.no_copyback and not self._forced:
            self._forced = True
            start(self._force())

    async def _force(self) -> None:
        try:
            await self.replica.force()
        except ReplyError as error:
            self.options.notice(f"the replica does not know APPLY FORCE: {error}")
