"""In which order are mailboxes renamed, so that no target is still taken? Pure.

Renames are found by uniqueid: the replica has a mailbox under another name, or on another partition,
than the master. A rename waits until its target has been vacated. Where renames wait for one another
in a ring (two names swapped, three rotated) one mailbox first steps aside to a temporary name of our
own, below its owner's INBOX and telling its uniqueid. A run that is interrupted there leaves nothing
that a later run could not finish: it again finds the mailbox by its uniqueid.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

from cyrus_sync.common.names import inbox_of, is_inbox, owner_of, sort_key


class Rename(NamedTuple):
    """The replica's mailbox `old` is to be `new`, on `partition`. `uidvalidity` is the master's."""

    uniqueid: str
    old: str
    new: str
    partition: str
    uidvalidity: int = 0


class RenamePlan(NamedTuple):
    """`steps` in order; `blocked` ones have a target that something else occupies for good."""

    steps: list[Rename]
    blocked: list[Rename]


def temporary_name(rename: Rename) -> str:
    """Where the mailbox may stand while its target is taken: same owner, known by its uniqueid.

    An INBOX cannot stand below itself, so it becomes that of a user of our own.
    """
    aside = f"sync-rename-{rename.uniqueid}"
    owner = owner_of(rename.old)
    if owner.kind != "user":
        return f"{owner.name}.{aside}"
    return inbox_of(aside) if is_inbox(rename.old) else f"{inbox_of(owner.name)}.{aside}"


def plan_renames(renames: Iterable[Rename], occupied: Collection[str]) -> RenamePlan:
    """Order `renames`. `occupied` are the names on the replica that no rename vacates."""
    pending = {rename.old: rename for rename in sorted(renames, key=lambda r: sort_key(r.new))}
    steps: list[Rename] = []
    blocked: list[Rename] = []
    taken = set(occupied) - set(pending)
    while pending:
        free = [
            r for r in pending.values() if r.new == r.old or (r.new not in pending and r.new not in taken)
        ]
        for rename in free:
            del pending[rename.old]
            taken.add(rename.new)
            steps.append(rename)
        if free:
            continue
        stuck = [r for r in pending.values() if r.new in taken]
        for rename in stuck:
            del pending[rename.old]
            taken.add(rename.old)
            blocked.append(rename)
        if stuck:
            continue
        first = next(iter(pending.values()))
        aside = temporary_name(first)
        steps.append(first._replace(new=aside, uidvalidity=0))
        del pending[first.old]
        pending[aside] = first._replace(old=aside)
    return RenamePlan(steps, blocked)
