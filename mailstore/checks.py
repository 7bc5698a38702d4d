"""Check an owner's mail against itself, by what any store can be asked: messages, CRCs, counters, quotas.

>>> for problem in check_owner(reader): print(problem)      # doctest: +SKIP
user.alice uid 7: the message's SHA-1 is not its GUID 92d3b701…
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from common.errors import StoreCorrupt
from common.model import MailboxState, MessageBody, Record
from common.names import owner_of
from common.stores.mailstore import MailReader

_GUIDS_AT_ONCE = 500


class _Use(NamedTuple):
    messages: int
    octets: int
    annotations: int


def check_owner(
    reader: MailReader,
    show: Callable[[str], str] = str,
    progress: Callable[[int], None] = lambda octets: None,
) -> Iterator[str]:
    """Every problem, named. `show` makes a mailbox's name readable, `progress` hears how many octets of
    messages were read. A message that stands in several mailboxes is read for each of them: what was
    seen is not remembered, so that memory does not grow with the mail."""
    seen_ids: dict[str, str] = {}
    uses: list[tuple[MailboxState, _Use]] = []
    for mailbox in reader.mailboxes():
        name = show(mailbox.name)
        if other := seen_ids.get(mailbox.uniqueid):
            yield f"{name}: has the uniqueid {mailbox.uniqueid} of {other}"
        seen_ids[mailbox.uniqueid] = name
        if owner_of(mailbox.name) != reader.owner:
            yield f"{name}: does not belong to {reader.owner}"
        if mailbox.intermediate or mailbox.tombstone:
            continue
        use = _Use(0, 0, 0)
        for batch in _checked_batches(reader, mailbox, name):
            yield from batch.problems
            use = _Use(*map(sum, zip(use, _use_of(batch.records), strict=True)))
            yield from _check_messages(reader, name, batch.records, progress)
        uses.append((mailbox, use))
        yield from _check_crcs(reader, mailbox, name)
    yield from _check_quotas(reader, uses, show)


class _Batch(NamedTuple):
    records: Sequence[Record]
    problems: list[str]


def _checked_batches(reader: MailReader, mailbox: MailboxState, name: str) -> Iterator[_Batch]:
    last = 0
    for records in reader.records(mailbox.uniqueid, batch=_GUIDS_AT_ONCE):
        problems = []
        for record in records:
            where = f"{name} uid {record.uid}"
            if record.uid <= last:
                problems.append(f"{where}: stands behind uid {last}")
            last = record.uid
            if record.uid > mailbox.last_uid:
                problems.append(f"{where}: is above the mailbox's last uid {mailbox.last_uid}")
            if record.modseq > mailbox.highestmodseq:
                problems.append(
                    f"{where}: modseq {record.modseq} is above the mailbox's {mailbox.highestmodseq}"
                )
        yield _Batch(records, problems)


def _check_crcs(reader: MailReader, mailbox: MailboxState, name: str) -> Iterator[str]:
    basic, annot = reader.recalculate_crcs(mailbox.uniqueid)
    if mailbox.sync_crc != basic:
        yield f"{name}: the sync CRC is {mailbox.sync_crc}, its records make it {basic}"
    if mailbox.sync_crc_annot is not None and mailbox.sync_crc_annot != annot:
        yield f"{name}: the annotation CRC is {mailbox.sync_crc_annot}, its records make it {annot}"


def _check_messages(
    reader: MailReader, name: str, records: Sequence[Record], progress: Callable[[int], None]
) -> Iterator[str]:
    wanted = {record.guid: record for record in records if not record.expunged}
    found: set[bytes] = set()
    try:
        problems: list[str] = []
        for batch in reader.bodies(list(wanted)):
            for body in batch:
                found.add(body.guid)
                record = wanted[body.guid]
                problems += _check_message(body, name, record.uid, record.size)
                progress(body.size)
        yield from problems
    except StoreCorrupt:
        # One of them cannot be read: find out which.
        for guid, record in wanted.items():
            yield from _check_alone(reader, guid, name, record.uid, record.size)
        return
    for guid, record in wanted.items():
        if guid not in found:
            yield f"{name} uid {record.uid}: the message {guid.hex()} is missing"


def _check_alone(reader: MailReader, guid: bytes, name: str, uid: int, size: int) -> Iterator[str]:
    try:
        body = reader.body(guid)
        if body is None:
            yield f"{name} uid {uid}: the message {guid.hex()} is missing"
        else:
            yield from _check_message(body, name, uid, size)
    except StoreCorrupt as error:
        yield f"{name} uid {uid}: the message {guid.hex()} cannot be read: {error.message}"


def _check_message(body: MessageBody, name: str, uid: int, size: int) -> Iterator[str]:
    digest, length = hashlib.sha1(), 0
    for piece in [body.data] if isinstance(body.data, bytes) else body.data:
        digest.update(piece)
        length += len(piece)
    if digest.digest() != body.guid:
        yield f"{name} uid {uid}: the message's SHA-1 is {digest.hexdigest()}, its GUID {body.guid.hex()}"
    elif length != size:
        yield f"{name} uid {uid}: the message has {length} octets, its record says {size}"


def _use_of(records: Sequence[Record]) -> _Use:
    live = [record for record in records if not record.expunged]
    notes = sum(len(note.value) for record in live for note in record.annotations)
    return _Use(len(live), sum(record.size for record in live), notes)


def _check_quotas(
    reader: MailReader, uses: list[tuple[MailboxState, _Use]], show: Callable[[str], str]
) -> Iterator[str]:
    roots = {quota.root for quota in reader.quotas()}
    for usage in reader.usage():
        inside = [(box, use) for box, use in uses if _root_of(box.name, roots) == usage.root]
        found = {
            "STORAGE": sum(use.octets for _, use in inside),
            "MESSAGE": sum(use.messages for _, use in inside),
            "X-NUM-FOLDERS": len(inside),
            "X-ANNOTATION-STORAGE": sum(use.annotations for _, use in inside)
            + sum(len(note.value) for box, _ in inside for note in box.annotations),
        }
        for resource, used in usage.used.items():
            made = found.get(resource, 0)
            if made != used:
                yield f"quota root {show(usage.root)}: {resource} says {used}, its mailboxes make it {made}"


def _root_of(name: str, roots: set[str]) -> str:
    """The quota root that `name` is below, "" for none."""
    while name:
        if name in roots:
            return name
        name = name.rpartition(".")[0]
    return ""
