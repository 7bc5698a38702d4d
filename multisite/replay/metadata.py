"""Operations on metadata, that is, on anything but a mailbox: one verb of the store each."""

from __future__ import annotations

from cyrus_sync.common.errors import MailboxNonexistent
from cyrus_sync.common.model import Quota
from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.oplog.apply_command import ApplyCommand
from cyrus_sync.multisite.replay.context import ReplayContext


def apply_metadata(context: ReplayContext, owner: Owner, said: ApplyCommand) -> None:
    """Carry out one operation on subscriptions, seen state, quotas, annotations or scripts of `owner`.

    Where the mailbox is gone there is nothing to do, and `notice` is told. Raises what the store raises, and
    `MultisiteError` for a verb that no log holds."""
    writer = context.batch.writer(owner)
    argument = said.argument
    try:
        with writer.savepoint():
            match said.name:
                case "SUB" | "UNSUB":
                    writer.apply_sub(argument.mailbox, said.name == "SUB")
                case "SEEN":
                    writer.apply_seen(argument[1])
                case "QUOTA":
                    quota: Quota = argument
                    writer.apply_quota(quota)
                case "UNQUOTA":
                    writer.apply_unquota(argument)
                case "ANNOTATION":
                    writer.apply_annotation(argument)
                case "UNANNOTATION":
                    writer.apply_unannotation(argument.mailbox, argument.entry, argument.userid)
                case "SIEVE":
                    writer.apply_sieve(argument.filename, argument.last_update, argument.content)
                case "UNSIEVE":
                    writer.apply_unsieve(argument.filename)
                case "ACTIVATE_SIEVE":
                    writer.apply_active_sieve(argument.filename)
                case "UNACTIVATE_SIEVE":
                    writer.apply_active_sieve(None)
                case "EXPUNGE":
                    writer.apply_expunge(argument.mailbox, argument.uniqueid, argument.uids)
                case _:
                    raise MultisiteError(f"an operation of a kind that no log holds: {said.name}")
    except MailboxNonexistent as error:
        context.notice(f"{said.name} of {owner}: {error}")
