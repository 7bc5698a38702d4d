"""Model values to dlist values and back, for every answer and every argument of the protocol.

``encode_…`` gives what `dlist.encode` prints, ``decode_…`` takes what a parser read and checks all of it: it
returns a good value or raises a `ReplyError` (`BadParameters`, `BadName`; for records `ProtocolError`).

>>> dlist.encode(encode_quota(Quota("user.alice", {"STORAGE": 100000}, 18)), server=True)
b'%(ROOT user.alice LIMIT 100000 STORAGE 100000 MODSEQ 18)'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from cyrus_sync.common.errors import BadParameters
from cyrus_sync.common.model import (
    NULL_GUID,
    UNLIMITED,
    MailboxAnnotation,
    Quota,
    Seen,
    SieveScript,
    Verified,
)
from cyrus_sync.common.protocol import dlist, fields
from cyrus_sync.common.protocol.dlist import Value
from cyrus_sync.common.protocol.fields import Fields
from cyrus_sync.common.protocol.mailboxes import (
    MAILBOX_TAIL,
    MailboxLine,
    decode_mailbox,
    decode_mailbox_line,
    decode_restore,
    encode_intermediate,
    encode_mailbox,
    mailbox_head,
)
from cyrus_sync.common.protocol.record_reader import decode_records
from cyrus_sync.common.protocol.records import (
    decode_annotations,
    decode_record,
    encode_annotations,
    encode_records,
    normal_flags,
)
from cyrus_sync.common.waiting import MOST_NAMED, Waiting

__all__ = [
    "MAILBOX_TAIL",
    "MailboxLine",
    "decode_annotations",
    "decode_mailbox",
    "decode_mailbox_line",
    "decode_record",
    "decode_records",
    "decode_restore",
    "encode_annotations",
    "encode_intermediate",
    "encode_mailbox",
    "encode_records",
    "mailbox_head",
    "normal_flags",
]


# -- single names and lists of them


def decode_userid(value: Value) -> str:
    return fields.userid(value, "the userid")


def decode_unuser(value: Value) -> str:
    """The userid of UNUSER; "" is allowed there and means nobody."""
    return "" if value == b"" else decode_userid(value)


def decode_mailbox_name(value: Value) -> str:
    return fields.mailbox_name(value, "the mailbox name")


def decode_mailbox_names(value: Value) -> list[str]:
    """A list of names. A bare name in its place names nothing, as in Cyrus."""
    if isinstance(value, bytes):
        return []
    return [fields.mailbox_name(item, "a mailbox name") for item in fields.listed(value, "the list of names")]


def decode_uniqueids(value: Value) -> list[str]:
    if isinstance(value, bytes):
        return []
    return [fields.uniqueid(item, "a uniqueid") for item in fields.listed(value, "the list of uniqueids")]


def decode_after(value: Value) -> str:
    """The userid after which a list goes on, "" for its beginning; it need not be anybody's."""
    return fields.text(value, "the userid")


def decode_root(value: Value) -> str:
    return fields.mailbox_name(value, "the quota root")


def decode_annotation_mailbox(value: Value) -> str:
    """The argument of GET ANNOTATION: a mailbox, "" for the server."""
    return "" if value == b"" else decode_mailbox_name(value)


def decode_capabilities(value: Value) -> list[str]:
    return [fields.text(item, "a capability") for item in fields.listed(value, "the list of capabilities")]


def encode_names(names: Iterable[str]) -> list[bytes]:
    """A list of names, userids, uniqueids or capabilities."""
    return [name.encode() for name in names]


def encode_guids(guids: Iterable[bytes]) -> list[bytes]:
    return [guid.hex().encode("ascii") for guid in guids]


decode_guids = fields.guids


def encode_digests(digests: Mapping[str, bytes]) -> list[bytes]:
    """Userid and digest in hex in turns; "" for a digest that is not known."""
    return [word for userid, digest in digests.items() for word in (userid.encode(), digest.hex().encode())]


def decode_digests(value: Value) -> list[tuple[str, bytes]]:
    """What `encode_digests` made."""
    words = [fields.text(item, "a userid or digest") for item in fields.listed(value, "the list of digests")]
    if len(words) % 2:
        raise BadParameters("a digest is missing")
    pairs = zip(words[::2], words[1::2], strict=True)
    try:
        return [(userid, bytes.fromhex(digest)) for userid, digest in pairs]
    except ValueError:
        raise BadParameters("a digest is no hexadecimal number") from None


def decode_subscriptions(value: Value) -> list[str]:
    """The names of ``* LSUB``; what a peer's users have subscribed to need not be valid."""
    return [fields.text(item, "a subscription") for item in fields.listed(value, "LSUB")]


# -- quota

_RESOURCES = {
    "STORAGE": (b"STORAGE",),
    "MESSAGE": (b"MESSAGE",),
    "X-ANNOTATION-STORAGE": (b"X-ANNOTATION-STORAGE", b"ANNOTATION-STORAGE"),
    "X-NUM-FOLDERS": (b"X-NUM-FOLDERS", b"MAILBOX"),
}


def encode_quota(quota: Quota) -> dict[str, Any]:
    """LIMIT repeats STORAGE; a resource without limit is left out. The names are those all releases read."""
    storage = quota.limits.get("STORAGE", UNLIMITED)
    value: dict[str, Any] = {"ROOT": quota.root, "LIMIT": storage}
    value |= {
        name: quota.limits[name] for name in _RESOURCES if quota.limits.get(name, UNLIMITED) != UNLIMITED
    }
    value["MODSEQ"] = quota.modseq
    return value


def decode_quota(value: Value) -> Quota:
    """Takes the names of all releases; 2.4 sends LIMIT alone."""
    found = Fields(value, "QUOTA")
    limits = {"STORAGE": found.n32(b"LIMIT")}
    for resource, names in _RESOURCES.items():
        for name in names:
            if name in found:
                limits[resource] = found.n32(name)
                break
    return Quota(
        fields.mailbox_name(found.raw(b"ROOT"), "ROOT"),
        {resource: limit for resource, limit in limits.items() if limit != UNLIMITED},
        found.n64(b"MODSEQ", 0),
    )


# -- seen state


def encode_seen(seen: Seen, userid: str | None = None) -> dict[str, Any]:
    """A ``* SEEN`` answer; with `userid` the argument of APPLY SEEN."""
    value: dict[str, Any] = {} if userid is None else {"USERID": userid}
    return value | {
        "UNIQUEID": seen.uniqueid,
        "LASTREAD": seen.lastread,
        "LASTUID": seen.lastuid,
        "LASTCHANGE": seen.lastchange,
        "SEENUIDS": seen.seenuids,
    }


def decode_seen(value: Value) -> Seen:
    found = Fields(value, "SEEN")
    return Seen(
        uniqueid=found.uniqueid(),
        lastread=found.date(b"LASTREAD"),
        lastuid=found.n32(b"LASTUID"),
        lastchange=found.date(b"LASTCHANGE"),
        seenuids=found.sequence_set(),
    )


def encode_apply_seen(userid: str, seen: Seen) -> dict[str, Any]:
    return encode_seen(seen, userid)


def decode_apply_seen(value: Value) -> tuple[str, Seen]:
    """(userid, seen)"""
    return Fields(value, "SEEN").userid(), decode_seen(value)


# -- Sieve


class SieveFile(NamedTuple):
    """A script of a user, named by its file."""

    userid: str
    filename: str


class SieveUpload(NamedTuple):
    userid: str
    filename: str
    last_update: int
    content: bytes


def encode_sieve_script(script: SieveScript) -> dict[str, Any]:
    """A ``* SIEVE`` line of GET USER and GET META."""
    return {
        "FILENAME": script.filename,
        "LAST_UPDATE": script.last_update,
        "GUID": script.guid.hex(),
        "ISACTIVE": int(script.active),
    }


def decode_sieve_script(value: Value) -> SieveScript:
    found = Fields(value, "SIEVE")
    return SieveScript(
        filename=found.filename(),
        last_update=found.date(b"LAST_UPDATE"),
        guid=found.guid(b"GUID") if b"GUID" in found else NULL_GUID,
        active=bool(found.n32(b"ISACTIVE", 0)),
    )


def encode_sieve_file(userid: str, filename: str) -> dict[str, Any]:
    """UNSIEVE, ACTIVATE_SIEVE, GET FETCH_SIEVE."""
    return {"USERID": userid, "FILENAME": filename}


def decode_sieve_file(value: Value) -> SieveFile:
    found = Fields(value, "SIEVE")
    return SieveFile(found.userid(), found.filename())


def encode_sieve_upload(userid: str, filename: str, last_update: int, content: bytes) -> dict[str, Any]:
    return {"USERID": userid, "FILENAME": filename, "LAST_UPDATE": last_update, "CONTENT": content}


def decode_sieve_upload(value: Value) -> SieveUpload:
    found = Fields(value, "SIEVE")
    return SieveUpload(found.userid(), found.filename(), found.date(b"LAST_UPDATE"), found.octets(b"CONTENT"))


def encode_sieve_content(userid: str, filename: str, content: bytes) -> dict[str, Any]:
    """The answer to GET FETCH_SIEVE."""
    return {"USERID": userid, "FILENAME": filename, "CONTENT": content}


def decode_sieve_content(value: Value) -> bytes:
    return Fields(value, "SIEVE").octets(b"CONTENT")


def encode_user(userid: str) -> dict[str, Any]:
    """UNACTIVATE_SIEVE."""
    return {"USERID": userid}


def decode_user(value: Value) -> str:
    return Fields(value, "the argument").userid()


# -- annotations of mailboxes and of the server


def encode_annotation(annotation: MailboxAnnotation) -> dict[str, Any]:
    """``* ANNOTATION`` and APPLY ANNOTATION."""
    return {
        "MBOXNAME": annotation.mailbox,
        "ENTRY": annotation.entry,
        "USERID": annotation.userid,
        "VALUE": annotation.value,
    }


def decode_annotation(value: Value) -> MailboxAnnotation:
    return _annotation(value, Fields(value, "ANNOTATION").octets(b"VALUE"))


def encode_unannotation(mailbox: str, entry: str, userid: str) -> dict[str, Any]:
    return {"MBOXNAME": mailbox, "ENTRY": entry, "USERID": userid}


def decode_unannotation(value: Value) -> MailboxAnnotation:
    """Which annotation to remove; its value is empty."""
    return _annotation(value, b"")


def _annotation(value: Value, content: bytes) -> MailboxAnnotation:
    found = Fields(value, "ANNOTATION")
    mailbox = decode_annotation_mailbox(found.raw(b"MBOXNAME"))
    entry = found.text(b"ENTRY")
    if not entry.startswith("/"):
        raise BadParameters("ENTRY is not the name of an annotation")
    found.raw(b"USERID")
    return MailboxAnnotation(mailbox, entry, found.text(b"USERID", ""), content)


# -- messages


class FetchRequest(NamedTuple):
    mailbox: str
    partition: str
    uniqueid: str
    guid: bytes
    uid: int


class ReserveRequest(NamedTuple):
    partition: str
    mailboxes: list[str]
    guids: list[bytes]


class ExpungeRequest(NamedTuple):
    mailbox: str
    uniqueid: str
    uids: list[int]


def encode_fetch(mailbox: str, partition: str, uniqueid: str, guid: bytes, uid: int) -> dict[str, Any]:
    return {
        "MBOXNAME": mailbox,
        "PARTITION": partition,
        "UNIQUEID": uniqueid,
        "GUID": guid.hex(),
        "UID": uid,
    }


def decode_fetch(value: Value) -> FetchRequest:
    found = Fields(value, "FETCH")
    return FetchRequest(
        found.mailbox(), found.partition(), found.uniqueid(), found.guid(b"GUID"), found.n32(b"UID")
    )


def encode_reserve(partition: str, mailboxes: Iterable[str], guids: Iterable[bytes]) -> dict[str, Any]:
    return {"PARTITION": partition, "MBOXNAME": encode_names(mailboxes), "GUID": encode_guids(guids)}


def decode_reserve(value: Value) -> ReserveRequest:
    found = Fields(value, "RESERVE")
    return ReserveRequest(
        found.partition(),
        [fields.mailbox_name(name) for name in found.listed(b"MBOXNAME")],
        fields.guids(found.raw(b"GUID")),
    )


def encode_expunge(mailbox: str, uniqueid: str, uids: Sequence[int]) -> dict[str, Any]:
    return {"MBOXNAME": mailbox, "UNIQUEID": uniqueid, "UID": list(uids)}


def decode_expunge(value: Value) -> ExpungeRequest:
    found = Fields(value, "EXPUNGE")
    uids = [fields.number(uid, fields.MAX_N32, "UID") for uid in found.listed(b"UID")]
    return ExpungeRequest(found.mailbox(), found.uniqueid(), uids)


class VerifyRequest(NamedTuple):
    """Messages of a mailbox by UID, from `first` to `last`."""

    mailbox: str
    uniqueid: str
    first: int
    last: int


def encode_verify(mailbox: str, uniqueid: str, first: int, last: int) -> dict[str, Any]:
    return {"MBOXNAME": mailbox, "UNIQUEID": uniqueid, "FIRST": first, "LAST": last}


def decode_verify(value: Value) -> VerifyRequest:
    found = Fields(value, "XVERIFY")
    return VerifyRequest(found.mailbox(), found.uniqueid(), found.n32(b"FIRST"), found.n32(b"LAST"))


def encode_verified(found: Verified) -> dict[str, Any]:
    """The ``* XVERIFY`` answer."""
    return {
        "UPTO": found.upto,
        "COUNT": found.messages,
        "OCTETS": found.octets,
        "BAD": encode_guids(found.bad),
    }


def decode_verified(value: Value) -> Verified:
    found = Fields(value, "XVERIFY")
    return Verified(
        found.n32(b"UPTO"), found.n32(b"COUNT"), found.n64(b"OCTETS"), tuple(fields.guids(found.raw(b"BAD")))
    )


def encode_waiting(word: Waiting) -> dict[str, Any]:
    return {
        "MASTER": word.master,
        "CHANNEL": word.channel,
        "WAITING": word.waiting,
        "DRAINED": int(word.drained),
        "OWNERS": encode_names(word.owners),
    }


def decode_waiting(value: Value) -> Waiting:
    found = Fields(value, "XWAITING")
    owners = [fields.text(item, "an owner") for item in found.listed(b"OWNERS")][:MOST_NAMED]
    return Waiting(
        found.text(b"MASTER")[:_LONGEST_NAME],
        found.text(b"CHANNEL")[:_LONGEST_NAME],
        found.n32(b"WAITING"),
        tuple(owner[:_LONGEST_NAME] for owner in owners),
        bool(found.n32(b"DRAINED")),
    )


_LONGEST_NAME = 255


# -- mailboxes as objects


class UnmailboxRequest(NamedTuple):
    """`uniqueid` "" and `uidvalidity` 0: whatever has that name."""

    name: str
    uniqueid: str = ""
    uidvalidity: int = 0


def encode_unmailbox(name: str, uniqueid: str = "", uidvalidity: int = 0) -> Any:
    """The name alone, or (UNMAILBOX-ID) the mailbox that is meant by it."""
    if not uniqueid:
        return name
    value: dict[str, Any] = {"MBOXNAME": name, "UNIQUEID": uniqueid}
    return value | ({"UIDVALIDITY": uidvalidity} if uidvalidity else {})


def decode_unmailbox(value: Value) -> UnmailboxRequest:
    """Either form."""
    if not isinstance(value, dict):
        return UnmailboxRequest(decode_mailbox_name(value))
    found = Fields(value, "UNMAILBOX")
    uniqueid = found.uniqueid() if b"UNIQUEID" in found else ""
    return UnmailboxRequest(found.mailbox(), uniqueid, found.n32(b"UIDVALIDITY", 0))


class RenameRequest(NamedTuple):
    old: str
    new: str
    partition: str
    uidvalidity: int
    """0: keep or allocate."""


class Subscription(NamedTuple):
    userid: str
    mailbox: str


def encode_rename(old: str, new: str, partition: str, uidvalidity: int = 0) -> dict[str, Any]:
    value: dict[str, Any] = {"OLDMBOXNAME": old, "NEWMBOXNAME": new, "PARTITION": partition}
    if uidvalidity:
        value["UIDVALIDITY"] = uidvalidity
    return value


def decode_rename(value: Value) -> RenameRequest:
    found = Fields(value, "RENAME")
    return RenameRequest(
        found.mailbox(b"OLDMBOXNAME"),
        found.mailbox(b"NEWMBOXNAME"),
        found.partition(),
        found.n32(b"UIDVALIDITY", 0),
    )


def encode_subscription(userid: str, mailbox: str) -> dict[str, Any]:
    """SUB and UNSUB."""
    return {"USERID": userid, "MBOXNAME": mailbox}


def decode_subscription(value: Value) -> Subscription:
    found = Fields(value, "SUB")
    return Subscription(found.userid(), found.mailbox())


def encode_nothing() -> dict[str, Any]:
    """The empty kvlist of APPLY FORCE."""
    return {}


def decode_nothing(value: Value) -> None:
    """APPLY FORCE: whatever stands there."""


# -- files


def decode_message_list(value: Value) -> None:
    """What is left of an APPLY MESSAGE when its files have been taken out: anything in a list."""
    fields.listed(value, "MESSAGE")


def decode_file_head(value: Value) -> tuple[str, bytes, int]:
    """(partition, guid, size) of a file literal. Raises BadParameters."""
    if not isinstance(value, dlist.File):
        raise BadParameters("not a file")
    return fields.partition(value.partition), fields.guid(value.guid), value.size
