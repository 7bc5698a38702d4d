"""Which messages a command means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cyrus_sync.common.errors import EX_FAILURE, EX_OK
from cyrus_sync.common.master import MasterReader
from cyrus_sync.common.model import MailboxState, Record
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.mailstore.context import StoreContext, parse_uids
from cyrus_sync.mailstore.errors import NoSuchMessage


def records_of(
    reader: MasterReader, mailbox: MailboxState, *, expunged: bool | None = False
) -> Iterator[list[Record]]:
    """Records in batches: live ones, or `expunged` ones, or (None) both."""
    for batch in reader.records(mailbox.uniqueid):
        yield [record for record in batch if expunged is None or record.expunged == expunged]


class Selected(NamedTuple):
    """What a list of UIDs means in a mailbox: `uids`, ascending. `absent` are the members of the list of
    which the mailbox has nothing (a range with gaps is not absent); `none` is whether that is all of it."""

    uids: list[int]
    absent: list[str]
    none: bool

    def status(self, context: StoreContext, where: str, kind: str = "message") -> int:
        """The exit status, and a line for what is not there: 1 if there was something, else 65."""
        if not self.absent:
            return EX_OK
        context.warn(f"there is no {kind} {','.join(self.absent)} in {where}")
        return NoSuchMessage.exit_status if self.none else EX_FAILURE


def select(
    reader: MailReader, mailbox: MailboxState, typed: str, *, expunged: bool = False, flag: str = ""
) -> Selected:
    """The messages of `typed` (``1:5,9,12:*``): the live ones, or those that are `expunged`, and of these
    only those with `flag`. Raises `UsageError`."""
    wanted = parse_uids(typed, mailbox.last_uid)
    members = [member.strip() for member in typed.split(",")]
    found: set[int] = set()
    uids = []
    for batch in records_of(reader, mailbox, expunged=expunged):
        for record in batch:
            hits = [number for number, one in enumerate(wanted) if record.uid in one]
            found.update(hits)
            if hits and (not flag or flag in record.flags.split()):
                uids.append(record.uid)
    absent = [member for number, member in enumerate(members) if number not in found]
    return Selected(uids, absent, not found)
