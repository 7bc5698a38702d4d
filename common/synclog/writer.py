"""`ActionLog`: what a daemon calls when it has changed mail.

Every line goes to every channel of ``sync_log_channels``; with ``sync_log: no`` nothing is written. What
sync_server applies is not logged again, unless ``sync_log_chain`` says so, or the channel stands in
``sync_log_unsuppressable_channels``.

>>> ActionLog.from_config(cfg).write([("MAILBOX", "user.alice")])      # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

from cyrus_sync.common.config import Config
from cyrus_sync.common.synclog.lines import format_line
from cyrus_sync.common.synclog.log import SyncLog


def log_path(cfg: Config, channel: str = "") -> Path:
    """Where the log of `channel` is; "" is the default channel."""
    named = cfg.string("sync_log_file", channel=channel)
    own = not channel or cfg.is_channel_set("sync_log_file", channel)
    if named and own:
        return Path(named)
    return cfg.configdirectory / "sync" / channel / "log"


class ActionLog:
    """The logs of all channels, or of none. Stateless; safe to share between threads."""

    def __init__(self, logs: Iterable[SyncLog]) -> None:
        self.logs = tuple(logs)

    @classmethod
    def from_config(cls, cfg: Config, *, replicated: bool = False) -> Self:
        """For local changes, or (`replicated`) for those that came from a master."""
        channels = list(dict.fromkeys(cfg.words("sync_log_channels"))) if cfg.switch("sync_log") else []
        if replicated and not cfg.switch("sync_log_chain"):
            always = cfg.words("sync_log_unsuppressable_channels")
            channels = [channel for channel in channels if channel in always]
        return cls(SyncLog(log_path(cfg, channel)) for channel in channels)

    def __bool__(self) -> bool:
        """False if nothing is ever written."""
        return bool(self.logs)

    def write(self, lines: Iterable[Sequence[str]], *, fsync: bool = True) -> None:
        """Append ``(type, *arguments)`` lines to every channel; raises `StoreError`."""
        if not self.logs:
            return
        data = b"".join([format_line(*line) for line in lines])
        if data:
            for log in self.logs:
                log.append_bytes(data, fsync=fsync)
