"""Read an owner's mail in order and hand it to a target, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from cyrus_sync.common.errors import MessageUnavailable, StoreCorrupt, StoreError
from cyrus_sync.common.model import MailboxState, Record
from cyrus_sync.common.names import Owner, inbox_of, is_deleted
from cyrus_sync.common.progress import Meter
from cyrus_sync.common.sieve import SIEVE_FOLDER
from cyrus_sync.common.stores.mailstore import MailReader
from cyrus_sync.mailstore.errors import BadInput
from cyrus_sync.mailstore.selection import records_of


class Target(Protocol):
    """Takes mailboxes one after another."""

    def begin(self, folder: tuple[str, ...], mailbox: MailboxState) -> None:
        """A mailbox; `folder` is its path below the INBOX, () the INBOX itself, components as stored. Raises
        `BadInput` where it can have no place of its own."""

    def add(self, record: Record, content: Iterable[bytes]) -> None:
        """A message of that mailbox, in the order of UIDs; its pieces may be read several times."""

    def end(self) -> None:
        """The mailbox is complete."""

    def subscribe(self, folders: list[tuple[str, ...]]) -> None:
        """What the user has subscribed to of his own."""


@dataclass
class Exported:
    """What an export did."""

    messages: int = 0
    mailboxes: int = 0
    missing: int = 0


def export_owner(reader: MailReader, target: Target, report: Callable[[str], None], meter: Meter) -> Exported:
    """Write all live messages of the owner's mailboxes (not Sieve scripts); deleted mailboxes stay out."""
    top = top_of(reader.owner)
    done = Exported()
    for mailbox, folder in folders_of(reader):
        try:
            target.begin(folder, mailbox)
        except BadInput as error:
            done.missing += 1
            report(f"{mailbox.name}: left out: {error}")
            continue
        meter.at(mailbox.name)
        _export_mailbox(reader, mailbox, target, report, done, meter=meter)
        target.end()
        done.mailboxes += 1
    subscribed = {name: below(top, name) for name in reader.meta(with_sieve=False).subscriptions}
    for name in (name for name, place in subscribed.items() if place is None):
        report(f"subscription to {name} not written: that mailbox is another's")
    target.subscribe([place for place in subscribed.values() if place is not None])
    return done


def folders_of(reader: MailReader) -> Iterator[tuple[MailboxState, tuple[str, ...]]]:
    """The owner's mailboxes that have messages of his, and which folders they are (`below`): no deleted ones,
    and not that of Sieve scripts."""
    top = top_of(reader.owner)
    for mailbox in reader.mailboxes():
        folder = below(top, mailbox.name)
        if folder is None or mailbox.intermediate or mailbox.tombstone or folder[-1:] == (SIEVE_FOLDER,):
            continue
        yield mailbox, folder


def _export_mailbox(
    reader: MailReader,
    mailbox: MailboxState,
    target: Target,
    report: Callable[[str], None],
    done: Exported,
    *,
    meter: Meter,
) -> None:
    """Message by message: one that cannot be read keeps no other from being written."""

    def left_out(record: Record, why: str) -> None:
        done.missing += 1
        report(f"{mailbox.name} uid {record.uid}: {why}")

    for records in records_of(reader, mailbox):
        for record, content in readable(reader, records, left_out):
            target.add(record, content)
            done.messages += 1
            meter.advance()


def readable(
    reader: MailReader, records: Sequence[Record], left_out: Callable[[Record, str], None]
) -> Iterator[tuple[Record, Iterable[bytes]]]:
    """Those of `records` whose messages can be read, with the pieces, which may be read several times before
    the next one; `left_out` hears of each other, and why."""
    damaged: dict[bytes, str] = {}

    def missing(record: Record) -> None:
        left_out(record, damaged.get(record.guid, "the message is missing"))

    def unreadable(guid: bytes, error: StoreError) -> None:
        damaged[guid] = f"the message {guid.hex()} cannot be read: {error.message}"

    waiting = iter(records)
    for batch in reader.bodies([record.guid for record in records], unreadable=unreadable):
        for body in batch:
            for record in waiting:
                if record.guid == body.guid:
                    content = [body.data] if isinstance(body.data, bytes) else body.data
                    try:
                        for _ in content:  # to the end: nothing is written of what is damaged
                            pass
                    except (StoreCorrupt, MessageUnavailable) as error:
                        unreadable(body.guid, error)
                        missing(record)
                        break
                    yield record, content
                    break
                missing(record)
    for record in waiting:
        missing(record)


def top_of(owner: Owner) -> str:
    """The mailbox that an owner's others are below: the INBOX, or the shared mailbox itself."""
    return inbox_of(owner.name) if owner.kind == "user" else owner.name


def below(top: str, name: str) -> tuple[str, ...] | None:
    """The folder of a mailbox below `top` (`top_of`); None for another's or a deleted one."""
    if is_deleted(name):
        return None
    if name == top:
        return ()
    return tuple(name[len(top) + 1 :].split(".")) if name.startswith(top + ".") else None
