"""Reading the master: what of a mailbox is to be sent. Runs in threads, one snapshot at a time.

A snapshot is closed before anything goes over the network; the records of one APPLY, bounded by the
batch size, are kept instead. Only an APPLY that cannot be cut (a change of very many records that all
have one modseq) streams from a snapshot that stays open until it is answered.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from common.errors import StoreCorrupt
from common.model import MailboxState, MailboxUpdate, MessageBody, Record, RecordSource, Since
from common.names import Owner
from common.stores.mailstore import MailReader, MailStore
from sync_client.engine.batches import Base, Cut, Limits, fits, partial_state, plan_cuts, select
from sync_client.engine.compare import counters_to_adopt, differences, intermediate_done, only_crcs
from sync_client.engine.staging import Stage


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
    upload: list[bytes] = field(default_factory=list)
    """GUIDs of messages to send first, in order of uid."""
    upload_size: int = 0
    records: int = 0
    snapshot: Snapshot | None = None
    """Open while `update.records` streams from it."""


class Snapshot:
    """A reader that outlives the call that opened it. `close` it when the update is answered."""

    def __init__(self, store: MailStore, owner: Owner) -> None:
        self._context: AbstractContextManager[MailReader] = store.read(owner)
        self.reader = self._context.__enter__()

    def close(self) -> None:
        """End the snapshot."""
        self._context.__exit__(None, None, None)


class Bodies:
    """Messages of one owner by GUID (`common.model.MessageSource`); reads when it is iterated."""

    def __init__(
        self, store: MailStore, owner: Owner, guids: Sequence[bytes], partition: str, encoding: str
    ) -> None:
        self.store = store
        self.owner = owner
        self.guids = guids
        self.partition = partition
        self.encoding = encoding

    def __iter__(self) -> Iterator[Sequence[MessageBody]]:
        with self.store.read(self.owner) as reader:
            yield from reader.bodies(self.guids, self.partition, self.encoding)


class Selected:
    """The records between a base and a cut, from a source that is read again at every iteration."""

    def __init__(self, source: RecordSource, base: Base, cut: Cut | None) -> None:
        self._source = source
        self._base = base
        self._cut = cut

    def __iter__(self) -> Iterator[Sequence[Record]]:
        return select(self._source, self._base, self._cut)


def prepare(store: MailStore, item: Item, stage: Stage, limits: Limits, *, may_settle: bool) -> Prepared:
    """Read `item` again and decide what is sent. `may_settle`: a full update is allowed.

    Raises `StoreCorrupt` where a live message that must be sent is not stored.
    """
    snapshot = Snapshot(store, item.owner)
    try:
        prepared = _prepare(snapshot.reader, item, stage, limits, may_settle)
    except BaseException:
        snapshot.close()
        raise
    if prepared.update is not None and not isinstance(prepared.update.records, list):
        prepared.snapshot = snapshot
    else:
        snapshot.close()
    return prepared


def _prepare(reader: MailReader, item: Item, stage: Stage, limits: Limits, may_settle: bool) -> Prepared:
    local = reader.mailbox(item.name)
    if local is None:
        return Prepared(Verdict.GONE)
    if local.uniqueid != item.uniqueid or local.partition != item.partition:
        return Prepared(Verdict.MOVED)
    remote = item.remote
    if local.intermediate:
        update = MailboxUpdate(replace(local, partition=item.target), [])
        return Prepared(Verdict.SEND, update)
    if remote is not None:
        if may_settle and not item.full_done and local.deletedmodseq > remote.highestmodseq:
            return Prepared(Verdict.FULL)
        if not item.recalculate and not _differs(reader, local, remote):
            return Prepared(Verdict.SAME)
    if item.recalculate:
        local = with_true_crcs(reader, local)
    return _collect(reader, item, replace(local, partition=item.target), stage, limits)


def needs_update(reader: MailReader, local: MailboxState, remote: MailboxState | None, settle: bool) -> bool:
    """True if `local` is to be sent, or looked at again under the lock. `settle`: the master may change."""
    if local.intermediate:
        return not intermediate_done(local, remote)
    if remote is None:
        return True
    if settle and (local.deletedmodseq > remote.highestmodseq or counters_to_adopt(local, remote)):
        return True
    return _differs(reader, local, remote)


def _differs(reader: MailReader, local: MailboxState, remote: MailboxState) -> bool:
    fields = differences(local, remote)
    if only_crcs(fields):
        fields = differences(with_true_crcs(reader, local), remote)
    return bool(fields)


def with_true_crcs(reader: MailReader, local: MailboxState) -> MailboxState:
    """`local` with CRCs calculated from the records instead of the stored ones."""
    crc, crc_annot = reader.recalculate_crcs(local.uniqueid)
    return replace(local, sync_crc=crc, sync_crc_annot=crc_annot)


def _collect(reader: MailReader, item: Item, local: MailboxState, stage: Stage, limits: Limits) -> Prepared:
    base = Base.of(item.remote)
    source = reader.records(item.uniqueid, since_modseq=base.modseq)
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
    state = partial_state(local, item.remote, cut) if cut else local
    since = None
    if item.since and item.remote is not None and item.remote.highestmodseq:
        crc_annot = item.remote.sync_crc_annot or 0
        since = Since(item.remote.highestmodseq, item.remote.sync_crc, crc_annot)
    prepared = Prepared(Verdict.SEND, MailboxUpdate(state, kept, since, partial=cut is not None))
    _find_uploads(reader, item, prepared, base, stage)
    return prepared


def _find_uploads(reader: MailReader, item: Item, prepared: Prepared, base: Base, stage: Stage) -> None:
    assert prepared.update is not None
    found: set[bytes] = set()
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
        stored = reader.has_guids(wanted) if wanted else set()
        for guid, record in wanted.items():
            if guid in stored:
                found.add(guid)
                prepared.upload.append(guid)
                prepared.upload_size += record.size
            elif not record.expunged:
                raise StoreCorrupt(f"message {record.uid} ({guid.hex()}) is not stored").at(
                    user=str(item.owner), mailbox=item.name, uniqueid=item.uniqueid
                )


def wanted_guids(reader: MailReader, item: Item, stage: Stage, limit: int) -> list[bytes]:
    """GUIDs of messages that the replica's mailbox lacks and that may have to be sent, at most `limit`.

    With cuts planned, only those of the next batch.
    """
    base = Base.of(item.remote)
    last = item.cuts[0].uid if item.cuts else None
    found: dict[bytes, None] = {}
    for batch in reader.new_guids(item.uniqueid, base.uid):
        for uid, guid in batch:
            if len(found) >= limit or (last is not None and uid > last):
                return list(found)
            if not stage.has(item.target, guid):
                found[guid] = None
    return list(found)
