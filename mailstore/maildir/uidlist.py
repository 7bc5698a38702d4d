"""``dovecot-uidlist``: which UID a folder's files have. Version 3 (Dovecot from 1.1), and 1 (before that, and
Courier's ``courierimapuiddb``).

Version 1 begins ``1 <uidvalidity> <next uid>`` and has lines ``<uid> <name>``. Version 3 begins
``3 V<uidvalidity> N<next uid> G<guid of the mailbox>``; its lines are ``<uid> [<letter><value> …] :<name>``.
Names are those of the files without their flags.

>>> read_uidlist(b"3 V1700000000 N8 G00ff00ff00ff00ff00ff00ff00ff00ff\\n7 S12 W13 :1.a,S=12\\n").uids
{'1.a,S=12': 7}
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from cyrus_sync.common.model import MAX_UID
from cyrus_sync.common.numbers import decimal
from cyrus_sync.mailstore.maildir.letters import split_name

_LINE = re.compile(rb"([0-9]+) +((?:[A-Z][^ ]* +)*):([^/\x00]+)")
_LINE_1 = re.compile(rb"([0-9]+) +():?([^/\x00]+)")
_GUID = re.compile(r"[0-9a-f]{32}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass
class Uidlist:
    """`uids` by file name without flags, and `fields`, what else a line says (``S12 Gabc``), if it does;
    `guid` is the mailbox's, "" if it has none. `damaged` counts lines that make no sense; 0 for uidvalidity
    says that the header makes none."""

    uidvalidity: int = 0
    next_uid: int = 1
    guid: str = ""
    uids: dict[str, int] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    damaged: int = 0


def read_uidlist(data: bytes) -> Uidlist:
    """What the file says. Lines that are damaged are passed over and counted."""
    head, _, rest = data.partition(b"\n")
    found = _header(head.decode("latin-1").split())
    if found is None:
        return Uidlist(damaged=1)
    pattern = _LINE if head.startswith(b"3") else _LINE_1
    last = 0
    for line in rest.split(b"\n"):
        if not line:
            continue
        entry = pattern.fullmatch(line)
        uid = decimal(entry[1], MAX_UID - 1, default=0) if entry else 0
        if entry is None or uid <= last:
            # A line that was being written when we looked, or a list that somebody has mended by hand.
            found.damaged += 1
            continue
        last = uid
        # A name that comes twice has the later UID: Dovecot appends a file that came back.
        name = split_name(entry[3].decode("utf-8", "surrogateescape"))[0]
        found.uids[name] = uid
        if entry[2]:
            found.fields[name] = entry[2].decode("utf-8", "surrogateescape").strip()
    found.next_uid = max(found.next_uid, last + 1)
    return found


def _header(words: list[str]) -> Uidlist | None:
    if words[:1] == ["1"] and len(words) == 3:
        uidvalidity, next_uid, guid = words[1], words[2], ""
    elif words[:1] == ["3"]:
        said = {word[0]: word[1:] for word in words[1:]}
        uidvalidity, next_uid, guid = said.get("V", ""), said.get("N", ""), said.get("G", "")
    else:
        return None
    found = Uidlist(decimal(uidvalidity, MAX_UID, default=0), decimal(next_uid, MAX_UID, default=0))
    found.guid = guid if _GUID.fullmatch(guid) else ""
    return found if found.uidvalidity and found.next_uid else None


def write_uidlist(uidvalidity: int, next_uid: int, guid: str, entries: Iterable[tuple[int, str]]) -> bytes:
    """Version 3, as Dovecot writes it; `entries` are (UID, file name without flags), ascending."""
    head = f"3 V{uidvalidity} N{next_uid} G{guid}\n".encode()
    return head + write_lines((uid, "", name) for uid, name in entries)


def write_lines(entries: Iterable[tuple[int, str, str]]) -> bytes:
    """Lines of version 3 alone: (UID, fields, file name without flags), ascending. Dovecot appends them, too;
    the next UID is then above the last of them."""
    lines = [f"{uid} {fields} :{name}\n" if fields else f"{uid} :{name}\n" for uid, fields, name in entries]
    return "".join(lines).encode("utf-8", "surrogateescape")


def mailbox_guid(uniqueid: str) -> str:
    """Dovecot's GUID of the mailbox with this uniqueid: the same one always."""
    if _UUID.fullmatch(uniqueid):
        return uniqueid.replace("-", "")
    if _GUID.fullmatch(uniqueid):
        return uniqueid
    return hashlib.sha256(f"mailbox {uniqueid}".encode()).hexdigest()[:32]
