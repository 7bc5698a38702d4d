"""Is what lies in a spool what its checksums say? Mailbox by mailbox, message by message."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.care import Problem
from cyrus_sync.spool.db import items_of
from cyrus_sync.spool.entries import Entry
from cyrus_sync.spool.messages import read_message
from cyrus_sync.spool.server import Server
from cyrus_sync.spool.snapshot import Snapshot, take
from cyrus_sync.spool.trouble import Gone, SpoolDamaged

Read = Callable[[int], None]
"""Is told of each message that was read, by its octets."""


def uncounted(octets: int) -> None:
    """Nobody keeps count."""


def problems_of(server: Server, owner: Owner, read: Read = uncounted) -> Iterator[Problem]:
    """All that is wrong with an owner's mailboxes, deleted ones too: what cannot be read, sync CRCs that
    Cyrus itself has lost count of, messages that are not there or not what their GUIDs say."""
    for entry in server.mailboxes.of_owner(owner):
        if not entry.live or entry.intermediate:
            continue
        try:
            yield from _mailbox(server, entry, owner.name if owner.kind == "user" else "", read)
        except Gone:
            now = server.mailboxes.entry(entry.name)
            if now is not None and now.live and now.uniqueid == entry.uniqueid:
                what = "mailboxes.db has the mailbox, and there is no index of it"
                yield Problem("registry", entry.name, what)
        except (StoreError, MailboxLocked) as error:
            yield Problem(_kind(error), entry.name, error.message)


def _kind(error: Exception) -> str:
    return "header" if isinstance(error, SpoolDamaged) and error.file.name == "cyrus.header" else "index"


def _mailbox(server: Server, entry: Entry, userid: str, read: Read) -> Iterator[Problem]:
    files = server.files(entry)
    with take(files, userid, items_of) as mailbox:
        if mailbox.header.uniqueid and mailbox.header.uniqueid != entry.uniqueid:
            what = f"its header is of {mailbox.header.uniqueid}, and mailboxes.db says {entry.uniqueid}"
            yield Problem("header", entry.name, what)
        if mailbox.complaint:
            yield Problem("crc", entry.name, mailbox.complaint)
        yield from _messages(mailbox, entry, read)


def _messages(mailbox: Snapshot, entry: Entry, read: Read) -> Iterator[Problem]:
    for places in mailbox.places():
        for place in places:
            try:
                read(read_message(mailbox.files, place.uid, place.guid).size)
            except StoreError as error:
                yield Problem("message", f"{entry.name} uid {place.uid}", error.message)
