"""`SpoolMaster`: the mail of a real Cyrus, beside its running daemons, as the master of a replication.

The spool is only ever read. What has to be changed on it, because both sides were, is somebody else's work
(`Settles`), or else reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn, Protocol

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import SettlementRefused, StoreCorrupt
from cyrus_sync.common.master import KnownUser, Master, Settlement, Unreadable
from cyrus_sync.common.model import MessageBody, MessageSource
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.stores.care import Problem
from cyrus_sync.spool.checking import Read, problems_of, uncounted
from cyrus_sync.spool.held import HeldMessages
from cyrus_sync.spool.messages import Messages
from cyrus_sync.spool.reader import SpoolReader
from cyrus_sync.spool.server import Server

REFUSES = (
    "the spool of a real Cyrus is only read: name its own csync server in cyrus_csync, which can settle"
    " it; or say sync_client -O, with which the master is always right"
)

_OWNERS_KEPT = 4


class Settles(Protocol):
    """Who changes the mail of a real Cyrus for us."""

    def settle(self, master: Master, owner: Owner, settlement: Settlement) -> Sequence[int]:
        """As `Master.settle`; `master` is who can be read."""

    def close(self) -> None: ...


class SpoolMaster:
    """A `Master`. Safe between threads. Without `settles` nothing can be changed on it."""

    def __init__(self, server: Server, settles: Settles | None = None) -> None:
        self._server = server
        self._settles = settles
        self.refuses = REFUSES if settles is None else ""

    @property
    def scripts_are_mail(self) -> bool:
        """Whether Sieve scripts are messages of ``#sieve``, and travel as such."""
        return self._server.mailboxes.keeps_by_id()

    def known_users(self) -> Mapping[str, KnownUser]:
        """Nobody: a spool has to be read."""
        return {}

    def owners(self) -> Iterator[Owner]:
        return iter(self._server.mailboxes.owners())

    def exists(self, owner: Owner) -> bool:
        if any(entry.live for entry in self._server.mailboxes.of_owner(owner)):
            return True
        with self.read(owner) as reader:
            meta = reader.meta(with_sieve=False)
            return bool(meta.seen or meta.subscriptions or reader.quotas())

    def owner_of_uniqueid(self, uniqueid: str) -> Owner | None:
        entry = self._server.mailboxes.by_id(uniqueid)
        return owner_of(entry.name) if entry is not None else None

    @contextmanager
    def read(self, owner: Owner) -> Iterator[SpoolReader]:
        reader = SpoolReader(self._server, owner)
        try:
            yield reader
        finally:
            reader.close()

    def messages(
        self,
        owner: Owner,
        uniqueid: str,
        wanted: Sequence[tuple[int, bytes]],
        partition: str = "",
        encoding: str = "identity",
        *,
        unreadable: Unreadable | None = None,
    ) -> MessageSource:
        del owner  # the mailbox knows its messages
        return _Messages(self._server, uniqueid, wanted, partition, encoding, unreadable)

    def settle(self, owner: Owner, settlement: Settlement) -> Sequence[int]:
        if self._settles is not None:
            return self._settles.settle(self, owner, settlement)
        raise SettlementRefused(f"{settlement.describe()}: {REFUSES}").at(
            user=owner.name, mailbox=settlement.name, uniqueid=settlement.uniqueid
        )

    def by_guid(self) -> SpoolByGuid:
        """The same mail, for who asks for messages by GUID."""
        return SpoolByGuid(self, self._server)

    def problems(self, owner: Owner, read: Read = uncounted) -> Iterator[Problem]:
        """All that is wrong with what an owner has here; every message is read, and `read` told of it."""
        return problems_of(self._server, owner, read)

    def damaged_owners(self) -> list[Owner]:
        return []

    def damaged(self, owner: Owner) -> set[bytes]:
        del owner
        return set()

    def heal(self, owner: Owner, body: MessageBody) -> NoReturn:
        raise SettlementRefused(REFUSES).at(user=owner.name)

    def close(self) -> None:
        if self._settles is not None:
            self._settles.close()
        self._server.close()


class SpoolByGuid:
    """The mail of a real Cyrus, read by GUID as a store is. What was learned of an owner's messages is kept
    for the few owners who were read last."""

    def __init__(self, master: SpoolMaster, server: Server) -> None:
        self._master = master
        self._server = server
        self._held: dict[Owner, HeldMessages] = {}
        """The one who was read last comes last."""

    def owners(self) -> Iterator[Owner]:
        return self._master.owners()

    def exists(self, owner: Owner) -> bool:
        return self._master.exists(owner)

    @contextmanager
    def read(self, owner: Owner) -> Iterator[SpoolReader]:
        held = self._held.pop(owner, None) or HeldMessages(self._server, owner)
        held.grow_old()
        self._held[owner] = held
        while len(self._held) > _OWNERS_KEPT:
            del self._held[next(iter(self._held))]
        reader = SpoolReader(self._server, owner, held)
        try:
            yield reader
        finally:
            reader.close()


@dataclass(frozen=True, slots=True)
class _Messages:
    """Messages of a mailbox, wherever it is when they are read."""

    server: Server
    uniqueid: str
    wanted: Sequence[tuple[int, bytes]]
    partition: str
    encoding: str
    unreadable: Unreadable | None

    def __iter__(self) -> Iterator[Sequence[MessageBody]]:
        entry = self.server.mailboxes.by_id(self.uniqueid)
        if entry is not None:
            files = self.server.files(entry)
            yield from Messages(files, self.wanted, self.partition, self.unreadable, self.encoding)
            return
        for _, guid in self.wanted:
            gone = StoreCorrupt("the mailbox is gone").at(uniqueid=self.uniqueid, guid=guid.hex())
            if self.unreadable is None:
                raise gone
            self.unreadable(guid, gone)
