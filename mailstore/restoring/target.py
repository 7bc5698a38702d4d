"""Where a restore goes: a csync server, or this store itself, by the same verbs."""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import Deferred

from cyrus_sync.common.protocol.commands import ADDITIONS
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.replica import Replica
from cyrus_sync.common.stores.replica import SIEVE_MAILBOX, StoreReplica
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.wire.client import ClientSettings, connect
from cyrus_sync.common.wire.replica import WireReplica
from cyrus_sync.mailstore.context import LOCK_SECONDS, StoreContext


class Opened(Replica, Protocol):
    """A replica that is to be closed."""

    def close(self) -> Deferred[None]: ...


class Target(Protocol):
    """`name` is what it is called where it is said what is done there."""

    @property
    def name(self) -> str: ...

    async def open(self, reactor: Reactor, threads: ThreadRunner) -> Opened:
        """A connection; whoever has it closes it. Raises a `CyrusSyncError`."""


class ServerTarget:
    """A csync server."""

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings
        self.name = str(settings.server)

    async def open(self, reactor: Reactor, threads: ThreadRunner) -> Opened:
        session = await connect(reactor, self._settings)
        return await WireReplica.start(
            session, {SIEVE_MAILBOX, ADDITIONS}, threads, timeout=self._settings.idle_timeout
        )


class StoreTarget:
    """The store of this configuration. What is added is passed on as a local change would be, when the
    caller writes the owners to the action log."""

    name = "this store"

    def __init__(self, context: StoreContext) -> None:
        self._context = context

    async def open(self, reactor: Reactor, threads: ThreadRunner) -> Opened:
        context = self._context
        return StoreReplica(
            context.store(),
            threads,
            partitions=context.config.partitions,
            staging_dir=context.care().staging(),
            capabilities=frozenset({SIEVE_MAILBOX}),
            lock_timeout=LOCK_SECONDS,
        )
