"""What the import of a packet does to a mailbox that has been changed here as well.

The master's records are taken as they are, whatever stands under their UIDs; changes of this replica that the
master does not know yet are kept on top of them. The caller (`multisite.replay`) decides which those are.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cyrus_sync.common.identity import annotation_values
from cyrus_sync.common.model import Annotation, MailboxUpdate, Record
from cyrus_sync.common.stores.mailstore import StagedMessages
from cyrus_sync.common.stores.native.intake import Intake
from cyrus_sync.common.stores.native.rows import Box, to_signed
from cyrus_sync.common.stores.native.tables.annotations import in_order, replace_box_annotations
from cyrus_sync.common.stores.native.tables.boxes import folder_changed, get_box_by_id, set_columns
from cyrus_sync.common.stores.native.tables.counters import raise_owner
from cyrus_sync.common.stores.native.tables.records import (
    forget_records,
    insert_records,
    records_by_uid,
    update_records,
)
from cyrus_sync.common.stores.native.tables.tally import Tally
from cyrus_sync.common.stores.native.transaction import Transaction

_COUNTERS = ("raclmodseq", "xconvmodseq", "foldermodseq", "createdmodseq")
_DATES = ("recenttime", "last_appenddate", "pop3_last_login", "pop3_show_after")


def impose_mailbox(
    transaction: Transaction,
    update: MailboxUpdate,
    staged: StagedMessages,
    *,
    drop: Collection[int] = (),
    keep: Sequence[Record] = (),
) -> None:
    """Make the mailbox ``update.state.uniqueid`` what `update` says: its header, and its records just
    as they are. Before that the records of the UIDs in `drop` are forgotten; after it those in `keep`
    are put in their places, with counters that cover them. LAST_UID, HIGHESTMODSEQ and UIDVALIDITY
    never fall. Live records need their messages, staged or stored: `ProtocolError`. Those in `keep` were
    here before, and a damaged copy of them stays what it is."""
    box = get_box_by_id(transaction, update.state.uniqueid)
    with transaction.savepoint():
        transaction.change()
        tally = Tally(box)
        intake = Intake(transaction, staged)
        forget_records(transaction, box.id, tally, drop)
        for batch in update.records:
            _put_records(transaction, box, tally, batch, intake)
        _put_records(transaction, box, tally, keep, intake, were_here=True)
        _impose_header(transaction, box, update, tally, keep)
        if update.records:
            transaction.log("APPEND", box.state.name, chained=True)
        transaction.log("MAILBOX", box.state.name, chained=True)


def _put_records(
    transaction: Transaction,
    box: Box,
    tally: Tally,
    records: Sequence[Record],
    intake: Intake,
    *,
    were_here: bool = False,
) -> None:
    """Write records as they are, over those of the same UIDs."""
    if not records:
        return
    there = {mine.uid: mine for mine in records_by_uid(transaction, box.id, [one.uid for one in records])}
    old, new, fresh, replaced = [], [], [], []
    for record in records:
        mine = there.get(record.uid)
        if mine is None or mine.guid != record.guid or (mine.expunged and not record.expunged):
            # An expunged record may have lost its message: the live one is a new row with one.
            fresh.append(record)
            replaced += [mine.uid] if mine is not None else []
        elif mine != record:
            old.append(mine)
            new.append(record._replace(size=mine.size))
    forget_records(transaction, box.id, tally, replaced)
    if fresh:
        insert_records(transaction, box.id, tally, fresh, stored=intake.take(fresh, as_stored=were_here))
    update_records(transaction, box.id, tally, old, new)


def _impose_header(
    transaction: Transaction, box: Box, update: MailboxUpdate, tally: Tally, keep: Sequence[Record]
) -> None:
    sent, local = update.state, box.state
    highest = max([sent.highestmodseq, local.highestmodseq, *(one.modseq for one in keep)])
    columns = dict(tally.columns())
    columns.update(
        last_uid=max([sent.last_uid, local.last_uid, *(one.uid for one in keep)]),
        highestmodseq=highest,
        uidvalidity=max(sent.uidvalidity, local.uidvalidity),
        recentuid=sent.recentuid,
    )
    columns.update({name: getattr(sent, name) for name in _COUNTERS if getattr(sent, name)})
    columns.update({name: to_signed(getattr(sent, name)) for name in _DATES})
    texts = {"acl": sent.acl, "options": sent.options, "usergroups": sent.usergroups}
    if sent.userflags:
        texts["userflags"] = " ".join(sent.userflags)
    set_columns(transaction, box.id, **columns, **texts)
    replace_box_annotations(transaction, box, sent.annotations)
    raise_owner(transaction, modseq=highest, uidvalidity=columns["uidvalidity"])


def change_header(
    transaction: Transaction,
    uniqueid: str,
    *,
    acl: str | None = None,
    options: str | None = None,
    usergroups: str | None = None,
    annotations: Sequence[Annotation] | None = None,
) -> None:
    """Take over what was changed of a mailbox elsewhere: a local change, logged, with a new modseq."""
    box = get_box_by_id(transaction, uniqueid)
    given = {"acl": acl, "options": options, "usergroups": usergroups}
    texts = {
        name: value
        for name, value in given.items()
        if value is not None and value != getattr(box.state, name)
    }
    notes = None
    if annotations is not None:
        notes = in_order(annotations)
        if annotation_values(notes) == annotation_values(box.state.annotations):
            notes = None
    if not texts and notes is None:
        return
    transaction.change()
    if notes is not None:
        replace_box_annotations(transaction, box, notes)
    folder_changed(transaction, box, **texts)
