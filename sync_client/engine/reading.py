"""Reading the master: what of a mailbox is to be sent. Runs in threads, one snapshot at a time.

A snapshot is closed before anything goes over the network; the records of one APPLY, bounded by the
batch size, are kept instead. Only an APPLY that cannot be cut (a change of very many records that all
have one modseq) streams from a snapshot that stays open until it is answered.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field, replace

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import StoreCorrupt
from cyrus_sync.common.master import Master, MasterReader
from cyrus_sync.common.model import MailboxState, MailboxUpdate, Record, RecordSource, Since
from cyrus_sync.common.names import Owner
from cyrus_sync.common.protocol.crc import ANNOT_SEED, mailbox_crcs
from cyrus_sync.sync_client.engine.batches import (
    Cut,
    Limits,
    ReplicaBase,
    fits,
    partial_state,
    plan_cuts,
    select,
)
from cyrus_sync.sync_client.engine.compare import (
    counters_to_adopt,
    differences,
    intermediate_done,
    only_crcs,
    told,
)
from cyrus_sync.sync_client.engine.staging import Stage


@dataclass(slots=True)
class Item:
    """One mailbox of a run, on its way from the first comparison to the replica's final answer."""

    owner: Owner
    name: str
    uniqueid: str
    partition: str
    """On the master, when the run began."""
    target: str
    """Partition on the replica."""
    remote: MailboxState | None
    last_uid: int | None = None
    """On the master, when it was compared; None = not known any more."""
    cached: bool = False
    """`remote` is what the cache said."""
    raise_counters: bool = False
    """The replica's UIDVALIDITY, FOLDERMODSEQ or RACLMODSEQ is higher: raise the master's first."""
    since: bool = True
    recalculate: bool = False
    refreshed: bool = False
    full_done: bool = False
    unfolded: bool = False
    """Messages are sent as they are, not as frames."""
    warned: bool = False
    """A message was found unreadable while it was being sent."""
    left_out: Mapping[int, str] = field(default_factory=dict)
    """UIDs of messages that the replica cannot take, with what to call them."""
    cuts: deque[Cut] = field(default_factory=deque)


class Verdict(enum.Enum):
    """What reading a mailbox came to."""

    GONE = "it does not exist any more"
    MOVED = "it got another id, name or partition since the run began"
    SAME = "the replica has it all"
    FULL = "expunged records were cleaned up that the replica may still have"
    SEND = "there is something to send"


@dataclass(slots=True)
class Prepared:
    """A mailbox update, ready to be sent."""

    verdict: Verdict
    update: MailboxUpdate | None = None
    upload: list[tuple[int, bytes]] = field(default_factory=list)
    """Messages to send first, (uid, guid) in order of uid."""
    upload_size: int = 0
    records: int = 0
    withheld: dict[int, bytes] = field(default_factory=dict)
    """GUID by UID of messages that cannot be read and whose records are left out."""
    left_out: tuple[str, ...] = ()
    """Scripts that are not sent, as the replica cannot take them."""
    snapshot: Snapshot | None = None
    """Open while `update.records` streams from it."""


class Snapshot:
    """A reader that outlives the call that opened it. `close` it when the update is answered."""

    def __init__(self, master: Master, owner: Owner) -> None:
        self._context: AbstractContextManager[MasterReader] = master.read(owner)
        self.reader = self._context.__enter__()

    def close(self) -> None:
        """End the snapshot."""
        self._context.__exit__(None, None, None)


class Without:
    """Records without those of some UIDs, and without live ones whose message has turned out unreadable by
    then; of these `skipped` gets the GUID by UID. May be read again."""

    def __init__(
        self, source: RecordSource, uids: Collection[int], unreadable: Collection[bytes] = ()
    ) -> None:
        self.skipped: dict[int, bytes] = {}
        self._source = source
        self._uids = uids
        self._unreadable = unreadable

    def __iter__(self) -> Iterator[Sequence[Record]]:
        for batch in self._source:
            late = [r for r in batch if r.guid in self._unreadable and not r.expunged]
            self.skipped.update((record.uid, record.guid) for record in late)
            kept = [r for r in batch if r.uid not in self._uids and r.uid not in self.skipped]
            if kept:
                yield kept


class Selected:
    """The records between a base and a cut, from a source that is read again at every iteration."""

    def __init__(self, source: RecordSource, base: ReplicaBase, cut: Cut | None) -> None:
        self._source = source
        self._base = base
        self._cut = cut

    def __iter__(self) -> Iterator[Sequence[Record]]:
        return select(self._source, self._base, self._cut)


def prepare(
    master: Master,
    item: Item,
    stage: Stage,
    limits: Limits,
    *,
    may_settle: bool,
    withheld: Mapping[int, bytes] | None = None,
) -> Prepared:
    """Read `item` again and decide what is sent. `may_settle`: a full update is allowed. `withheld`: messages
    that the replica lacks because they could not be read here, GUID by UID.

    Without `withheld` it raises `StoreCorrupt` where a live message that must be sent is not stored.
    """
    snapshot = Snapshot(master, item.owner)
    try:
        prepared = _prepare(
            snapshot.reader,
            item,
            stage,
            limits,
            may_settle=may_settle,
            takes_changes=not master.refuses,
            withheld=withheld,
        )
    except BaseException:
        snapshot.close()
        raise
    if prepared.update is not None and not isinstance(prepared.update.records, list):
        prepared.snapshot = snapshot
    else:
        snapshot.close()
    return prepared


def _prepare(
    reader: MasterReader,
    item: Item,
    stage: Stage,
    limits: Limits,
    *,
    may_settle: bool,
    takes_changes: bool,
    withheld: Mapping[int, bytes] | None,
) -> Prepared:
    local = reader.mailbox(item.name)
    if local is None:
        return Prepared(Verdict.GONE)
    if local.uniqueid != item.uniqueid or local.partition != item.partition:
        return Prepared(Verdict.MOVED)
    remote = item.remote
    if local.intermediate:
        update = MailboxUpdate(replace(local, partition=item.target), [])
        return Prepared(Verdict.SEND, update)
    lacking: list[Record] = []
    if remote is not None:
        if not takes_changes:
            local = told(local, remote)
        if may_settle and not item.full_done and local.deletedmodseq > remote.highestmodseq:
            return Prepared(Verdict.FULL)
        known = {uid: guid for uid, guid in (withheld or {}).items() if uid <= remote.last_uid}
        lacking, readable_again = _still_withheld(reader, item.uniqueid, known)
        if readable_again and may_settle and takes_changes and not item.full_done:
            return Prepared(Verdict.FULL)
        lacking += readable_again
        if not item.recalculate and not _differs(reader, local, remote, lacking):
            return Prepared(Verdict.SAME, withheld=_by_uid(lacking))
    if item.recalculate:
        local = with_true_crcs(reader, local)
    local = replace(subtract(local, lacking), partition=item.target)
    return _collect(reader, item, local, stage, limits, lacking=lacking, may_withhold=withheld is not None)


def _by_uid(records: Iterable[Record]) -> dict[int, bytes]:
    return {record.uid: record.guid for record in records}


def _still_withheld(
    reader: MasterReader, uniqueid: str, known: Mapping[int, bytes]
) -> tuple[list[Record], list[Record]]:
    """The live records of messages that were withheld: those that still cannot be read, and the others."""
    records = [record for uid in sorted(known) for record in _record(reader, uniqueid, uid)]
    records = [r for r in records if r.guid == known[r.uid] and not r.expunged]
    messages = [(record.uid, record.guid) for record in records]
    good = reader.readable(uniqueid, messages, verify=True) if messages else set()
    return [r for r in records if r.guid not in good], [r for r in records if r.guid in good]


def _record(reader: MasterReader, uniqueid: str, uid: int) -> list[Record]:
    for batch in reader.records(uniqueid, above_uid=uid - 1, batch=1):
        return [record for record in batch if record.uid == uid]
    return []


def subtract(local: MailboxState, records: Sequence[Record]) -> MailboxState:
    """`local` with the CRCs of a mailbox without these records."""
    if not records:
        return local
    crc, crc_annot = mailbox_crcs(records)
    return replace(
        local,
        sync_crc=local.sync_crc ^ crc,
        sync_crc_annot=local.sync_crc_annot and local.sync_crc_annot ^ crc_annot ^ ANNOT_SEED,
    )


def needs_update(
    reader: MasterReader, local: MailboxState, remote: MailboxState | None, may_settle: bool
) -> bool:
    """True if `local` is to be sent, or looked at again under the lock. `may_settle`: a conflict may be
    settled, and counters of the master raised."""
    if local.intermediate:
        return not intermediate_done(local, remote)
    if remote is None:
        return True
    if may_settle and (local.deletedmodseq > remote.highestmodseq or counters_to_adopt(local, remote)):
        return True
    return _differs(reader, local, remote)


def _differs(
    reader: MasterReader, local: MailboxState, remote: MailboxState, lacking: Sequence[Record] = ()
) -> bool:
    return bool(fields_that_differ(reader, local, remote, lacking))


def fields_that_differ(
    reader: MasterReader, local: MailboxState, remote: MailboxState, lacking: Sequence[Record] = ()
) -> list[str]:
    """`differences`, without the records that the replica lacks on purpose. Sums that alone differ are made
    anew first."""
    fields = differences(subtract(local, lacking), remote)
    if only_crcs(fields):
        fields = differences(subtract(with_true_crcs(reader, local), lacking), remote)
    return fields


def with_true_crcs(reader: MasterReader, local: MailboxState) -> MailboxState:
    """`local` with CRCs calculated from the records instead of the stored ones."""
    crc, crc_annot = reader.recalculate_crcs(local.uniqueid)
    return replace(local, sync_crc=crc, sync_crc_annot=crc_annot)


def _collect(
    reader: MasterReader,
    item: Item,
    local: MailboxState,
    stage: Stage,
    limits: Limits,
    *,
    lacking: Sequence[Record],
    may_withhold: bool,
) -> Prepared:
    base = ReplicaBase.of(item.remote)
    source: RecordSource = reader.records(item.uniqueid, since_modseq=base.modseq)
    missing = _still_there(reader, item.uniqueid, item.left_out) if item.left_out else ()
    if lacking or item.left_out:
        source = Without(source, {record.uid for record in lacking} | set(item.left_out))
    if missing:
        local = replace(local, sync_crc=0, sync_crc_annot=None)
    kept: RecordSource | None = None
    if not item.cuts:
        kept = fits(source, base, limits)
        if kept is None:
            item.cuts.extend(plan_cuts(source, base, limits))
    cut = None
    if kept is None and item.cuts:
        cut = item.cuts.popleft()
        kept = list(select(source, base, cut))
    elif kept is None:
        kept = Selected(source, base, None)
        if limits.records == 1:
            kept = list(kept)
    state = partial_state(local, item.remote, cut) if cut else local
    since = None
    if item.since and item.remote is not None and item.remote.highestmodseq:
        crc_annot = item.remote.sync_crc_annot or 0
        since = Since(item.remote.highestmodseq, item.remote.sync_crc, crc_annot)
    prepared = Prepared(Verdict.SEND, MailboxUpdate(state, kept, since, partial=cut is not None))
    prepared.withheld = _by_uid(lacking)
    prepared.left_out = missing
    skipped = _find_uploads(reader, item, prepared, base, stage, may_withhold=may_withhold)
    if skipped:
        uids = {record.uid for record in skipped}
        kept = [list(part) for part in Without(kept, uids)] if isinstance(kept, list) else Without(kept, uids)
        state = state if cut else subtract(state, skipped)
        prepared.update = MailboxUpdate(state, kept, since, partial=cut is not None)
        prepared.withheld.update(_by_uid(skipped))
    return prepared


def _still_there(reader: MasterReader, uniqueid: str, left_out: Mapping[int, str]) -> tuple[str, ...]:
    """What is left out and has not been expunged."""
    records = (record for batch in reader.records(uniqueid) for record in batch)
    return tuple(left_out[r.uid] for r in records if r.uid in left_out and not r.expunged)


def _find_uploads(
    reader: MasterReader,
    item: Item,
    prepared: Prepared,
    base: ReplicaBase,
    stage: Stage,
    *,
    may_withhold: bool,
) -> list[Record]:
    """Enter what has to be uploaded into `prepared`; the records whose messages cannot be read."""
    assert prepared.update is not None
    found: set[bytes] = set()
    skipped: list[Record] = []
    damaged = reader.damaged_guids() if may_withhold else set()
    for batch in prepared.update.records:
        prepared.records += len(batch)
        wanted: dict[bytes, Record] = {}
        for record in batch:
            if record.uid <= base.uid or record.guid in found:
                continue
            if not stage.has(item.target, record.guid):
                known = wanted.setdefault(record.guid, record)
                if known.expunged and not record.expunged:
                    wanted[record.guid] = record
        stored = sound(reader, item.uniqueid, [(r.uid, guid) for guid, r in wanted.items()], damaged)
        if may_withhold:
            skipped += [
                r
                for r in batch
                if r.guid in wanted and r.guid not in stored and not r.expunged and r.uid > base.uid
            ]
        for guid, record in wanted.items():
            if guid in stored:
                found.add(guid)
                prepared.upload.append((record.uid, guid))
                prepared.upload_size += record.size
            elif not record.expunged and not may_withhold:
                raise StoreCorrupt(f"message {record.uid} ({guid.hex()}) is not stored").at(
                    user=str(item.owner), mailbox=item.name, uniqueid=item.uniqueid
                )
    return skipped


def sound(
    reader: MasterReader, uniqueid: str, messages: Sequence[tuple[int, bytes]], damaged: Collection[bytes]
) -> set[bytes]:
    """The GUIDs of those of the mailbox's messages that can be read; those in `damaged` are tried."""
    stored = reader.readable(uniqueid, messages) if messages else set()
    doubtful = [(uid, guid) for uid, guid in messages if guid in damaged and guid in stored]
    if not doubtful:
        return stored
    return stored - {guid for _, guid in doubtful} | reader.readable(uniqueid, doubtful, verify=True)


def wanted_guids(reader: MasterReader, item: Item, stage: Stage, limit: int) -> list[bytes]:
    """GUIDs of messages that the replica's mailbox lacks and that may have to be sent, at most `limit`.

    With cuts planned, only those of the next batch.
    """
    base = ReplicaBase.of(item.remote)
    if item.last_uid is not None and item.last_uid <= base.uid:
        return []
    last = item.cuts[0].uid if item.cuts else None
    found: dict[bytes, None] = {}
    for batch in reader.new_guids(item.uniqueid, base.uid):
        for uid, guid in batch:
            if len(found) >= limit or (last is not None and uid > last):
                return list(found)
            if not stage.has(item.target, guid):
                found[guid] = None
    return list(found)
