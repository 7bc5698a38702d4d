"""`CyrusMail`: the mail of a real Cyrus as a site has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import MailboxNonexistent
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.multisite.cyrus.server import OwnServer
from cyrus_sync.multisite.cyrus.writer import CyrusWriter
from cyrus_sync.multisite.mail import SiteReader, SiteWriter
from cyrus_sync.spool.master import SpoolByGuid, SpoolMaster
from cyrus_sync.spool.server import Server


class CyrusMail:
    """A `SiteMail`, read in the spool and changed through the own csync server of the Cyrus. Where imapd.conf
    names none (`cyrus_csync`), every change is refused: `OnlyRead`."""

    def __init__(self, config: Config) -> None:
        """Raises `ConfigError`. Nothing is opened before it is asked for."""
        self._server = Server.from_config(config)
        self.master = SpoolMaster(self._server)
        """For capture, and for whoever knows where a message is."""
        self._mail: SpoolByGuid = self.master.by_guid()
        self._own = OwnServer(config, self.master)

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

    def writer(self, owner: Owner) -> CyrusWriter:
        """Raises `OnlyRead`. To be closed after what was decided was carried out, or is to be forgotten."""
        self._own.check()
        return CyrusWriter(owner, lambda: self._mail.read(owner), self._own)

    @contextmanager
    def write(self, owner: Owner, *, timeout: float = 5.0) -> Iterator[SiteWriter]:
        """That server locks what it changes while it does so; nobody waits for a lock here."""
        del timeout
        writer = self.writer(owner)
        try:
            yield writer
            writer.carry_out()
        finally:
            writer.close()

    def together(self) -> _Together:
        return _Together(self)

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
        """That server logs it if `sync_log_chain` says so; whoever renames for good captures it anyway."""
        del log, timeout, without_inbox
        self._own.check()
        with self.read(owner_of(old)) as reader:
            state = reader.mailbox(old)
        if state is None:
            raise MailboxNonexistent().at(mailbox=old)
        self._own.call(lambda server: server.rename(old, new, partition or state.partition))

    def close(self) -> None:
        self._own.close()
        self.master.close()


class _Together:
    """One owner's changes at a time. Each counts when that server has answered."""

    may_grow = False

    def __init__(self, mail: CyrusMail) -> None:
        self._mail = mail
        self._writers: list[CyrusWriter] = []

    def writer(self, owner: Owner, timeout: float) -> SiteWriter:
        del timeout  # that server locks what it changes while it does so
        writer = self._mail.writer(owner)
        self._writers.append(writer)
        return writer

    def commit(self) -> None:
        """Carry out what was only decided."""
        writers, self._writers = self._writers, []
        try:
            for writer in writers:
                writer.carry_out()
        finally:
            for writer in writers:
                writer.close()

    def undo(self) -> None:
        """Forget what was only decided."""
        writers, self._writers = self._writers, []
        for writer in writers:
            writer.close()
