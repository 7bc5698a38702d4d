"""Choosing operations of the log, and saying in a line what each of them did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cyrus_sync.common.dates import parse_datetime
from cyrus_sync.common.errors import UsageError
from cyrus_sync.common.names import Owner
from cyrus_sync.common.numbers import decimal
from cyrus_sync.common.one_dash import Option
from cyrus_sync.common.printable import printable
from cyrus_sync.multisite.commands.context import Context
from cyrus_sync.multisite.commands.naming import Naming
from cyrus_sync.multisite.contents import mailbox_of
from cyrus_sync.multisite.errors import BadOperation
from cyrus_sync.multisite.family import Family
from cyrus_sync.multisite.oplog.log import Log
from cyrus_sync.multisite.oplog.operations import FAMILY, LogEntry, owner_text
from cyrus_sync.multisite.vetting import Said, read

CHOOSING = (
    Option("since", "date-time", "from this time on"),
    Option("until", "date-time", "up to this time"),
    Option("ori/gin", "replica", "made at this replica"),
    Option("last", "n", "at most so many"),
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """An owner, or one mailbox by its uniqueid and its name."""

    owner: Owner | None = None
    uniqueid: str = ""
    name: str = ""


def chosen(context: Context, family: Family, log: Log, *, newest_first: bool) -> Iterator[LogEntry]:
    """What the options and operands mean. Raises `UsageError`, `UnknownReplica`, `BadName`."""
    options = context.options
    origin = options.text("origin")
    most = options.text("last")
    count = None if most is None else decimal(most, 999_999_999)
    if most is not None and not count:
        raise UsageError(f"-last {most}: a number of operations is needed")
    wanted = [_wanted(context, log, word) for word in options.operands] or [_Wanted()]
    for one in wanted:
        left = count
        for entry in log.operations.history(
            owner=one.owner,
            origin=family.find(origin).id if origin else "",
            since=_moment(context, "since"),
            until=_moment(context, "until"),
            newest_first=newest_first,
        ):
            if one.name and not _is_about(entry, one):
                continue
            yield entry
            if left is not None:
                left -= 1
                if not left:
                    break


def _moment(context: Context, name: str) -> int | None:
    text = context.options.text(name)
    try:
        return None if text is None else parse_datetime(text)
    except ValueError as error:
        raise UsageError(f"-{name}: {error}") from None


def _wanted(context: Context, log: Log, word: str) -> _Wanted:
    """``alice`` and ``shared:projects`` are owners; ``user/alice/Work``, ``mailbox:projects`` mailboxes."""
    naming = Naming(context.config)
    if word == "family:":
        return _Wanted(FAMILY)
    if not word.startswith("mailbox:") and not _looks_like_a_mailbox(word):
        return _Wanted(naming.owner(word))
    name = naming.internal(word)
    state = log.shadows.by_name(name)
    return _Wanted(log.home(state.uniqueid if state else "", name), state.uniqueid if state else "", name)


def _looks_like_a_mailbox(word: str) -> bool:
    return ":" not in word and word.startswith(("user/", "user.", "DELETED/", "DELETED."))


def _is_about(entry: LogEntry, wanted: _Wanted) -> bool:
    if wanted.uniqueid and entry.attributes.get("uniqueid") == wanted.uniqueid:
        return True
    said = said_in(entry)
    return said is not None and mailbox_of(said) == wanted.name


def said_in(entry: LogEntry) -> Said | None:
    """What an operation says; None for one that makes no sense."""
    try:
        return read(entry)
    except BadOperation:
        return None


def summary(naming: Naming, family: Family, entry: LogEntry) -> str:
    """What an operation did, for people."""
    said = said_in(entry)
    if said is None:
        return "makes no sense"
    if said.master is not None:
        return f"the master is {family.name_of(said.master.replica)} (version {said.master.version})"
    if said.replica is not None:
        return f"replica {said.replica.name}{', removed' if said.replica.removed else ''}"
    assert said.command is not None
    argument = said.command.argument
    match said.command.name:
        case "MAILBOX":
            return naming.external(mailbox_of(said)) + _records(entry, said)
        case "RENAME":
            return f"{naming.external(argument.old)} to {naming.external(argument.new)}"
        case "UNMAILBOX" | "EXPUNGE":
            return naming.external(mailbox_of(said))
        case "SUB" | "UNSUB":
            return naming.external(argument.mailbox)
        case "SIEVE" | "UNSIEVE" | "ACTIVATE_SIEVE":
            return printable(str(argument.filename))
        case "QUOTA":
            limits = ", ".join(f"{name} {value}" for name, value in sorted(argument.limits.items()))
            return f"{naming.external(argument.root)} {limits or 'no limit'}"
        case "UNQUOTA":
            return naming.external(argument)
        case "ANNOTATION" | "UNANNOTATION":
            where = naming.external(argument.mailbox) if argument.mailbox else "the server"
            return f"{where} {printable(argument.entry)}"
        case _:
            return printable(owner_text(entry.owner))


def _records(entry: LogEntry, said: Said) -> str:
    assert said.command is not None
    records = said.command.records
    if not records:
        return ""
    first, last = records[0].uid, records[-1].uid
    uids = f"UID {first}" if first == last else f"UIDs {first} to {last}"
    expunged = sum(record.expunged for record in records)
    parts = [f"{len(records)} record{'s' if len(records) > 1 else ''}, {uids}"]
    if expunged:
        parts.append(f"{expunged} expunged")
    if entry.guids:
        parts.append(f"messages of {entry.octets} octets")
    return f" ({', '.join(parts)})"
