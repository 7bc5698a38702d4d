"""A new master tells again what is deleted.

A new master tells anew all that an owner has. It has to tell anew, too, what was deleted before its reign:
another replica may have ignored that deletion, because it did not know the reign in which it was said.
"""

from __future__ import annotations

from cyrus_sync.common.names import Owner
from cyrus_sync.multisite.errors import MultisiteError
from cyrus_sync.multisite.mail import SiteReader
from cyrus_sync.multisite.oplog.apply_command import parse
from cyrus_sync.multisite.oplog.operations import LogEntry
from cyrus_sync.multisite.replay.context import ReplayContext

VERBS = frozenset(("UNMAILBOX", "UNSUB", "UNQUOTA", "UNANNOTATION", "UNSIEVE", "UNACTIVATE_SIEVE"))


def tell_deletions(context: ReplayContext, owner: Owner) -> None:
    """Append an operation for each thing that the log says was deleted and that is not here. The caller has
    committed the batch."""
    log = context.log
    last = {entry.line: entry for entry in log.operations.of_owner(owner) if entry.verb in VERBS}
    with context.batch.reader(owner) as reader:
        gone = [entry for entry in last.values() if _is_gone(context, reader, entry)]
    for entry in gone:
        attributes = log.attributes(owner, entry.attributes.get("uniqueid", ""))
        log.operations.append(owner, entry.line, time=log.now(), attributes=attributes)


def _is_gone(context: ReplayContext, reader: SiteReader, entry: LogEntry) -> bool:
    try:
        said = parse(entry.line)
    except MultisiteError:
        return False  # one that is set aside
    match said.name:
        case "UNMAILBOX":
            return context.batch.store.owner_of_uniqueid(entry.attributes.get("uniqueid", "")) is None
        case "UNSUB":
            return said.argument.mailbox not in reader.meta(with_sieve=False).subscriptions
        case "UNQUOTA":
            return reader.quota(said.argument) is None
        case "UNANNOTATION":
            note = said.argument
            there = {(one.entry, one.userid) for one in reader.annotations(note.mailbox)}
            return (note.entry, note.userid) not in there
        case "UNSIEVE":
            return reader.sieve_content(said.argument.filename) is None
        case _:
            return not any(script.active for script in reader.sieve_scripts())
