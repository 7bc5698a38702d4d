"""The MAILBOX kvlist: everything that is said of a mailbox, and of the delta that changes one.

Keys are printed in the order of Cyrus 3.6, those of newer releases at their places there. What is 0, empty or
None in a `MailboxState` and optional on the wire is left out. Reading takes all forms of 2.4 to 3.12.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from cyrus_sync.common.model import MailboxState, Since
from cyrus_sync.common.protocol import dlist
from cyrus_sync.common.protocol.dlist import Value
from cyrus_sync.common.protocol.fields import Fields
from cyrus_sync.common.protocol.records import (
    decode_annotations,
    decode_flag_list,
    encode_annotations,
    normal_flags,
)


class MailboxLine(NamedTuple):
    """An APPLY MAILBOX without its records."""

    state: MailboxState
    since: Since | None
    partial: bool
    """True if it looks like a batch that is not the last: SYNC_CRC 0 and no SYNC_CRC_ANNOT."""
    has_records: bool
    """False if RECORD was left out, as for intermediates and tombstones."""


def encode_mailbox(
    state: MailboxState, *, since: Since | None = None, partial: bool = False
) -> dict[str, Any]:
    """The kvlist of `state`, without RECORD. `partial` leaves the CRCs unknown.

    An intermediate or deleted name that has no partition is printed as a real server prints it.
    """
    value: dict[str, Any] = {"UNIQUEID": state.uniqueid, "MBOXNAME": state.name}
    if state.mbtype:
        value["MBOXTYPE"] = state.mbtype
    value["SYNC_CRC"] = 0 if partial else state.sync_crc
    if state.sync_crc_annot is not None and not partial:
        value["SYNC_CRC_ANNOT"] = state.sync_crc_annot
    value["LAST_UID"] = state.last_uid
    value["HIGHESTMODSEQ"] = state.highestmodseq
    value["RECENTUID"] = state.recentuid
    value["RECENTTIME"] = state.recenttime
    value["LAST_APPENDDATE"] = state.last_appenddate
    value["POP3_LAST_LOGIN"] = state.pop3_last_login
    value["POP3_SHOW_AFTER"] = state.pop3_show_after
    if state.xconvmodseq:
        value["XCONVMODSEQ"] = state.xconvmodseq
    if state.raclmodseq:
        value["RACLMODSEQ"] = state.raclmodseq
    if state.usergroups:
        value["USERGROUPS"] = state.usergroups
    value["UIDVALIDITY"] = state.uidvalidity
    value["PARTITION"] = state.partition or None
    value["ACL"] = state.acl
    value["OPTIONS"] = state.options
    if state.quotaroot:
        value["QUOTAROOT"] = state.quotaroot
    if state.createdmodseq:
        value["CREATEDMODSEQ"] = state.createdmodseq
    if state.foldermodseq:
        value["FOLDERMODSEQ"] = state.foldermodseq
    if state.deletedmodseq:
        value["DELETEDMODSEQ"] = state.deletedmodseq
    if state.userflags:
        value["USERFLAGS"] = [
            name.encode() if name == "NIL" else dlist.Flag(name.encode()) for name in state.userflags
        ]
    if state.annotations:
        value["ANNOTATIONS"] = encode_annotations(state.annotations)
    if since is not None:
        value["SINCE_MODSEQ"] = since.modseq
        value["SINCE_CRC"] = since.crc
        value["SINCE_CRC_ANNOT"] = since.crc_annot
    return value


def encode_intermediate(state: MailboxState) -> dict[str, Any]:
    """The short kvlist by which a client sends an intermediate or deleted name."""
    value: dict[str, Any] = {
        "UNIQUEID": state.uniqueid,
        "MBOXNAME": state.name,
        "MBOXTYPE": state.mbtype,
        "HIGHESTMODSEQ": state.highestmodseq,
    }
    if state.createdmodseq:
        value["CREATEDMODSEQ"] = state.createdmodseq
    return value


def decode_mailbox(value: Value, *, answer: bool = False) -> MailboxState:
    """The state in an APPLY MAILBOX, or (`answer`) in a ``* MAILBOX`` line, which may lack some keys.

    Raises BadParameters for a key that is missing or of a wrong type, BadName.
    """
    fields = Fields(value, "MAILBOX")
    mbtype = fields.letters(b"MBOXTYPE", "")
    entry_only = "i" in mbtype or "d" in mbtype
    zero = {"default": 0} if entry_only else {}
    empty = {"default": ""} if entry_only else {}
    for key in () if entry_only else (b"ACL", b"OPTIONS"):
        fields.raw(key)
    return MailboxState(
        uniqueid=fields.uniqueid(),
        name=fields.mailbox(),
        mbtype=mbtype,
        sync_crc=fields.n32(b"SYNC_CRC", 0),
        sync_crc_annot=fields.n32(b"SYNC_CRC_ANNOT") if b"SYNC_CRC_ANNOT" in fields else None,
        last_uid=fields.n32(b"LAST_UID", **zero),
        highestmodseq=fields.n64(b"HIGHESTMODSEQ"),
        recentuid=fields.n32(b"RECENTUID", **zero),
        recenttime=fields.date(b"RECENTTIME", **zero),
        last_appenddate=fields.date(b"LAST_APPENDDATE", **({"default": 0} if answer else zero)),
        pop3_last_login=fields.date(b"POP3_LAST_LOGIN", **zero),
        pop3_show_after=fields.date(b"POP3_SHOW_AFTER", 0),
        xconvmodseq=fields.n64(b"XCONVMODSEQ", 0),
        raclmodseq=fields.n64(b"RACLMODSEQ", 0),
        usergroups=fields.text(b"USERGROUPS", ""),
        uidvalidity=fields.n32(b"UIDVALIDITY", **zero),
        partition=fields.partition(b"PARTITION", **empty),
        acl=fields.text(b"ACL", ""),
        options=fields.letters(b"OPTIONS", ""),
        quotaroot=fields.text(b"QUOTAROOT", ""),
        createdmodseq=fields.n64(b"CREATEDMODSEQ", 0),
        foldermodseq=fields.n64(b"FOLDERMODSEQ", 0),
        deletedmodseq=fields.n64(b"DELETEDMODSEQ", 0),
        userflags=_user_flags(fields),
        annotations=decode_annotations(fields.raw(b"ANNOTATIONS", [])),
    )


def decode_mailbox_line(value: Value) -> MailboxLine:
    """An APPLY MAILBOX. Raises BadParameters where RECORD is missing of a mailbox that has records."""
    state = decode_mailbox(value)
    fields = Fields(value, "MAILBOX")
    since = None
    if b"SINCE_MODSEQ" in fields:
        since = Since(
            fields.n64(b"SINCE_MODSEQ"), fields.n32(b"SINCE_CRC", 0), fields.n32(b"SINCE_CRC_ANNOT", 0)
        )
    has_records = b"RECORD" in fields
    if has_records or not (state.intermediate or state.tombstone):
        fields.listed(b"RECORD")
    partial = not state.sync_crc and state.sync_crc_annot is None
    return MailboxLine(state, since, partial, has_records)


def decode_restore(value: Value) -> MailboxState:
    """A RESTORE MAILBOX: only MBOXNAME must be there; absent identities are "" or 0."""
    fields = Fields(value, "MAILBOX")
    return MailboxState(
        uniqueid=fields.uniqueid() if b"UNIQUEID" in fields else "",
        name=fields.mailbox(),
        mbtype=fields.letters(b"MBOXTYPE", ""),
        highestmodseq=fields.n64(b"HIGHESTMODSEQ", 0),
        xconvmodseq=fields.n64(b"XCONVMODSEQ", 0),
        uidvalidity=fields.n32(b"UIDVALIDITY", 0),
        partition=fields.partition(default=""),
        acl=fields.text(b"ACL", ""),
        options=fields.letters(b"OPTIONS", ""),
        createdmodseq=fields.n64(b"CREATEDMODSEQ", 0),
        foldermodseq=fields.n64(b"FOLDERMODSEQ", 0),
        annotations=decode_annotations(fields.raw(b"ANNOTATIONS", [])),
    )


def _user_flags(fields: Fields) -> tuple[str, ...]:
    words = decode_flag_list(fields.raw(b"USERFLAGS", []), "USERFLAGS")
    keywords, _ = normal_flags([word for word in words if not word.startswith("\\")])
    return tuple(keywords.split())


def mailbox_head(value: dict[str, Any], server: bool) -> bytes:
    """`value` (of `encode_mailbox`) up to where the items of RECORD stand; close with `MAILBOX_TAIL`."""
    return dlist.encode(value, server)[:-1] + b" RECORD ("


MAILBOX_TAIL = b"))"
