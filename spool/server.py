"""Everything of a real Cyrus's spool that is not one mailbox's: its configuration, its lists, its paths."""

from __future__ import annotations

import os

from cyrus_sync.common.config import Config
from cyrus_sync.common.errors import StoreError
from cyrus_sync.common.names import Owner, inbox_of
from cyrus_sync.common.stores import disk
from cyrus_sync.spool.config import SpoolConfig
from cyrus_sync.spool.counters import read_raclmodseq
from cyrus_sync.spool.databases import Databases
from cyrus_sync.spool.entries import Entry
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.mailboxes import MailboxList
from cyrus_sync.spool.paths import Paths
from cyrus_sync.spool.quotas import QuotaRoots


class Server:
    """Safe between threads. What the daemons change shows at the next call."""

    def __init__(self, config: SpoolConfig) -> None:
        self.config = config
        self.databases = Databases(config)
        self.mailboxes = MailboxList(self.databases)
        self.paths = Paths(config)
        self.quotas = QuotaRoots(config, self.databases, self.paths)

    @classmethod
    def from_config(cls, cfg: Config) -> Server:
        """Raises `ConfigError`. Nothing is opened before it is asked for."""
        return cls(SpoolConfig.from_config(cfg))

    def check(self) -> None:
        """Raises `StoreError` where the list of mailboxes, or a partition, is not there or not for us."""
        self.mailboxes.keeps_by_id()
        for name, directory in self.config.partitions.items():
            try:
                next(os.scandir(directory), None)
            except OSError as error:
                raise StoreError(f"partition-{name}: {disk.why(error, str(directory))}") from error

    def close(self) -> None:
        self.databases.close()

    def files(self, entry: Entry) -> MailboxFiles:
        """Of a mailbox. Raises `StoreError` for a partition that is not configured."""
        by_name = entry.by_name or not self.mailboxes.keeps_by_id()
        return self.paths.mailbox(entry.name, entry.uniqueid, entry.partition, by_name=by_name)

    def inbox_id(self, userid: str) -> str:
        """The unique id under which a user's files are kept, "" where it is his name."""
        entry = self.mailboxes.entry(inbox_of(userid))
        if entry is None or entry.tombstone or entry.by_name or not self.mailboxes.keeps_by_id():
            return ""
        return entry.uniqueid

    def raclmodseq(self, owner: Owner, inbox_id: str) -> int:
        """When rights on a user's mailboxes changed last; 0 where nobody counts that."""
        if owner.kind != "user":
            return 0
        return read_raclmodseq(self.paths.of_user(owner.name, "counters", inbox_id))
