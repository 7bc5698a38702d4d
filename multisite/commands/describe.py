"""describe: everything that is known here of a replica or a mailbox."""

from __future__ import annotations

from collections.abc import Iterator

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.names import Owner, owner_of
from cyrus_sync.common.one_dash import Grammar
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context, View
from cyrus_sync.multisite.commands.lsreplica import replica_lines, when
from cyrus_sync.multisite.commands.naming import Naming
from cyrus_sync.multisite.commands.rows import row_lines
from cyrus_sync.multisite.errors import UnknownReplica
from cyrus_sync.multisite.family import Replica
from cyrus_sync.multisite.oplog.on_the_way import on_the_way
from cyrus_sync.multisite.oplog.stuck import Stuck, stuck
from cyrus_sync.multisite.oplog.unanswered import Unanswered, unanswered

GRAMMAR = Grammar(
    "multitool describe",
    [*COMMON_OPTIONS],
    "replica[@family] | mailbox …",
    "Show everything that is known here of replicas and mailboxes. replica:NAME and mailbox:NAME say which\n"
    "is meant.",
    EXIT_STATUS,
)

LAST_EXPORTS = 5


def run(context: Context) -> int:
    """Describe each that is named."""
    if not context.options.operands:
        raise UsageError("a replica or a mailbox is needed")
    well = True
    with context.look() as view:
        for word in context.options.operands:
            lines = _lines(context, view, word)
            if lines is None:
                context.complain(f"{word} is neither a replica nor a mailbox here")
                well = False
                continue
            for line in lines:
                context.print(line)
    return EX_OK if well else EX_FAILURE


def _lines(context: Context, view: View, word: str) -> list[str] | None:
    if not word.startswith("mailbox:"):
        try:
            return list(_replica(view, view.family.find(word)))
        except UnknownReplica:
            if word.startswith("replica:"):
                return None
    naming = Naming(context.config)
    name = naming.existing(word, view.store)
    return None if name is None else list(_mailbox(view, naming, name))


def _waiting(view: View, owner: Owner | None = None) -> list[Unanswered]:
    return unanswered(view.log, owner, sealed=bool(view.family.restoring))


def _operations(waiting: Unanswered) -> str:
    return (
        f"{waiting.operations} operation{'s' if waiting.operations > 1 else ''} since {when(waiting.since)}"
    )


def _stuck(one: Stuck) -> Iterator[str]:
    if one.waiting:
        count = f"{one.waiting} operation{'s' if one.waiting > 1 else ''} since {when(one.since)}"
        yield f"  waiting:       {count} on {one.owner}, {one.why}"
    if one.set_aside:
        yield f"  set aside:     {one.set_aside} operation{'s' if one.set_aside > 1 else ''} on {one.owner}"


def _replica(view: View, one: Replica) -> Iterator[str]:
    yield from replica_lines(view.family, one)
    owners = view.log.masters.of_replica(one.id)
    named = ", ".join(map(str, owners[:20])) + (", …" if len(owners) > 20 else "")
    yield f"  master of:     {len(owners)} ({named})" if owners else "  master of:     nobody"
    for waiting in _waiting(view):
        if waiting.master == one.id:
            yield f"  waiting:       {_operations(waiting)} on {waiting.owner}"
    if one.id == view.log.self_id:
        for stopped in stuck(view.log)[:LAST_EXPORTS]:
            yield from _stuck(stopped)
    else:
        way = on_the_way(view.log.epochs, view.log.heard, one.id, one.incarnation)
        if way.operations:
            since = f" since {when(way.since)}" if way.since else ""
            yield f"  on the way:    {way.operations} operation{'s' if way.operations > 1 else ''}{since}"
    for export in view.log.epochs.exports(one.id)[-LAST_EXPORTS:]:
        comment = f": {export.comment}" if export.comment else ""
        yield f"  exported to:   {when(export.time)} {export.packet}{comment}"
    yield from (f"  {line}" for line in row_lines(view.family, one.id, view.log.epochs.row(one.id)))


def _mailbox(view: View, naming: Naming, name: str) -> Iterator[str]:
    family, log, owner = view.family, view.log, owner_of(name)
    with view.store.read(owner) as reader:
        state = reader.mailbox(name)
    assert state is not None
    known = log.objects.get(state.uniqueid)
    master = log.masters.of(log.home(state.uniqueid, name))
    yield f"mailbox {naming.external(name)}"
    yield f"  uniqueid:      {state.uniqueid}"
    yield f"  made at:       {family.name_of(known.creator) if known else 'not recorded yet'}"
    yield f"  master:        {family.name_of(master.replica) if master else 'not recorded yet'}"
    if known and known.wanted:
        yield f"  should be:     {naming.external(known.wanted)}"
    for waiting in _waiting(view, log.home(state.uniqueid, name)):
        who = family.name_of(waiting.master)
        yield f"  waiting:       {_operations(waiting)} on {waiting.owner}, for {who}"
    for one in stuck(log, log.home(state.uniqueid, name)):
        yield from _stuck(one)
    if state.intermediate:
        return
    yield f"  last UID:      {state.last_uid} (UIDVALIDITY {state.uidvalidity})"
    told = log.shadows.get(state.uniqueid)
    recorded = f"recorded up to {told.highestmodseq}" if told else "nothing recorded yet"
    yield f"  modseq:        {state.highestmodseq} ({recorded})"
    if master and master.replica != log.self_id:
        base = log.masters.base(state.uniqueid)
        yield f"  built on:      the master's last UID {base.last_uid} and modseq {base.modseq}"
