"""syncreplica -import: apply update packets, from the bays, from files, from directories."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cyrus_sync.common.commands import reason
from cyrus_sync.common.directory import Directory, Tampered
from cyrus_sync.common.errors import EX_FAILURE, EX_OK, CyrusSyncError
from cyrus_sync.common.one_dash import Grammar, Option, Parsed
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.creation_packets import tell_of_creation_packets
from cyrus_sync.multisite.commands.diagnosis import diagnose, say_refused
from cyrus_sync.multisite.commands.incoming import check_sources, waiting
from cyrus_sync.multisite.commands.lsrestore import in_a_ring, unheard_of
from cyrus_sync.multisite.commands.sending import check_comments
from cyrus_sync.multisite.errors import UnknownReplica
from cyrus_sync.multisite.importing import Import, Result
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.parts import Waiting
from cyrus_sync.shipping.mkorder import COMMENT_OPTIONS, read_comment

GRAMMAR = Grammar(
    "syncreplica",
    [
        Option("imp/ort", "", "apply packets"),
        Option("inv/ob", "family", "only if this server is of that family"),
        *COMMENT_OPTIONS,
        Option("diag/nose", "", "say what packets depend on that is not here; change nothing"),
        Option("rec/eive", "", "what has arrived in the storage bays"),
        Option("scl/ass", "class", "with -receive: in the bays of this storage class"),
        *COMMON_OPTIONS,
    ],
    "[packet-file | directory …]",
    "Apply update packets in the right order, and remove each when it has been applied. Packets that do not\n"
    "fit yet stay, and are applied by a later import, when what they depend on has come.",
    EXIT_STATUS,
)

NAMED = 5
"""How many users of whom something waits are named, behind a packet."""


def run(context: Context) -> int:
    """Import what is named."""
    options = context.options
    _check(options)
    comments = read_comment(options)
    with context.member() as member:
        _check_family(member, options.text("invob"))
        if "diagnose" in options:
            return EX_OK if diagnose(context, member, waiting(context)) else EX_FAILURE
        awaited = dict(member.family.restoring)
        result = _import(context, member)
        _say_answers(context, member, awaited)
        if comments and result.applied:
            context.log.info(f"comment: {' '.join(comments)}")
        tell_of_creation_packets(context, member, result.creation)
        well = say_refused(context, member, _troubles(context, result)) and not result.left
    if not (result.applied or result.refused or "receive" in options):
        context.print("No packets found.")
    return EX_OK if well else EX_FAILURE


def _check(options: Parsed) -> None:
    check_sources(options, "the packets to apply")
    check_comments(options)


def _check_family(member: Member, wanted: str | None) -> None:
    if wanted is not None and wanted.removeprefix("vob:").lstrip("\\/@") != member.family.name:
        raise UnknownReplica(f"{wanted}: this is the family {member.family.name!r}")


def _import(context: Context, member: Member) -> Result:
    """Apply what is there, and what has arrived in the bays meanwhile: whoever wanted to import that has
    found us at work."""
    whole = Result()
    known: set[Path] = set()

    def applied(path: Path) -> None:
        waits = _waits(importing.waiting)
        context.print(f"Applied sync. packet {path} to VOB {member.storage}{waits}")
        context.log.info(f"applied {path}{waits}")
        _remove(context, path)

    importing = Import(member, applied, context.notice)
    while new := [path for path in waiting(context) if path not in known]:
        known.update(new)
        # Those that had to wait may go now.
        result = importing.run([*whole.refused, *new])
        whole.applied += result.applied
        whole.creation += [path for path in result.creation if path not in whole.creation]
        whole.operations += result.operations
        whole.refused = result.refused
        whole.left = result.left
        if "receive" not in context.options:
            break
    return whole


def _waits(waiting: Sequence[Waiting]) -> str:
    """What is said of changes that cannot be seen here yet, behind the packet that has brought them."""
    if not waiting:
        return ""
    named = ", ".join(map(str, waiting[:NAMED]))
    more = f", and more of {len(waiting) - NAMED} others" if len(waiting) > NAMED else ""
    return f"; {named}{more}"


def _say_answers(context: Context, member: Member, awaited: Mapping[str, int]) -> None:
    """Where this replica was being restored, say who has answered, and whether it is open again. `awaited`
    is `Family.restoring` before the import."""
    family = member.family
    answered = ", ".join(family.name_of(one) for one in awaited if one not in family.restoring)
    if not answered:
        return
    if member.sealed:
        text = f"The restore goes on: {answered} answered; multitool lsrestore shows who is awaited."
        unheard = unheard_of(member.directory, family)
        if set(unheard) == {family.name_of(one) for one in family.restoring}:
            text += in_a_ring(family, unheard)
    else:
        text = (
            f"The restore has ended with the answer of {answered}: this replica is open again, and the next"
            " exports tell what was changed here meanwhile."
        )
    context.print(text)
    context.log.info(text)


def _remove(context: Context, path: Path) -> None:
    try:
        with Directory.of(path) as directory:
            directory.unlink(path.name)
    except (Tampered, OSError) as error:
        context.warn(f"{path} has been applied and could not be removed: {reason(error, path)}")


def _troubles(context: Context, result: Result) -> dict[Path, CyrusSyncError]:
    """What was refused and is to be complained of. A creation packet that lies among the others is not."""
    named: Iterable[str] = context.options.operands
    explicit = {Path(one).absolute() for one in named}
    return {
        path: error
        for path, error in result.refused.items()
        if path not in result.creation or path in explicit
    }
