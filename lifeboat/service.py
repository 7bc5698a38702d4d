"""What all connections share: the store, threads, login, certificates, and who is connected."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Self

from twisted.internet.defer import Deferred, DeferredSemaphore

from cyrus_sync.common import __version__
from cyrus_sync.common.config import Config
from cyrus_sync.common.descriptors import share_out
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.namespace import Namespace
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.stores import open_store
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.wire.certificates import read_again
from cyrus_sync.common.wire.guessing import Guessing
from cyrus_sync.common.wire.sasl.server import SaslServer
from cyrus_sync.common.wire.tls import ServerTLS, server_context
from cyrus_sync.lifeboat.account import Account
from cyrus_sync.lifeboat.names import UserNames

log = logging.getLogger("lifeboat")

_SHARED_SECONDS = 600.0
"""So old may be what is known of which shared mailboxes there are."""


class Lifeboat:
    """The server apart from its connections."""

    def __init__(
        self,
        config: Config,
        store: MailStore,
        reactor: Reactor,
        *,
        threads: ThreadRunner,
        sasl: SaslServer,
        tls: ServerTLS | None = None,
    ) -> None:
        self.config = config
        self.store = store
        self.reactor = reactor
        self.threads = threads
        self.sasl = sasl
        self.tls = tls
        self.failed_login_pause = float(config.duration("failedloginpause"))
        self.guessing = Guessing(self.failed_login_pause, reactor.seconds)
        self.few = DeferredSemaphore(share_out().owners)
        """Answers that hold a reader open while their client takes them."""
        self.most = share_out().connections
        self.banner = f"{config.servername} cyrus-sync lifeboat {__version__}".encode()
        self._namespace = Namespace.from_config(config)
        self._shared: Sequence[Owner] = ()

    @classmethod
    def open(cls, config: Config, reactor: Reactor) -> Self:
        """As imapd.conf has it; the store is opened for reading. `ConfigError`, `StoreError`."""
        tls = server_context(config)
        sasl = SaslServer.from_config(config, reactor)
        store = open_store(config, readonly=True, log=False)
        threads = ThreadRunner(reactor, share_out().threads, "lifeboat")
        return cls(config, store, reactor, threads=threads, sasl=sasl, tls=tls)

    def close(self) -> None:
        """After the last connection."""
        self.store.close()

    def reload_certificates(self) -> None:
        """SIGHUP. Bad files leave the certificates in use as they are."""
        if self.tls is not None:
            read_again(self.tls, log)

    async def account(self, login: str) -> Account:
        """What a user can see. `BadName` for who can have no mail."""
        names = UserNames.from_config(self.config, self._namespace.userid(login))
        return Account(self.store, names, lambda: self._shared)

    def look_for_shared(self) -> None:
        """Find out which shared mailboxes there are, now and from time to time."""

        def found(owners: Sequence[Owner]) -> None:
            self._shared = owners

        def failed(failure: object) -> None:
            log.warning("shared mailboxes cannot be listed: %s", failure)

        looked = self.threads.run(self._shared_owners)
        looked.addCallbacks(found, failed)
        looked.addBoth(lambda _: self.reactor.callLater(_SHARED_SECONDS, self.look_for_shared))

    def _shared_owners(self) -> Sequence[Owner]:
        try:
            return [owner for owner in self.store.owners() if owner.kind == "shared"]
        except CyrusSyncError as error:
            log.warning("shared mailboxes cannot be listed: %s", error)
            return ()

    def sleep(self, seconds: float) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self.reactor.callLater(seconds, done.callback, None)
        return done
