"""mkreplica -import: make this server, which has no mail yet, the replica that creation packets are for."""

from __future__ import annotations

import sys
from pathlib import Path

from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.commands.incoming import check_sources, waiting
from cyrus_sync.multisite.commands.lsrestore import unheard_of, what_to_do
from cyrus_sync.multisite.commands.passphrase import passphrase_of
from cyrus_sync.multisite.creation import Pin, import_replica, replace_replica
from cyrus_sync.multisite.errors import NotApplied
from cyrus_sync.multisite.member import directory_of
from cyrus_sync.multisite.packet import CREATION, PacketError, PacketReader, PublicKeys

GRAMMAR = Grammar(
    "multitool mkreplica",
    [
        Option("imp/ort", "", "make this server a replica"),
        Option("workd/ir", "directory", "accepted: temporary files lie in the configuration directory"),
        Option("rec/eive", "", "from the creation packets that have arrived in the storage bays"),
        Option("scl/ass", "class", "with -receive: in the bays of this storage class"),
        Option("repl/ace", "", "make this replica anew from a snapshot that was made for it"),
        Option("fo/rce", "", "with -replace: even if what this replica has told or got is lost by that"),
        Option("fing/erprint", "digits", "of the maker's keys, as multitool keys shows it there"),
        Option("sec/ret", "file", "with the passphrase with which the packets were made"),
        *COMMON_OPTIONS,
    ],
    "[packet-file | directory …]",
    "Make this server the replica that creation packets are for. Its mail store has to be empty.\n"
    "Who made the packets is proved by -fingerprint or by -secret; without either, and on a terminal, you\n"
    "are asked. The packets stay. If it is interrupted, it can be run again.\n"
    "With -replace this server is a replica that was away for too long (mkreplica -export -replace): its\n"
    "mail and its log are replaced by those of the snapshot, its name and its keys stay. Where it is not\n"
    "certain what it had told it is sealed then, and asks the others as after any restore (lsrestore).",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Make it."""
    check_sources(context.options, "the creation packets")
    if "replace" in context.options:
        return _replace(context)
    if "force" in context.options:
        raise UsageError("-force goes with -replace")
    family = import_replica(
        context.config, _creation_packets(context), pin_of(context), warn=context.warn, notice=context.notice
    )
    context.print(f"{family.selector(family.self_id)} is made")
    context.log.info(f"became the replica {family.myself.name} of the family {family.name} ({family.id})")
    return EX_OK


def _replace(context: Context) -> int:
    for name in ("fingerprint", "secret"):
        if name in context.options:
            raise UsageError(f"-{name} is for a new replica: this one knows the keys of its siblings")
    family = replace_replica(
        context.config,
        _creation_packets(context),
        force="force" in context.options,
        warn=context.warn,
        notice=context.notice,
    )
    context.print(f"{family.selector(family.self_id)} is made anew")
    context.log.info(f"the replica {family.myself.name} was made anew from a snapshot")
    if family.restoring:
        context.print(what_to_do(family, unheard_of(directory_of(context.config), family)))
    return EX_OK


def pin_of(context: Context) -> Pin:
    """By what the maker of the packets is known, as the options say."""
    return Pin(passphrase_of(context.options), lambda keys: _is_right(context, keys))


def _is_right(context: Context, keys: PublicKeys) -> bool:
    typed = context.options.text("fingerprint")
    if typed is not None:
        if not keys.has_fingerprint(typed):
            raise NotApplied(f"its maker's fingerprint is {keys.fingerprint()}, and not what was given")
        return True
    if not sys.stdin.isatty():
        return False
    context.print(f"The packets were made with the keys {keys.fingerprint()}")
    return input("Does multitool keys say the same there? (yes/no) ").strip().lower() == "yes"


def _creation_packets(context: Context) -> list[Path]:
    """Those among what is named. A file that is named itself has to be one."""
    named = {Path(operand).absolute() for operand in context.options.operands}
    found = [path for path in waiting(context) if path in named or _is_creation(path)]
    if not found:
        raise NotApplied("there is no creation packet")
    return found


def _is_creation(path: Path) -> bool:
    try:
        with PacketReader(path) as packet:
            return packet.header.kind == CREATION
    except (PacketError, OSError):
        return False
