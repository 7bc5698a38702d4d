"""A mail store as the `Master` of a replication."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import MailboxNonexistent, SyncChanged
from cyrus_sync.common.master import Fetched, KnownUser, Settlement, Unreadable
from cyrus_sync.common.model import MailboxState, MessageBody, MessageSource, Record
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import MailReader, MailStore, MailWriter

_AFTERWARDS = ("last_uid", "foldermodseq", "raclmodseq")
"""Counters that are raised when messages have been adopted under their own UIDs."""

HEAL_TIMEOUT = 60.0
"""Seconds that a message which was fetched waits for its owner's lock."""


class NativeMaster:
    """Replicates from a `MailStore`: snapshots cover the whole owner, a settlement is one transaction."""

    scripts_are_mail = True

    def __init__(self, store: MailStore, refuses: Callable[[], str] = lambda: "") -> None:
        """`refuses` says why nothing may be settled in the store now."""
        self._store = store
        self._refuses = refuses

    @property
    def refuses(self) -> str:
        return self._refuses()

    def owners(self) -> Iterator[Owner]:
        return self._store.owners()

    def known_users(self) -> Mapping[str, KnownUser]:
        return self._store.known_users()

    def exists(self, owner: Owner) -> bool:
        return self._store.exists(owner)

    def owner_of_uniqueid(self, uniqueid: str) -> Owner | None:
        return self._store.owner_of_uniqueid(uniqueid)

    def read(self, owner: Owner) -> AbstractContextManager[MailReader]:
        return self._store.read(owner)

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
        del uniqueid  # the store keeps messages by owner and GUID
        return _Messages(self._store, owner, [guid for _, guid in wanted], partition, encoding, unreadable)

    def settle(self, owner: Owner, settlement: Settlement) -> Sequence[int]:
        with self._store.write(owner, create=False) as writer:
            now = writer.mailbox_by_id(settlement.uniqueid)
            if now is None:
                raise MailboxNonexistent().at(mailbox=settlement.name, uniqueid=settlement.uniqueid)
            if not settlement.still_holds(now, _changed(writer, now, settlement.base)):
                raise SyncChanged().at(mailbox=now.name, uniqueid=now.uniqueid)
            carry_out(writer, settlement)
        return settlement.expunge

    def damaged_owners(self) -> list[Owner]:
        return self._store.damaged_owners()

    def damaged(self, owner: Owner) -> set[bytes]:
        with self._store.read(owner) as reader:
            marked = reader.damaged_guids()
            return reader.unsound(marked) if marked else set()

    def heal(self, owner: Owner, body: MessageBody) -> None:
        with self._store.write(owner, create=False, timeout=HEAL_TIMEOUT) as writer:
            writer.heal(body)

    def close(self) -> None:
        self._store.close()


@dataclass(frozen=True, slots=True)
class _Messages:
    """Messages of one owner by GUID (`common.model.MessageSource`); reads when it is iterated."""

    store: MailStore
    owner: Owner
    guids: Sequence[bytes]
    partition: str
    encoding: str
    unreadable: Unreadable | None

    def __iter__(self) -> Iterator[Sequence[MessageBody]]:
        with self.store.read(self.owner) as reader:
            yield from reader.bodies(self.guids, self.partition, self.encoding, unreadable=self.unreadable)


def _changed(writer: MailWriter, now: MailboxState, base: MailboxState) -> Iterator[Record]:
    if now.highestmodseq != base.highestmodseq:
        for batch in writer.records(now.uniqueid, since_modseq=base.highestmodseq):
            yield from batch


def carry_out(writer: MailWriter, settlement: Settlement) -> None:
    """All of a settlement but what the replica has to do, in one transaction of the caller's."""
    uniqueid, counters = settlement.uniqueid, settlement.counters
    writer.raise_counters(uniqueid, **{n: value for n, value in counters.items() if n not in _AFTERWARDS})
    for record in settlement.adopt:
        _adopt(writer, uniqueid, record, settlement.bodies, keep_uid=True)
    writer.raise_counters(uniqueid, **{n: value for n, value in counters.items() if n in _AFTERWARDS})
    for one in settlement.renumber:
        if one.adopted:
            _adopt(writer, uniqueid, one.record, settlement.bodies, keep_uid=False)
        else:
            writer.adopt(uniqueid, one.record, None, keep_uid=False)
    if settlement.rewrite:
        writer.rewrite_records(uniqueid, settlement.rewrite)
    if settlement.annotations is not None:
        writer.replace_mailbox_annotations(uniqueid, settlement.annotations)


def _adopt(writer: MailWriter, uniqueid: str, record: Record, bodies: Fetched, *, keep_uid: bool) -> None:
    writer.adopt(uniqueid, record, bodies.get(record.guid), keep_uid=keep_uid)
