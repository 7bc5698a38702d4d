"""What is staged at the replica on this connection, and when to tell it to forget: RESTART.

A message that was sent or reserved stays usable by every APPLY MAILBOX until RESTART. Whoever relies on
staged messages *holds* the stage from its RESERVE to the sending of its MAILBOX; RESTART is only sent
while nobody holds it, since a record without its message would be refused. When more is staged than
the bound, newcomers wait until the holders are through.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from twisted.internet.defer import Deferred

from cyrus_sync.common.errors import PeerError, ReplyError
from cyrus_sync.common.replica import Replica
from cyrus_sync.sync_client.engine.concurrency import start
from cyrus_sync.sync_client.engine.options import Options


class Stage:
    """The client's knowledge of the replica's reserve list."""

    def __init__(self, replica: Replica, options: Options) -> None:
        self._replica = replica
        self._options = options
        self._staged: set[tuple[str, bytes]] = set()
        self._bytes = 0
        self._holders = 0
        self._wanted = False
        self._waiting: list[Deferred[None]] = []
        self._restarting: list[Deferred[None]] = []

    @property
    def full(self) -> bool:
        """True if a RESTART is due before more is staged."""
        return self._bytes > self._options.stage_bytes or len(self._staged) > self._options.stage_messages

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """While this is held, what is staged stays staged."""
        while self.full:
            self.restart()
            if not self.full:
                break
            turn: Deferred[None] = Deferred()
            self._waiting.append(turn)
            await turn
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            if self.full or self._wanted:
                self.restart()

    def add(self, partition: str, guids: Iterable[bytes], size: int = 0) -> None:
        """These messages (of `size` bytes altogether) were sent or reserved."""
        self._staged.update((partition, guid) for guid in guids)
        self._bytes += size

    def discard(self, partition: str, guids: Iterable[bytes]) -> None:
        """These messages did not arrive after all."""
        self._staged.difference_update((partition, guid) for guid in guids)

    def has(self, partition: str, guid: bytes) -> bool:
        """True if the message need not be sent."""
        return (partition, guid) in self._staged

    def restart(self) -> None:
        """Send RESTART as soon as nobody holds the stage."""
        if self._holders:
            self._wanted = True
            return
        self._wanted = False
        self._staged.clear()
        self._bytes = 0
        self._restarting = [answer for answer in self._restarting if not answer.called]
        self._restarting.append(start(self._restart()))
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            turn.callback(None)

    async def _restart(self) -> None:
        try:
            await self._replica.restart()
        except ReplyError as error:
            self._options.notice(f"RESTART was refused: {error}")
        except PeerError as error:
            # Whoever relies on the connection hears of it by his own verbs.
            self._options.notice(f"RESTART got no answer: {error}")

    async def restarted(self) -> None:
        """Wait for the answers to the RESTARTs sent so far."""
        pending, self._restarting = self._restarting, []
        for answer in pending:
            await answer
