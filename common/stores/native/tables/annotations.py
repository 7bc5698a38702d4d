"""Annotations of mailboxes, and of the server. Those of messages are part of their `records`."""

from __future__ import annotations

from collections.abc import Iterable

from cyrus_sync.common.errors import UnknownFailure
from cyrus_sync.common.model import Annotation
from cyrus_sync.common.names import SERVER
from cyrus_sync.common.stores.native.rows import INSERT_ANNOTATION, Box, annotation_rows, annotations_of
from cyrus_sync.common.stores.native.tables.tally import weight
from cyrus_sync.common.stores.native.transaction import Transaction


def replace_box_annotations(transaction: Transaction, box: Box, annotations: Iterable[Annotation]) -> None:
    """Make `annotations` the mailbox's own; the caller has no other change of annotations pending."""
    new = in_order(annotations)
    if new == box.state.annotations:
        return
    transaction.history.annotations(box.id, 0, box.state.annotations)
    transaction.db.execute("DELETE FROM annotations WHERE mailbox = ? AND uid = 0", (box.id,))
    transaction.db.executemany(INSERT_ANNOTATION, annotation_rows(box.id, 0, new))
    transaction.db.execute(
        "UPDATE mailboxes SET annotation_bytes = annotation_bytes + ? WHERE id = ?",
        (weight(new) - weight(box.state.annotations), box.id),
    )


def put_box_annotation(
    transaction: Transaction, box: Box, entry: str, userid: str, value: bytes | None
) -> bool:
    """Set or (None, empty) remove one annotation of a mailbox; whether that changed anything. A `change`
    if so."""
    kept = [note for note in box.state.annotations if (note.entry, note.userid) != (entry, userid)]
    if value:
        kept.append(Annotation(entry, userid, 0, value))
    if in_order(kept) == box.state.annotations:
        return False
    transaction.change()
    replace_box_annotations(transaction, box, kept)
    return True


def put_server_annotation(transaction: Transaction, entry: str, userid: str, value: bytes | None) -> None:
    """Set or remove an annotation of the server, which the SERVER owner holds. A `change`; raises
    `UnknownFailure` for any other owner."""
    if transaction.owner != SERVER:
        raise UnknownFailure("server annotations belong to the server")
    transaction.change()
    transaction.history.annotations(0, 0, annotations_of(transaction.db, 0, [0]).get(0, ()))
    if value:
        transaction.db.execute(
            "INSERT OR REPLACE INTO annotations (mailbox, uid, entry, userid, modseq, value)"
            " VALUES (0, 0, ?, ?, 0, ?)",
            (entry, userid, value),
        )
    else:
        transaction.db.execute(
            "DELETE FROM annotations WHERE mailbox = 0 AND uid = 0 AND entry = ? AND userid = ?",
            (entry, userid),
        )


def in_order(annotations: Iterable[Annotation]) -> tuple[Annotation, ...]:
    """Sorted by (entry, userid), as they are kept."""
    return tuple(sorted(annotations, key=lambda note: (note.entry, note.userid)))
