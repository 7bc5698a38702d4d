"""`Pulled`: what a pull of one user has done."""

from __future__ import annotations

from dataclasses import dataclass, field

LOCK_TIMEOUT = 60.0


@dataclass
class Pulled:
    """What was done. `messages` came over the line (`octets` in all), `moved` were here already."""

    userid: str
    messages: int = 0
    octets: int = 0
    moved: int = 0
    flags: int = 0
    expunged: int = 0
    folders: int = 0
    besides: int = 0
    """Other things that changed: subscriptions, rights, annotations, quotas, scripts."""
    alone: bool = False
    """Whether single folders were looked at, and not the list of all."""
    troubles: list[str] = field(default_factory=list)

    @property
    def changed(self) -> bool:
        """Whether anything was written."""
        return bool(
            self.messages or self.moved or self.flags or self.expunged or self.folders or self.besides
        )
