"""The scrub: the whole store verified at a rate, an owner after the other, and healed from the peer on the
way.

Whatever ends it, the next one goes on where it was: with the owner, and within the owner's messages. No
snapshot is held while it waits for its rate to allow more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, EX_TEMPFAIL, CyrusSyncError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.pace import Pace
from cyrus_sync.common.stores.care import Problem, StoreCare
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.common.threads import Threads
from cyrus_sync.mailstore.scrub_state import Scrub, ScrubState
from cyrus_sync.spool.master import SpoolMaster


class Stopped(Exception):
    """The scrub was told to stop."""


Read = Callable[[int, int, str], None]
"""Is told of what was read: messages, octets, and where to go on within the owner. May raise `Stopped`."""


class Checked(Protocol):
    """Whose mail is scrubbed."""

    def owners(self) -> Iterable[Owner]: ...

    def verify(self, owner: Owner, after: str, read: Read) -> Iterable[Problem]:
        """What is wrong with an owner. With `after` only messages behind that place are read."""

    def damaged(self, owner: Owner) -> int:
        """How many of the owner's messages are known to be damaged."""


def key_of(owner: Owner) -> str:
    """``user:alice``: owners are done in the order of these, users first."""
    return f"{owner.kind}:{owner.name}"


def _order(key: str) -> tuple[bool, str]:
    return not key.startswith("user:"), key


@dataclass(slots=True)
class Scrubber:
    """One run. `heal` asks the peer for an owner's damaged messages; None where there is none to be asked."""

    checked: Checked
    state: ScrubState
    pace: Pace
    tell: Callable[[Owner, Problem], None]
    warn: Callable[[str], None]
    heal: Callable[[Owner], Awaitable[None]] | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    sleep: Callable[[float], object] | None = None
    """Waits for so many seconds, or until it is to stop."""

    async def go(self, threads: Threads, *, anew: bool, rate: int) -> int:
        """To the end, or until it is stopped; the exit status."""
        interrupted = await threads.run(self.state.read)
        if anew or not interrupted:
            self.state.now = Scrub(begun=self.state.seconds())
        now = self.state.now
        now.rate, now.running, now.pid = rate, True, os.getpid()
        owners = await threads.run(lambda: sorted(map(key_of, self.checked.owners()), key=_order))
        now.of = len(owners)
        left = [key for key in owners if not now.at or _order(key) >= _order(now.at)]
        now.owners = len(owners) - len(left)
        await threads.run(lambda: self.state.write(at_once=True))
        try:
            for key in left:
                await self._owner(threads, key)
        except Stopped:
            now.running = False
            await threads.run(lambda: self.state.write(at_once=True))
            return EX_TEMPFAIL
        now.at = now.after = ""
        now.ended, now.running = self.state.seconds(), False
        self.state.last = now
        await threads.run(lambda: self.state.write(at_once=True))
        return EX_FAILURE if now.problems > now.healed or now.failed else EX_OK

    async def _owner(self, threads: Threads, key: str) -> None:
        now = self.state.now
        if now.at != key:
            now.at, now.after = key, ""
        kind, _, name = key.partition(":")
        owner = Owner(kind, name)
        try:
            await threads.run(self._check, owner)
            if self.heal is not None:
                await self._heal(threads, owner)
        except CyrusSyncError as error:
            now.failed += 1
            self.warn(f"{key} cannot be checked: {error}")
        now.owners += 1

    def _check(self, owner: Owner) -> None:
        now = self.state.now
        self._go_on()
        for problem in self.checked.verify(owner, now.after, self._read):
            now.problems += 1
            now.damaged += problem.kind in ("message", "pack")
            self.tell(owner, problem)
            self.state.write(at_once=True)
            self._go_on()
        self.state.write()

    def _read(self, messages: int, octets: int, after: str) -> None:
        now = self.state.now
        now.messages += messages
        now.octets += octets
        now.after = after
        self.state.write()
        seconds = self.pace.take(octets)
        if seconds:
            (self.sleep or self.stop.wait)(seconds)
        self._go_on()

    def _go_on(self) -> None:
        if self.stop.is_set():
            raise Stopped

    async def _heal(self, threads: Threads, owner: Owner) -> None:
        assert self.heal is not None
        before = await threads.run(self.checked.damaged, owner)
        if not before:
            return
        try:
            await self.heal(owner)
        except CyrusSyncError as error:
            self.warn(f"{key_of(owner)}: not healed now, replication does so later: {error}")
        self.state.now.healed += before - await threads.run(self.checked.damaged, owner)


class StoreChecked:
    """Our store, in steps: what is read between two waits is one snapshot."""

    def __init__(self, store: MailStore, care: StoreCare, rate: int, *, far: bool = True) -> None:
        """`far`: messages in an object store are read, too."""
        self._far = far
        self._store = store
        self._care = care
        self._step = min(max(rate, 64 << 10), 4 << 20) if rate else 4 << 20

    def owners(self) -> Iterable[Owner]:
        return self._store.owners()

    def verify(self, owner: Owner, after: str, read: Read) -> Iterable[Problem]:
        if not after:
            yield from self._care.verify(owner, messages=False)
        while True:
            step = self._care.verify_messages(owner, after, self._step, far=self._far)
            yield from step.problems
            read(step.messages, step.octets, step.after)
            if not step.after:
                return
            after = step.after

    def damaged(self, owner: Owner) -> int:
        return len(damaged_guids(self._store, owner))


def damaged_guids(store: MailStore, owner: Owner) -> set[bytes]:
    """The owner's messages that are marked as damaged, and are."""
    try:
        with store.read(owner) as reader:
            return reader.unsound(reader.damaged_guids())
    except CyrusSyncError:
        return set()  # that he cannot be read is a problem of its own, and told


class SpoolChecked:
    """The spool of a real Cyrus, whose owners are read in one go, and which nobody heals from here."""

    def __init__(self, spool: SpoolMaster) -> None:
        self._spool = spool

    def owners(self) -> Iterable[Owner]:
        return self._spool.owners()

    def verify(self, owner: Owner, after: str, read: Read) -> Iterable[Problem]:
        del after
        return self._spool.problems(owner, lambda octets: read(1, octets, ""))

    def damaged(self, owner: Owner) -> int:
        del owner
        return 0
