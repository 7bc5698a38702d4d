"""`CyrusMail`: the mail of a real Cyrus as a site has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from cyrus_sync.common.config import Config
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.errors import OnlyRead
from cyrus_sync.multisite.mail import SiteReader, SiteWriter
from cyrus_sync.spool.master import SpoolByGuid, SpoolMaster
from cyrus_sync.spool.server import Server


class CyrusMail:
    """A `SiteMail`. What packets bring of it is refused: `OnlyRead` says so of each owner."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.master = SpoolMaster(server)
        """For capture, and for whoever knows where a message is."""
        self._mail: SpoolByGuid = self.master.by_guid()

    @classmethod
    def from_config(cls, config: Config) -> CyrusMail:
        """Raises `ConfigError`. Nothing is opened before it is asked for."""
        return cls(Server.from_config(config))

    def check(self) -> None:
        """Raises `StoreError` where the spool is not there, or not for us."""
        self._server.check()

    def owners(self) -> Iterator[Owner]:
        return self.master.owners()

    def exists(self, owner: Owner) -> bool:
        return self.master.exists(owner)

    def owner_of_uniqueid(self, uniqueid: str) -> Owner | None:
        return self.master.owner_of_uniqueid(uniqueid)

    def read(self, owner: Owner) -> AbstractContextManager[SiteReader]:
        return self._mail.read(owner)

    @contextmanager
    def write(self, owner: Owner, *, timeout: float = 5.0) -> Iterator[SiteWriter]:
        del timeout
        raise OnlyRead().at(user=str(owner))
        yield  # a context manager, that nobody enters

    def together(self) -> _Together:
        return _Together()

    def rename(
        self,
        old: str,
        new: str,
        *,
        partition: str = "",
        log: bool,
        timeout: float = 5.0,
        without_inbox: bool = False,
    ) -> None:
        del new, partition, log, timeout, without_inbox
        raise OnlyRead().at(mailbox=old)

    def close(self) -> None:
        self.master.close()


class _Together:
    """No owner of this mail is ever changed."""

    may_grow = False

    def writer(self, owner: Owner, timeout: float) -> SiteWriter:
        raise OnlyRead().at(user=str(owner))

    def commit(self) -> None:
        """There is nothing."""

    def undo(self) -> None:
        """There is nothing."""
