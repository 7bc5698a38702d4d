"""lsreplica: the replicas of the family."""

from __future__ import annotations

import time
from collections.abc import Iterator

from cyrus_sync.common.errors import EX_FAILURE, EX_OK
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.family import Family, Replica
from cyrus_sync.multisite.packet import PublicKeys

GRAMMAR = Grammar(
    "multitool lsreplica",
    [Option("l/ong", "", "everything that is known of each"), *COMMON_OPTIONS],
    "[replica …]",
    "List the replicas of the family: name and host, this server marked with an asterisk.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """List all, or those that are named."""
    family = context.family
    named, well = context.named(family)
    chosen = named if context.options.operands else family.living()
    width = max((len(one.name) for one in chosen), default=0)
    for one in chosen:
        if "long" in context.options:
            for line in replica_lines(family, one):
                context.print(line)
        else:
            mark = "*" if one.id == family.self_id else " "
            context.print(f"{mark} {one.name:{width}}  {one.host or '-'}")
    return EX_OK if well else EX_FAILURE


def replica_lines(family: Family, one: Replica) -> Iterator[str]:
    """All that the family file knows of a replica, for people."""
    yield f"replica {family.selector(one.id)}{'  (this server)' if one.id == family.self_id else ''}"
    yield f"  id:            {one.id}"
    yield f"  host:          {one.host or 'not known'}"
    yield f"  storage class: {one.storage_class}"
    yield f"  made by:       {family.name_of(one.creator) if one.creator else 'not known'}"
    yield f"  restored:      {when(one.incarnation) if one.incarnation else 'never'}"
    yield f"  public keys:   {one.keys or 'not known'}"
    if one.keys:
        yield f"  fingerprint:   {PublicKeys.parse(one.keys).fingerprint()}"
    if one.wanted:
        yield f"  wants to be:   {one.wanted}"
    if one.removed:
        yield "  removed"


def when(seconds: int) -> str:
    """A time for people, as dates are typed, in local time."""
    return time.strftime("%d-%b-%Y.%H:%M:%S", time.localtime(seconds))
