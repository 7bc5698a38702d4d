"""What is in the log and cannot be carried out here yet, and why.

An operation waits for a message that no packet has brought, or behind an earlier operation on its owner that
waits or is set aside. What waits for the answer of a master is something else (`multisite.oplog.unanswered`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.operations import OperationState, owner_from, owner_text


class Stuck(NamedTuple):
    """Of an owner's operations so many `waiting` wait, the oldest since then (Unix seconds; 0 if none does),
    and so many are `set_aside`. So many `messages` of them are asked for."""

    owner: Owner
    waiting: int
    set_aside: int
    messages: int
    since: int

    @property
    def why(self) -> str:
        """For what the operations wait, for people: behind ``1 operation waits``."""
        if self.messages > 1:
            return f"for {self.messages} messages that have not come"
        if self.messages:
            return "for a message that has not come"
        return "behind what is set aside (multitool setaside)"


_PENDING = """
    SELECT owner, origin, id, time, state, guids FROM operations
    WHERE state AND state <> :begun AND (:owner = '' OR owner = :owner) ORDER BY seq
"""


def stuck(
    log: Log, owner: Owner | None = None, *, ranges: Mapping[str, tuple[int, int]] | None = None
) -> list[Stuck]:
    """All owners of whom something is stuck, or one; in the order of the log. `ranges`: only those operations
    count that are in these ranges (origin -> first and last number)."""
    values = {
        "begun": OperationState.BEGUN,
        "owner": owner_text(owner) if owner is not None else "",
    }
    asked = set(log.wanted(1 << 30))
    found: dict[str, Stuck] = {}
    for text, origin, number, time, state, guids in log.db.execute(_PENDING, values).fetchall():
        one = found.setdefault(text, Stuck(owner_from(text), 0, 0, 0, 0))
        lacking = sum(guids[n : n + 20] in asked for n in range(0, len(guids), 20))
        one = one._replace(messages=one.messages + lacking)
        first, last = (number, number) if ranges is None else ranges.get(origin, (1, 0))
        if first <= number <= last and state == OperationState.SET_ASIDE:
            one = one._replace(set_aside=one.set_aside + 1)
        elif first <= number <= last:
            one = one._replace(waiting=one.waiting + 1, since=min(time, one.since or time))
        found[text] = one
    return [one for one in found.values() if one.waiting or one.set_aside]
