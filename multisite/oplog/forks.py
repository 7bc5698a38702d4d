"""Forks: two operations of one origin and one number that are not the same.

A replica that is restored from a backup, and goes on before ``restorereplica``, gives numbers anew that it
had given before. Some of its siblings have the operation of its first life then, others that of its second.

Every operation names its own *link* and that of the one before it (attribute `CHAIN`). So a sibling notices
the fork, whichever operation it has, and takes no packet with it until the restore has been made good. From
then on the origin tells up to which number its operations may differ from site to site (`Replica.forked`);
everything in them has been told anew by then.

While the restored replica is sealed, it takes its own operations of the first life back. What they say is
*merged* into its store, as if another replica had said it, and its whole owner is told anew in the end.
Numbers do not say whether a sibling's operations of it have come: both lives have the same. So it remembers
the links of what it has *taken*. A sibling whose last operation of it is not among them has not answered yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.oplog.notes import Notes
from cyrus_sync.multisite.oplog.operations import (
    CHAIN,
    LINK_DIGITS,
    LogEntry,
    Operations,
    owner_from,
    owner_text,
)

_FORK = "fork"
_MERGED = "merged"
_TAKEN = "taken "
UNLINKED = "0" * LINK_DIGITS
"""Stands for the link of an operation that has none, or is not known."""


def link_of(attributes: Mapping[str, str]) -> str:
    """The operation's own link; "" if it is of a release that made none."""
    return attributes.get(CHAIN, "").partition(":")[2]


def link_before(attributes: Mapping[str, str]) -> str:
    """The link of the operation before it; "" where that is not told."""
    before = attributes.get(CHAIN, "").partition(":")[0]
    return "" if before == UNLINKED else before


class Forks:
    """Looks for forks in what others send, and remembers what a restore has found."""

    def __init__(self, operations: Operations, notes: Notes) -> None:
        self._operations = operations
        self._notes = notes

    # -- noticing

    def fits(self, origin: str, number: int, attributes: Mapping[str, str], *, after: int) -> bool:
        """Whether an operation is the one that this log has under its number, or goes on from the last one
        here. Numbers up to `after` may differ."""
        last = self._operations.last(origin)
        if number <= after or number > last + 1:
            return True
        if number <= last:
            return _agree(self._operations.link(origin, number), link_of(attributes))
        return last <= after or _agree(self._operations.link(origin, last), link_before(attributes))

    def has(self, origin: str, number: int, link: str) -> bool:
        """Whether operation `number` of `origin` is here, or was, and its link is not another one. The
        operation behind it tells the link of the last one that was trimmed."""
        if not 0 < number <= self._operations.last(origin):
            return False
        known = self._operations.link(origin, number)
        return _agree(known or link_before(self._operations.attributes(origin, number + 1)), link)

    def heads(self, row: Mapping[str, int]) -> dict[str, str]:
        """Origin -> the link of its operation that `row` gives; what has no link is left out."""
        found = {origin: self._operations.link(origin, number) for origin, number in row.items()}
        return {origin: link for origin, link in found.items() if link}

    def trail(self, origin: str) -> dict[str, str]:
        """Numbers and links of some operations of an origin, close together at the end of the log and ever
        farther apart before. Whoever compares them finds where two logs part."""
        number, step, found = self._operations.last(origin), 1, {}
        while number > 0:
            if link := self._operations.link(origin, number):
                found[str(number)] = link
            number -= step
            step *= 2
        return found

    # -- what a restore has found

    def begin(self, merged: Iterable[Owner] = ()) -> None:
        """A restore begins. `merged`: the owners whose mail is older than the log was."""
        self._notes.drop(_FORK)
        self._forget_taken()
        self._notes.put(_MERGED, sorted(map(owner_text, merged)))

    def note(self, entry: LogEntry) -> None:
        """This replica has said something else under the number of this operation of its own, or before."""
        if link := link_of(entry.attributes):
            self._notes.put(f"{_TAKEN}{entry.id}:{link}", True)
        known = self.first
        if known is None or entry.id < known:
            self._notes.put(_FORK, entry.id)
        self.merge(entry.owner)

    def goes_on(self, number: int, attributes: Mapping[str, str]) -> bool:
        """Whether the operation before this one of another life has come: it is here, or was taken."""
        before = link_before(attributes)
        return number <= 1 or not before or self.is_known(number - 1, before)

    def is_known(self, number: int, link: str) -> bool:
        """Whether an operation of this replica is here, or was taken."""
        taken = self._notes.get(f"{_TAKEN}{number}:{link}", False)
        return taken or self.has(self._operations.origin, number, link)

    def taken(self) -> dict[str, int]:
        """Link -> number of some operations of other lives that were taken, close together at the last ones
        and ever farther apart before."""
        return {link: number for at, (number, link) in enumerate(self._taken(), 1) if at.bit_count() == 1}

    def taken_before(self, number: int) -> int:
        """The last operation of another life that was taken before operation `number`; 0 if none was."""
        return next((taken for taken, _ in self._taken() if taken < number), 0)

    def _taken(self) -> list[tuple[int, str]]:
        """Number and link, the last one first."""
        pairs = (text.partition(":") for text in self._notes.keys(_TAKEN))
        return sorted(((int(number), link) for number, _, link in pairs), reverse=True)

    @property
    def first(self) -> int | None:
        """The lowest number of this replica that was noted; None if there is no fork."""
        number: int | None = self._notes.get(_FORK)
        return number

    def merge(self, owner: Owner) -> None:
        """Have whatever is said of an owner merged, and told anew when this replica opens."""
        known = self._notes.get(_MERGED, [])
        if owner_text(owner) not in known:
            self._notes.put(_MERGED, sorted([*known, owner_text(owner)]))

    def merged(self) -> set[Owner]:
        """The owners whose mail is merged."""
        return {owner_from(text) for text in self._notes.get(_MERGED, [])}

    def told_anew(self) -> set[Owner]:
        """The owners that are to be told anew when this replica opens: what is merged, and what it has said
        itself since the fork."""
        first = self.first
        said = self._operations.owners_since(first) if first is not None else set()
        return self.merged() | said

    def end(self) -> None:
        """The restore has ended, and everything has been told."""
        self._notes.drop(_FORK)
        self._notes.drop(_MERGED)
        self._forget_taken()

    def _forget_taken(self) -> None:
        for text in self._notes.keys(_TAKEN):
            self._notes.drop(_TAKEN + text)


def _agree(one: str, other: str) -> bool:
    return not one or not other or one == other
