"""Where a rolling client's work comes from, and where it goes back to: a channel's log, or one file.

The rule both guard: what was taken is given up only by `conclude`, after everything that could not be done
is written somewhere else for good. All methods may block and are called in threads, `pending` apart; one
batch is out at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import field
from typing import Protocol

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import MailboxLocked
from cyrus_sync.common.names import Owner
from cyrus_sync.common.synclog.lines import LogLine, parse_lines
from cyrus_sync.common.synclog.log import ClaimedLog, SyncLog
from cyrus_sync.sync_client.engine.errors import ItemsFailed, passes
from cyrus_sync.sync_client.merge import WorkPlan, merge
from cyrus_sync.sync_client.quarantine import Line, Quarantine
from cyrus_sync.sync_client.run import Outcome
from cyrus_sync.sync_client.work import Item, Kind, owner_of_name, owner_of_user


@dataclass(slots=True)
class Batch:
    """What one run has to do. `claimed` is the run file behind it, if there is one."""

    plan: WorkPlan
    claimed: ClaimedLog | None = None
    held: list[Item] = field(default_factory=list)
    """Work of owners who are set aside and not yet due."""
    retried: frozenset[Owner] = frozenset()
    """Owners who were set aside, and whose kept work is in the plan."""

    @property
    def reprocessing(self) -> bool:
        return self.claimed is not None and self.claimed.reprocessing

    def release(self) -> None:
        """Leave everything as it was for the next time."""
        if self.claimed is not None:
            self.claimed.release()


class Source(Protocol):
    """Work for the rolling loop."""

    def pending(self) -> bool:
        """True if `take` would find something. Cheap; does not block."""

    def since(self) -> float | None:
        """About when the oldest work that is waiting came in, Unix seconds; None if there is none."""

    def take(self) -> Batch | None:
        """The next batch; raises `StoreError`."""

    def conclude(self, batch: Batch, outcome: Outcome) -> None:
        """Put back what was not done, then forget the batch. On `StoreError` it is not forgotten."""

    def refresh(self) -> None:
        """Notice what an administrator has changed."""

    @property
    def set_aside(self) -> int:
        """How many owners are set aside."""


def owner_of_line(line: Line) -> Owner:
    """Whose work a log line is."""
    kind, first = line[0], line[1]
    if kind in ("SEEN", "SUB", "UNSUB", "META", "SIEVE", "USER", "UNUSER"):
        return owner_of_user(first)
    return owner_of_name(first)


def line_text(line: LogLine) -> str:
    """A line as people read it, whatever is in it."""
    return " ".join((line.type, *(repr(arg)[1:-1] or '""' for arg in line.args)))


class ChannelSource:
    """A channel's action log, with the quarantine beside it."""

    def __init__(self, log: SyncLog, quarantine: Quarantine) -> None:
        self._log = log
        self._quarantine = quarantine

    @property
    def set_aside(self) -> int:
        return len(self._quarantine)

    def pending(self) -> bool:
        return self._log.run_path.exists() or self._log.path.exists() or bool(self._quarantine.due())

    def since(self) -> float | None:
        found = []
        for path in (self._log.run_path, self._log.path):
            try:
                found.append(path.stat().st_mtime)
            except FileNotFoundError:
                continue
        return min(found, default=None)

    def refresh(self) -> None:
        self._quarantine.refresh()

    def take(self) -> Batch | None:
        self._quarantine.refresh()
        claimed = self._log.claim()
        due = self._quarantine.due()
        if claimed is None and not due:
            return None
        try:
            data = claimed.read() if claimed else b""
            lines = parse_lines(data, self._reject_text)
            for owner in due:
                lines += [LogLine(line[0], line[1:]) for line in self._quarantine.kept(owner)]
                if owner.kind == "user":
                    lines.append(LogLine("USER", (owner.name,)))
            plan = merge(lines, self._reject)
        except BaseException:
            if claimed:
                claimed.release()
            raise
        batch = Batch(plan, claimed)
        if len(self._quarantine):
            parts = [self._quarantine.split(item) for item in plan.items]
            batch.held = [waiting for _, waiting in parts if waiting is not None]
            plan.items = [going for going, _ in parts if going is not None]
        batch.retried = frozenset(due)
        retried = {owner for owner in due if owner.kind == "user"}
        if retried:
            plan.items = [item for item in plan.items if item.owner not in retried or item.kind >= Kind.USER]
        return batch

    def conclude(self, batch: Batch, outcome: Outcome) -> None:
        try:
            self._put_back(batch, outcome)
        except BaseException:
            batch.release()
            raise
        if batch.claimed is not None:
            batch.claimed.finish()

    def _put_back(self, batch: Batch, outcome: Outcome) -> None:
        """Everything that was not done goes to the log, or to the quarantine for those who are in it."""
        quarantine = self._quarantine
        reasons: dict[Owner, Exception] = {f.item.owner: f.error for f in outcome.failed}
        for owner in outcome.suspects if len(outcome.suspects) == 1 else ():
            if outcome.broken is not None:
                reasons[owner] = outcome.broken
        locked = {item.owner for item in outcome.deferred} - reasons.keys()
        for owner, error in reasons.items():
            only = [name for name, _ in error.failures] if isinstance(error, ItemsFailed) else []
            quarantine.failed(owner, str(error), only=only, busy=passes(error))
        for owner in locked:
            quarantine.failed(owner, str(MailboxLocked()), locked=True)
        failed = [f.item for f in outcome.failed]
        undone = outcome.remaining + outcome.deferred + failed
        aside = quarantine.owners
        keep = [*batch.held, *(item for item in failed if item.owner in aside)]
        back = [item for item in failed if item.owner not in aside]
        for item in outcome.remaining + outcome.deferred:
            going, waiting = (item, None) if item.owner not in aside else (None, item)
            if quarantine.partly(item.owner):
                going, waiting = quarantine.split(item)
            back += [going] if going is not None else []
            keep += [waiting] if waiting is not None else []
        quarantine.keep(line for item in keep for line in item.lines())
        self._log.append(dict.fromkeys(line for item in back for line in item.lines()))
        troubled = {item.owner for item in undone} | {item.owner for item in batch.held}
        done = {item.owner for item in batch.plan.items if self._tells_of_all(item, batch)}
        quarantine.succeeded(done - troubled)
        quarantine.save()

    def _tells_of_all(self, item: Item, batch: Batch) -> bool:
        """False for an item that went on beside others of its owner that wait."""
        return (
            not self._quarantine.partly(item.owner)
            or item.owner in batch.retried
            or item.kind in (Kind.USER, Kind.UNUSER)
        )

    def _reject_text(self, line: bytes, reason: str) -> None:
        self._quarantine.reject(line.decode("utf-8", "backslashreplace"), reason)

    def _reject(self, line: LogLine, reason: str) -> None:
        self._quarantine.reject(
            " ".join((line.type, *(repr(arg)[1:-1] or '""' for arg in line.args))), reason
        )


class FileSource:
    """One file of log lines (``-f``): worked through once, neither renamed nor removed.

    `defer` gets the lines of items that somebody else keeps locked; without it they count as failed.
    `read_lines` and `passed_over` count the lines that were read and those that nothing could be made of.
    """

    set_aside = 0

    def __init__(
        self,
        read: Callable[[], bytes],
        report: Callable[[str, str], None],
        defer: SyncLog | None = None,
    ) -> None:
        self._read = read
        self._report = report
        self._defer = defer
        self._done = False
        self.read_lines = 0
        self.passed_over = 0

    def pending(self) -> bool:
        return not self._done

    def since(self) -> float | None:
        return None

    def refresh(self) -> None:
        """Nothing that an administrator could change."""

    def take(self) -> Batch | None:
        if self._done:
            return None
        self.passed_over = 0
        lines = parse_lines(
            self._read(),
            lambda line, reason: self._pass_over(line.decode("utf-8", "backslashreplace"), reason),
        )
        self.read_lines = len(lines)
        return Batch(merge(lines, lambda line, reason: self._pass_over(line_text(line), reason)))

    def _pass_over(self, line: str, reason: str) -> None:
        self.passed_over += 1
        self._report(line, reason)

    def conclude(self, batch: Batch, outcome: Outcome) -> None:
        del batch
        if self._defer is not None and outcome.deferred:
            self._defer.append(_lines_of(outcome.deferred))
            outcome.deferred = []
        self._done = outcome.broken is None


def _lines_of(items: Iterable[Item]) -> list[Line]:
    return [line for item in items for line in item.lines()]
