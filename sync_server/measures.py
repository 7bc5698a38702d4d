"""What a server counts for `sync_server.figures`. All of it belongs to the reactor's thread."""

from __future__ import annotations

from collections import Counter
from dataclasses import field

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.metrics.tallies import BRIEF, Histogram


@dataclass(slots=True)
class Measures:
    """Of the whole process. What a label may say is bounded: commands are those of the table, codes those of
    the protocol."""

    accepted: int = 0
    """Connections that got a place, and those that were turned away."""
    turned_away: int = 0
    logins: Counter[str] = field(default_factory=Counter)
    """``ok``, ``failed``, ``denied`` (no administrator) and ``not_checked``."""
    commands: dict[str, Histogram] = field(default_factory=dict)
    """Seconds from a command's last octet to its answer, by command."""
    replies: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By command and code."""
    messages: int = 0
    """Messages that were taken into the staging area, and their octets as they came."""
    message_bytes: int = 0
    received: int = 0
    """Octets of connections that have ended, as they went over the line."""
    sent: int = 0

    def answered(self, command: str, code: str, seconds: float) -> None:
        """A command has its answer."""
        spent = self.commands.get(command)
        if spent is None:
            spent = self.commands[command] = Histogram(BRIEF)
        spent.observe(seconds)
        self.replies[command, code] += 1
