"""``mailstore verify --background`` put together: whose mail, at which rate, where it was, and who heals."""

from __future__ import annotations

import argparse
import fcntl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cyrus_sync.common.config.values import size
from cyrus_sync.common.counted import counted
from cyrus_sync.common.errors import EX_TEMPFAIL, CyrusSyncError, StoreError, UsageError
from cyrus_sync.common.files import make_directories, private
from cyrus_sync.common.names import Owner
from cyrus_sync.common.pace import Pace
from cyrus_sync.common.reactor import Reactor
from cyrus_sync.common.stores import disk
from cyrus_sync.common.stores.care import Problem
from cyrus_sync.common.stores.threads import ThreadRunner
from cyrus_sync.common.wire.settings import ClientSettings
from cyrus_sync.mailstore.context import StoreContext
from cyrus_sync.mailstore.from_peer import FromPeer
from cyrus_sync.mailstore.reactor import in_reactor
from cyrus_sync.mailstore.scrub import Scrubber, SpoolChecked, StoreChecked, damaged_guids
from cyrus_sync.mailstore.scrub_state import FILE, ScrubState
from cyrus_sync.mailstore.source import CYRUS

RATE = 5 << 20


class OtherScrub(CyrusSyncError):
    """One is enough for a store."""

    exit_status = EX_TEMPFAIL
    text = "another mailstore verify --background is under way"


def run_scrub(args: argparse.Namespace, context: StoreContext, tell: Callable[[Owner, Problem], None]) -> int:
    """Scrub; the exit status."""
    rate = _rate(args.rate)
    path = context.config.configdirectory / FILE
    stop = threading.Event()
    if args.source == CYRUS:
        checked: StoreChecked | SpoolChecked = SpoolChecked(context.spool)
    else:
        checked = StoreChecked(
            context.store(readonly=True), context.care(readonly=True), rate, far=not args.no_far
        )
    settings = _peer(args, context)
    with _alone(path.with_suffix(".lock")):

        async def work(reactor: Reactor) -> int:
            threads = ThreadRunner(reactor)
            scrubber = Scrubber(
                checked,
                ScrubState(path, time.time),
                Pace(rate, time.monotonic),
                tell,
                context.warn,
                _healer(context, settings, threads, reactor) if settings is not None else None,
                stop,
            )
            status = await scrubber.go(threads, anew=args.anew, rate=rate)
            now = scrubber.state.now
            verdict = (
                f"{counted(now.problems, 'problem')}, {now.healed} healed"
                if now.problems
                else "nothing wrong"
            )
            if args.no_far:
                context.print("messages in the object store were left out (--no-far)")
            over = "checked" if now.ended else "checked so far; the next one goes on"
            context.print(
                f"{counted(now.owners, 'owner')}, {counted(now.messages, 'message')} {over}: {verdict}"
            )
            return status

        return in_reactor(work, stop.set)


def _rate(text: str | None) -> int:
    """Octets a second."""
    try:
        rate = RATE if text is None else size(text)
    except ValueError as error:
        raise UsageError(f"verify: --rate: {error}") from None
    if rate <= 0:
        raise UsageError(f"verify: --rate: '{text}' is not above 0")
    return rate


def _peer(args: argparse.Namespace, context: StoreContext) -> ClientSettings | None:
    """Whom to ask for damaged messages; None where nobody is configured, or nobody is to be asked."""
    if args.no_heal or args.source == CYRUS:
        return None
    if not (args.server or context.config.string("sync_host", args.channel)):
        context.warn("no sync_host is configured: what is damaged is named, and not healed")
        return None
    return ClientSettings.from_config(context.config, args.channel, args.server, option="--server")


def _healer(
    context: StoreContext, settings: ClientSettings, threads: ThreadRunner, reactor: Reactor
) -> Callable[[Owner], Awaitable[None]]:
    async def heal(owner: Owner) -> None:
        store = context.store()
        guids = await threads.run(damaged_guids, store, owner)
        await FromPeer(context, store, settings, {owner: guids}).go(reactor)

    return heal


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the lock of scrubs. Raises `OtherScrub`, `StoreError`."""
    try:
        make_directories(path.parent)
        with open(path, "a", opener=private) as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OtherScrub().at(file=str(path)) from None
            yield
    except OSError as error:
        raise StoreError(disk.why(error, str(path))) from error
