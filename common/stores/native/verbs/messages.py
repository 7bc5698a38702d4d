"""What mail daemons do to messages: append, flags, expunge, copy. Each verb is logged for replication.

One verb takes one modseq a mailbox, above all that the owner has used; `last_updated` is now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

from cyrus_sync.common.errors import UnknownFailure
from cyrus_sync.common.model import MAX_SIZE, MAX_UID, MessageBody, Record, held_date
from cyrus_sync.common.stores.frames import LARGE, compress_all
from cyrus_sync.common.stores.native.flags import changed_flags, flags_text, keywords_of, with_keywords
from cyrus_sync.common.stores.native.intake import store_bodies
from cyrus_sync.common.stores.native.rows import Box
from cyrus_sync.common.stores.native.tables.boxes import get_real_box, set_columns
from cyrus_sync.common.stores.native.tables.counters import next_modseq
from cyrus_sync.common.stores.native.tables.messages import stored_anew
from cyrus_sync.common.stores.native.tables.records import (
    chunks,
    insert_records,
    records_by_uid,
    update_records,
)
from cyrus_sync.common.stores.native.tables.tally import Tally
from cyrus_sync.common.stores.native.transaction import Transaction

_MESSAGES_AT_ONCE = 500

_Message = tuple[bytes | MessageBody, int, str]
"""What `append` takes: the message, its internaldate, its flags."""


def append(
    transaction: Transaction, mailbox: str, messages: Iterable[_Message], *, uids: Iterable[int] = ()
) -> list[int]:
    """Append messages as (message, internaldate in Unix seconds, flags); their UIDs. Raises
    `MailboxNonexistent`; `UnknownFailure` for an empty message, one that is too large, flags that cannot
    be, or where no UID is left."""
    box = get_real_box(transaction, mailbox)
    modseq, now = next_modseq(transaction), transaction.around.now()
    wanted = iter(uids)
    taken: list[int] = []
    tally = Tally(box)
    keywords = box.state.userflags
    last = box.state.last_uid
    for group in _groups(messages):
        texts = [flags_text(flags.split()) for _, _, flags in group]
        keywords = with_keywords(keywords, keywords_of(texts))
        bodies = [_body_of(raw) for raw, _, _ in group]
        _keep(transaction, bodies)
        records = []
        for (_, date, _), text, (_, guid, size, *_) in zip(group, texts, bodies, strict=True):
            last = max(last + 1, next(wanted, 0))
            date = held_date(date)
            records.append(Record(last, modseq, now, text, False, date, size, guid, 0, now, modseq))
        insert_records(transaction, box.id, tally, records, stored={body.guid for body in bodies})
        taken += [record.uid for record in records]
    if taken:
        _appended(transaction, box, tally, modseq=modseq, last=last, keywords=keywords)
    return taken


def _keep(transaction: Transaction, bodies: Sequence[MessageBody]) -> None:
    """Store the messages that are not stored yet."""
    known = transaction.reader.has_guids({body.guid for body in bodies})
    bad = transaction.reader.unsound(known)
    known -= bad
    new = {body.guid: body for body in bodies if body.guid not in known}
    small = {
        guid: body.data
        for guid, body in new.items()
        if isinstance(body.data, bytes) and body.size <= LARGE and body.encoding == "identity"
    }
    frames = zip(small.items(), compress_all(list(small.values())), strict=True)
    store_bodies(
        transaction,
        (MessageBody("", guid, len(raw), frame, "zstd") for (guid, raw), frame in frames),
        checked=True,
    )
    store_bodies(transaction, (body for guid, body in new.items() if guid not in small))
    stored_anew(transaction, bad)


def _appended(
    transaction: Transaction, box: Box, tally: Tally, *, modseq: int, last: int, keywords: tuple[str, ...]
) -> None:
    """Header and log after new messages."""
    if last > MAX_UID:
        raise UnknownFailure("no UID is left in the mailbox")
    set_columns(
        transaction,
        box.id,
        **tally.columns_at(modseq),
        last_uid=last,
        last_appenddate=transaction.around.now(),
        userflags=" ".join(keywords),
    )
    transaction.log("APPEND", box.state.name)
    transaction.log("MAILBOX", box.state.name)


def set_flags(
    transaction: Transaction,
    mailbox: str,
    uids: Iterable[int],
    *,
    add: Sequence[str] = (),
    remove: Sequence[str] = (),
) -> None:
    """Add and remove flags of live records. Raises `MailboxNonexistent`; `UnknownFailure` for what is no
    flag."""
    box = get_real_box(transaction, mailbox)

    def change(record: Record) -> Record:
        return record._replace(flags=changed_flags(record.flags, add, remove))

    rewrite_live(transaction, box, uids, change)


def expunge(transaction: Transaction, mailbox: str, uids: Iterable[int]) -> None:
    """Expunge live records; UIDs that are not there are passed over. Raises `MailboxNonexistent`."""
    box = get_real_box(transaction, mailbox)
    rewrite_live(transaction, box, uids, lambda record: record._replace(expunged=True))


def rewrite_live(
    transaction: Transaction, box: Box, uids: Iterable[int], change: Callable[[Record], Record]
) -> None:
    """Change live records, as a local change; those that stay as they are keep their modseq."""
    pairs = []
    for record in records_by_uid(transaction, box.id, uids):
        if not record.expunged:
            new = change(record)
            if new != record:
                pairs.append((record, new))
    if not pairs:
        return
    modseq, now = next_modseq(transaction), transaction.around.now()
    old = [was for was, _ in pairs]
    new_records = [
        new._replace(modseq=modseq, last_updated=now, internaldate=held_date(new.internaldate))
        for _, new in pairs
    ]
    keywords = with_keywords(box.state.userflags, keywords_of(new.flags for new in new_records))
    tally = Tally(box)
    update_records(transaction, box.id, tally, old, new_records)
    set_columns(transaction, box.id, **tally.columns_at(modseq), userflags=" ".join(keywords))
    _selected(transaction, box)
    transaction.log("MAILBOX", box.state.name)


def _selected(transaction: Transaction, box: Box) -> None:
    """The owner has the mailbox open, so no message in it is \\Recent any more."""
    if box.state.recentuid < box.state.last_uid:
        set_columns(transaction, box.id, recentuid=box.state.last_uid, recenttime=transaction.around.now())


def unexpunge(transaction: Transaction, mailbox: str, uids: Iterable[int]) -> list[int]:
    """Bring expunged messages back under new UIDs, which it returns: those whose bytes are still stored.
    Raises `MailboxNonexistent`."""
    box = get_real_box(transaction, mailbox)
    wanted = [record for record in records_by_uid(transaction, box.id, uids) if record.expunged]
    linked = {
        uid
        for chunk in chunks([record.uid for record in wanted], 1000)
        for (uid,) in transaction.db.execute(
            "SELECT uid FROM records WHERE mailbox = ? AND unlinked = 0 AND uid IN"
            f" ({','.join('?' * len(chunk))})",
            (box.id, *chunk),
        )
    }
    stored = transaction.reader.has_guids({record.guid for record in wanted})
    back = [record for record in wanted if record.uid in linked and record.guid in stored]
    if not back:
        return []
    new = _copies(transaction, box, back, drop="\\Deleted")
    transaction.db.executemany(
        "UPDATE records SET unlinked = 1 WHERE mailbox = ? AND uid = ?",
        [(box.id, record.uid) for record in back],
    )
    return new


def copy(
    transaction: Transaction, mailbox: str, uids: Iterable[int], target: str, *, move: bool = False
) -> list[int]:
    """Copy (`move`: and expunge) live records into another mailbox of this owner; their new UIDs. Raises
    `MailboxNonexistent`."""
    box, aim = get_real_box(transaction, mailbox), get_real_box(transaction, target)
    wanted = [record for record in records_by_uid(transaction, box.id, uids) if not record.expunged]
    if not wanted:
        return []
    new = _copies(transaction, aim, wanted)
    if move:
        expunge(transaction, mailbox, [record.uid for record in wanted])
    transaction.log("DOUBLEMAILBOX", mailbox, target)
    return new


def _copies(transaction: Transaction, aim: Box, records: Sequence[Record], drop: str = "") -> list[int]:
    """Append copies of records to `aim`; their UIDs."""
    modseq, now = next_modseq(transaction), transaction.around.now()
    last = aim.state.last_uid
    copies = []
    for record in records:
        last += 1
        copies.append(
            record._replace(
                uid=last,
                modseq=modseq,
                last_updated=now,
                flags=changed_flags(record.flags, (), [drop]),
                expunged=False,
                internaldate=held_date(record.internaldate),
                savedate=now,
                createdmodseq=modseq,
                annotations=tuple(note._replace(modseq=modseq) for note in record.annotations),
            )
        )
    tally = Tally(aim)
    insert_records(transaction, aim.id, tally, copies, stored={record.guid for record in records})
    keywords = with_keywords(aim.state.userflags, keywords_of(copy.flags for copy in copies))
    _appended(transaction, aim, tally, modseq=modseq, last=last, keywords=keywords)
    return [copy.uid for copy in copies]


def _body_of(message: bytes | MessageBody) -> MessageBody:
    if isinstance(message, bytes):
        message = MessageBody("", hashlib.sha1(message).digest(), len(message), message)
    if not message.size:
        raise UnknownFailure("an empty message cannot be stored")
    if message.size > MAX_SIZE:
        raise UnknownFailure(f"a message of {message.size} octets cannot be replicated")
    return message


def _groups(messages: Iterable[_Message]) -> Iterator[list[_Message]]:
    """Messages in groups of bounded number and size."""
    group: list[_Message] = []
    size = 0
    for message in messages:
        group.append(message)
        size += len(message[0]) if isinstance(message[0], bytes) else 0
        if len(group) >= _MESSAGES_AT_ONCE or size >= 4 * 1024 * 1024:
            yield group
            group, size = [], 0
    if group:
        yield group
