"""A server's flags as a record has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from cyrus_sync.common.model import MAX_KEYWORDS, SYSTEM_FLAGS

_SYSTEM = {name.lower().encode(): name for name in SYSTEM_FLAGS if name != "\\Expunged"}
_KEYWORD = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]{1,1000}")


class Keywords:
    """The keywords of one mailbox, as far as there is room for them. `left_out`: those for which there is
    none, and those that are none. Without `seen` \\Seen is no flag of the mailbox's (`SeenElsewhere`)."""

    def __init__(self, known: Sequence[str], *, seen: bool = True) -> None:
        self._ignored = (b"\\recent",) if seen else (b"\\recent", b"\\seen")
        self._slots = {name.lower(): name for name in known}
        self.left_out: set[str] = set()

    def text(self, flags: bytes) -> str:
        """Flags as a record has them, system flags first, in Cyrus's order."""
        system: set[str] = set()
        keywords: dict[str, str] = {}
        for word in flags.split():
            low = word.lower()
            if low in self._ignored:
                continue
            if known := _SYSTEM.get(low):
                system.add(known)
            elif (name := self._kept(word)) is not None:
                keywords.setdefault(name.lower(), name)
        return " ".join([*_in_order(system), *keywords.values()])

    def _kept(self, word: bytes) -> str | None:
        if not _KEYWORD.fullmatch(word):
            self.left_out.add(word.decode("utf-8", "replace"))
            return None
        name = word.decode("ascii")
        if name.lower() not in self._slots:
            if len(self._slots) >= MAX_KEYWORDS:
                self.left_out.add(name)
                return None
            self._slots[name.lower()] = name
        return name


def _in_order(system: Iterable[str]) -> list[str]:
    return [name for name in SYSTEM_FLAGS if name in system] if system else []
