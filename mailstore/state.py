"""The complete logical state of a store, as a tree for `mailstore.canonical`.

Two stores hold the same mail if and only if their trees are written alike. What two ends of replication
may rightly hold apart is not in it: expunged messages (each end forgets them in its own time; they can
be asked for), tombstones and former names, deletedmodseq, the modseq of quotas and of mailbox
annotations, the slots of keywords, and CRCs and quota roots of mailboxes, which follow from the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from cyrus_sync.common.errors import CyrusSyncError, StoreCorrupt
from cyrus_sync.common.model import SYSTEM_FLAGS, MailboxState, Record
from cyrus_sync.common.names import SERVER, Owner, sort_key
from cyrus_sync.common.stores.mailstore import OwnerReader
from cyrus_sync.common.stores.queries import is_sieve
from cyrus_sync.common.stores.trouble import reporting
from cyrus_sync.mailstore.canonical import Line, octets
from cyrus_sync.mailstore.source import Source

T = TypeVar("T")

FORMAT = 1

_PLAIN = (
    "uniqueid",
    "name",
    "mbtype",
    "partition",
    "uidvalidity",
    "last_uid",
    "highestmodseq",
    "createdmodseq",
    "foldermodseq",
    "xconvmodseq",
    "raclmodseq",
    "recentuid",
    "recenttime",
    "last_appenddate",
    "pop3_last_login",
    "pop3_show_after",
    "usergroups",
    "options",
)
_SYSTEM = {flag: number for number, flag in enumerate(SYSTEM_FLAGS)}


@dataclass(frozen=True, slots=True)
class Scope:
    """What belongs to the state that is wanted."""

    expunged: bool = False
    partitions: bool = True
    sieve_mailbox: bool = True
    verify: bool = False
    """Messages are read, not only looked up."""
    conversations: bool = True
    """XCONVMODSEQ, which only who counts conversations has."""


Trouble = Callable[[Owner, CyrusSyncError], None]
"""Told of what cannot be read."""


def let_out(_owner: Owner, error: CyrusSyncError) -> None:
    """The `Trouble` of who wants everything or nothing."""
    raise error


def state_of(
    store: Source, owners: Iterable[Owner], *, server: bool, scope: Scope, trouble: Trouble = let_out
) -> dict[str, Any]:
    """The tree; owners are read one after another while it is written. In the place of what cannot be read
    stands an ``error``, and `trouble` is told."""
    tree: dict[str, Any] = {"format": FORMAT, "owners": _owners(store, owners, scope, trouble)}
    if server:
        tree["server"] = _server(store, trouble)
    return tree


def _owners(
    store: Source, owners: Iterable[Owner], scope: Scope, trouble: Trouble
) -> Iterator[dict[str, Any]]:
    for owner in owners:
        try:
            yield _owner(store, owner, scope, trouble)
        except CyrusSyncError as error:
            trouble(owner, error)
            yield {owner.kind: owner.name, "error": error.message}


def _as_far_as_legible(items: Iterable[T], owner: Owner, trouble: Trouble) -> Iterator[T | Line]:
    """`items` until they cannot be read further."""
    try:
        with reporting(owner):
            yield from items
    except CyrusSyncError as error:
        trouble(owner, error)
        yield Line(error=error.message)


def _owner(store: Source, owner: Owner, scope: Scope, trouble: Trouble) -> dict[str, Any]:
    with store.read(owner) as reader:
        meta = reader.meta(with_sieve=False)
        used = {usage.root: dict(usage.used) for usage in reader.usage()}
        if not scope.sieve_mailbox:
            _take_off_scripts(reader, used)
        quotas = [
            Line(
                root=quota.root,
                limits=dict(sorted(quota.limits.items())),
                used={name: n for name, n in sorted(used.get(quota.root, {}).items()) if n},
            )
            for quota in sorted(reader.quotas(), key=lambda one: sort_key(one.root))
        ]
        sieve = [
            Line(
                filename=script.filename,
                active=script.active,
                content=octets(reader.sieve_content(script.filename) or b""),
            )
            for script in sorted(reader.sieve_scripts(), key=lambda one: one.filename)
        ]
    seen = [
        Line(
            uniqueid=s.uniqueid,
            lastread=s.lastread,
            lastuid=s.lastuid,
            lastchange=s.lastchange,
            uids=s.seenuids,
        )
        for s in sorted(meta.seen, key=lambda one: one.uniqueid)
    ]
    return {
        owner.kind: owner.name,
        "subscriptions": iter(sorted(meta.subscriptions, key=sort_key)),
        "seen": iter(seen),
        "quotas": iter(quotas),
        "sieve": iter(sieve),
        "mailboxes": _as_far_as_legible(_mailboxes(store, owner, scope, trouble), owner, trouble),
    }


def _take_off_scripts(reader: OwnerReader, used: dict[str, dict[str, int]]) -> None:
    """Take what mailboxes of scripts use off the use of their quota roots. A script is a message with the
    name of its server in it, so this use differs where only the names of servers differ."""
    for mailbox in reader.mailboxes():
        uses = used.get(mailbox.quotaroot)
        if not is_sieve(mailbox) or mailbox.tombstone or uses is None:
            continue
        records = [r for batch in reader.records(mailbox.uniqueid) for r in batch if not r.expunged]
        weights = {
            "STORAGE": sum(record.size for record in records),
            "MESSAGE": len(records),
            "X-NUM-FOLDERS": 1,
        }
        for name, weight in weights.items():
            uses[name] = uses.get(name, 0) - weight


def _mailboxes(store: Source, owner: Owner, scope: Scope, trouble: Trouble) -> Iterator[dict[str, Any]]:
    with store.read(owner) as reader:
        for mailbox in sorted(reader.mailboxes(), key=lambda one: sort_key(one.name)):
            if is_sieve(mailbox) and not scope.sieve_mailbox:
                continue
            yield _mailbox(reader, mailbox, scope, trouble)


def _mailbox(reader: OwnerReader, mailbox: MailboxState, scope: Scope, trouble: Trouble) -> dict[str, Any]:
    left_out = {"partition"} if not scope.partitions else set()
    left_out |= {"xconvmodseq"} if not scope.conversations else set()
    tree: dict[str, Any] = {name: getattr(mailbox, name) for name in _PLAIN if name not in left_out}
    if mailbox.mbtype == "e":
        tree["mbtype"] = ""  # e-mail is mostly said by saying nothing
    tree["acl"] = _acl(mailbox.acl)
    tree["annotations"] = (
        Line(entry=one.entry, userid=one.userid, value=octets(one.value))
        for one in sorted(mailbox.annotations, key=lambda one: (one.entry, one.userid))
    )
    tree["records"] = _as_far_as_legible(_records(reader, mailbox, scope, trouble), reader.owner, trouble)
    return tree


def _records(reader: OwnerReader, mailbox: MailboxState, scope: Scope, trouble: Trouble) -> Iterator[Line]:
    for batch in reader.records(mailbox.uniqueid):
        stored = reader.has_guids([record.guid for record in batch]) or reader.readable(
            mailbox.uniqueid, [(record.uid, record.guid) for record in batch]
        )
        bad: set[bytes] = set()
        if scope.verify:
            live = [(r.uid, r.guid) for r in batch if not r.expunged and r.guid in stored]
            bad = {guid for _, guid in live} - reader.readable(mailbox.uniqueid, live, verify=True)
        for record in batch:
            if scope.expunged or not record.expunged:
                line = _record(record, record.guid in stored)
                if record.guid in bad and not record.expunged:
                    line["message"] = "unreadable"
                    text = f"message {record.guid.hex()} cannot be read"
                    trouble(reader.owner, StoreCorrupt(text).at(mailbox=mailbox.name, uid=str(record.uid)))
                yield line


def _record(record: Record, stored: bool) -> Line:
    line = Line(
        uid=record.uid,
        modseq=record.modseq,
        updated=record.last_updated,
        flags=_flags(record.flags),
        internaldate=record.internaldate,
        size=record.size,
        guid=record.guid.hex(),
    )
    for name in ("thrid", "savedate", "createdmodseq"):
        if value := getattr(record, name):
            line[name] = value
    if record.annotations:
        line["annotations"] = [
            {"entry": one.entry, "userid": one.userid, "modseq": one.modseq, "value": octets(one.value)}
            for one in record.annotations
        ]
    if record.expunged:
        line["expunged"] = True
    elif not stored:
        line["message"] = "missing"
    return line


def _flags(flags: str) -> list[str]:
    """System flags in their order, then keywords sorted."""
    return sorted(flags.split(), key=lambda flag: (_SYSTEM.get(flag, len(_SYSTEM)), flag))


def _acl(acl: str) -> dict[str, str]:
    parts = acl.split("\t")
    return Line(sorted(zip(parts[::2], parts[1::2], strict=False)))


def _server(store: Source, trouble: Trouble) -> dict[str, Any]:
    try:
        with store.read(SERVER) as reader:
            found = reader.annotations("")
    except CyrusSyncError as error:
        trouble(SERVER, error)
        return {"error": error.message}
    return {
        "annotations": iter(
            [Line(entry=one.entry, userid=one.userid, value=octets(one.value)) for one in found]
        )
    }
