"""An administrator's session at work: the replica behind it, and what a command sends ahead of its end.

Messages go to the staging area as they arrive, records are collected; both with back-pressure: `take`
returns what the connection has to wait for before it reads on. A failure on the way (a full disk) is
kept: the rest of the command is still read, and then the command is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from cyrus_sync.common.model import MailboxState, MessageBody, Record, RecordSource
from cyrus_sync.common.nameless import NamelessFile
from cyrus_sync.common.protocol.events import MessageChunk, MessageData, MessageEnd, MessageStart, RecordBatch
from cyrus_sync.common.stores.replica import StoreReplica
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.sync_server.bulk import Records
from cyrus_sync.sync_server.measures import Measures
from cyrus_sync.sync_server.restore import restore

MOST_IN_FLIGHT = 8 * 1024 * 1024
"""Bytes of messages that may be on their way to the staging area before the connection waits."""

_OVERHEAD = 256
"""Bytes that a message takes in memory besides its own."""


class SentAhead:
    """What one command has sent ahead of its end."""

    def __init__(self, directory: Path) -> None:
        self.records = Records(directory)
        self.staged: Deferred[None] | None = None
        """The last message verb; verbs are answered in order, so it stands for all of them."""
        self._failure: Failure | None = None

    def failed(self, failure: Failure) -> None:
        """Keep the first failure; later ones are its echo."""
        if self._failure is None:
            self._failure = failure

    def check(self) -> None:
        """Raise what went wrong on the way."""
        if self._failure is not None:
            self._failure.raiseException()

    async def complete(self) -> None:
        """Wait until every message is in its place; raises what went wrong on the way."""
        if self.staged is not None:
            await self.staged
        self.check()

    def close(self) -> None:
        self.records.close()


class Work:
    """The replica of one connection, and the bulk of the command that is being read."""

    def __init__(
        self, replica: StoreReplica, threads: ThreadRunner, staging: Path, measures: Measures
    ) -> None:
        self.replica = replica
        self._threads = threads
        self._staging = staging
        self._measures = measures
        self._bulk = SentAhead(staging)
        self._large: NamelessFile | None = None
        self._start: MessageStart | None = None
        self._in_flight = 0

    def take(self, event: Any) -> Deferred[Any] | None:
        """A part of the command that is being read."""
        match event:
            case MessageData(messages):
                octets = sum(body.octets for body in messages)
                self._count(len(messages), octets)
                return self._stage(messages, octets + _OVERHEAD * len(messages))
            case RecordBatch(records):
                return self._collect(records)
            case MessageStart():
                self._start = event
                self._count(1, 0)
            case MessageChunk(data):
                self._count(0, len(data))
                return self._grow(data)
            case MessageEnd():
                return self._stage_large()
        return None

    @property
    def staged(self) -> tuple[int, int, int]:
        """Messages that have come and are in no mailbox yet; their octets in memory and on disk."""
        staging = self.replica.staging
        return len(staging), staging.memory, staging.spilled

    def _count(self, messages: int, octets: int) -> None:
        self._measures.messages += messages
        self._measures.message_bytes += octets

    def _stage(self, messages: Sequence[MessageBody], octets: int) -> Deferred[Any] | None:
        staged = self.replica.message([messages])
        staged.addErrback(self._bulk.failed)
        self._bulk.staged = staged
        self._in_flight += octets
        if self._in_flight <= MOST_IN_FLIGHT:
            staged.addCallback(self._landed, octets)
            return None
        waiting: Deferred[None] = Deferred()
        staged.addCallback(self._landed, octets, waiting)
        return waiting

    def _landed(self, _: object, octets: int, waiting: Deferred[None] | None = None) -> None:
        self._in_flight -= octets
        if waiting is not None:
            waiting.callback(None)

    def _collect(self, records: Sequence[Record]) -> Deferred[Any] | None:
        if self._bulk.records.fits(records):
            self._bulk.records.add(records)
            return None
        return self._off_the_reactor(self._bulk.records.add, records)

    def _grow(self, data: bytes) -> Deferred[Any] | None:
        """A piece of a large message. After a failure the rest is only read, not kept."""
        start = self._start
        if start is None:
            return None

        def write() -> None:
            if self._large is None:
                self._large = NamelessFile(self._staging)
            self._large.write(data)

        return self._off_the_reactor(write)

    def _stage_large(self) -> Deferred[Any] | None:
        start, self._start = self._start, None
        large, self._large = self._large, None
        if start is None or large is None:
            return None
        body = MessageBody(start.partition, start.guid, start.size, large, start.encoding)
        self._stage([body], 0)
        assert self._bulk.staged is not None
        self._bulk.staged.addCallback(lambda _: large.close())
        return None

    def _off_the_reactor(self, function: Callable[..., None], *arguments: Any) -> Deferred[Any]:
        bulk = self._bulk

        def failed(failure: Failure) -> None:
            bulk.failed(failure)
            self._drop_large()

        return self._threads.run(function, *arguments).addErrback(failed)

    def _drop_large(self) -> None:
        self._start = None
        large, self._large = self._large, None
        if large is not None:
            large.close()

    def take_bulk(self) -> SentAhead:
        """The command is complete: what it has sent, which now belongs to the caller."""
        bulk, self._bulk = self._bulk, SentAhead(self._staging)
        self._drop_large()
        return bulk

    def forget_bulk(self) -> None:
        """The command is void."""
        self.take_bulk().close()

    def restore(self, state: MailboxState, records: RecordSource) -> Deferred[None]:
        """RESTORE MAILBOX, in order with the verbs of the replica. LOCAL_ means nothing without a Murder."""
        return restore(self.replica, state, records)

    def close(self) -> None:
        """The connection has ended: nothing staged stays."""
        self.forget_bulk()
        self.replica.close()
