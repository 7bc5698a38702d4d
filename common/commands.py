"""From a command line to an exit status: the one way in which every command runs.

A console script's ``main`` hands its work to `run_command`, which answers for what all of them owe a shell:

- An error is one line ``program: what is wrong`` on standard error, and its exit status (sysexits(3)).
- Whoever reads standard output may go away (``mailstore ls | head``): the command ends quietly, status 1.
  Output that is lost for another reason (a full disk, a descriptor that was never open) is an error that is
  said, status 1: silence is never success. A command whose work must not be done twice says
  `disregard_output` as soon as it is done.
- Standard error may be closed: what is said there is lost, the work and the exit status are the same.
- Ctrl-C ends a command quietly with status 130.
- ``--version`` is known everywhere (`add_version`).

>>> run_command("example", lambda words: len(words), ["a", "b"])
2
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import select
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TextIO

from cyrus_sync.common import __version__
from cyrus_sync.common.errors import (
    EX_FAILURE,
    EX_INTERRUPTED,
    EX_OK,
    EX_SOFTWARE,
    EX_TEMPFAIL,
    CyrusSyncError,
    UsageError,
)
from cyrus_sync.common.printable import printable
from cyrus_sync.common.progress import make_way

Work = Callable[[list[str]], int]
"""What a command does with its words; the exit status. It may raise."""

_STDIN, _STDOUT, _STDERR = 0, 1, 2
_CLOSED = -1
_BLOCK = 1 << 16


# -- running


def run_command(
    program: str,
    work: Work,
    argv: Sequence[str] | None = None,
    *,
    usage: Callable[[], str] | None = None,
    stderr: TextIO | None = None,
) -> int:
    """The exit status of `work` with `argv` (those of the process if None), whatever happens.

    `program` stands before what is said on standard error (or on `stderr`), `usage` follows a `UsageError`.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    _open_streams()
    status = EX_OK
    try:
        try:
            status = work(words)
        except CyrusSyncError as error:
            status = error.exit_status
            _complain_of(error, program, usage, stderr)
        except SystemExit as done:  # argparse has printed its help
            status = done.code if isinstance(done.code, int) else EX_FAILURE if done.code else EX_OK
        except KeyboardInterrupt:
            status = EX_INTERRUPTED
        except (OSError, MemoryError) as error:
            status = EX_TEMPFAIL
            complain(program, described(error) if isinstance(error, OSError) else "out of memory", stderr)
        except Exception as error:
            status = EX_SOFTWARE
            traceback.print_exc(file=stderr)
            complain(program, f"internal error: {type(error).__name__}: {error}", stderr)
        sys.stdout.flush()
    except LostOutput as lost:
        disregard_output()
        if not lost.unread:
            complain(program, f"cannot write to standard output: {lost.reason.strerror}", stderr)
        return status or EX_FAILURE
    except KeyboardInterrupt:  # the second one, or while the last lines are written
        disregard_output()
        return EX_INTERRUPTED
    return status


def _complain_of(
    error: CyrusSyncError, program: str, usage: Callable[[], str] | None, stderr: TextIO | None
) -> None:
    text = str(error)
    if isinstance(error, Misuse):
        program, text = error.program, f"{error}\n{error.usage.rstrip()}"
    elif isinstance(error, UsageError) and usage is not None:
        text = f"{error}\n{usage().rstrip()}"
    complain(program, text, stderr)


def complain(program: str, text: str, stderr: TextIO | None = None) -> None:
    """A line for whoever runs the command, which does not belong to the result."""
    make_way()
    print(f"{program}: {printable(text, lines=True)}", file=stderr or sys.stderr, flush=True)


def described(error: OSError) -> str:
    """An error of the system as ``path: what is wrong``."""
    names = [
        os.fsdecode(name)
        for name in (error.filename, error.filename2)
        if isinstance(name, str | bytes | os.PathLike)
    ]
    return ": ".join(filter(None, [" -> ".join(names), error.strerror or str(error)]))


def reason(error: BaseException, said: object = None) -> str:
    """What an error says to people. One of the system comes without its number and with its path, unless that
    is the one that stands before it (`said`)."""
    if not isinstance(error, OSError):
        return str(error)
    plain = isinstance(error.filename, str | bytes | os.PathLike) and error.filename2 is None
    if plain and os.fsdecode(error.filename) == str(said):
        return error.strerror or str(error)
    return described(error)


# -- command lines


class Misuse(UsageError):
    """A command line that makes no sense. `usage` shows how one would."""

    def __init__(self, message: str, program: str, usage: str) -> None:
        super().__init__(message)
        self.program = program
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """argparse, but a senseless command line raises `Misuse` (exit status 64)."""

    def error(self, message: str) -> NoReturn:
        raise Misuse(message, self.prog, self.format_usage())


def version_text(program: str) -> str:
    """What ``--version`` prints."""
    return f"{program} (cyrus-sync) {__version__}"


def add_version(parser: argparse.ArgumentParser) -> None:
    """Let a command know ``--version``."""
    parser.add_argument(
        "--version", action="version", version=version_text(parser.prog), help="print the version and end"
    )


# -- standard output and standard error


class LostOutput(BaseException):
    """Standard output takes no more. Like `KeyboardInterrupt` this is no failure of one user or message:
    whoever passes those over must not pass this over."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(str(reason))
        self.reason = reason

    @property
    def unread(self) -> bool:
        """Whether nobody reads it any more, as after ``| head``."""
        return self.reason.errno in (errno.EPIPE, errno.ECONNRESET)


class _Descriptor(io.RawIOBase):
    """Writes to a descriptor; `lost` is told what cannot be written, which then counts as written."""

    def __init__(self, number: int, lost: Callable[[OSError], None]) -> None:
        self.number = number
        self.lost = lost

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.number

    def isatty(self) -> bool:
        return os.isatty(self.number)

    def write(self, data: Any) -> int:
        while True:
            try:
                return os.write(self.number, data)
            except BlockingIOError:  # whoever shares the terminal with us has made it so
                select.select([], [self.number], [])
            except OSError as error:
                self.lost(error)
                return len(data)


def _fail(error: OSError) -> None:
    raise LostOutput(error)


def _ignore(_error: OSError) -> None:
    """What is said cannot be heard."""


_output = _Descriptor(_STDOUT, _fail)
_complaints = _Descriptor(_STDERR, _ignore)


def disregard_output() -> None:
    """From here on it does not matter whether standard output takes what is printed.

    For a command whose work is done for good, so that a failure would have it done a second time.
    """
    _output.lost = _ignore


def _open_streams() -> None:
    """Give the process its three descriptors, and streams that keep the promises of this module.

    A descriptor that is not open would be had by the next file that is opened, a store's perhaps. What
    stands in the place of Python's own streams (a test's) is left alone.
    """
    for number in (_STDIN, _STDOUT, _STDERR):
        _occupy(number)
    if sys.stdin is None:
        nothing = io.BufferedReader(io.FileIO(os.devnull))
        sys.stdin = io.TextIOWrapper(nothing, encoding="utf-8")
    if sys.stdout is sys.__stdout__:
        sys.stdout = _stream(_output, sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _stream(_complaints, sys.stderr, line_buffering=True)


def _occupy(number: int) -> None:
    """Open a descriptor that is closed in such a way that writing to it fails."""
    try:
        os.fstat(number)
    except OSError:
        found = os.open(os.devnull, os.O_RDONLY)
        if found != number:
            os.dup2(found, number)
            os.close(found)
        os.set_inheritable(number, True)


def _stream(raw: _Descriptor, before: TextIO | None, *, line_buffering: bool = False) -> TextIO:
    """A text stream over `raw`, in the encoding of the one `before` it. What that cannot write is escaped."""
    errors = None
    if before is None:  # Python found it closed; by now the number may be that of a file
        raw.number = _CLOSED
    else:
        before.flush()
        errors = before.errors
    return io.TextIOWrapper(
        io.BufferedWriter(raw, _BLOCK),
        encoding=before.encoding if before is not None else "utf-8",
        errors=errors if errors not in (None, "strict") else "backslashreplace",
        line_buffering=line_buffering or raw.isatty() or getattr(before, "write_through", False),
    )
