"""Which name a mailbox gets here, and giving wanted names back when they are free.

The rule of MultiSite: where the name of an incoming object is taken, it gets the name
``<creating replica>_<name>`` here, with a warning of two lines, and nothing else is held up. Its identity
stays, so that any later rename of either undoes what was generated.
"""

from __future__ import annotations

from cyrus_sync.common.errors import ReplyError, StoreCorrupt
from cyrus_sync.common.names import Owner, is_deleted, owner_of
from cyrus_sync.multisite.oplog.objects import generated_name
from cyrus_sync.multisite.replay.context import ReplayContext

WARNING = 'multitool: Warning: To avoid name conflict,\ngenerated name "{name}" ...'
"""Word for word what MultiSite says, with the name as it is here."""


def place(context: ReplayContext, uniqueid: str, wanted: str, creator: str) -> str:
    """The name that the mailbox gets here: `wanted`, or a generated one where another mailbox has that."""
    objects = context.log.objects
    if _holder(context, wanted) in ("", uniqueid):
        objects.set_names(uniqueid, "", "")
        return wanted
    known = objects.get(uniqueid)
    if known and known.wanted == wanted and _holder(context, known.local) == uniqueid:
        return known.local
    replica, number = context.family.name_of(creator), 0
    while _holder(context, name := generated_name(wanted, replica, number)) not in ("", uniqueid):
        number += 1
    objects.set_names(uniqueid, wanted, name)
    context.generated[uniqueid] = name
    return name


def warn_of_generated(context: ReplayContext) -> None:
    """Warn of the names that were generated since the last time, but for those that are not needed any more:
    what a packet tells may be settled in the same packet."""
    generated, context.generated = context.generated, {}
    for uniqueid, name in generated.items():
        known = context.log.objects.get(uniqueid)
        if known is None or not known.wanted or known.local != name:
            continue
        context.warn(WARNING.format(name=name))
        context.notice(
            f"the mailbox {uniqueid} of {context.family.name_of(known.creator)} wants the name"
            f" {known.wanted}, which {_holder(context, known.wanted)} has here;"
            f" settle it with: multitool rename {name}"
            " NEW-NAME, at the master replica of either"
        )


def warn_of_set_aside(context: ReplayContext, name: str, aside: str) -> None:
    """Somebody has deleted a mailbox (delayed delete) who did not know all the mail in it. That is not
    lost, but goes with the mailbox when that expires."""
    context.warn(
        f"{name} was deleted elsewhere and has new mail here: it is set aside with it as {aside};"
        " mailstore rename brings it back"
    )


def _holder(context: ReplayContext, name: str) -> str:
    """The uniqueid of the mailbox that is called `name` here, "" if none is (an intermediate gives way)."""
    with context.batch.reader(owner_of(name)) as reader:
        found = reader.mailbox(name)
    return found.uniqueid if found is not None and not found.intermediate else ""


def move(context: ReplayContext, uniqueid: str, old: str, new: str, partition: str) -> None:
    """Give a mailbox its name here, and note it in the shadow: nothing that others need to be told."""
    context.batch.commit()
    context.batch.store.rename(old, new, partition=partition, log=False, without_inbox=True)
    context.log.shadows.rename(uniqueid, owner_of(new), new, partition)


def give_back(context: ReplayContext) -> None:
    """Give every mailbox with a generated name the one that it wants, as far as that is free now."""
    for thing in context.log.objects.in_conflict():
        try:
            if _holder(context, thing.wanted):
                continue
            state = _find(context, thing.uniqueid)
            if state is None or state[1] != thing.local:
                context.log.objects.set_names(thing.uniqueid, "", "")
                continue
            move(context, thing.uniqueid, thing.local, thing.wanted, state[2])
        except (ReplyError, StoreCorrupt) as error:
            context.notice(f"{thing.local} cannot have its name {thing.wanted} yet: {error}")
            continue
        context.log.objects.set_names(thing.uniqueid, "", "")
        context.notice(f"{thing.local} has its name {thing.wanted} again")


def _find(context: ReplayContext, uniqueid: str) -> tuple[Owner, str, str] | None:
    """Owner, name and partition of a mailbox here."""
    context.batch.commit()
    owner = context.batch.store.owner_of_uniqueid(uniqueid)
    if owner is None:
        return None
    with context.batch.store.read(owner) as reader:
        state = reader.mailbox_by_id(uniqueid)
    return (owner, state.name, state.partition) if state else None


def mailboxes_left(context: ReplayContext, owner: Owner) -> list[str]:
    """The names of an owner's mailboxes here, without intermediate ones, deleted ones and that of scripts."""
    with context.batch.reader(owner) as reader:
        names = [state.name for state in reader.mailboxes() if not state.intermediate]
    return [name for name in names if not (is_deleted(name) or name.endswith(".#sieve"))]


def find_name(context: ReplayContext, owner: Owner, uniqueid: str) -> tuple[Owner, str, str] | None:
    """The same, looking at `owner` first, where it most often is."""
    with context.batch.reader(owner) as reader:
        state = reader.mailbox_by_id(uniqueid)
    if state is not None:
        return owner, state.name, state.partition
    return _find(context, uniqueid)
