"""What follows an arrival (mail, the receipt handler, an import) beside further transfers; keeping house."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.shipping.arrival import recover
from cyrus_sync.shipping.children import MAX_CHILDREN
from cyrus_sync.shipping.completing import Arrived
from cyrus_sync.shipping.handler import (
    handler_command,
    imports_by_itself,
    is_to_import,
    packets_wait,
    run_handler,
    run_import,
)
from cyrus_sync.shipping.returns import welcome_home
from cyrus_sync.shipping.site import Site


class Aftermath:
    """Programs are waited for in threads: at most ten, since a handler may take its time."""

    def __init__(self, site: Site, reactor: Any) -> None:
        self._site = site
        self._reactor = reactor
        self._threads = ThreadPool(0, MAX_CHILDREN, "aftermath")
        self._threads.start()
        self._importing = DeferredLock()
        self._import_is_due = False
        self._has_begun = False

    def end(self) -> None:
        """Nothing follows any more."""
        self._threads.stop()

    async def follow(self, arrived: Arrived) -> None:
        """What follows the arrival of a file. It is over when this is."""
        self._renew()
        if imports_by_itself(self._site) and is_to_import(self._site, arrived):
            await self._import()
        if arrived.order.returning:
            if arrived.here:
                await self._in_thread(welcome_home, self._site, arrived.order, arrived.here)
        elif handler_command(self._site, arrived) is not None:
            await self._in_thread(run_handler, self._site, arrived)

    def _renew(self) -> None:
        try:
            self._site.renew()
        except CyrusSyncError as error:
            self._site.log.error(f"the configuration stays as it was: {error}")

    async def keep_house(self) -> None:
        """Complete what was left half done, forget what is long past. At the first time also import what
        came just before the service stopped."""
        for arrived in await self._in_thread(recover, self._site):
            await self.follow(arrived)
        begins, self._has_begun = not self._has_begun, True
        if begins and imports_by_itself(self._site) and packets_wait(self._site):
            await self._import()

    async def _import(self) -> None:
        """One import after the other; one that has not begun will find all that has come until it does."""
        if self._import_is_due:
            return
        self._import_is_due = True
        await self._importing.acquire()
        try:
            self._import_is_due = False
            await self._in_thread(run_import, self._site)
        finally:
            self._importing.release()

    def _in_thread(self, work: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._threads, work, *arguments)
