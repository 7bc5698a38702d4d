"""The parts of one logical packet, applied one after the other.

The messages of all parts at hand are staged together until the last of them is done, so that hardly any goes
through the log. Only then does anybody hear that a part is applied, and may remove its file: until then the
files have the messages.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.working import Work


class Waiting(NamedTuple):
    """So many `changes` of an owner are in the log, and are not seen here yet. `why` says what is awaited:
    ``for`` the master's answer, ``for`` a message, or ``behind`` another change."""

    owner: Owner
    changes: int
    why: str

    def __str__(self) -> str:
        many = f"{self.changes} changes of {self.owner} wait"
        return f"{many if self.changes > 1 else f'1 change of {self.owner} waits'} {self.why}"


class Parts:
    """What was applied and not confirmed yet, and the messages that it brought."""

    def __init__(self, work: Work, confirm: Callable[[Path, list[Waiting]], object]) -> None:
        """`work` is given what they bring. `confirm` is called with each part that has been applied, and what
        of it waits."""
        self._work = work
        self._confirm = confirm
        self._done: list[tuple[Path, list[Waiting]]] = []
        self._goes_on = False

    def begin(self) -> None:
        """A part is about to be applied."""
        if self._work.messages is None:
            self._work.messages = self._work.no_messages()

    def done(self, path: Path, waiting: list[Waiting], *, goes_on: bool) -> None:
        """A part has been applied. `goes_on`: operations of the next part need messages of this one."""
        self._done.append((path, waiting))
        self._goes_on = goes_on

    def end(self) -> list[Path]:
        """No further part follows at once: what was brought for operations that have not come is held in the
        log. Returns the parts that are confirmed by that."""
        done, self._done = self._done, []
        if done and self._goes_on:
            self._work.hold_messages()
        self.close()
        for path, waiting in done:
            self._confirm(path, waiting)
        return [path for path, _ in done]

    def close(self) -> None:
        """Let go of all messages."""
        if self._work.messages is not None:
            self._work.messages.close()
            self._work.messages = None
