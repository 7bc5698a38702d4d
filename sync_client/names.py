"""Names from the command line and from ``-f`` files, in the form that administrators type."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.names import BadName


def read_input(path: str) -> bytes:
    """The file of ``-f``; ``-`` is stdin. Raises `UsageError`."""
    try:
        return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None


def read_names(path: str) -> list[str]:
    """One name a line; blank lines and lines that begin with ``#`` are skipped."""
    lines = (line.strip() for line in read_input(path).decode("utf-8-sig", "surrogateescape").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def check_each(
    typed: Iterable[str], check: Callable[[str], str], tell: Callable[[BadName], None]
) -> tuple[list[str], int]:
    """The names that `check` passes, as it gives them back, and how many it does not (`tell` hears why)."""
    good, bad = [], 0
    for name in typed:
        try:
            good.append(check(name))
        except BadName as error:
            tell(error)
            bad += 1
    return good, bad
