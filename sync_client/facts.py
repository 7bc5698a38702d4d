"""How a rolling client is set up, and what it can tell of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import CannotConnect, CyrusSyncError


class NotGranted(CannotConnect):
    """The server lacks what was asked for explicitly (``-a``); trying again will not help."""

    text = "the server does not grant REPLICATION-ARCHIVE"


@dataclass(frozen=True, slots=True)
class Settings:
    """How to roll. Times in seconds."""

    delay: float = 3
    timeout: float = 600
    """Age at which a connection is renewed; 0 = never."""
    keepalive: float = 300
    """NOOP after so long without a command."""
    maxwait: int = 1200
    shutdown_file: Path | None = None
    once: bool = False
    """``-1`` or ``-f``: end after one batch."""
    connect_once: bool = False
    """``-o``: end when a connection cannot be had at the first attempt."""
    width: int = 100
    """Items under way at once."""


LONGEST_ERROR = 1000
"""Letters of an error that are kept for `status`."""


@dataclass(slots=True)
class Facts:
    """What `status` shows; times in Unix seconds, None = never or not now."""

    started: float = 0
    connected: float | None = None
    last_run: float | None = None
    last_success: float | None = None
    oldest_change: float | None = None
    runs: int = 0
    items: int = 0
    failures: int = 0
    messages: int = 0
    """Messages that the replica has taken, and their octets."""
    bytes: int = 0
    last_error: str = ""
    last_error_at: float | None = None
    last_error_over: float | None = None
    """Since when it is mended; None while it is not."""
    besides: Callable[[], Mapping[str, int]] = dict
    """What a rolling client of another kind counts beside all this."""
    _about_connection: bool = False

    def sent(self, messages: int, octets: int) -> None:
        """The replica has taken messages."""
        self.messages += messages
        self.bytes += octets

    def trouble(self, text: str, now: float, *, connection: bool = False) -> None:
        """Something went wrong; `connection`: it is over as soon as there is a connection again."""
        self.last_error, self.last_error_at, self.last_error_over = text[:LONGEST_ERROR], now, None
        self._about_connection = connection

    def connection_again(self, now: float) -> None:
        if self._about_connection:
            self.mended(now)

    def mended(self, now: float) -> None:
        """What went wrong last has been done since."""
        if self.last_error and self.last_error_over is None:
            self.last_error_over = now


def reason_of(error: Exception) -> str:
    """Why there is no connection, without saying twice that there is none."""
    text = error.message if isinstance(error, CyrusSyncError) else str(error)
    _, quote, rest = text.partition("Can not connect to server '")
    if quote:
        text = rest.partition("': ")[2] or text
    details = {k: v for k, v in getattr(error, "address", {}).items() if k not in ("server", "channel")}
    return text + "".join(f", {key} {value}" for key, value in details.items())
