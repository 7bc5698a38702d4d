"""`BatchWriter`: one owner's write transaction over several operations, so that they share one sync."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.mail import SiteMail, SiteReader, SiteWriter

MOST_OPERATIONS = 500
MOST_BYTES = 64 << 20
"""Bytes of new messages in one transaction."""

LOCK_SECONDS = 60.0
"""How long to wait for an owner's lock."""


class BatchWriter:
    """`writer(owner)` gives the transaction of that owner, after it has committed another owner's. What was
    done is durable after `commit`."""

    def __init__(self, store: SiteMail) -> None:
        self.store = store
        self._owner: Owner | None = None
        self._writer: Any = None
        self._stack = contextlib.ExitStack()
        self._count = 0
        self._bytes = 0
        self.commits = 0
        """How many times `commit` was called: what was done since the last time is not durable yet."""

    def writer(self, owner: Owner, octets: int = 0) -> SiteWriter:
        """The open transaction of `owner`. `octets`: bytes of messages that are about to be written. Raises
        `StoreError` where the owner cannot be locked or opened."""
        if self._owner != owner or self._count >= MOST_OPERATIONS or self._bytes > MOST_BYTES:
            self.commit()
        if self._writer is None:
            self._writer = self._stack.enter_context(self.store.write(owner, timeout=LOCK_SECONDS))
            self._owner = owner
        self._count += 1
        self._bytes += octets
        writer: SiteWriter = self._writer
        return writer

    @contextlib.contextmanager
    def reader(self, owner: Owner) -> Iterator[SiteReader]:
        """A view of `owner` that shows what has been done, committed or not."""
        if self._owner == owner and self._writer is not None:
            yield self._writer
            return
        with self.store.read(owner) as reader:
            yield reader

    def commit(self) -> None:
        """Commit the open transaction. Raises what the store raises; then nothing of it was done."""
        stack, self._stack = self._stack, contextlib.ExitStack()
        self._owner = self._writer = None
        self._count = self._bytes = 0
        self.commits += 1
        stack.close()

    def roll_back(self, error: BaseException) -> None:
        """Undo the open transaction."""
        stack, self._stack = self._stack, contextlib.ExitStack()
        self._owner = self._writer = None
        self._count = self._bytes = 0
        with contextlib.suppress(BaseException):
            stack.__exit__(type(error), error, error.__traceback__)
