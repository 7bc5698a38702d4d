"""chreplica: change what the family knows of a replica."""

from __future__ import annotations

from dataclasses import replace

from cyrus_sync.common.errors import EX_OK, UsageError
from cyrus_sync.common.one_dash import Grammar, Option
from cyrus_sync.multisite.commands.context import COMMON_OPTIONS, EXIT_STATUS, Context
from cyrus_sync.multisite.membership import change_replica, trust_keys
from cyrus_sync.multisite.packet import PublicKeys
from cyrus_sync.multisite.packet.succession import Succession
from cyrus_sync.shipping.errors import BadFileName
from cyrus_sync.shipping.names import check_host

GRAMMAR = Grammar(
    "multitool chreplica",
    [
        Option("host", "host", "to which host its packets are shipped"),
        Option("scl/ass", "class", "in which storage class"),
        Option("key", "text", "trust these public keys of it, as lsreplica -long shows them there"),
        *COMMON_OPTIONS,
    ],
    "replica",
    "Change what the family knows of a replica. The others hear of it in the next packets; but whose keys\n"
    "are trusted (-key) is each server's own affair.",
    EXIT_STATUS,
)


def run(context: Context) -> int:
    """Change it."""
    options = context.options
    if len(options.operands) != 1 or not {"host", "sclass", "key"} & options.values.keys():
        raise UsageError("one replica, and -host, -sclass or -key are needed")
    with context.member() as member:
        one = member.family.find(options.operands[0])
        if (host := options.text("host")) is not None:
            try:
                one = replace(one, host=check_host(host))
            except BadFileName as error:
                raise UsageError(str(error)) from None
        if storage_class := options.text("sclass"):
            one = replace(one, storage_class=storage_class)
        if (key := options.text("key")) is not None:
            trust_keys(member, one, PublicKeys.parse(key))
            one = one.with_keys(Succession.begun(PublicKeys.parse(key)))
        made = change_replica(member, one) if {"host", "sclass"} & options.values.keys() else one
    context.log.info(f"changed {made.name}: host {made.host}, storage class {made.storage_class}")
    return EX_OK
