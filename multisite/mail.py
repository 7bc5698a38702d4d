"""`SiteMail`: the mail of a site, as packets are made from it and carried out on it.

Our own store is one: every `MailStore` has what stands here, and transactions besides. A real Cyrus is
another (`multisite.cyrus`). It is read in its spool and changed through its own csync server, where each verb
counts for good as soon as it was answered; so nobody here may rely on anything being undone. That is no new
demand: every step of a replay can be repeated.

Values, names and errors are those of `common.stores.mailstore`, where each verb is described.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from cyrus_sync.common.master import MasterReader, Unreadable
from cyrus_sync.common.model import (
    Annotation,
    MailboxAnnotation,
    MailboxState,
    MailboxUpdate,
    MessageBody,
    MessageSource,
    Quota,
    Record,
    Seen,
    SieveScript,
)
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import StagedMessages


class SiteReader(MasterReader, Protocol):
    """One owner's mail. What it says of one mailbox is of one moment (`common.master`)."""

    def bodies(
        self,
        guids: Sequence[bytes],
        partition: str = "",
        encoding: str = "identity",
        *,
        unreadable: Unreadable | None = None,
    ) -> MessageSource:
        """Messages of the owner by GUID, in the order asked for; those that are not there are left out."""

    def note_damaged(self, guid: bytes) -> None:
        """The stored copy of this message is not what its GUID says. Mail that keeps no such marks forgets
        it."""

    def sieve_scripts(self) -> list[SieveScript]:
        """Scripts as files, in order of file name; one line more for the bytecode of the active one."""


class SiteWriter(SiteReader, Protocol):
    """Changes one owner's mail; its reads show what it has done."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Where the mail has transactions, what fails in it is undone."""

    # -- words of the owner's master, as they stand

    def apply_mailbox(
        self, update: MailboxUpdate, staged: StagedMessages, *, without_inbox: bool = False
    ) -> None: ...

    def impose_mailbox(
        self,
        update: MailboxUpdate,
        staged: StagedMessages,
        *,
        drop: Collection[int] = (),
        keep: Sequence[Record] = (),
    ) -> None: ...

    def apply_expunge(self, mailbox: str, uniqueid: str, uids: Sequence[int]) -> None: ...

    def apply_unmailbox(self, name: str) -> None: ...

    def apply_unuser(self) -> None: ...

    def apply_quota(self, quota: Quota) -> None: ...

    def apply_unquota(self, root: str) -> None: ...

    def apply_sub(self, mailbox: str, subscribed: bool) -> None: ...

    def apply_seen(self, seen: Seen) -> None: ...

    def apply_annotation(self, annotation: MailboxAnnotation) -> None: ...

    def apply_unannotation(self, mailbox: str, entry: str, userid: str) -> None: ...

    def apply_sieve(self, filename: str, last_update: int, content: bytes) -> None: ...

    def apply_unsieve(self, filename: str) -> None: ...

    def apply_active_sieve(self, filename: str | None) -> None: ...

    # -- what a master decides of others' words

    def create(self, name: str) -> MailboxState: ...

    def raise_counters(
        self,
        uniqueid: str,
        *,
        uidvalidity: int = 0,
        highestmodseq: int = 0,
        last_uid: int = 0,
        foldermodseq: int = 0,
        raclmodseq: int = 0,
        xconvmodseq: int = 0,
    ) -> None: ...

    def rewrite_records(self, uniqueid: str, records: Sequence[Record]) -> None: ...

    def adopt(self, uniqueid: str, record: Record, body: MessageBody | None, *, keep_uid: bool) -> int: ...

    def change_header(
        self,
        uniqueid: str,
        *,
        acl: str | None = None,
        options: str | None = None,
        usergroups: str | None = None,
        annotations: Sequence[Annotation] | None = None,
    ) -> None: ...


class SiteTogether(Protocol):
    """Changes to several owners that end at once (`common.stores.mailstore.Together`)."""

    @property
    def may_grow(self) -> bool: ...

    def writer(self, owner: Owner, timeout: float) -> SiteWriter: ...

    def commit(self) -> None: ...

    def undo(self) -> None: ...


class SiteMail(Protocol):
    """All owners' mail."""

    def owners(self) -> Iterator[Owner]: ...

    def exists(self, owner: Owner) -> bool: ...

    def owner_of_uniqueid(self, uniqueid: str) -> Owner | None: ...

    def read(self, owner: Owner) -> AbstractContextManager[SiteReader]: ...

    def write(self, owner: Owner, *, timeout: float = 5.0) -> AbstractContextManager[SiteWriter]:
        """Raises `MailboxLocked` if the owner cannot be had within `timeout` seconds, and what says why
        nothing can be changed here."""

    def together(self) -> SiteTogether: ...

    def rename(
        self,
        old: str,
        new: str,
        *,
        partition: str = "",
        log: bool,
        timeout: float = 5.0,
        without_inbox: bool = False,
    ) -> None: ...

    def close(self) -> None: ...
