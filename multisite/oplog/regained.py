"""What this replica has said itself and got back from others: out of a snapshot, or after a restore.

Its log has these operations as if they had just been recorded, but its mail has what they say only when the
master of their owner has answered them. Should this replica become that master first, nobody else is going to
answer them: it arbitrates them like what others have said.
"""

from __future__ import annotations

from cyrus_sync.multisite.oplog.notes import Notes
from cyrus_sync.multisite.oplog.operations import LogEntry, Operations

_REGAINED = "regained"


class Regained:
    """The numbers of these operations, as runs: the first and the last of each."""

    def __init__(self, operations: Operations, notes: Notes) -> None:
        self._operations = operations
        self._notes = notes

    def begin(self) -> None:
        """All operations of this replica that are in its log came with a snapshot, and no others."""
        last = self._operations.last(self._operations.origin)
        self._notes.put(_REGAINED, [[1, last]] if last else [])

    def add(self, number: int) -> None:
        """Operation `number` of this replica has come back and is left to its owner's master. They come in
        their order."""
        runs = self._runs()
        if runs and runs[-1][0] <= number <= runs[-1][1] + 1:
            runs[-1][1] = max(runs[-1][1], number)
        else:
            runs.append([number, number])
        self._notes.put(_REGAINED, runs)

    def lower_to(self, last: int) -> None:
        """What this replica has said behind its operation `last` is undone: those numbers are given anew."""
        self._notes.put(_REGAINED, [[low, min(high, last)] for low, high in self._runs() if low <= last])

    def is_for_master(self, entry: LogEntry) -> bool:
        """Whether an operation of this replica is one of these, and speaks of mail. It may have been said as
        the owner's master: where another's claim has prevailed, it is for that one to answer."""
        if "reign" not in entry.attributes:
            return False
        return any(low <= entry.id <= high for low, high in self._runs())

    def _runs(self) -> list[list[int]]:
        runs: list[list[int]] = self._notes.get(_REGAINED, [])
        return runs
