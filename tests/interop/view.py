"""What a mail user sees over IMAP, as one value that can be compared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .cyrus import Cyrus
from .imap import Imap, parse, quote


@dataclass
class MessageView:
    """One message; `internaldate` in Unix seconds, `sha1` of the body as it was fetched."""

    flags: frozenset[str]
    internaldate: int
    modseq: int
    sha1: str
    annotations: dict[tuple[str, str], bytes] = field(default_factory=dict)


@dataclass
class MailboxView:
    uidvalidity: int
    uidnext: int
    highestmodseq: int
    messages: dict[int, MessageView]
    acl: dict[str, str]
    metadata: dict[str, bytes]


@dataclass
class UserView:
    mailboxes: dict[str, MailboxView]
    subscriptions: list[str]
    quota: dict[str, dict[str, tuple[int, int]]]
    """Root to resource to (used, limit)."""


def view(cyrus: Cyrus, user: str) -> UserView:
    """Everything that `user` sees of his own mail."""
    with cyrus.imap(user) as imap:
        mailboxes = {name: _mailbox(imap, name) for name in imap.mailboxes() if name.startswith("INBOX")}
        quota: dict[str, dict[str, tuple[int, int]]] = {}
        for name in mailboxes:
            for answer in imap.answers("QUOTA", "GETQUOTAROOT", quote(name)):
                root, values = answer
                quota[root.decode()] = {
                    values[i].decode(): (int(values[i + 1]), int(values[i + 2]))
                    for i in range(0, len(values), 3)
                }
        return UserView(mailboxes, imap.subscriptions(), quota)


def _mailbox(imap: Imap, name: str) -> MailboxView:
    status = imap.status(name)
    imap.ok("EXAMINE", quote(name))
    messages = {}
    for _, kind, items in _fetches(imap) if status["MESSAGES"] else ():
        assert kind == b"FETCH"
        values = {items[i].upper(): items[i + 1] for i in range(0, len(items), 2)}
        messages[int(values[b"UID"])] = _message(values)
    ((_, *rights),) = imap.answers("ACL", "GETACL", quote(name))
    acl = {rights[i].decode(): rights[i + 1].decode() for i in range(0, len(rights), 2)}
    metadata: dict[str, bytes] = {}
    for line in imap.answers(
        "METADATA", "GETMETADATA", "(DEPTH infinity)", quote(name), "(/shared /private)"
    ):
        pairs = line[1]
        for i in range(0, len(pairs), 2):
            if pairs[i + 1] is not None and not _is_computed(pairs[i]):
                metadata[pairs[i].decode()] = pairs[i + 1]
    return MailboxView(
        status["UIDVALIDITY"], status["UIDNEXT"], status["HIGHESTMODSEQ"], messages, acl, metadata
    )


def _fetches(imap: Imap) -> list[tuple[bytes, bytes, list[Any]]]:
    wanted = "(UID FLAGS INTERNALDATE MODSEQ BODY.PEEK[] ANNOTATION (/* (value.priv value.shared)))"

    answers = [parse(line[2:]) for line in imap.ok("UID", "FETCH", "1:*", wanted)]
    return [(a[0], a[1], a[2]) for a in answers if len(a) == 3 and a[1] == b"FETCH"]


def _message(values: dict[bytes, Any]) -> MessageView:
    annotations = {}
    pairs = values.get(b"ANNOTATION", [])
    for i in range(0, len(pairs), 2):
        entry, attributes = pairs[i], pairs[i + 1]
        for j in range(0, len(attributes), 2):
            if attributes[j + 1] is not None:
                annotations[(entry.decode(), attributes[j].decode())] = attributes[j + 1]
    date = datetime.strptime(values[b"INTERNALDATE"].decode().strip(), "%d-%b-%Y %H:%M:%S %z")
    return MessageView(
        frozenset(f.decode() for f in values[b"FLAGS"]) - {"\\Recent"},
        int(date.timestamp()),
        int(values[b"MODSEQ"][0]),
        hashlib.sha1(values[b"BODY[]"] or b"").hexdigest(),
        annotations,
    )


def _is_computed(entry: bytes) -> bool:
    """Entries that the server makes up (times of its own, sizes, its own partition)."""
    last = entry.rsplit(b"/", 1)[-1]
    return b"/vendor/cmu/cyrus-imapd/" in entry and last in (
        b"lastupdate", b"lastpop", b"size", b"partition", b"server", b"duplicatedeliver", b"pop3newuidl",
        b"pop3showafter", b"sharedseen", b"synccrcs", b"uniqueid", b"hasalarms", b"userrawquota",
    )  # fmt: skip
