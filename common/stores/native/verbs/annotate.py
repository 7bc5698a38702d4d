"""What mail daemons do to annotations: of the server, of a mailbox, of a message (RFC 5464, RFC 5257)."""

from __future__ import annotations

from cyrus_sync.common.errors import UnknownFailure
from cyrus_sync.common.model import Annotation, Record
from cyrus_sync.common.stores.native.rows import Box
from cyrus_sync.common.stores.native.tables.annotations import (
    in_order,
    put_box_annotation,
    put_server_annotation,
)
from cyrus_sync.common.stores.native.tables.boxes import folder_changed, get_real_box
from cyrus_sync.common.stores.native.transaction import Transaction
from cyrus_sync.common.stores.native.verbs.messages import rewrite_live


def annotate(  # noqa: PLR0917 - the contract's
    transaction: Transaction, mailbox: str, entry: str, userid: str, value: bytes | None, uid: int = 0
) -> None:
    """Set or (None, empty) remove an annotation of the server (no `mailbox`), of a mailbox, or (`uid`) of a
    live message. Raises `MailboxNonexistent`, `UnknownFailure`."""
    if not entry.startswith("/"):  # RFC 5464, 4.1; and a real server sends an entry NIL as nil
        raise UnknownFailure(f"Invalid annotation entry {entry[:80]!a}").at(mailbox=mailbox)
    if not mailbox:
        put_server_annotation(transaction, entry, userid, value)
        transaction.log("ANNOTATION", "")
        return
    box = get_real_box(transaction, mailbox)
    if uid:
        _annotate_message(transaction, box, uid, (entry, userid), value)
    elif put_box_annotation(transaction, box, entry, userid, value):
        folder_changed(transaction, box)


def _annotate_message(
    transaction: Transaction, box: Box, uid: int, key: tuple[str, str], value: bytes | None
) -> None:
    """Set or (None, empty) remove the annotation `key`, (entry, userid), of a live message."""
    modseq = transaction.reader.highest_modseq() + 1

    def change(record: Record) -> Record:
        notes = [note for note in record.annotations if (note.entry, note.userid) != key]
        was = [note for note in record.annotations if (note.entry, note.userid) == key]
        if (value or b"") == (was[0].value if was else b""):
            return record
        if value:
            notes.append(Annotation(*key, modseq, value))
        return record._replace(annotations=in_order(notes))

    rewrite_live(transaction, box, [uid], change)
