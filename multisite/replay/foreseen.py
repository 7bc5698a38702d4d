"""Clashes that are foreseen: a mailbox of another replica wants a name that somebody else has, and the
owner's master is a third replica, which has not answered yet.

Nothing is done here before the master has spoken. But whoever reads what this import says should know of the
clash now, and not only where it is settled.
"""

from __future__ import annotations

from cyrus_sync.common.names import is_deleted, is_inbox
from cyrus_sync.multisite.oplog.apply_command import ApplyCommand
from cyrus_sync.multisite.oplog.clashes import CLASH, LEFT, Clash, is_open
from cyrus_sync.multisite.oplog.objects import generated_name
from cyrus_sync.multisite.oplog.operations import LogEntry
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.merging import SPECIAL_USE
from cyrus_sync.multisite.replay.names import WARNING, holder_of


def foresee(context: ReplayContext, entry: LogEntry, said: ApplyCommand) -> None:
    """Look whether an operation that is left to the owner's master makes a mailbox of a name that another one
    has."""
    if said.name != "MAILBOX":
        return
    state, log = said.update.state, context.log
    if state.intermediate or state.tombstone or is_deleted(state.name):
        return
    if log.shadows.get(state.uniqueid) is not None:
        return  # it is here already
    left = log.shadows.item(entry.owner, LEFT, state.name)
    other = holder_of(context, state.name)
    if not other and left and left[0] != state.uniqueid and is_open(log, entry.owner, left[1], left[2]):
        other = left[0]
    if not other:
        log.shadows.put_item(entry.owner, LEFT, state.name, [state.uniqueid, entry.origin, entry.id])
    elif not (context.family.inbox_policy == "merge" and _is_merged(state.name, said)):
        known = log.shadows.item(entry.owner, CLASH, state.uniqueid)
        clash = Clash(entry.owner, state.uniqueid, state.name, entry.origin, entry.id, other)
        log.shadows.put_item(entry.owner, CLASH, state.uniqueid, list(clash[2:]))
        if known is None or known[0] != state.name:
            context.foreseen.append(clash)


def _is_merged(name: str, said: ApplyCommand) -> bool:
    """Whether the master makes one mailbox of two without a word."""
    return is_inbox(name) or any(note.entry == SPECIAL_USE for note in said.update.state.annotations)


def warn_of_foreseen(context: ReplayContext) -> None:
    """Warn of clashes that were found since the last time, and that the master has not settled meanwhile."""
    foreseen, context.foreseen = context.foreseen, []
    for clash in foreseen:
        if is_open(context.log, clash.owner, clash.creator, clash.number):
            name = generated_name(clash.wanted, context.family.name_of(clash.creator))
            context.warn(WARNING.format(name=context.external(name)))
