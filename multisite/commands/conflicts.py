"""conflicts: what has a generated name here, and how to settle it."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_OK
from cyrus_sync.common.names import is_inbox, owner_of
from cyrus_sync.common.one_dash import Grammar
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context, View
from cyrus_sync.multisite.commands.naming import Naming
from cyrus_sync.multisite.oplog.clashes import Clash, foreseen
from cyrus_sync.multisite.oplog.objects import Object

GRAMMAR = Grammar(
    "multitool conflicts",
    [*COMMON_OPTIONS],
    "",
    "Show the mailboxes and replicas that got generated names at this server, because others have the names\n"
    "that they should have, and the commands that settle it. Then those that will get one, as soon as the\n"
    "user's master has answered.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Show them; nothing is printed if there are none."""
    naming = Naming(context.config)
    with context.look() as view:
        for thing in view.log.objects.in_conflict():
            _mailbox(context, view, naming, thing)
        for clash in foreseen(view.log):
            _foreseen(context, view, naming, clash)
        for one in view.family.living():
            if one.wanted:
                context.print(f"replica {one.name}, made by {view.family.name_of(one.creator)}")
                context.print(f"  should be called {one.wanted}, as another replica is here")
                context.print(f"  there: multitool rename replica:{one.wanted} NEW-NAME")
    return EX_OK


def _mailbox(context: Context, view: View, naming: Naming, thing: Object) -> None:
    holder, wanted = _holder(view, thing.wanted), naming.external(thing.wanted)
    creator = view.family.name_of(thing.creator)
    context.print(f"mailbox {naming.external(thing.local)} ({thing.uniqueid}), made at {creator}")
    if not holder:
        context.print(f"  should be called {wanted}, which is free: the next import gives it back")
        return
    known = view.log.objects.get(holder)
    other = view.family.name_of(known.creator) if known else "?"
    context.print(f"  should be called {wanted}, as another one is here ({holder}), made at {other}")
    if is_inbox(thing.wanted):
        _inbox(context, view, naming, thing)
        return
    context.print("  settle it with one of")
    for where in dict.fromkeys((creator, other)):
        # Where it was made it has the name that it should have, unless it lost it to the other there, too.
        context.print(f"    at {where}:  multitool rename {wanted} NEW-NAME")
    context.print(f"    at {_master(view, thing)}:  multitool merge {wanted}")


def _foreseen(context: Context, view: View, naming: Naming, clash: Clash) -> None:
    wanted = naming.external(clash.wanted)
    creator, known = view.family.name_of(clash.creator), view.log.objects.get(clash.other)
    other = f", made at {view.family.name_of(known.creator)}" if known else ""
    master = view.log.masters.of(clash.owner)
    where = view.family.name_of(master.replica) if master else "the master"
    context.print(f"mailbox {wanted} ({clash.uniqueid}), made at {creator}, which is not here yet")
    context.print(f"  wants the name of another one ({clash.other}){other}")
    context.print(f"  {where} gives one of them another name, and its next packets say which")


def _inbox(context: Context, view: View, naming: Naming, thing: Object) -> None:
    """How two INBOXes of one user are settled. By default their master merges them when it hears of both. An
    INBOX is not renamed, so it is the other one that gets a name, where that has a generated name."""
    wanted, where = naming.external(thing.wanted), _master(view, thing)
    context.print("  settle it with" + (" one of" if where == view.family.myself.name else ""))
    context.print(f"    at {where}:  multitool merge {wanted}")
    if where == view.family.myself.name:
        context.print(f"    at {where}:  multitool rename {naming.external(thing.local)} NEW-NAME")


def _master(view: View, thing: Object) -> str:
    master = view.log.masters.of(thing.owner)
    return view.family.name_of(master.replica if master else view.log.self_id)


def _holder(view: View, name: str) -> str:
    with view.store.read(owner_of(name)) as reader:
        found = reader.mailbox(name)
    return found.uniqueid if found and not found.intermediate else ""
