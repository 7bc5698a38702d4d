"""The csync command of an operation (``APPLY …``), read back into values."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.model import MailboxUpdate, Record
from cyrus_sync.common.protocol.commands import find
from cyrus_sync.common.protocol.connection_server import ServerConnection
from cyrus_sync.common.protocol.dlist import Limits
from cyrus_sync.common.protocol.events import DlistCommand, RecordBatch
from cyrus_sync.common.protocol.mailboxes import MailboxLine
from cyrus_sync.common.wire.outgoing import mailbox_pieces
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.oplog.operations import LogEntry

_LIMITS = Limits(
    max_word=8 << 20, max_quoted=8 << 20, max_literal=64 << 20, max_items=4_000_000, max_value=96 << 20
)
"""A replica records out of its own store, and that may be larger than what a stranger may send."""


@dataclass(frozen=True, slots=True)
class ApplyCommand:
    """``APPLY name``: `argument` is what the command's declaration decodes; `records` come with MAILBOX."""

    name: str
    argument: Any
    records: tuple[Record, ...] = field(default=(), repr=False)

    @property
    def messages(self) -> dict[bytes, int]:
        """GUID -> size in bytes of the live messages that the records need."""
        return {record.guid: record.size for record in self.records if not record.expunged}

    @property
    def update(self) -> MailboxUpdate:
        """The argument of a MAILBOX as the store takes it."""
        line: MailboxLine = self.argument
        batches: list[Sequence[Record]] = [self.records] if self.records else []
        return MailboxUpdate(line.state, batches, line.since, line.partial)


def parse(line: bytes) -> ApplyCommand:
    """The command in `line` (with its CRLF). Raises `MultisiteError` for anything but one whole command that
    the protocol declares."""
    connection = ServerConnection(_LIMITS)
    connection.authenticated = True
    connection.receive_data(line)
    records: list[Record] = []
    while True:
        event = connection.next_event()
        if isinstance(event, RecordBatch):
            records.extend(event.records)
        elif isinstance(event, DlistCommand):
            break
        else:
            raise MultisiteError(f"an operation cannot be read: {line[:120]!r}")
    command = find(event.verb, event.name)[2]
    if command is None or event.verb != "APPLY" or connection.buffered:
        raise MultisiteError(f"an operation is no transaction: {line[:120]!r}")
    try:
        argument = command.decode(event.value)
    except ReplyError as error:
        raise MultisiteError(f"an operation is not valid ({error}): {line[:120]!r}") from None
    return ApplyCommand(event.name, argument, tuple(records))


def without_records(said: ApplyCommand, lacking: Collection[bytes]) -> ApplyCommand:
    """A MAILBOX command without the live records of these messages, as if nobody had told of them."""
    line: MailboxLine = said.argument
    state = replace(line.state, sync_crc=0, sync_crc_annot=None)
    kept = tuple(record for record in said.records if record.expunged or record.guid not in lacking)
    return replace(said, argument=line._replace(state=state), records=kept)


def without_messages(entry: LogEntry, gone: set[bytes]) -> LogEntry:
    """The operation with records whose messages do not exist any more as expunged ones, which need none.

    They were expunged and cleaned up since; a later operation says so, too.
    """
    said = parse(entry.line)
    line: MailboxLine = said.argument
    records = tuple(
        record._replace(expunged=True) if record.guid in gone else record for record in said.records
    )
    state = replace(line.state, sync_crc=0, sync_crc_annot=0)
    update = replace(said.update, state=state, records=[records])
    told = b"".join(piece.data for piece in mailbox_pieces(update, local=False))
    kept = tuple(guid for guid in entry.guids if guid not in gone)
    return replace(entry, line=told, guids=kept)
