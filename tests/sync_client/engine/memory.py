"""A master in memory: what `common.master` asks of one, and nothing else. It knows of no store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from cyrus_sync.common.errors import CyrusSyncError, MailboxNonexistent, StoreCorrupt, SyncChanged
from cyrus_sync.common.master import KnownUser, Settlement, Unreadable
from cyrus_sync.common.model import (
    MailboxAnnotation,
    MailboxState,
    MessageBody,
    MessageSource,
    Quota,
    Record,
    RecordSource,
    Seen,
    Tombstone,
    UserMeta,
)
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.protocol.crc import mailbox_crcs


@dataclass
class Box:
    """One mailbox: its header, its records by UID, its messages by UID."""

    state: MailboxState
    records: dict[int, Record] = field(default_factory=dict)
    files: dict[int, bytes] = field(default_factory=dict)

    def put(self, record: Record, data: bytes | None = None) -> None:
        """Store a record as it is; counters and CRCs follow."""
        self.records[record.uid] = record
        if data is not None:
            self.files[record.uid] = data
        crc, crc_annot = mailbox_crcs(self.records[uid] for uid in sorted(self.records))
        self.state = replace(
            self.state,
            last_uid=max(self.state.last_uid, record.uid),
            highestmodseq=max(self.state.highestmodseq, record.modseq),
            sync_crc=crc,
            sync_crc_annot=crc_annot,
        )

    def deliver(self, *texts: str) -> None:
        """New mail."""
        for text in texts:
            data = f"Subject: {text}\r\n\r\n{text}\r\n".encode()
            guid = hashlib.sha1(data).digest()
            uid, modseq = self.state.last_uid + 1, self.state.highestmodseq + 1
            date = 1_600_000_000 + uid
            self.put(Record(uid, modseq, date, "", False, date, len(data), guid, createdmodseq=modseq), data)

    def change(self, uid: int, **fields: object) -> None:
        """A record changes, with a new modseq."""
        modseq = self.state.highestmodseq + 1
        changed = self.records[uid]._replace(modseq=modseq, **fields)  # type: ignore[arg-type]
        self.put(changed._replace(last_updated=changed.last_updated + 1))

    def clean_up(self, uid: int) -> None:
        """An expunged record goes for good."""
        gone = self.records.pop(uid)
        self.files.pop(uid, None)
        crc, crc_annot = mailbox_crcs(self.records[uid] for uid in sorted(self.records))
        self.state = replace(
            self.state,
            sync_crc=crc,
            sync_crc_annot=crc_annot,
            deletedmodseq=max(self.state.deletedmodseq, gone.modseq),
        )


class MemoryMaster:
    """Mailboxes by name. A snapshot covers a mailbox alone; `troubles` are raised to whoever asks for one."""

    refuses = ""
    scripts_are_mail = True

    def __init__(self) -> None:
        self.boxes: dict[str, Box] = {}
        self.stones: list[Tombstone] = []
        self.meta = UserMeta()
        self.quotas: list[Quota] = []
        self.troubles: dict[str, CyrusSyncError | list[CyrusSyncError]] = {}
        self.settled: list[Settlement] = []

    def create(self, name: str, uniqueid: str) -> Box:
        state = MailboxState(
            uniqueid=uniqueid, name=name, uidvalidity=1000, highestmodseq=1, partition="default",
            acl="alice\tlrs\t", options="P", createdmodseq=1, foldermodseq=1,
        )  # fmt: skip
        self.boxes[name] = Box(state)
        return self.boxes[name]

    def trouble(self, name: str) -> None:
        """Raise what waits for the mailbox: once for each of a list."""
        waiting = self.troubles.get(name)
        if isinstance(waiting, list):
            if waiting:
                raise waiting.pop(0)
        elif waiting is not None:
            raise waiting

    def by_id(self, uniqueid: str) -> Box | None:
        return next((box for box in self.boxes.values() if box.state.uniqueid == uniqueid), None)

    # -- Master

    def known_users(self) -> Mapping[str, KnownUser]:
        return {}

    def owners(self) -> Iterator[Owner]:
        yield from dict.fromkeys(owner_of(name) for name in sorted(self.boxes))

    def exists(self, owner: Owner) -> bool:
        return owner in set(self.owners())

    def owner_of_uniqueid(self, uniqueid: str) -> Owner | None:
        box = self.by_id(uniqueid)
        return owner_of(box.state.name) if box else None

    @contextmanager
    def read(self, owner: Owner) -> Iterator[MemoryReader]:
        yield MemoryReader(self, owner)

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
        box = self.by_id(uniqueid)
        assert box is not None
        assert owner_of(box.state.name) == owner
        return _Messages(box.files, wanted, partition, unreadable)

    def settle(self, owner: Owner, settlement: Settlement) -> Sequence[int]:
        box = self.by_id(settlement.uniqueid)
        if box is None:
            raise MailboxNonexistent
        base = settlement.base
        since = [record for record in box.records.values() if record.modseq > base.highestmodseq]
        if not settlement.still_holds(box.state, since):
            raise SyncChanged
        self.settled.append(settlement)
        box.state = replace(box.state, **settlement.raised)
        for record in settlement.adopt:
            self._add(box, settlement, record, record.uid)
        for one in settlement.renumber:
            self._add(box, settlement, one.record, box.state.last_uid + 1)
        for record in settlement.rewrite:
            box.put(record._replace(modseq=box.state.highestmodseq + 1))
        if settlement.annotations is not None:
            box.state = replace(box.state, annotations=settlement.annotations)
        return settlement.expunge

    def _add(self, box: Box, settlement: Settlement, record: Record, uid: int) -> None:
        body = settlement.bodies.get(record.guid)
        data = box.files[record.uid] if body is None else body.data
        assert isinstance(data, bytes)
        box.put(record._replace(uid=uid, modseq=box.state.highestmodseq + 1), data)

    def damaged_owners(self) -> list[Owner]:
        return []

    def damaged(self, owner: Owner) -> set[bytes]:
        del owner
        return set()

    def heal(self, owner: Owner, body: MessageBody) -> None:
        raise AssertionError("nothing is damaged")

    def close(self) -> None:
        """Nothing is open."""


class ReadOnlyMaster(MemoryMaster):
    """One that takes no changes."""

    refuses = "this spool is only read: set cyrus_csync"

    def settle(self, owner: Owner, settlement: Settlement) -> Sequence[int]:
        raise AssertionError("must not be asked")


@dataclass(frozen=True)
class _Messages:
    files: Mapping[int, bytes]
    wanted: Sequence[tuple[int, bytes]]
    partition: str
    unreadable: Unreadable | None

    def __iter__(self) -> Iterator[Sequence[MessageBody]]:
        for uid, guid in self.wanted:
            data = self.files.get(uid)
            if data is not None:
                yield [MessageBody(self.partition, guid, len(data), data)]
            elif self.unreadable is None:
                raise StoreCorrupt(f"no file of {uid}").at(guid=guid.hex())
            else:
                self.unreadable(guid, StoreCorrupt("no file"))


class MemoryReader:
    """Holds a copy of each mailbox from the first question for it."""

    def __init__(self, master: MemoryMaster, owner: Owner) -> None:
        self.owner = owner
        self._master = master
        self._held: dict[str, Box | None] = {}

    def _hold(self, name: str) -> Box | None:
        if owner_of(name) != self.owner:
            return None
        self._master.trouble(name)
        if name not in self._held:
            box = self._master.boxes.get(name)
            self._held[name] = box and Box(box.state, dict(box.records), dict(box.files))
        return self._held[name]

    def _hold_id(self, uniqueid: str) -> Box | None:
        box = self._master.by_id(uniqueid)
        return self._hold(box.state.name) if box else None

    def mailboxes(self) -> list[MailboxState]:
        states = []
        for name in sorted(self._master.boxes):
            if owner_of(name) == self.owner:
                state = self._master.boxes[name].state
                if isinstance(self._master.troubles.get(name), CyrusSyncError):
                    state = MailboxState(state.uniqueid, state.name, partition=state.partition)
                states.append(state)
        return states

    def mailbox(self, name: str) -> MailboxState | None:
        box = self._hold(name)
        return box.state if box else None

    def mailbox_by_id(self, uniqueid: str) -> MailboxState | None:
        box = self._hold_id(uniqueid)
        return box.state if box else None

    def tombstones(self) -> list[Tombstone]:
        return [stone for stone in self._master.stones if owner_of(stone.name) == self.owner]

    def tombstone(self, uniqueid: str) -> Tombstone | None:
        found = [stone for stone in self.tombstones() if stone.uniqueid == uniqueid]
        return max(found, key=lambda stone: stone.modseq, default=None)

    def former_names(self, uniqueid: str) -> list[str]:
        del uniqueid
        return []

    def records(
        self, uniqueid: str, *, since_modseq: int = 0, above_uid: int = 0, batch: int = 2000
    ) -> RecordSource:
        box = self._hold_id(uniqueid)
        rows = sorted(box.records.values()) if box else []
        wanted = [row for row in rows if row.modseq > since_modseq and row.uid > above_uid]
        return [wanted[begin : begin + batch] for begin in range(0, len(wanted), batch)]

    def new_guids(self, uniqueid: str, above_uid: int) -> Iterator[list[tuple[int, bytes]]]:
        for batch in self.records(uniqueid, above_uid=above_uid):
            yield [(record.uid, record.guid) for record in batch]

    def recalculate_crcs(self, uniqueid: str) -> tuple[int, int]:
        return mailbox_crcs(record for batch in self.records(uniqueid) for record in batch)

    def has_guids(self, guids: Iterable[bytes]) -> set[bytes]:
        del guids
        return set()

    def readable(
        self, uniqueid: str, messages: Iterable[tuple[int, bytes]], *, verify: bool = False
    ) -> set[bytes]:
        box = self._hold_id(uniqueid)
        return {guid for uid, guid in messages if not verify or (box and uid in box.files)}

    def damaged_guids(self) -> set[bytes]:
        return set()

    def quotas(self) -> list[Quota]:
        return self._master.quotas

    def quota(self, root: str) -> Quota | None:
        return next((quota for quota in self._master.quotas if quota.root == root), None)

    def meta(self, *, with_sieve: bool) -> UserMeta:
        return self._master.meta if with_sieve else replace(self._master.meta, sieve=())

    def seen(self, uniqueid: str) -> Seen | None:
        return next((seen for seen in self._master.meta.seen if seen.uniqueid == uniqueid), None)

    def sieve_content(self, filename: str) -> bytes | None:
        del filename
        return None

    def annotations(self, mailbox: str) -> list[MailboxAnnotation]:
        box = self._hold(mailbox)
        notes = box.state.annotations if box else ()
        return [MailboxAnnotation(mailbox, note.entry, note.userid, note.value) for note in notes]
