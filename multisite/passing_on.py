"""Restores are passed on. Where packets only go on, from site to site in a ring, most of those that a
restored replica asks hear it from others, and their answers come by way of others.

Whoever knows that a replica is being restored says so in its packets (`Header.restores`): what that one has,
and which others know of it, with what they had when they were known to know. So everybody hears it, and sends
what is lacking if any packet goes from there to the one that is being restored. That one counts a sibling's
answer as soon as it has all that the sibling had. It ends when it was heard to be open again.

What the restored replica says is signed by itself, so nobody else can say that it was restored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.packet import Header
from cyrus_sync.multisite.packet.restores import Knowing, Restore
from cyrus_sync.multisite.signing import is_restore_believed

_RESTORE = "restore of "
_PASSED_ON = "restores passed on "


def said_by(header: Header) -> Restore:
    """What the sender of a packet says that it has."""
    return Restore(header.sender_incarnation, header.row, header.trail, header.taken, {})


def restores(log: Log, family: Family, target: str) -> dict[str, Restore]:
    """Replica (id) -> its restore, as a packet for `target` (id) passes it on. The target knows itself of it
    what it knows."""
    found: dict[str, Restore] = {}
    for one in family.living():
        restore = _known(log, one.id)
        if restore is not None and restore.incarnation == one.incarnation:
            knowing = {replica: what for replica, what in restore.knowing.items() if replica != target}
            found[one.id] = restore._replace(knowing=knowing)
    return found


def is_new(log: Log, target: str, found: Mapping[str, Restore]) -> bool:
    """Whether `target` has not been told one of these, or not who knows of it. Who is being restored is told
    only who knows."""
    told = log.notes.get(_PASSED_ON + target, {})
    return any(
        told.get(replica) != _so_far(one) and (one.knowing or replica != target)
        for replica, one in found.items()
    )


def note_passed_on(log: Log, target: str, found: Mapping[str, Restore]) -> None:
    """A packet with these is on its way to `target`."""
    if found or log.notes.get(_PASSED_ON + target):
        log.notes.put(_PASSED_ON + target, {replica: _so_far(one) for replica, one in found.items()})


def believed(log: Log, family: Family, header: Header) -> dict[str, Restore]:
    """The restores of others of which a packet tells, without what is made up."""
    living = {one.id for one in family.living()} - {log.self_id}
    return {
        replica: restore
        for replica, restore in header.restores.items()
        if replica in living and is_restore_believed(family, replica, restore)
    }


def note_restores(log: Log, family: Family, header: Header, told: Mapping[str, Restore]) -> None:
    """Note these restores, of which a packet tells; one may be its sender's."""
    living = {one.id for one in family.living()}
    for replica, restore in told.items():
        _note(log, replica, restore if replica == header.sender else _with_sender(header, replica, restore))
    for replica in log.notes.keys(_RESTORE):
        if replica not in living or _known(log, replica) is None:
            log.notes.drop(_RESTORE + replica)


def answers(header: Header, replica: str, incarnation: int) -> Iterator[tuple[str, Knowing]]:
    """Who knows of this restore of `replica` (id), as a packet shows that does not come from it."""
    restore = header.restores.get(replica)
    if restore is not None and restore.incarnation == incarnation:
        yield from _with_sender(header, replica, restore).knowing.items()


def _with_sender(header: Header, replica: str, restore: Restore) -> Restore:
    sender = Knowing(header.row, header.heads.get(replica, ""))
    return restore._replace(knowing={**restore.knowing, header.sender: sender})


def _so_far(one: Restore) -> list[int]:
    return [one.incarnation, len(one.knowing)]


def _note(log: Log, replica: str, restore: Restore) -> None:
    """What a replica had when it was first known to know counts: what came later, it may have from others."""
    known = _known(log, replica)
    if known is not None and known.incarnation > restore.incarnation:
        return
    if known is not None and known.incarnation == restore.incarnation:
        restore = restore._replace(knowing={**restore.knowing, **known.knowing})
    log.notes.put(_RESTORE + replica, restore)


def _known(log: Log, replica: str) -> Restore | None:
    """A restore that has not ended, as far as is known here."""
    noted = log.notes.get(_RESTORE + replica)
    if noted is None:
        return None
    incarnation, row, trail, taken, knowing, signature = noted
    heard = log.heard.of(replica)
    if heard is not None and heard.incarnation >= incarnation:
        return None
    known = {one: Knowing(*what) for one, what in knowing.items()}
    return Restore(incarnation, row, trail, taken, known, signature)
