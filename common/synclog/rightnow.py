"""`RightNow`: replicate a change before the one who made it is answered (``sync_rightnow_channel``).

The lines of the change are given to a ``sync_client`` of that channel on its standard input, once the owner's
lock is free again. What it cannot do now is appended to the channel's own log, so that a rolling client
does it later: a change is never refused because its replica is away, and never forgotten.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cyrus_sync.common.commands import reason
from cyrus_sync.common.config import Config
from cyrus_sync.common.synclog.lines import format_line
from cyrus_sync.common.synclog.log import SyncLog
from cyrus_sync.common.synclog.writer import log_path

log = logging.getLogger(__name__)

DEFAULT_CHANNEL = '""'
"""How the option names the default channel."""
PATIENCE = 60.0
"""Seconds that one change may take before it is left to the log."""
_CLIENT = "import sys; from cyrus_sync.sync_client.cli import main; sys.exit(main())"


class RightNow:
    """Called with the (chained, line) pairs of a change that is durable. Safe to share between threads."""

    def __init__(self, configuration: Path, channel: str, later: SyncLog, *, chain: bool) -> None:
        """`later` gets what could not be replicated; `chain`: replicated changes go on as well."""
        self._command = [sys.executable, "-c", _CLIENT, "-C", str(configuration)]
        if channel:
            self._command += ["-n", channel]
        self._command += ["-o", "-R", "-f", "-"]
        self._channel = channel
        self._later = later
        self._chain = chain

    @classmethod
    def from_config(cls, cfg: Config) -> Self | None:
        """None where the option is not set, and for sync_client, whose own changes it carries itself."""
        named = cfg.string("sync_rightnow_channel")
        if named is None or cfg.program == "sync_client":
            return None
        channel = "" if named == DEFAULT_CHANNEL else named
        return cls(cfg.path, channel, SyncLog(log_path(cfg, channel)), chain=cfg.switch("sync_log_chain"))

    def __call__(self, lines: Sequence[tuple[bool, Sequence[str]]]) -> None:
        """Replicate, or log for later; raises `StoreError` if neither can be done."""
        data = b"".join(format_line(*line) for chained, line in lines if self._chain or not chained)
        if not data or self._replicated(data):
            return
        self._later.append_bytes(data, fsync=True)

    def _replicated(self, data: bytes) -> bool:
        try:
            done = subprocess.run(
                self._command, input=data, capture_output=True, timeout=PATIENCE, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            log.warning("channel %r: not replicated right now: %s", self._channel, reason(error))
            return False
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip()
            log.warning("channel %r: not replicated right now: %s", self._channel, said)
        return done.returncode == 0
