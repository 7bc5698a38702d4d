"""The passphrase on which two administrators have agreed, in a file (``-secret``)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.one_dash import Parsed
from cyrus_sync.multisite.packet.invitation import LEAST_PASSPHRASE

_LONGEST = 1024


def passphrase_of(options: Parsed) -> str | None:
    """The first line of the file that ``-secret`` names; None without it. Raises `UsageError` for a file that
    cannot be read, is open to others, or whose line is too short."""
    name = options.text("secret")
    if name is None:
        return None
    try:
        with Path(name).open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            line = file.readline(_LONGEST).decode().strip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"-secret {name}: {reason(error)}") from None
    if mode & 0o077:
        raise UsageError(f"-secret {name}: mode {mode:04o} opens it to others; chmod 600 it")
    if len(line) < LEAST_PASSPHRASE:
        raise UsageError(f"-secret {name}: a passphrase has {LEAST_PASSPHRASE} characters at least")
    return line
