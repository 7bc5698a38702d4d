"""One-shot runs: ``-u``, ``-m``, ``-A``, ``-s``.

Every item is tried once and its failure reported; the others go on. A connection that breaks is made
again for what is left; the item on which it broke alone counts as failed, so that the run comes to an
end whatever the server does. Without ``-o`` an attempt to connect may take 1000 seconds altogether.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import (
    EX_FAILURE,
    EX_OK,
    EX_TEMPFAIL,
    AuthenticationFailed,
    CompressionRefused,
    CyrusSyncError,
    PeerError,
    TLSFailed,
)
from cyrus_sync.common.names import owner_of
from cyrus_sync.common.reactor import Clock, pause
from cyrus_sync.sync_client.backoff import ONE_SHOT_PATIENCE, Backoff
from cyrus_sync.sync_client.connection import Connector, EngineConnection
from cyrus_sync.sync_client.facts import NotGranted, reason_of
from cyrus_sync.sync_client.merge import WorkPlan
from cyrus_sync.sync_client.promote import Decision, GivenUp, OwnerOfUniqueid, promote
from cyrus_sync.sync_client.promote import Deferred as PutOff
from cyrus_sync.sync_client.run import Outcome, ReportFailure, Run, say_nothing
from cyrus_sync.sync_client.work import Item, Kind

_log = logging.getLogger(__name__)

HOPELESS = (AuthenticationFailed, TLSFailed, CompressionRefused, NotGranted)
"""Refusals that will be the same the next time."""


def _once_only(item: Item, error: Exception, _owner: OwnerOfUniqueid) -> Decision:
    """Nothing is promoted; who is locked is told apart from who failed."""
    decision = promote(item, error)
    return decision if isinstance(decision, PutOff) else GivenUp(item)


def user_items(userids: Iterable[str]) -> list[Item]:
    return [Item.user(userid) for userid in dict.fromkeys(userids)]


def meta_items(userids: Iterable[str]) -> list[Item]:
    return [Item.meta(userid) for userid in dict.fromkeys(userids)]


def mailbox_items(names: Sequence[str]) -> list[Item]:
    """All of them in one request, as one item."""
    unique = tuple(dict.fromkeys(names))
    return [Item(Kind.MAILBOXES, owner_of(unique[0]), unique)] if unique else []


def everybody_items(users: Iterable[str], shared: Iterable[str]) -> list[Item]:
    """Every user once, every shared mailbox singly."""
    singly = [Item(Kind.MAILBOXES, owner_of(name), (name,)) for name in shared]
    return singly + user_items(users)


@dataclass(slots=True)
class OneShot:
    """One such run. `skip_locked` (``-N`` with ``-A``): who is locked is passed over without blame."""

    clock: Clock
    connector: Connector
    items: list[Item]
    patience: int = ONE_SHOT_PATIENCE
    """Seconds for which to go on trying to connect; 0 = one attempt (``-o``)."""
    maxwait: int = 0
    width: int = 100
    skip_locked: bool = False
    report: ReportFailure = say_nothing
    finished: Callable[[], object] = lambda: None
    """Called for each item that is done, or will not be."""
    say: Callable[[str], None] = _log.error
    random: Callable[[], float] = random.random
    everybody: tuple[str, Sequence[str]] | None = None
    """With ``-A``: the prefix, and the users of the master: who else is on the replica is told at the end."""
    ask_anyway: bool = False
    """Whether that is asked although there is nobody here."""
    digests: Mapping[str, bytes] = field(default_factory=dict)
    """Of the master's users, as far as they are known and it is worth while. Whom the replica has just so is
    left out."""
    _run: Run | None = None
    _waiting: Deferred[Any] | None = None
    _stopped: bool = False
    _failed: bool = False
    _remarks: set[str] = field(default_factory=set)
    _backoff: Backoff = field(init=False)

    def __post_init__(self) -> None:
        self._backoff = Backoff(self.maxwait, self.random, self.patience)

    def remark(self, text: str) -> None:
        """Something is not the same on both sides, and the run cannot help it: said once, status 1."""
        if text not in self._remarks:
            self._remarks.add(text)
            self.say(text)
        self._failed = True

    def stop(self) -> None:
        """End after the items under way; give up waiting for a connection."""
        self._stopped = True
        if self._run is not None:
            self._run.interrupt()
        if self._waiting is not None:
            self._waiting.cancel()

    async def go(self) -> int:
        """Do it all; the exit status."""
        left, width = self.items, self.width
        while (left or self._has_to_ask) and not self._stopped:
            connection = await self._connect()
            if connection is None:
                break
            before, was_alone = len(left), width == 1
            outcome = await self._one(connection, left, width)
            left = outcome.remaining
            if outcome.broken is not None:
                left, width = self._after_break(outcome, width)
                if outcome.explained:
                    continue
                if was_alone and len(left) == before and not await self._pause():
                    break
        if self._stopped:
            return EX_TEMPFAIL
        return EX_FAILURE if self._failed or left else EX_OK

    @property
    def _has_to_ask(self) -> bool:
        return self.ask_anyway and self.everybody is not None

    async def _agreeing(self, connection: EngineConnection) -> Collection[str]:
        """The users of whom nothing has to be done. Asked once: what is left later was not."""
        digests, self.digests = self.digests, {}
        try:
            return await connection.engine.agreeing(digests) if digests else ()
        except PeerError:
            return ()  # the connection is gone, as the first item will find

    async def _one(self, connection: EngineConnection, items: list[Item], width: int) -> Outcome:
        agreeing = await self._agreeing(connection)
        self._run = Run(
            WorkPlan(sorted(items, key=lambda item: item.kind)),
            connection,
            width=width,
            decide=_once_only,
            refusals=None,
            agreeing=agreeing,
            report=self._report,
            finished=self.finished,
        )
        try:
            outcome = await self._run.go()
            if self.everybody is not None and not (outcome.remaining or outcome.broken or self._stopped):
                await connection.engine.alone(*self.everybody)
                self.everybody = None
        finally:
            self._run = None
            await connection.close()
        if outcome.failed or (outcome.deferred and not self.skip_locked):
            self._failed = True
        if outcome.done:
            self._backoff.succeeded()
        return outcome

    def _report(self, item: Item, error: Exception, _following: str) -> None:
        self.report(item, error, "going on with the rest")

    async def _pause(self) -> bool:
        """The server ends every connection before anything is done: wait, if patience allows."""
        wait = self._backoff.next()
        if wait is None:
            return False
        self.say(f"Nothing done at server '{self.connector.server}', retrying in {wait} seconds")
        return await self._sleep(wait - self._backoff.early)

    async def _sleep(self, seconds: float) -> bool:
        try:
            self._waiting = pause(self.clock, seconds)
            await self._waiting
        except CancelledError:
            return False
        finally:
            self._waiting = None
        return True

    def _after_break(self, outcome: Outcome, width: int) -> tuple[list[Item], int]:
        """Who broke the connection alone has had his turn; if there were several, one by one now."""
        if width == 1 and len(outcome.suspects) == 1:
            self._failed = True
            return [item for item in outcome.remaining if item.owner not in outcome.suspects], width
        return outcome.remaining, 1

    async def _connect(self) -> EngineConnection | None:
        """A connection; None if patience is at its end or the server will not have us."""
        while not self._stopped:
            try:
                self._waiting = self.connector.connect()
                return await self._waiting
            except CancelledError:
                return None
            except CyrusSyncError as error:
                wait = None if isinstance(error, HOPELESS) else self._backoff.next()
                if wait is None:
                    self.say(f"Can not connect to server '{self.connector.server}' ({reason_of(error)})")
                    return None
                self.say(
                    f"Can not connect to server '{self.connector.server}', retrying in {wait} seconds "
                    f"({reason_of(error)})"
                )
            finally:
                self._waiting = None
            if not await self._sleep(wait - self._backoff.early):
                return None
        return None
