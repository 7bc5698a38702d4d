"""Messages that nobody has any more: who has said so, and which of them were given up.

Whoever lacks a message asks for it in each packet, and who is asked for one that it lacks itself asks, too.
So what all replicas ask for is nowhere. It is given up by one command at one site (``multitool giveup``);
each packet says so, and everybody goes on without it.
"""

from __future__ import annotations

from collections.abc import Iterable

from cyrus_sync.multisite.oplog.notes import Notes

_GIVEN_UP = "given up"
_LACKS = "lacks "
_ASKED = "asked "


class GivenUp:
    """What is noted of such messages."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes

    def guids(self) -> set[bytes]:
        """Those that were given up."""
        return {bytes.fromhex(text) for text in self._notes.get(_GIVEN_UP, {})}

    def add(self, guids: Iterable[bytes], now: int) -> set[bytes]:
        """These were given up, at `now` (Unix seconds) if nobody has said so before. Returns the new ones."""
        known: dict[str, int] = self._notes.get(_GIVEN_UP, {})
        new = {guid for guid in guids if guid.hex() not in known}
        self._notes.put(_GIVEN_UP, known | dict.fromkeys(sorted(guid.hex() for guid in new), now))
        return new

    def forget(self, before: int) -> None:
        """Forget those that were given up before a time (Unix seconds)."""
        known: dict[str, int] = self._notes.get(_GIVEN_UP, {})
        self._notes.put(_GIVEN_UP, {guid: when for guid, when in known.items() if when >= before})

    def answered(self, replica: str, guids: Iterable[bytes], when: int) -> None:
        """In its last packet of which anything was heard, made at `when` (Unix seconds), a replica (id) has
        asked for these."""
        lacks = sorted(guid.hex() for guid in guids)
        if lacks or self.asked_at(replica):
            self._notes.put(_ASKED + replica, when)
        self._notes.put(_LACKS + replica, lacks)

    def asked_at(self, replica: str) -> int:
        """When a replica (id) has asked last, or said that it lacks nothing any more, by its own clock (Unix
        seconds); 0 if it never asked."""
        when: int = self._notes.get(_ASKED + replica, 0)
        return when

    def lacked_by(self, replica: str) -> set[bytes]:
        """What a replica (id) has asked for last."""
        return {bytes.fromhex(text) for text in self._notes.get(_LACKS + replica, [])}
