"""What a rolling pull counts, beside what any rolling client does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyrus_sync.common.classes import dataclass

if TYPE_CHECKING:
    from cyrus_sync.pull.pulled import Pulled


@dataclass(slots=True)
class PullCounts:
    """All of it belongs to the reactor's thread."""

    pulls: int = 0
    alone: int = 0
    """Pulls that looked at single folders, and not at the list of all."""
    moved: int = 0
    """Messages that were here already, under another UID."""
    flags: int = 0
    expunged: int = 0

    def pulled(self, one: Pulled) -> None:
        """A user was pulled, or folders of his."""
        self.pulls += 1
        self.alone += one.alone
        self.moved += one.moved
        self.flags += one.flags
        self.expunged += one.expunged
