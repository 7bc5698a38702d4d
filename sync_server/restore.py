"""RESTORE MAILBOX: put a backup's messages back. Not replication: the mailbox lives here afterwards.

* The mailbox exists: the records are appended with new UIDs and modseqs; its state, uniqueid and annotations
  stay its own.
* It does not: it is made. With all three of UNIQUEID, HIGHESTMODSEQ and UIDVALIDITY the records keep their
  UIDs and modseqs, otherwise the store chooses and they are appended.

A record without a staged message is one whose message is stored already, or an error that changes nothing.
"""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred

from cyrus_sync.common.errors import UnknownFailure
from cyrus_sync.common.model import MailboxState, MailboxUpdate, RecordSource
from cyrus_sync.common.names import owner_of
from cyrus_sync.common.protocol.crc import mailbox_crcs
from cyrus_sync.common.stores.mailstore import MailWriter
from cyrus_sync.common.stores.replica import StoreReplica
from cyrus_sync.common.stores.staging import Staging


def restore(replica: StoreReplica, state: MailboxState, records: RecordSource) -> Deferred[None]:
    """Queue it behind the verbs before; fires when it is durable. Fails with a `ReplyError`."""
    staged = replica.staging
    return replica.change(owner_of(state.name), lambda writer: restore_into(writer, state, records, staged))


def restore_into(writer: MailWriter, state: MailboxState, records: RecordSource, staged: Staging) -> None:
    """What `restore` does to the owner whose lock `writer` holds."""
    existing = writer.mailbox(state.name)
    if existing is not None:
        _append(writer, existing.uniqueid, records, staged)
    elif state.uniqueid and state.highestmodseq and state.uidvalidity:
        writer.apply_mailbox(MailboxUpdate(_complete(state, records), records), staged)
    else:
        made = writer.create(
            state.name,
            partition=state.partition,
            acl=state.acl,
            mbtype=state.mbtype,
            uidvalidity=state.uidvalidity,
        )
        if state.annotations:
            writer.replace_mailbox_annotations(made.uniqueid, state.annotations)
        _append(writer, made.uniqueid, records, staged)


def _append(writer: MailWriter, uniqueid: str, records: RecordSource, staged: Staging) -> None:
    for batch in records:
        for record in batch:
            if record.expunged:
                continue
            body = staged.get(record.guid) if staged.is_good(record.guid) else None
            if body is None and not writer.has_guids([record.guid]):
                raise UnknownFailure("a message of the backup was not sent, or is not what its GUID says").at(
                    uniqueid=uniqueid, guid=record.guid.hex()
                )
            writer.adopt(uniqueid, record, body, keep_uid=False)


def _complete(state: MailboxState, records: RecordSource) -> MailboxState:
    """`state` with the counters that a backup leaves out, taken from its records."""
    last = appended = 0
    crcs = mailbox_crcs(())
    for batch in records:
        for record in batch:
            last = max(last, record.uid)
            appended = max(appended, record.savedate)
        crcs = mailbox_crcs(batch, crcs)
    return replace(state, last_uid=last, last_appenddate=appended, sync_crc=crcs[0], sync_crc_annot=crcs[1])
