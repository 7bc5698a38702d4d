"""`BatchWriter`: owners' write transactions over several operations, so that they share their syncs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.mail import SiteMail, SiteReader, SiteTogether, SiteWriter

MOST_OPERATIONS = 500
MOST_BYTES = 64 << 20
"""Bytes of new messages in one transaction."""

MOST_TOGETHER = 64
"""New owners whose transactions are open at once: each has some files open."""

LOCK_SECONDS = 60.0
"""How long to wait for an owner's lock."""


class BatchWriter:
    """`writer(owner)` gives the transaction of that owner. Before, it commits that of another, unless both
    are new here: those come into being together. What was done is durable after `commit`."""

    def __init__(self, store: SiteMail) -> None:
        self.store = store
        self._open: SiteTogether = store.together()
        self._writers: dict[Owner, SiteWriter] = {}
        self._count = 0
        self._bytes = 0
        self.commits = 0
        """How many times `commit` was called: what was done since the last time is not durable yet."""

    def writer(self, owner: Owner, octets: int = 0) -> SiteWriter:
        """The open transaction of `owner`. `octets`: bytes of messages that are about to be written. Raises
        `StoreError` where the owner cannot be locked or opened."""
        if self._count >= MOST_OPERATIONS or self._bytes > MOST_BYTES or not self._may_have(owner):
            self.commit()
        writer = self._writers.get(owner)
        if writer is None and self._writers:
            try:
                writer = self._open.writer(owner, 0)
            except MailboxLocked:  # nobody waits for one while he holds others
                self.commit()
        if writer is None:
            writer = self._open.writer(owner, LOCK_SECONDS)
        self._writers[owner] = writer
        self._count += 1
        self._bytes += octets
        return writer

    def _may_have(self, owner: Owner) -> bool:
        """Whether the owner's transaction is open, or may be opened beside those that are."""
        if not self._writers or owner in self._writers:
            return True
        return len(self._writers) < MOST_TOGETHER and self._open.may_grow

    @contextlib.contextmanager
    def reader(self, owner: Owner) -> Iterator[SiteReader]:
        """A view of `owner` that shows what has been done, committed or not."""
        if owner in self._writers:
            yield self._writers[owner]
            return
        with self.store.read(owner) as reader:
            yield reader

    def commit(self) -> None:
        """Commit what is open. Raises what the store raises; then none of those is done that were not durable
        before."""
        self._writers = {}
        self._count = self._bytes = 0
        self.commits += 1
        self._open.commit()

    def roll_back(self) -> None:
        """Undo what is open."""
        self._writers = {}
        self._count = self._bytes = 0
        with contextlib.suppress(BaseException):
            self._open.undo()
