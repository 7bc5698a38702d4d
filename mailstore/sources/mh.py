"""MH folders: a message a file, called by its number; ``.mh_sequences`` says what is unseen, flagged …

Other sequences than unseen, replied, flagged and the current message are keywords. Files whose numbers
have ``,`` or ``#`` in front are messages that MH has removed.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from pathlib import Path

_NUMBER = re.compile(r"[1-9][0-9]{0,9}")
_REMOVED = re.compile(r"[,#][1-9][0-9]{0,9}")
_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")
_FLAGS = {"replied": "\\Answered", "flagged": "\\Flagged"}
_BEYOND = 10**10
SEQUENCES = ".mh_sequences"


def is_number(name: str) -> bool:
    """True for the name of a message."""
    return _NUMBER.fullmatch(name) is not None


def is_removed(name: str) -> bool:
    """True for the name that MH gives a message when it is removed."""
    return _REMOVED.fullmatch(name) is not None


class Sequences:
    """What the folder's ``.mh_sequences`` says; nothing if there is none."""

    def __init__(self, directory: Path) -> None:
        self._sets: dict[str, list[tuple[int, int]]] = {}
        """First and last numbers of each sequence, ascending."""
        self._known = False
        path = directory / SEQUENCES
        if path.is_symlink() or not path.is_file():
            return
        self._known = True
        for line in path.read_text("utf-8", "surrogateescape").splitlines():
            name, colon, members = line.partition(":")
            if colon:
                self._sets[name.strip()] = sorted(
                    (int(found[1]), int(found[2] or found[1]))
                    for found in map(_RANGE.fullmatch, members.split())
                    if found
                )

    def flags(self, number: int) -> list[str]:
        """The flags and keywords of a message."""
        within = [name for name, ranges in self._sets.items() if _holds(ranges, number)]
        seen = ["\\Seen"] if self._known and "unseen" not in within else []
        return seen + [_FLAGS.get(name, name) for name in within if name not in ("unseen", "cur")]


def _holds(ranges: list[tuple[int, int]], number: int) -> bool:
    place = bisect_right(ranges, (number, _BEYOND))
    return place > 0 and number <= ranges[place - 1][1]
