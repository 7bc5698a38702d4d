"""Which messages an owner has, by GUID: for who does not know in which mailbox to look.

A spool has no such index. It is made of all mailboxes' records when it is first asked for, and takes about
150 octets of memory a message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cyrus_sync.common.errors import MailboxLocked, StoreCorrupt, StoreError
from cyrus_sync.common.master import Unreadable
from cyrus_sync.common.model import MessageBody
from cyrus_sync.common.names import Owner
from cyrus_sync.spool.db import items_of
from cyrus_sync.spool.mailbox import MailboxFiles
from cyrus_sync.spool.messages import read_message
from cyrus_sync.spool.server import Server
from cyrus_sync.spool.snapshot import take
from cyrus_sync.spool.trouble import Gone

_BATCH = 1024 * 1024


class HeldMessages:
    """Those of one owner. Mailboxes that cannot be read hold nothing."""

    def __init__(self, server: Server, owner: Owner) -> None:
        self._server = server
        self._owner = owner
        self._places: dict[bytes, tuple[MailboxFiles, int]] | None = None
        self._old = False

    def grow_old(self) -> None:
        """Time has passed. What is not found from now on is looked for once more, in all mailboxes."""
        self._old = True

    def among(self, guids: Iterable[bytes]) -> set[bytes]:
        """Which of these messages he has."""
        wanted = set(guids)
        found = self._known().keys() & wanted
        if len(found) < len(wanted) and self._look_again():
            found = self._known().keys() & wanted
        return found

    def bodies(
        self, guids: Sequence[bytes], partition: str, unreadable: Unreadable | None
    ) -> Iterator[list[MessageBody]]:
        """Messages in the order asked for, in batches of about a MiB; those that he does not have are left
        out. For one that cannot be read `unreadable` is called; without it `StoreCorrupt` is raised."""
        batch: list[MessageBody] = []
        size = 0
        for guid in guids:
            found = self._known().get(guid)
            if found is None:
                continue
            try:
                body = self._read(guid, found, partition)
            except StoreCorrupt as error:
                if unreadable is None:
                    raise
                unreadable(guid, error)
                continue
            if batch and size + body.size > _BATCH:
                yield batch
                batch, size = [], 0
            batch.append(body)
            size += body.size
        if batch:
            yield batch

    def _read(self, guid: bytes, found: tuple[MailboxFiles, int], partition: str) -> MessageBody:
        try:
            return read_message(*found, guid, partition)
        except StoreCorrupt:
            # It may have been moved, or its mailbox renamed, since it was looked for.
            now = self._known().get(guid) if self._look_again() else found
            if now is None or now == found:
                raise
            return read_message(*now, guid, partition)

    def _look_again(self) -> bool:
        if not self._old:
            return False
        self._places, self._old = None, False
        return True

    def _known(self) -> dict[bytes, tuple[MailboxFiles, int]]:
        if self._places is None:
            self._places = dict(self._look())
        return self._places

    def _look(self) -> Iterator[tuple[bytes, tuple[MailboxFiles, int]]]:
        userid = self._owner.name if self._owner.kind == "user" else ""
        for entry in self._server.mailboxes.of_owner(self._owner):
            if not entry.live or entry.intermediate:
                continue
            try:
                files = self._server.files(entry)
                with take(files, userid, items_of) as mailbox:
                    for places in mailbox.places():
                        for place in places:
                            yield place.guid, (files, place.uid)
            except (Gone, StoreError, MailboxLocked):
                continue
