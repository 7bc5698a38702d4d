"""One entry of mailboxes.db: its value, as releases since 2.4 write it.

Since 2.5 it is a dlist: ``%(A %(al lrs) I id T e P default V 1795240592 F 59 M 1795240590)``, in whatever
order; before, text: ``(uniqueid X specialuse Y) 0 default al<TAB>lrs<TAB>``.
"""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.protocol import dlist
from cyrus_sync.spool.names import internal_name


class BadEntry(ValueError):
    """A value that no Cyrus writes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A mailbox, or what one has left behind. `mbtype` has all its letters (replication's: without `l`)."""

    name: str
    uniqueid: str
    mbtype: str = "e"
    partition: str = ""
    server: str = ""
    """Of a Murder: where it is, if it is not here."""
    acl: str = ""
    uidvalidity: int = 0
    createdmodseq: int = 0
    foldermodseq: int = 0
    changed: int = 0
    """Unix seconds."""
    former: tuple[str, ...] = field(default=())
    """Names that it had before, newest first. Only entries that are found by unique id have them."""

    @property
    def tombstone(self) -> bool:
        """A name that was deleted or renamed away."""
        return "d" in self.mbtype

    @property
    def intermediate(self) -> bool:
        """A name that exists because others are below it: it has no directory."""
        return "i" in self.mbtype

    @property
    def elsewhere(self) -> bool:
        """On another server of a Murder, on its way, or being created: nothing to read here (yet)."""
        return bool(set(self.mbtype) & set("rmz"))

    @property
    def by_name(self) -> bool:
        """Its directory is that of its name, though the release knows others."""
        return "l" in self.mbtype

    @property
    def live(self) -> bool:
        return not (self.tombstone or self.elsewhere)


def parse_entry(value: bytes, name: str = "") -> Entry:
    """The entry of a mailbox; `name` is that of its key, else the value's own. Raises `BadEntry`."""
    if not value.startswith(b"%"):
        return _parse_text(value, name)
    fields = _fields(value)
    try:
        return Entry(
            name=name or _name(fields.get(b"N")),
            uniqueid=_text(fields.get(b"I")),
            mbtype=_text(fields.get(b"T")) or "e",
            partition=_text(fields.get(b"P")),
            server=_text(fields.get(b"S")),
            acl=_acl(fields.get(b"A")),
            uidvalidity=_number(fields.get(b"V")),
            createdmodseq=_number(fields.get(b"C")),
            foldermodseq=_number(fields.get(b"F")),
            changed=_number(fields.get(b"M")),
            former=_former(fields.get(b"H")),
        )
    except UnicodeDecodeError:
        raise BadEntry("it is not text") from None


def is_live(value: bytes) -> bool:
    """`Entry.live` at a tenth of the cost. What cannot be read counts as live: who looks at it is told."""
    found = _PLAIN.fullmatch(value)
    if found:
        kind = _TYPE.search(found[1] + found[2])
        return not (kind and set(kind[1]) & _GONE)
    try:
        return parse_entry(value).live
    except BadEntry:
        return True


_PLAIN = re.compile(rb'%\(([^"{%()]*)(?:A %\([^"{%()]*\))?([^"{%()]*)\)')
"""An entry without anything quoted; the groups are what is beside the ACL."""

_TYPE = re.compile(rb"(?<![A-Z] )\bT ([a-z]+)\b")
_GONE = frozenset(b"drmz")


def _fields(value: bytes) -> dict[bytes, Any]:
    try:
        fields, end = dlist.parse(value)
    except dlist.ParseError as error:
        raise BadEntry(f"it cannot be read: {error}") from None
    if not isinstance(fields, dict) or value[end:].strip():
        raise BadEntry("it is no list of keys and values")
    return fields


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, bytes):
        raise BadEntry("a list where a word must be")
    return value.decode()


def _number(value: Any) -> int:
    if value is None:
        return 0
    text = _text(value)
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise BadEntry(f"{text!r} where a number must be")
    return int(text)


def _name(value: Any) -> str:
    return internal_name(value) if isinstance(value, bytes) else ""


def _acl(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, dict):
        raise BadEntry("an ACL that is no list of keys and values")
    return "".join(f"{_text(who)}\t{_text(rights)}\t" for who, rights in value.items())


def _former(value: Any) -> tuple[str, ...]:
    if not value:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadEntry("a history that is no list of names")
    return tuple(name for item in value if (name := _name(item.get(b"N"))))


_TEXT = re.compile(rb"(?:\(((?:[^ ()]+ [^ ()]* ?)*)\) ?)?(-?\d+) ?([^ ]*) ?(.*)", re.DOTALL)
_REMOTE, _RESERVED, _MOVING, _DELETED = 1, 2, 8, 32
_LETTERS = {_REMOTE: "r", _RESERVED: "z", _MOVING: "m", _DELETED: "d"}


def _parse_text(value: bytes, name: str) -> Entry:
    """The form of 2.4 and before."""
    found = _TEXT.fullmatch(value)
    if not found:
        raise BadEntry("it cannot be read")
    words = (found[1] or b"").split(b" ")
    extra = dict(zip(words[::2], words[1::2], strict=False))
    number = int(found[2])
    server, bang, partition = found[3].rpartition(b"!")
    try:
        return Entry(
            name=name,
            uniqueid=extra.get(b"uniqueid", b"").decode(),
            mbtype="e" + "".join(letter for bit, letter in _LETTERS.items() if number & bit),
            partition=partition.decode(),
            server=server.decode() if bang else "",
            acl=found[4].decode(),
        )
    except UnicodeDecodeError:
        raise BadEntry("it is not text") from None
