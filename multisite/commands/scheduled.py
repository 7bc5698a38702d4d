"""What commands for timers have in common: how much they print, and the log of a run.

A run that goes well leaves nothing behind, one that does not leaves its log.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, CyrusSyncError, UsageError
from cyrus_sync.common.files import make_directories
from cyrus_sync.common.one_dash import Option
from cyrus_sync.multisite.commands import running
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, Context

EVERYTHING, TROUBLE, NOTHING = range(3)
"""How much is printed (``-quiet``)."""

LOCK_MINUTES = 10

SCHEDULED_OPTIONS = (
    Option("q/uiet", "mode", "print 0: everything, 1: what went wrong (as without it), 2: nothing"),
    Option("lo/gdir", "directory", "where the log of a run goes that did not go well (log/)"),
    Option("wo/rkdir", "directory", "where that log is as long as the run is under way (that of -logdir)"),
    Option("t/race", "", "say in the log which commands are carried out, and keep it in any case"),
    Option(
        "lockw/ait", "minutes", f"how long to wait while others are at work here ({LOCK_MINUTES} minutes)"
    ),
    *(option for option in COMMON_OPTIONS if option.name not in ("verbose", "lockwait")),
)


class Run:
    """One run: it carries out commands, one after the other, whatever becomes of them."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.well = True

    def command(self, *words: str) -> bool:
        """Carry out ``syncreplica …`` or another subcommand of multitool; whether that went well."""
        name, *rest = words
        if "trace" in self._context.options:
            self._context.print(f"+ {' '.join(words)}")
        given = ["-C", os.fspath(self._context.config.path), *rest]
        return self.step(lambda: running.run(name, given) == EX_OK)

    def step(self, work: Callable[[], bool]) -> bool:
        """Do `work`, which says whether it went well. What it raises is said, and does not end the run."""
        try:
            done = work()
        except (CyrusSyncError, OSError) as error:
            self.fail(reason(error))
            return False
        self.well = self.well and done
        return done

    def fail(self, text: str) -> None:
        """Say what went wrong; the run goes on."""
        self._context.complain(text)
        self.well = False

    @property
    def status(self) -> int:
        return EX_OK if self.well else EX_FAILURE


def lock_words(context: Context) -> list[str]:
    """How long the commands of a run may wait for others."""
    return ["-lockwait", context.options.text("lockwait") or str(LOCK_MINUTES)]


def patience(context: Context) -> float:
    """Seconds that a run may wait for its turn. Raises `UsageError`."""
    return context.wait if "lockwait" in context.options else LOCK_MINUTES * 60.0


def quietness(context: Context) -> int:
    """Raises `UsageError`."""
    typed = context.options.text("quiet")
    if typed not in (None, "0", "1", "2"):
        raise UsageError(f"-quiet {typed}: 0, 1 or 2 is needed")
    return TROUBLE if typed is None else int(typed)


@contextlib.contextmanager
def logged(context: Context) -> Iterator[Run]:
    """A run whose output goes into a log, and is printed as far as ``-quiet`` says. Raises `UsageError`,
    OSError."""
    mode = quietness(context)
    kept = Path(context.options.text("logdir") or context.config.configdirectory / "log")
    working = Path(context.options.text("workdir") or kept)
    for directory in (kept, working):
        make_directories(directory)
    run = Run(context)
    with _new_log(working, context.program) as log:
        path = Path(log.name)
        path.chmod(0o600)
        out = _Both(log, [sys.stdout] if mode == EVERYTHING else [])
        err = _Both(log, [sys.stderr] if mode < NOTHING else [])
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                yield run
        except BaseException:
            run.well = False
            raise
        finally:
            log.flush()
            _keep(path, kept / path.name, wanted="trace" in context.options or not run.well)


def _new_log(directory: Path, program: str) -> TextIO:
    """A log that no other run has: two may begin in one second, and a number of a process comes again."""
    begun = f"{program}-{time.strftime('%Y-%m-%dT%H%M%S')}-{os.getpid()}"
    for name in itertools.chain((begun,), (f"{begun}-{count}" for count in itertools.count(2))):
        with contextlib.suppress(FileExistsError):
            return (directory / f"{name}.log").open("x", encoding="utf-8", errors="backslashreplace")
    raise AssertionError("there are names without end")


def _keep(path: Path, kept: Path, *, wanted: bool) -> None:
    if not wanted:
        path.unlink(missing_ok=True)
    elif path != kept:
        kept.write_bytes(path.read_bytes())
        kept.chmod(0o600)
        path.unlink(missing_ok=True)


class _Both(io.TextIOBase):
    """Writes into the log and to where else it goes."""

    def __init__(self, log: TextIO, others: Sequence[TextIO]) -> None:
        self._all = (log, *others)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        for one in self._all:
            one.write(text)
        return len(text)

    def flush(self) -> None:
        for one in self._all:
            one.flush()
