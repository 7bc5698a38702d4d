"""Messages that cannot be read here, brought back from the other end of the replication."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, CyrusSyncError, PeerError, ReplyError
from cyrus_sync.common.model import MailboxState
from cyrus_sync.common.names import Owner
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.replica import Replica
from cyrus_sync.common.stores.healing import Healed, heal
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.stores.master import NativeMaster
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.wire.client import ClientSettings, connect
from cyrus_sync.common.wire.replica import WireReplica
from cyrus_sync.mailstore.context import StoreContext


class FromPeer:
    """One run, once the reactor runs. `damaged`: the GUIDs of what cannot be read, by owner."""

    def __init__(
        self,
        context: StoreContext,
        store: MailStore,
        settings: ClientSettings,
        damaged: dict[Owner, set[bytes]],
    ) -> None:
        self._context = context
        self._store = store
        self._master = NativeMaster(store)
        self._settings = settings
        self._damaged = damaged

    async def go(self, reactor: Reactor) -> int:
        """Connect, fetch, store; the exit status: 1 if something could not be healed."""
        threads = ThreadRunner(reactor)
        session = await connect(reactor, self._settings)
        replica = await WireReplica.start(
            session, {"SIEVE-MAILBOX"}, threads, timeout=self._settings.idle_timeout
        )
        status = EX_OK
        try:
            for owner, guids in self._damaged.items():
                try:
                    theirs = await self._theirs(replica, threads, owner)
                    done = await heal(self._master, replica, threads, owner, theirs=theirs, guids=guids)
                except CyrusSyncError as error:
                    if isinstance(error, PeerError) and not isinstance(error, ReplyError):
                        raise
                    self._context.warn(f"{self._context.owner_name(owner)}: {error}")
                    status = EX_FAILURE
                else:
                    self._tell(done)
                    status = EX_FAILURE if done.lacking else status
        finally:
            await replica.close()
        return status

    async def _theirs(self, replica: Replica, threads: ThreadRunner, owner: Owner) -> list[MailboxState]:
        if owner.kind == "user":
            return list((await replica.get_user(owner.name)).mailboxes)
        return await replica.get_mailboxes(await threads.run(_names, self._store, owner))

    def _tell(self, done: Healed) -> None:
        context, server = self._context, self._settings.server
        for place in done.healed:
            name = context.external(place.mailbox)
            context.print(f"{name} uid {place.uid}: {place.guid.hex()} healed from {server}")
        for place, reason in done.lacking:
            name = context.external(place.mailbox)
            context.warn(f"{name} uid {place.uid}: {place.guid.hex()} cannot be healed: {reason}")


def _names(store: MailStore, owner: Owner) -> list[str]:
    with store.read(owner) as reader:
        return [state.name for state in reader.mailboxes()]
