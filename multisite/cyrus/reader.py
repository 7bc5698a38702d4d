"""`FreshReader`: one owner of a spool that is changed meanwhile. What is asked after a change shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager

from cyrus_sync.common.errors import SnapshotLost
from cyrus_sync.common.master import Unreadable
from cyrus_sync.common.model import (
    MailboxAnnotation,
    MailboxState,
    MessageSource,
    Quota,
    RecordSource,
    Seen,
    SieveScript,
    Tombstone,
    UserMeta,
)
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.mail import SiteReader


class FreshReader:
    """A `SiteReader`. `opened` gives a reader of the mail as it is now; `changed` lets go of the one that is
    open. `close` it."""

    def __init__(self, owner: Owner, opened: Callable[[], AbstractContextManager[SiteReader]]) -> None:
        self.owner = owner
        self._opened = opened
        self._stack = contextlib.ExitStack()
        self._reader: SiteReader | None = None

    @property
    def now(self) -> SiteReader:
        if self._reader is None:
            self._reader = self._stack.enter_context(self._opened())
        return self._reader

    def changed(self) -> None:
        self._reader = None
        self._stack.close()

    close = changed

    def mailboxes(self) -> list[MailboxState]:
        return self.now.mailboxes()

    def mailbox(self, name: str) -> MailboxState | None:
        return self.now.mailbox(name)

    def mailbox_by_id(self, uniqueid: str) -> MailboxState | None:
        return self.now.mailbox_by_id(uniqueid)

    def tombstones(self) -> list[Tombstone]:
        return self.now.tombstones()

    def tombstone(self, uniqueid: str) -> Tombstone | None:
        return self.now.tombstone(uniqueid)

    def former_names(self, uniqueid: str) -> list[str]:
        return self.now.former_names(uniqueid)

    def records(
        self, uniqueid: str, *, since_modseq: int = 0, above_uid: int = 0, batch: int = 2000
    ) -> RecordSource:
        try:
            return self.now.records(uniqueid, since_modseq=since_modseq, above_uid=above_uid, batch=batch)
        except SnapshotLost:
            self.changed()  # whoever asks again is shown the mailbox as it is then
            raise

    def new_guids(self, uniqueid: str, above_uid: int) -> Iterator[list[tuple[int, bytes]]]:
        return self.now.new_guids(uniqueid, above_uid)

    def recalculate_crcs(self, uniqueid: str) -> tuple[int, int]:
        return self.now.recalculate_crcs(uniqueid)

    def has_guids(self, guids: Iterable[bytes]) -> set[bytes]:
        return self.now.has_guids(guids)

    def readable(
        self, uniqueid: str, messages: Iterable[tuple[int, bytes]], *, verify: bool = False
    ) -> set[bytes]:
        return self.now.readable(uniqueid, messages, verify=verify)

    def damaged_guids(self) -> set[bytes]:
        return self.now.damaged_guids()

    def note_damaged(self, guid: bytes) -> None:
        self.now.note_damaged(guid)

    def quotas(self) -> list[Quota]:
        return self.now.quotas()

    def quota(self, root: str) -> Quota | None:
        return self.now.quota(root)

    def meta(self, *, with_sieve: bool) -> UserMeta:
        return self.now.meta(with_sieve=with_sieve)

    def seen(self, uniqueid: str) -> Seen | None:
        return self.now.seen(uniqueid)

    def sieve_scripts(self) -> list[SieveScript]:
        return self.now.sieve_scripts()

    def sieve_content(self, filename: str) -> bytes | None:
        return self.now.sieve_content(filename)

    def annotations(self, mailbox: str) -> list[MailboxAnnotation]:
        return self.now.annotations(mailbox)

    def bodies(
        self,
        guids: Sequence[bytes],
        partition: str = "",
        encoding: str = "identity",
        *,
        unreadable: Unreadable | None = None,
    ) -> MessageSource:
        return self.now.bodies(guids, partition, encoding, unreadable=unreadable)
