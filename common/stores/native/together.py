"""`Together`: changes to several owners that end together, so that those who are new share what syncing
costs.

A new owner is three files' worth of names and octets to bring to disk. One by one that is five syncs each;
for a group it is a few for all (`changing.bring_in`). Owners who are there already have their own log to
sync, and gain nothing by waiting for others.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cyrus_sync.common.errors import MailboxLocked, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.native.changing import Change, Surrounding, bring_in
from cyrus_sync.common.stores.native.transaction import Transaction
from cyrus_sync.common.stores.native.unlogged import Line
from cyrus_sync.common.stores.native.writer import Writer
from cyrus_sync.common.stores.trouble import reporting


class _Held(NamedTuple):
    stack: contextlib.ExitStack
    change: Change
    transaction: Transaction
    writer: Writer


class Together:
    """`common.stores.mailstore.Together`. For one thread at a time."""

    def __init__(
        self,
        store: Surrounding,
        mutex: Callable[[Owner], threading.Lock],
        written: Callable[[Sequence[Line]], None],
    ) -> None:
        """`mutex`: what keeps the threads of this process apart. `written` is called with all lines of the
        changes when nobody is held any more."""
        self._store = store
        self._mutex = mutex
        self._written = written
        self._held: dict[Owner, _Held] = {}

    def __bool__(self) -> bool:
        return bool(self._held)

    def writer(self, owner: Owner, timeout: float) -> Writer:
        held = self._held.get(owner)
        if held is None:
            with reporting(owner):
                held = self._held[owner] = self._begin(owner, timeout)
        return held.writer

    def _begin(self, owner: Owner, timeout: float) -> _Held:
        if self._store.home.readonly:
            raise StoreError("the mail store was opened for reading only")
        deadline = time.monotonic() + timeout
        mutex = self._mutex(owner)
        if not mutex.acquire(timeout=max(timeout, 0.001)):
            raise MailboxLocked()
        stack = contextlib.ExitStack()
        stack.callback(mutex.release)
        change = Change(self._store, owner, stack)
        try:
            transaction = change.begin(max(deadline - time.monotonic(), 0))
        except BaseException:
            stack.close()
            raise
        return _Held(stack, change, transaction, Writer(transaction))

    @property
    def may_grow(self) -> bool:
        return all(held.change.makes for held in self._held.values())

    def commit(self) -> None:
        everybody, self._held = list(self._held.values()), {}
        lines: list[Line] = []
        try:
            with contextlib.ExitStack() as stack:
                for held in everybody:
                    stack.callback(held.stack.close)
                with reporting(everybody[0].transaction.owner if everybody else Owner("", "")):
                    self._end(everybody, lines)
        finally:
            if lines:
                self._written(lines)

    def _end(self, everybody: Sequence[_Held], lines: list[Line]) -> None:
        left = list(everybody)
        try:
            new = [(held.change, held.transaction) for held in everybody if held.change.makes]
            if new:
                lines += [line for own in bring_in(self._store, new) for line in own]
            left = [held for held in everybody if not held.change.makes]
            while left:
                lines += left[0].change.commit(left[0].transaction)
                left.pop(0)
        except BaseException:
            for held in left:
                held.change.undo(held.transaction)
            raise

    def undo(self) -> None:
        everybody, self._held = list(self._held.values()), {}
        with contextlib.ExitStack() as stack:
            for held in everybody:
                stack.callback(held.stack.close)
                stack.callback(held.change.undo, held.transaction)
