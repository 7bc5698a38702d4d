"""The per-user lock of a replication: two clients of one replica never work on one user at once.

As in Cyrus there is one exclusive lock per (server, userid) on the master; shared mailboxes use the
empty userid. Between processes it is flock(2) on a file that is never removed; within a process it is a
queue. A file ``skipuser-<userid>`` in the channel's directory makes the lock fail: the user is left
alone until an administrator removes it. Locks of several users are taken in sorted order.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, DeferredLock

from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.files import give_to_owner_of, make_directories
from cyrus_sync.common.reactor import installed, pause
from cyrus_sync.common.threads import Threads
from cyrus_sync.sync_client.engine.options import Options

RETRY_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1)
"""Pauses between attempts; the last is repeated."""


class UserLocks:
    """The locks that this process holds."""

    def __init__(self, options: Options, threads: Threads) -> None:
        self._options = options
        self._threads = threads
        self._queues: dict[str, DeferredLock] = {}

    @asynccontextmanager
    async def hold(self, userids: Iterable[str]) -> AsyncIterator[None]:
        """Hold the locks of `userids` ("" = shared mailboxes).

        Raises `MailboxLocked` for a user with a skipuser file and, with `skip_locked`, for one that is
        locked.
        """
        wanted = sorted(set(userids))
        queued: list[str] = []
        files: list[int] = []
        try:
            for userid in wanted:
                await self._enter_queue(userid)
                queued.append(userid)
            if self._options.lock_dir is not None or self._options.skip_dir is not None:
                for userid in wanted:
                    descriptor = await self._lock_file(userid)
                    if descriptor is not None:
                        files.append(descriptor)
            yield
        finally:
            for descriptor in files:
                os.close(descriptor)
            for userid in reversed(queued):
                self._leave_queue(userid)

    async def _enter_queue(self, userid: str) -> None:
        queue = self._queues.setdefault(userid, DeferredLock())
        if self._options.skip_locked and queue.locked:
            raise MailboxLocked("User is locked by another run").at(user=userid)
        await queue.acquire()

    def _leave_queue(self, userid: str) -> None:
        queue = self._queues[userid]
        queue.release()
        if not queue.locked:
            del self._queues[userid]

    async def _lock_file(self, userid: str) -> int | None:
        attempt = 0
        while True:
            try:
                return await self._threads.run(self._try_lock, userid)
            except BlockingIOError:
                if self._options.skip_locked:
                    raise MailboxLocked("User is locked by another sync_client").at(user=userid) from None
            await self._pause(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1

    def _pause(self, seconds: float) -> Deferred[Any]:
        return pause(self._options.clock or installed(), seconds)

    def _try_lock(self, userid: str) -> int | None:
        skip_dir, lock_dir = self._options.skip_dir, self._options.lock_dir
        if skip_dir is not None and userid and (skip_dir / f"skipuser-{userid}").exists():
            raise MailboxLocked("User is set aside by a skipuser file").at(user=userid)
        if lock_dir is None:
            return None
        path = lock_dir / lock_name(self._options.server, userid)
        try:
            make_directories(lock_dir)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            give_to_owner_of(lock_dir, descriptor)
        except OSError as error:
            raise StoreError(f"cannot open the lock {path}: {error.strerror}").at(user=userid) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def lock_name(server: str, userid: str) -> str:
    """File name of a lock, after Cyrus's name lock ``*S*<server>*<userid>`` with dots as ``^``."""
    return f"*S*{quote(server, safe='')}*{quote(userid, safe='')}".replace(".", "^")
