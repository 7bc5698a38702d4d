"""Capture: what the store has and the log does not tell yet becomes operations.

Daemons tell of changes in an action log, on a channel for this alone (``multisite_channel``). The engine that
also feeds a live replica compares every owner that is named there, as a whole, with the shadow. So the lines
say only *who* changed, and what is recorded is the present state. The channel's run file is removed when its
owners are in the log; owners that failed go back to the channel.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Coroutine, Iterable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, ensureDeferred, maybeDeferred

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.master import Master
from cyrus_sync.common.names import SERVER, BadName, Owner, check_userid, inbox_of, is_deleted, owner_of
from cyrus_sync.common.synclog.lines import LogLine, parse_lines
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.recorder import Recorder
from cyrus_sync.sync_client.engine import Engine, Options

_log = logging.getLogger(__name__)

T = TypeVar("T")

RECORDS = 8192
"""The most records in one operation."""
MESSAGE_BYTES = 16 << 20
"""The most bytes of new messages in one operation, unless a single message has more."""

_BY_USERID = frozenset(("USER", "UNUSER", "META", "SIEVE", "SEEN", "SUB", "UNSUB"))


class AtOnce:
    """Stands in for threads, and runs everything at once: whoever captures has nothing else to do."""

    def run(self, function: Callable[..., T], *args: Any) -> Deferred[T]:
        """Call it now; the Deferred has fired."""
        return maybeDeferred(function, *args)


def finished(work: Coroutine[Deferred[Any], Any, T]) -> T:
    """The result of a coroutine that never waits. Raises what it raises."""
    results: list[T] = []
    failures: list[Any] = []
    ensureDeferred(work).addCallbacks(results.append, failures.append)
    if failures:
        failures[0].raiseException()
    return results[0]


class Capture:
    """Brings the log up to date with the store. The caller holds the `SiteLock`."""

    def __init__(self, master: Master, log: Log, channel: SyncLog) -> None:
        """`channel`: the action log from which nobody else reads."""
        self.sealed = False
        """While this is true nothing is recorded: the numbers of new operations may have been given out
        before a restore."""
        self._master = master
        self._log = log
        self._channel = channel
        self.recorder = Recorder(log)
        self._gone: set[str] = set()
        """Mailboxes of which the action log says that they were deleted."""
        options = Options(
            no_copyback=True, batchsize=RECORDS, batch_bytes=MESSAGE_BYTES, notice=_log.info, remark=_log.info
        )
        self._engine = Engine(master, self.recorder, AtOnce(), options)

    def into(self, log: Log) -> Capture:
        """The same with another log."""
        return Capture(self._master, log, self._channel)

    def changed(self) -> list[CyrusSyncError]:
        """Record what the owners have that the channel names. Returns what failed; those owners stay in the
        channel."""
        failures: list[CyrusSyncError] = []
        if self.sealed:
            return failures
        while claimed := self._channel.claim():
            with claimed:
                left = claimed.reprocessing
                lines = list(parse_lines(claimed.read(), _passed_over))
                by_owner: dict[Owner, list[LogLine]] = {}
                for line in lines:
                    for owner in sorted(owners_of(line)):
                        by_owner.setdefault(owner, []).append(line)
                self._gone = {line.args[0] for line in lines if line.type == "UNMAILBOX"}
                try:
                    failed = self._record_owners(by_owner)
                finally:
                    self._gone = set()
                again = [line for owner in failed for line in by_owner[owner]]
                if again:
                    self._channel.append([(line.type, *line.args) for line in dict.fromkeys(again)])
                claimed.finish()
            failures += failed.values()
            if failed or not left:
                break
        return failures

    def everything(self) -> list[CyrusSyncError]:
        """Record what all owners of the store have. Returns what failed."""
        owners = {*self._master.owners(), *self._log.shadows.owners(), SERVER}
        return list(self._record_owners(sorted(owners)).values())

    def _record_owners(self, owners: Collection[Owner]) -> dict[Owner, CyrusSyncError]:
        """Record what these owners have, and return what failed. An owner on whom a process has crashed in
        the middle of operations fails: what is in its store may not be a change of this replica."""
        begun: dict[Owner, CyrusSyncError] = {}
        for owner in owners:
            try:
                if self._is_half_done(owner):
                    raise MultisiteError("operations on this owner were begun and not ended")
            except CyrusSyncError as error:
                begun[owner] = error.at(user=str(owner))
        return begun | self.owners(owner for owner in owners if owner not in begun)

    def _is_half_done(self, owner: Owner) -> bool:
        """Whether operations on the owner, or on the home of one of its mailboxes, were begun."""
        if not self._log.operations.begun():
            return False
        with self._master.read(owner) as reader:
            homes = {self._log.home(state.uniqueid, state.name) for state in reader.mailboxes()}
        return any(self._log.operations.begun(one) for one in {owner, *homes})

    def owners(self, owners: Iterable[Owner]) -> dict[Owner, CyrusSyncError]:
        """Record what these owners have. Returns what failed: nobody's failure stops the others."""
        failed: dict[Owner, CyrusSyncError] = {}
        if self.sealed:
            return failed
        for owner in owners:
            try:
                self.owner(owner)
            except CyrusSyncError as error:
                failed[owner] = error.at(user=str(owner))
                _log.warning("cannot record the changes of %s: %s", owner, error)
        return failed

    def owner(self, owner: Owner) -> None:
        """Record what one owner has and the log does not tell. Raises what the engine raises, after it has
        recorded what it could (a user's other mailboxes)."""
        failure: CyrusSyncError | None = None
        with self._log.db.transaction():
            try:
                finished(self._owner(owner))
            except CyrusSyncError as error:
                failure = error
        if failure is not None:
            raise failure

    async def _owner(self, owner: Owner) -> None:
        for name in sorted(self._gone, reverse=True):
            if owner_of(name) == owner:
                self._deleted(owner, name)
        if owner == SERVER:
            await self._engine.annotation("")
        elif owner.kind == "user":
            await self._user(owner)
        elif owner.kind == "shared":
            await self._shared(owner)

    def _deleted(self, owner: Owner, name: str) -> None:
        """Record that a mailbox is gone that has left nothing behind: some releases of Cyrus keep no trace,
        and without one the engine takes nothing for deleted. That the log names it is enough here: what is
        compared with is known to have been this replica's own."""
        told = self._log.shadows.by_name(name)
        if told is None or self._master.owner_of_uniqueid(told.uniqueid) is not None:
            return
        with self._master.read(owner) as reader:
            trace = reader.tombstone(told.uniqueid)
        if trace is None:
            self.recorder.unmailbox(name)

    async def _user(self, owner: Owner) -> None:
        with self._master.read(owner) as reader:
            states = [state.name for state in reader.mailboxes() if not state.name.endswith(".#sieve")]
        if inbox_of(owner.name) in states:
            await self._engine.user(owner.name)
            return
        told = {state.name for state in self._log.shadows.mailboxes(owner)}
        if any(not is_deleted(name) for name in told) and all(is_deleted(name) for name in states):
            await self._engine.unuser(owner.name)
        # A user without INBOX may still have mailboxes: deleted ones, or some that were kept from a deletion.
        await self._one_by_one(owner, states)

    async def _one_by_one(self, owner: Owner, names: list[str]) -> None:
        """Record these mailboxes of an owner, and those that the log tells of and that are gone."""
        told = {state.name for state in self._log.shadows.mailboxes(owner)}
        if names or told:
            await self._engine.mailboxes([*names, *sorted(told - set(names))])
        for name in sorted(told - set(names), reverse=True):
            if self._log.shadows.by_name(name) is not None:
                await self._engine.unmailbox(name)

    async def _shared(self, owner: Owner) -> None:
        with self._master.read(owner) as reader:
            names = [state.name for state in reader.mailboxes()]
            roots = {quota.root: quota.limits for quota in reader.quotas()}
        await self._one_by_one(owner, names)
        known = {quota.root: quota.limits for quota in self._log.shadows.quotas(owner)}
        for root in sorted({*roots, *known}):
            if roots.get(root) != known.get(root):
                await self._engine.quota(root)


def owners_of(line: LogLine) -> set[Owner]:
    """The owners of which a line of the action log speaks; none for a name that no store can have."""
    try:
        if line.type in _BY_USERID:
            return {Owner("user", check_userid(line.args[0]))}
        if line.type == "ANNOTATION" and line.args == ("",):
            return {SERVER}
        return {owner_of(name) for name in line.args if name}
    except BadName:
        return set()


def _passed_over(line: bytes, problem: str) -> None:
    _log.warning("a line of the action log was passed over: %s: %r", problem, line[:200])
