"""rename: give a mailbox or a replica another name, at the replica that may."""

from __future__ import annotations

from cyrus_sync.common.errors import EX_OK, ReplicaOnly, UsageError
from cyrus_sync.common.names import is_inbox, owner_of
from cyrus_sync.common.one_dash import Grammar
from cyrus_sync.common.stores import role_of
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.naming import Naming
from cyrus_sync.multisite.errors import MultisiteError, NotMaster
from cyrus_sync.multisite.importing import Import
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.membership import rename_replica
from cyrus_sync.multisite.working import bring_up_to_date

GRAMMAR = Grammar(
    "multitool rename",
    [*COMMON_OPTIONS],
    "mailbox new-name   or   replica:name new-name",
    "Rename a mailbox with all that is below it, or a replica (replica:NAME). A mailbox is renamed at the\n"
    "replica where it was made or at the master of its owner, a replica at itself or where it was made. The\n"
    "others hear of it in the next packets. Generated names that are not needed any more are undone at once.",
    EXIT_STATUS,
)

PATIENCE = 60.0


def run(context: Context) -> int:
    """Rename it."""
    if len(context.options.operands) != 2:
        raise UsageError("an old and a new name are needed")
    old, new = context.options.operands
    with context.member() as member:
        member.check_unsealed()
        if old.startswith("replica:"):
            _replica(context, member, old, new.removeprefix("replica:"))
        else:
            _mailbox(context, member, old, new)
    return EX_OK


def _replica(context: Context, member: Member, old: str, new: str) -> None:
    one, me = member.family.find(old), member.family.self_id
    if me not in (one.id, one.creator):
        where = " or ".join(dict.fromkeys(member.family.name_of(r) for r in (one.id, one.creator) if r))
        raise NotMaster(f"{one.name} is renamed at {where}, not here")
    rename_replica(member, one, new.partition("@")[0])
    context.log.info(f"renamed the replica {one.name} ({one.id}) to {new}")


def _mailbox(context: Context, member: Member, old: str, new: str) -> None:
    naming = Naming(context.config)
    source = naming.existing(old, member.store)
    if source is None:
        raise MultisiteError(f"there is no mailbox {old}")
    target = naming.new(new)
    _check_names(source, target)
    if reason := role_of(context.config).refuses_changes():
        raise ReplicaOnly(reason).at(mailbox=source)
    bring_up_to_date(member, context.notice)
    pairs = _pairs(member, naming, source, target)
    _check_master(member, source)
    for before, after in pairs:
        member.store.rename(before, after, log=True, timeout=PATIENCE)
        context.log.info(f"renamed {before} to {after}")
    owners = sorted({owner_of(source), owner_of(target)})
    for owner, error in member.capture.owners(owners).items():
        raise error.at(user=str(owner))
    # Names that are free now go to whom they belong.
    Import(member, lambda path: None, context.notice).run([])


def _check_names(source: str, target: str) -> None:
    if source == target:
        raise UsageError("both names are the same")
    if is_inbox(source) or is_inbox(target):
        raise UsageError("a user is renamed with mailstore rename, and told in the next packets all the same")
    if target.startswith(source + "."):
        raise UsageError("a mailbox cannot go below itself")


def _pairs(member: Member, naming: Naming, source: str, target: str) -> list[tuple[str, str]]:
    """The mailbox and what is below it, and the names that they get, which must be free."""
    with member.store.read(owner_of(source)) as reader:
        there = [state.name for state in reader.mailboxes() if not (state.intermediate or state.tombstone)]
    names = [name for name in there if name == source or name.startswith(source + ".")]
    if source not in names:
        raise MultisiteError(f"{naming.external(source)} is not a mailbox")
    pairs = [(name, target + name[len(source) :]) for name in names]
    with member.store.read(owner_of(target)) as reader:
        for _, name in pairs:
            found = reader.mailbox(name)
            if found is not None and not found.intermediate:
                raise MultisiteError(f"there is a mailbox {naming.external(name)} already")
    return pairs


def _check_master(member: Member, name: str) -> None:
    """Raises `NotMaster` unless the mailbox was made here, or the owner in whom is mastered here."""
    log, family, owner = member.log, member.family, owner_of(name)
    with member.store.read(owner) as reader:
        state = reader.mailbox(name)
    known = log.objects.get(state.uniqueid) if state else None
    master = log.masters.of(known.owner if known else owner)
    masters = dict.fromkeys(
        one for one in (known.creator if known else "", master.replica if master else "") if one
    )
    if masters and family.self_id not in masters:
        where = " or ".join(family.name_of(one) for one in masters)
        raise NotMaster(f"this mailbox is renamed at {where}, not here")
