"""Running a connection's queued verbs: consecutive changes to one owner under one write and one sync.

Owners who are new share one: a first synchronisation of many users brings some dozens of them to disk at
once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import CyrusSyncError, MailboxLocked, StoreError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.stores.mailstore import ChangesKept, MailReader, MailStore, MailWriter, StaleOwner
from cyrus_sync.common.stores.threads import Outcome

LONGEST_GROUP = 0.25
"""Seconds after which a group is committed, even if more changes wait that could join it."""

MOST_TOGETHER = 64
"""New owners in a group: each has some files open."""


class QueuedVerb(NamedTuple):
    """A verb: called with a `Scope`, in a thread."""

    act: Callable[[Scope], Any]


class Scope:
    """What a verb may do while it runs: read an owner, change an owner, or ask that all is committed."""

    def __init__(self, store: MailStore, timeout: float) -> None:
        self.timeout = timeout
        self._store = store
        self._together = store.together()
        self._writers: dict[Owner, MailWriter] = {}
        self._begun = 0.0
        self.changed = False
        """Whether the verb that runs has changed something that is not committed."""

    def change(self, owner: Owner, change: Callable[[MailWriter], None]) -> None:
        """Run `change` in the group of `owner`. If another owner's group is open, it is committed first,
        unless that one and this are new. Raises what `change` raises, and `MailboxLocked` or `StoreError`
        where the owner cannot be had."""
        writer = self._writing(owner)
        with writer.savepoint():
            self.changed = True
            change(writer)

    def _writing(self, owner: Owner) -> MailWriter:
        late = time.monotonic() - self._begun > LONGEST_GROUP
        writer = self._writers.get(owner)
        if self._writers and (late or (writer is None and not self._may_grow())):
            self.commit()
            writer = None
        if writer is None and self._writers:
            try:
                writer = self._together.writer(owner, 0)
            except MailboxLocked:  # nobody waits for one while he holds others
                self.commit()
        if writer is None:
            if not self._writers:
                self._begun = time.monotonic()
            writer = self._together.writer(owner, self.timeout)
        self._writers[owner] = writer
        return writer

    def _may_grow(self) -> bool:
        return len(self._writers) < MOST_TOGETHER and self._together.may_grow

    @contextmanager
    def reader(self, owner: Owner) -> Iterator[MailReader]:
        """A reader that sees what the verbs before have done."""
        if owner in self._writers:
            yield self._writers[owner]
            return
        with self._store.read(owner) as reader:
            yield reader

    @property
    def grouping(self) -> bool:
        """Whether a group is open."""
        return bool(self._writers)

    def commit(self) -> None:
        """Commit the group. The verbs in it are told what goes wrong, and not the one that runs now."""
        self._writers = {}
        try:
            self._together.commit()
        except Exception as error:
            self.failed(error)
        else:
            self.succeeded()

    failed: Callable[[BaseException], None] = staticmethod(lambda error: None)
    succeeded: Callable[[], None] = staticmethod(lambda: None)


class _Run:
    """The verbs of one hop, and their outcomes."""

    def __init__(self, store: MailStore, timeout: float) -> None:
        self.scope = Scope(store, timeout)
        self.scope.failed = self._fail
        self.scope.succeeded = self._conclude
        self._pending: list[tuple[Outcome[QueuedVerb], bool]] = []
        self.concluded: list[Outcome[QueuedVerb]] = []
        self._repeating = False

    def run(self, job: QueuedVerb) -> None:
        scope = self.scope
        scope.changed = False
        try:
            outcome = Outcome(job, job.act(scope))
        except Exception as error:
            outcome = Outcome(job, error=_ours(error))
        kept = outcome.error is None or isinstance(outcome.error, ChangesKept)
        self._pending.append((outcome, scope.changed and kept))
        if not scope.grouping:
            self._conclude()

    def _conclude(self) -> None:
        self.concluded += [outcome for outcome, _ in self._pending]
        self._pending.clear()

    def _fail(self, error: BaseException) -> None:
        if isinstance(error, StaleOwner) and not self._repeating:
            self._repeat(error)
            return
        for outcome, changed in self._pending:
            if changed:
                outcome.result, outcome.error = None, _ours(error)
        self._conclude()

    def _repeat(self, stale: StaleOwner) -> None:
        """Another machine was faster: make the changes of the group once more, on what is there now. What
        goes wrong in that is not told: it may be for want of what was staged, and the peer comes again."""
        pending, self._pending = self._pending, []
        self._repeating, changed = True, self.scope.changed
        try:
            for outcome, has_changed in pending:
                if not has_changed:
                    self._pending.append((outcome, False))
                    continue
                self.run(outcome.job)
                again = self._pending[-1][0] if self._pending else self.concluded[-1]
                if again.error is not None and not isinstance(again.error, ChangesKept):
                    again.error = stale
            self.scope.commit()
        finally:
            self._repeating, self.scope.changed = False, changed

    def take(self) -> list[Outcome[QueuedVerb]]:
        """The outcomes that are final since the last call."""
        concluded, self.concluded = self.concluded, []
        return concluded


class GroupExecutor:
    """Executes jobs for an `OrderedQueue`."""

    def __init__(self, store: MailStore, timeout: float) -> None:
        self._store = store
        self._timeout = timeout

    def execute(self, jobs: Sequence[QueuedVerb]) -> Iterator[list[Outcome[QueuedVerb]]]:
        """Run the verbs in order, and yield their outcomes as they become final (`threads.Executor`)."""
        run = _Run(self._store, self._timeout)
        for job in jobs:
            run.run(job)
            if concluded := run.take():
                yield concluded
        run.scope.commit()
        if concluded := run.take():
            yield concluded


def _ours(error: BaseException) -> BaseException:
    """An error of ours as it is; any other one as a `StoreError` that names it."""
    if isinstance(error, CyrusSyncError):
        return error
    wrapped = StoreError(f"internal error: {type(error).__name__}: {reason(error)}")
    wrapped.__cause__ = error
    return wrapped
