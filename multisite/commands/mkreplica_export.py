"""mkreplica -export: add replicas to the family, and write the creation packet for each."""

from __future__ import annotations

import time
from typing import NamedTuple

from cyrus_sync.common.errors import EX_FAILURE, EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context, others
from cyrus_sync.multisite.commands.keys import fingerprint_of
from cyrus_sync.multisite.commands.passphrase import passphrase_of
from cyrus_sync.multisite.commands.sending import SENDING_OPTIONS, Outlet, check_sending, outlet_of
from cyrus_sync.multisite.creation import make_replica, snapshot_for
from cyrus_sync.multisite.cutting import ExportOptions
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.export import packet_prefix
from cyrus_sync.multisite.family import check_replica_name
from cyrus_sync.multisite.member import Member
from cyrus_sync.multisite.membership import remove_replica
from cyrus_sync.shipping.errors import BadFileName
from cyrus_sync.shipping.names import check_host

HEADLINE = "Generating replica creation packet"

GRAMMAR = Grammar(
    "multitool mkreplica",
    [
        Option("exp/ort", "", "make new replicas, and write their creation packets"),
        Option("workd/ir", "directory", "accepted: temporary files lie beside the packets"),
        Option("repl/ace", "", "for replicas that are there already and were away for too long"),
        Option("sec/ret", "file", "with a passphrase that the new replica's administrator knows, too"),
        *SENDING_OPTIONS,
        *COMMON_OPTIONS,
    ],
    "host:replica … | -replace replica …",
    "Add replicas to the family. The creation packet holds a snapshot: all the mail, and the operations\n"
    "that are still in the log. It is for mkreplica -import on a server that has no mail. The replica's\n"
    "name must be new in the family. Whoever imports it compares the fingerprint that is printed, or knows\n"
    "the passphrase in the file that -secret names.\n"
    "With -replace: for mkreplica -import -replace at a replica that lacks operations which are trimmed.\n"
    "It stays who it is. Let it export first, and import that here: what it has told nobody is lost else.",
    EXIT_STATUS,
)


class New(NamedTuple):
    """A replica to be made."""

    host: str
    name: str


def run(context: Context) -> int:
    """Make each replica that is named."""
    check_sending(context.options)
    passphrase_of(context.options)
    if not context.options.operands:
        raise UsageError("what to make is needed: host:replica")
    if "replace" in context.options:
        return _replace(context)
    wanted = [_parse(operand) for operand in context.options.operands]
    outlet, options = outlet_of(context, HEADLINE)
    with context.member() as member:
        member.check_unsealed()
        for one in wanted:
            if member.family.named(one.name) is not None:
                raise MultisiteError(f"there is a replica {one.name!r} in the family already")
            outlet.check(one.name, one.host)
        outlet.resume(member)
        for one in wanted:
            _make(context, member, one, (outlet, options))
    return EX_OK if outlet.deliver() and not member.omissions else EX_FAILURE


def _replace(context: Context) -> int:
    """Make a snapshot for each replica that is named."""
    if "secret" in context.options:
        raise UsageError("-secret is for new replicas: one that is there knows the keys of this one")
    outlet, options = outlet_of(context, "Generating replica snapshot packet")
    with context.member() as member:
        member.check_unsealed()
        wanted = others(member, context.options.operands)
        for one in wanted:
            outlet.check(one.name, one.host)
        outlet.resume(member)
        for one in wanted:
            prefix = packet_prefix("repl", member.myself.name, time.time())
            done = outlet.send(
                prefix,
                (one.host, context.options.text("sclass") or one.storage_class),
                lambda place, one=one: snapshot_for(member, one, place, options),  # type: ignore[misc]
            )
            context.log.info(
                f"wrote a snapshot for {one.name}: {done.operations} operations, {done.messages} messages:"
                f" {' '.join(map(str, done.paths))}"
            )
    return EX_OK if outlet.deliver() and not member.omissions else EX_FAILURE


def _parse(operand: str) -> New:
    host, colon, name = operand.rpartition(":")
    if not colon:
        raise UsageError(f"{operand}: host:replica is needed")
    try:
        return New(check_host(host), check_replica_name(name))
    except (BadFileName, MultisiteError) as error:
        raise UsageError(f"{operand}: {error}") from None


def _make(context: Context, member: Member, new: New, how: tuple[Outlet, ExportOptions]) -> None:
    outlet, options = how
    storage_class = context.options.text("sclass") or ""
    prefix = packet_prefix("repl", member.myself.name, time.time())
    written = False
    try:
        done = outlet.send(
            prefix,
            (new.host, storage_class),
            lambda place: make_replica(
                member,
                new.name,
                new.host,
                place,
                options,
                storage_class=storage_class,
                passphrase=passphrase_of(context.options),
            ),
        )
        written = True
    finally:
        made = member.family.named(new.name)
        if made is not None and not written and not member.log.epochs.exports(made.id):
            # There is no packet of it: it must not stand in the way of another try.
            remove_replica(member, made)
    if "secret" not in context.options:
        context.complain(
            f"to be compared where {new.name} is made: the fingerprint of {member.myself.name} is"
            f" {fingerprint_of(member.myself)}"
        )
    context.log.info(
        f"made the replica {new.name} at {new.host}: {done.operations} operations, {done.messages} messages:"
        f" {' '.join(map(str, done.paths))}"
    )
