"""APPLY MAILBOX on the replica: the thirteen steps of the protocol ("APPLY MAILBOX, step by step").

Everything up to step 12 happens under one savepoint: a refusal leaves nothing behind. So the dry run of
step 10 and the changes of step 11 are one pass over the records, batch by batch, whatever their number.

Refusals that the protocol does not fix: a live new record whose message was never staged and is not
stored, whose staged bytes have another SHA-1 or another length, records out of order, beyond LAST_UID
or HIGHESTMODSEQ: ``IMAP_PROTOCOL_ERROR``. A parent or INBOX that does not exist: NO with that reason.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

from cyrus_sync.common.errors import (
    BadParameters,
    MailboxMoved,
    ProtocolError,
    ReplyError,
    SyncChanged,
    SyncChecksum,
    UnknownFailure,
)
from cyrus_sync.common.model import NULL_GUID, MailboxState, MailboxUpdate, Record, Since
from cyrus_sync.common.names import check_mailbox_name, owner_of
from cyrus_sync.common.protocol.crc import ANNOT_SEED, wide_ids
from cyrus_sync.common.stores.mailstore import ChangesKept, StagedMessages
from cyrus_sync.common.stores.native.intake import Intake
from cyrus_sync.common.stores.native.rows import Box, to_signed
from cyrus_sync.common.stores.native.tables.annotations import replace_box_annotations
from cyrus_sync.common.stores.native.tables.boxes import (
    bury,
    find_box,
    find_box_by_id,
    get_box,
    insert_box,
    remove_box,
    require_inbox,
    set_columns,
)
from cyrus_sync.common.stores.native.tables.counters import raise_owner
from cyrus_sync.common.stores.native.tables.records import insert_records, records_by_uid, update_records
from cyrus_sync.common.stores.native.tables.tally import Tally
from cyrus_sync.common.stores.native.transaction import Transaction

MAX_UNIQUEID = 128
EMPTY = (0, ANNOT_SEED)


def same_kind(one: str, other: str) -> bool:
    """Whether two MBOXTYPEs mean the same: ``e`` is the type of a mailbox without one."""
    return sorted(one.replace("e", "")) == sorted(other.replace("e", ""))


def crcs_differ(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two pairs of CRCs contradict one another; 0 is unknown and agrees with everything."""
    return any(a and b and a != b for a, b in zip(one, other, strict=True))


def apply_mailbox(
    transaction: Transaction,
    update: MailboxUpdate,
    staged: StagedMessages,
    *,
    force: bool = False,
    sieve_mailbox: bool = True,
    without_inbox: bool = False,
) -> None:
    """Steps 1 to 12 under a savepoint, then step 13. `MailWriter.apply_mailbox` names the errors."""
    state = update.state
    try:
        _check_header(transaction, state, sieve_mailbox)
        if state.intermediate or state.tombstone:
            with transaction.savepoint():
                _apply_entry(transaction, state)
            return
        with transaction.savepoint():
            _apply_real(transaction, update, staged, force=force, without_inbox=without_inbox)
        _compare_crcs(transaction, state)
    except ReplyError as error:
        error.at(mailbox=state.name, uniqueid=state.uniqueid)
        raise


# -- steps 1 to 9: may this be applied at all?


def _check_header(transaction: Transaction, state: MailboxState, sieve_mailbox: bool) -> None:
    check_mailbox_name(state.name)
    if owner_of(state.name) != transaction.owner:
        raise ProtocolError(f"{state.name} does not belong to {transaction.owner}")
    if not 0 < len(state.uniqueid) <= MAX_UNIQUEID or not state.uniqueid.isprintable():
        raise BadParameters()
    if "f" in state.mbtype and not sieve_mailbox:
        raise BadParameters()


def _apply_entry(transaction: Transaction, state: MailboxState) -> None:
    """An intermediate or a tombstone is but an entry of the mailbox list."""
    name = state.name
    there = find_box(transaction, name)
    moved = find_box_by_id(transaction, state.uniqueid)
    if moved and moved.state.name != name:
        _give_way(transaction, moved)
    if (
        there
        and not there.state.intermediate
        and (there.state.uniqueid != state.uniqueid or there.state.last_uid or state.intermediate)
    ):
        raise MailboxMoved("a mailbox with messages has this name")
    transaction.change()
    if there:
        remove_box(transaction, there, tombstone=False)
    if state.tombstone:
        bury(transaction, name, state.uniqueid, state.highestmodseq)
        raise_owner(transaction, modseq=state.highestmodseq)
    else:
        kind = state.mbtype if set(state.mbtype) - set("i") else f"e{state.mbtype}"
        made = insert_box(
            transaction,
            MailboxState(
                uniqueid=state.uniqueid,
                name=name,
                mbtype=kind,
                createdmodseq=state.createdmodseq,
                foldermodseq=state.highestmodseq,
            ),
        )
        set_columns(transaction, made.id, sync_crc_annot=0)
        raise_owner(transaction, modseq=state.highestmodseq)
    transaction.log("MAILBOX", name, chained=True)


def _give_way(transaction: Transaction, there: Box) -> None:
    """An intermediate is but an entry: whatever has its uniqueid now is what it became.

    A master before 3.6 lists no intermediates, so it does not tell of their renames either.
    """
    if not there.state.intermediate:
        raise MailboxMoved()
    remove_box(transaction, there, tombstone=False)


def _apply_real(
    transaction: Transaction,
    update: MailboxUpdate,
    staged: StagedMessages,
    *,
    force: bool,
    without_inbox: bool,
) -> None:
    state = update.state
    box = find_box(transaction, state.name)
    if box and box.state.intermediate and box.state.uniqueid == state.uniqueid:
        _give_way(transaction, box)
        box = None
    if box and box.state.uniqueid != state.uniqueid:
        if not (force or box.state.last_uid == 0):
            raise MailboxMoved()
        remove_box(transaction, box)
        box = None
    fresh = box is None
    if box is None:
        box = _create(transaction, state, without_inbox)
    _check_since(box.state, update.since, fresh)
    _check_counters(box.state, state, force, fresh)
    tally = Tally(box)
    appended = _apply_records(transaction, box, tally, update, Intake(transaction, staged), force=force)
    _apply_header(transaction, box, state, tally, force)
    if appended:
        transaction.log("APPEND", state.name, chained=True)
    transaction.log("MAILBOX", state.name, chained=True)


def _create(transaction: Transaction, state: MailboxState, without_inbox: bool) -> Box:
    if moved := find_box_by_id(transaction, state.uniqueid):
        _give_way(transaction, moved)
    if transaction.around.other_holder(state.uniqueid):
        raise MailboxMoved()
    if not without_inbox:
        require_inbox(transaction, state.name)
    partition = transaction.around.check_partition(state.partition)
    return insert_box(
        transaction,
        replace(
            state,
            partition=partition,
            highestmodseq=0,
            last_uid=0,
            annotations=(),
        ),
    )


def _check_since(local: MailboxState, since: Since | None, fresh: bool) -> None:
    if since is None:
        return
    crcs = EMPTY if fresh else (local.sync_crc, local.sync_crc_annot or 0)
    if since.modseq != local.highestmodseq or crcs_differ((since.crc, since.crc_annot), crcs):
        raise SyncChanged()


def _check_counters(local: MailboxState, sent: MailboxState, force: bool, fresh: bool) -> None:
    if not same_kind(local.mbtype, sent.mbtype):
        raise UnknownFailure(f"mailbox is of type {local.mbtype or 'e'}, not {sent.mbtype or 'e'}")
    if force or fresh:
        return
    for name in ("highestmodseq", "uidvalidity", "last_uid"):
        if getattr(sent, name) < getattr(local, name):
            raise SyncChecksum(f"Checksum Failure: {name} is behind the replica's")
    if sent.xconvmodseq and sent.xconvmodseq < local.xconvmodseq:
        raise SyncChecksum("Checksum Failure: xconvmodseq is behind the replica's")


# -- steps 10 and 11: the records


def _apply_records(
    transaction: Transaction, box: Box, tally: Tally, update: MailboxUpdate, intake: Intake, *, force: bool
) -> bool:
    """Returns whether messages were appended."""
    last = 0
    appended = False
    for batch in update.records:
        if not batch:
            continue
        last = _check_batch(batch, last, update.state)
        cut = bisect_right(batch, box.state.last_uid, key=_uid)
        if cut:
            _apply_known(transaction, box, tally, batch[:cut], force)
        if cut < len(batch):
            _append_new(transaction, box, tally, batch[cut:], intake)
            appended = True
    return appended


def _apply_known(
    transaction: Transaction, box: Box, tally: Tally, sent: Sequence[Record], force: bool
) -> None:
    """Records at or below our LAST_UID: change those that we have."""
    local = {mine.uid: mine for mine in records_by_uid(transaction, box.id, [record.uid for record in sent])}
    old: list[Record] = []
    new: list[Record] = []
    for record in sent:
        mine = local.get(record.uid)
        if mine is None:
            if not record.expunged:
                raise SyncChecksum(f"Checksum Failure: uid {record.uid} is unknown here")
            continue
        if mine.expunged and record.expunged:
            continue
        _check_known(mine, record, force)
        if mine != record:
            old.append(mine)
            new.append(record if record.size == mine.size else record._replace(size=mine.size))
    update_records(transaction, box.id, tally, old, new)


def _append_new(
    transaction: Transaction, box: Box, tally: Tally, sent: Sequence[Record], intake: Intake
) -> None:
    transaction.change()
    insert_records(transaction, box.id, tally, sent, stored=intake.take(sent))


# -- steps 11 (what is not records) and 12


def _apply_header(transaction: Transaction, box: Box, sent: MailboxState, tally: Tally, force: bool) -> None:
    local = box.state
    transaction.change()
    columns = dict(tally.columns())
    columns.update(
        last_uid=sent.last_uid,
        highestmodseq=sent.highestmodseq,
        recentuid=sent.recentuid,
        recenttime=to_signed(sent.recenttime),
        last_appenddate=to_signed(sent.last_appenddate),
        pop3_last_login=to_signed(sent.pop3_last_login),
        pop3_show_after=to_signed(sent.pop3_show_after),
        createdmodseq=sent.createdmodseq or local.createdmodseq,
        uidvalidity=sent.uidvalidity if force else max(sent.uidvalidity, local.uidvalidity),
        foldermodseq=max(sent.foldermodseq, local.foldermodseq),
        xconvmodseq=sent.xconvmodseq or local.xconvmodseq,
        raclmodseq=max(sent.raclmodseq, local.raclmodseq),
    )
    texts = {"acl": sent.acl, "options": sent.options, "usergroups": sent.usergroups}
    if sent.userflags:
        texts["userflags"] = " ".join(sent.userflags)
    set_columns(transaction, box.id, **columns, **texts)
    replace_box_annotations(transaction, box, sent.annotations)
    raise_owner(
        transaction,
        modseq=max(sent.highestmodseq, sent.foldermodseq, sent.xconvmodseq, sent.raclmodseq),
        uidvalidity=sent.uidvalidity,
    )


# -- step 13


def _compare_crcs(transaction: Transaction, sent: MailboxState) -> None:
    """A master before 3.2 begins its annotation CRC at 0. One of the development branch counts ids of
    conversations otherwise: with such a one ours becomes 0, which agrees with everything, or it would
    send the mailbox again and again."""
    wanted = (sent.sync_crc, sent.sync_crc_annot or 0)
    box = get_box(transaction, sent.name)
    kept = (box.state.sync_crc, box.state.sync_crc_annot or 0)
    if not crcs_differ(wanted, kept):
        return
    found = transaction.reader.recalculate_crcs(sent.uniqueid)
    if wanted[1] == found[1] ^ ANNOT_SEED:
        wanted = (wanted[0], 0)
    elif wanted[1] != found[1] and wanted[1] == found[1] ^ _wide_ids(transaction, sent.uniqueid):
        found = (found[0], 0)
    if found != kept:
        set_columns(transaction, box.id, sync_crc=found[0], sync_crc_annot=found[1])
    if crcs_differ(wanted, found):
        raise ChangesKept()


def _wide_ids(transaction: Transaction, uniqueid: str) -> int:
    return wide_ids(record for batch in transaction.reader.records(uniqueid) for record in batch)


def _uid(record: Record) -> int:
    return record.uid


def _check_batch(batch: Sequence[Record], last: int, state: MailboxState) -> int:
    """Order and bounds of a batch; the last uid of it."""
    highest = state.highestmodseq
    for record in batch:
        uid = record[0]
        if uid <= last:
            raise ProtocolError("records are not in ascending order of UID")
        last = uid
        if record[1] > highest:
            raise ProtocolError(f"uid {uid} has a modseq above HIGHESTMODSEQ")
        if not record[6] or record[7] == NULL_GUID or len(record[7]) != 20:
            raise ProtocolError(f"uid {uid} has no size or no GUID")
    if last > state.last_uid:
        raise ProtocolError(f"uid {last} is above LAST_UID")
    return last


def _check_known(mine: Record, sent: Record, force: bool) -> None:
    if mine.guid != sent.guid:
        raise SyncChecksum(f"Checksum Failure: uid {mine.uid} is another message")
    if mine.modseq > sent.modseq and not force:
        raise SyncChecksum(f"Checksum Failure: uid {mine.uid} is newer on the replica")
    if mine.expunged and not sent.expunged:
        raise SyncChecksum(f"Checksum Failure: uid {mine.uid} is expunged on the replica")
