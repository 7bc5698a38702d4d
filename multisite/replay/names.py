"""Which name a mailbox gets here, and how it gets the name that it wants once that is free.

The rule is MultiSite's. Where the name of an incoming object is taken, the object is called
``<creating replica>_<name>`` here; a warning of two lines says so, and nothing else is held up. Its uniqueid
stays, so a later rename of either object undoes the generated name.
"""

from __future__ import annotations

from cyrus_sync.common.errors import ReplyError, StoreCorrupt
from cyrus_sync.common.names import Owner, is_deleted, owner_of
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.oplog.clashes import CLASH
from cyrus_sync.multisite.oplog.objects import Object, generated_name
from cyrus_sync.multisite.replay.context import ReplayContext
from cyrus_sync.multisite.replay.merging import is_to_be_merged

WARNING = 'multitool: Warning: To avoid name conflict,\ngenerated name "{name}" ...'
"""Word for word what MultiSite says, with the name as people type it here."""


def place(context: ReplayContext, uniqueid: str, wanted: str, creator: str) -> str:
    """The name that a mailbox gets here: `wanted`, or a generated one where another mailbox has that name.
    `creator` is the id of the replica that made it. All names are internal ones."""
    objects = context.log.objects
    if holder_of(context, wanted) in ("", uniqueid):
        objects.set_names(uniqueid, "", "")
        return wanted
    known = objects.get(uniqueid)
    if known and known.wanted == wanted and holder_of(context, known.local) == uniqueid:
        return known.local
    replica, number = context.family.name_of(creator), 0
    while holder_of(context, name := generated_name(wanted, replica, number)) not in ("", uniqueid):
        number += 1
    objects.set_names(uniqueid, wanted, name)
    context.generated[uniqueid] = name
    return name


def warn_of_generated(context: ReplayContext) -> None:
    """Warn of the names that were generated since the last time. A name that a later operation of the same
    packet made unnecessary is left out, and so is that of a mailbox that is about to be merged here."""
    generated, context.generated = context.generated, {}
    for uniqueid, name in generated.items():
        known = context.log.objects.get(uniqueid)
        if known is None or not known.wanted or known.local != name:
            continue
        foreseen = _was_foreseen(context, known, name)
        if is_to_be_merged(context, known):
            continue  # at the end of this very import, which says so
        if not foreseen:
            context.warn(WARNING.format(name=context.external(name)))
        context.notice(
            f"the mailbox {uniqueid} of {context.family.name_of(known.creator)} wants the name"
            f" {context.external(known.wanted)}, which {holder_of(context, known.wanted)} has here;"
            f" settle it with: multitool rename {context.external(name)} NEW-NAME, at the master replica of"
            " either; multitool conflicts says more"
        )


def _was_foreseen(context: ReplayContext, thing: Object, name: str) -> bool:
    """Whether it was warned of this name before the master had answered (`multisite.replay.foreseen`)."""
    found = context.log.shadows.item(thing.owner, CLASH, thing.uniqueid)
    context.log.shadows.drop_item(thing.owner, CLASH, thing.uniqueid)
    if not found or any(clash.uniqueid == thing.uniqueid for clash in context.foreseen):
        return False  # it was noted in this very import, and nobody has been warned yet
    return generated_name(found[0], context.family.name_of(found[1])) == name


def warn_of_set_aside(context: ReplayContext, name: str, aside: str) -> None:
    """Warn that a mailbox was deleted (delayed delete) by a replica that did not know all the mail in it.
    The mail is not lost yet: it goes when the deleted mailbox expires."""
    context.warn(
        f"{context.external(name)} was deleted elsewhere and has new mail here: it is set aside with it as"
        f" {context.external(aside)};"
        " mailstore rename brings it back"
    )


def holder_of(context: ReplayContext, name: str) -> str:
    """The uniqueid of the mailbox that is called `name` here; "" if there is none, or only an intermediate
    one, which gives way."""
    with context.batch.reader(owner_of(name)) as reader:
        found = reader.mailbox(name)
    return found.uniqueid if found is not None and not found.intermediate else ""


def move(context: ReplayContext, uniqueid: str, old: str, new: str, partition: str) -> None:
    """Rename a mailbox here from `old` to `new`, and note it in the shadow, so that the others are not told.
    Raises `ReplyError` where the store refuses."""
    context.batch.commit()
    context.batch.store.rename(old, new, partition=partition, log=False, without_inbox=True)
    context.log.shadows.rename(uniqueid, owner_of(new), new, partition)


def give_back(context: ReplayContext) -> None:
    """Give every mailbox with a generated name the name that it wants, as far as that is free now."""
    for thing in context.log.objects.in_conflict():
        local, wanted = context.external(thing.local), context.external(thing.wanted)
        try:
            if holder_of(context, thing.wanted):
                continue
            state = _find(context, thing.uniqueid)
            if state is None or state[1] != thing.local:
                context.log.objects.set_names(thing.uniqueid, "", "")
                continue
            move(context, thing.uniqueid, thing.local, thing.wanted, state[2])
        except (ReplyError, StoreCorrupt, MultisiteError) as error:
            context.notice(f"{local} cannot have its name {wanted} yet: {error}")
            continue
        context.log.objects.set_names(thing.uniqueid, "", "")
        context.notice(f"{local} has its name {wanted} again")


def _find(context: ReplayContext, uniqueid: str, *, told: bool = True) -> tuple[Owner, str, str] | None:
    """Owner, name and partition of a mailbox here, whoever has it; None if nobody has. `told`: the log knows
    of it. If it does not, what is not committed yet cannot have it."""
    if told:
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


def find_name(
    context: ReplayContext, owner: Owner, uniqueid: str, *, told: bool = True
) -> tuple[Owner, str, str] | None:
    """Owner, name and partition of a mailbox here; None if nobody has it. `owner` is looked at first: that is
    where it most often is. `told`: the log knows of it."""
    with context.batch.reader(owner) as reader:
        state = reader.mailbox_by_id(uniqueid)
    if state is not None:
        return owner, state.name, state.partition
    return _find(context, uniqueid, told=told)
