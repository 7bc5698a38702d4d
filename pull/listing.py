"""What there is at the server: folders with their counters, and where each of them belongs in our store.

A user's folders are below his INBOX, as in a Cyrus: whatever prefix the server shows them under is left out.
Those of other users are their own affair. Shared ones have an owner of their own, the level at the top; in
the domain of the user if he has one, so that those of one domain are never another's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.names import Owner, check_userid, in_domain, inbox_of, owner_of, split_userid
from cyrus_sync.common.newnames import check_new_name, fitting
from cyrus_sync.common.utf7 import decode, encode
from cyrus_sync.pull.answers import octets, pairs, parsed, quoted
from cyrus_sync.pull.errors import Refused
from cyrus_sync.pull.folders import Counters, Folder
from cyrus_sync.pull.memory import Remembered
from cyrus_sync.pull.session import Session

_USES = frozenset(
    {"\\all", "\\archive", "\\drafts", "\\flagged", "\\junk", "\\sent", "\\trash", "\\important"}
)
_SPELLING = {name: f"\\{name[1:].capitalize()}" for name in _USES}


_NONE = ("[NONEXISTENT]", "Mailbox doesn't exist")
"""What a server says of a mailbox that is not there, as RFC 5530 has it, and as Dovecot 2.3."""


_OBJECT = re.compile(rb"[A-Za-z0-9_-]{1,255}")
"""What identifies a folder (RFC 8474, 7)."""


@dataclass
class Listing:
    """All that one user sees. `subscribed` are names of mailboxes; `others` the prefixes, with their
    separators, below which those of other users are: `theirs`, which are pulled with their owners."""

    folders: list[Folder] = field(default_factory=list)
    theirs: list[Folder] = field(default_factory=list)
    subscribed: set[str] = field(default_factory=set)
    others: list[tuple[str, str]] = field(default_factory=list)


class _Namespaces(NamedTuple):
    """Prefixes, each with its separator."""

    personal: list[tuple[str, str]]
    others: list[tuple[str, str]]
    shared: list[tuple[str, str]]


class Lister:
    """Asks for the listing of `userid`. `trouble` hears what is left out."""

    def __init__(self, session: Session, userid: str, trouble: Callable[[str], None]) -> None:
        self._session = session
        self._userid = userid
        self._trouble = trouble
        self._taken: dict[str, str] = {}

    def look(self) -> Listing:
        """Raises `Refused`, `HungUp`, `ServerTrouble`."""
        session = self._session
        names = self._namespaces()
        lists_more = session.offers("LIST-EXTENDED")
        words = [b'""', b'"*"']
        if lists_more:
            wanted = b"SUBSCRIBED"
            wanted += b" SPECIAL-USE" if session.offers("SPECIAL-USE") else b""
            wanted += b" STATUS " + self._items() if session.offers("LIST-STATUS") else b""
            words.append(b"RETURN (" + wanted + b")")
        answers = session.command("LIST", *words)
        listing = Listing(others=names.others)
        counters = dict(self._statuses(answers.get("STATUS", [])))
        for attributes, _, raw in parsed(answers.get("LIST", [])):
            shown = self._shown(octets(raw))
            flags = {octets(one).decode("ascii", "replace").lower() for one in attributes}
            found = self._place(shown, names)
            if found is None:
                continue
            if "\\subscribed" in flags:
                listing.subscribed.add(found.name)
            if flags & {"\\noselect", "\\nonexistent"}:
                continue
            found.counters, found.identity = counters.get(shown, (None, ""))
            if found.owner.kind == "user" and found.owner.name != self._userid:
                listing.theirs.append(found)
                continue
            found.uses = frozenset(_SPELLING[one] for one in flags & _USES)
            listing.folders.append(found)
        if not lists_more:
            for _, _, raw in parsed(session.command("LSUB", b'""', b'"*"').get("LSUB", [])):
                place = self._place(self._shown(octets(raw)), names)
                if place is not None:
                    listing.subscribed.add(place.name)
        listing.folders = [one for one in listing.folders if one.counters or self._ask(one)]
        listing.folders.sort(key=lambda one: one.name)
        return listing

    def ask_again(self, folder: Folder) -> None:
        """Look at the counters of a folder as they are now; None where it cannot be looked at."""
        folder.counters = None
        self._ask(folder)

    def identify(self, folders: Iterable[Folder], known: Mapping[str, Remembered]) -> None:
        """Ask what identifies folders, where that is told of an open one only: of those that are new, and of
        those that have changed."""
        if not self._session.names_when_open:
            return
        for folder in folders:
            was = known.get(folder.shown)
            if was is not None and was.counters == folder.counters:
                folder.identity = was.identity
            elif folder.counters is not None:
                folder.identity = self._when_open(folder)

    def _when_open(self, folder: Folder) -> str:
        try:
            told = self._session.command("EXAMINE", folder.wire).get("MAILBOXID", [])
        except Refused:
            return ""  # what is wrong is said when its turn comes
        words = told[0].strip(b"()") if told and isinstance(told[0], bytes) else b""
        return f"MAILBOXID {words.decode()}" if _OBJECT.fullmatch(words) else ""

    # -- counters

    def _items(self) -> bytes:
        items = [b"MESSAGES", b"UIDNEXT", b"UIDVALIDITY"]
        items += [b"HIGHESTMODSEQ"] if self._session.condstore else []
        items += [self._session.folder_item] if self._session.folder_item else []
        return b"(" + b" ".join(items) + b")"

    def _ask(self, folder: Folder) -> bool:
        """False for a folder that is only listed: Dovecot does that where one has others below it."""
        try:
            answers = self._session.command("STATUS", folder.wire, self._items())
        except Refused as error:
            if self._is_none(folder):
                return False
            self._trouble(f"{folder.shown}: the folder cannot be looked at: {error.message}")
            return True
        for _, (counters, identity) in self._statuses(answers.get("STATUS", [])):
            folder.counters, folder.identity = counters, identity
        if folder.counters is None:
            self._trouble(f"{folder.shown}: the folder cannot be looked at: the server tells no counters")
        return True

    def _is_none(self, folder: Folder) -> bool:
        try:
            self._session.command("EXAMINE", folder.wire)
        except Refused as error:
            return any(words in error.message for words in _NONE)
        return False

    def _statuses(self, lines: Iterable[Any]) -> Iterator[tuple[str, tuple[Counters, str]]]:
        for raw, items in parsed(lines):
            told = pairs(items)
            counters = Counters(
                *(_count(told.get(name)) for name in ("UIDVALIDITY", "UIDNEXT", "MESSAGES", "HIGHESTMODSEQ"))
            )
            identity = told.get(self._session.folder_item.decode()) if self._session.folder_item else None
            if isinstance(identity, tuple):
                identity = identity[0] if identity else None
            text = octets(identity) if identity is not None else b""
            kind = self._session.folder_item.decode() if _OBJECT.fullmatch(text) else ""
            if counters.uidvalidity:
                yield self._shown(octets(raw)), (counters, f"{kind} {text.decode()}" if kind else "")

    # -- names

    def _namespaces(self) -> _Namespaces:
        """They are asked for once a session."""
        if not isinstance(self._session.prefixes, _Namespaces):
            self._session.prefixes = self._asked_namespaces()
        return self._session.prefixes

    def _asked_namespaces(self) -> _Namespaces:
        session = self._session
        if session.offers("NAMESPACE"):
            for kinds in parsed(session.command("NAMESPACE").get("NAMESPACE", [])):
                return _Namespaces(*(list(self._prefixes(kind)) for kind in kinds[:3]))
        for _, separator, _ in parsed(session.command("LIST", b'""', b'""').get("LIST", [])):
            return _Namespaces([("", _text(separator))], [], [])
        return _Namespaces([("", "/")], [], [])

    def _prefixes(self, kind: Any) -> Iterator[tuple[str, str]]:
        for prefix, separator, *_ in kind or ():
            yield self._shown(octets(prefix)), _text(separator)

    def _shown(self, raw: bytes) -> str:
        """A name in modified UTF-7, whatever the server writes."""
        if self._session.utf8:
            return encode(raw.decode("utf-8", "surrogateescape"))
        text = raw.decode("utf-8", "surrogateescape")
        return text if text.isascii() else encode(text)

    def wire(self, shown: str) -> bytes:
        """A name as a command has it."""
        if self._session.utf8:
            return quoted(decode(shown).encode("utf-8", "surrogateescape"))
        return quoted(shown.encode("ascii"))

    def _place(self, shown: str, names: _Namespaces) -> Folder | None:
        """Where a folder belongs; None for one that has no place, which is told."""
        kind, rest, separator = "personal", shown, _separator(names)
        longest = -1
        for candidate, prefixes in zip(names._fields, names, strict=True):
            for prefix, its in prefixes:
                stem = prefix.removesuffix(its) if its else prefix
                if len(prefix) > longest and (shown.startswith(prefix) or shown == stem):
                    longest, kind, separator = len(prefix), candidate, its
                    rest = shown[len(prefix) :] if shown.startswith(prefix) else ""
        if shown.upper() == "INBOX":
            kind, rest = "personal", "INBOX"
        levels = rest.split(separator) if separator and rest else [rest] if rest else []
        try:
            return self._folder(shown, kind, levels)
        except (ReplyError, ValueError) as error:
            if kind != "others":  # else it is told when its owner is pulled
                self._trouble(f"{shown}: folder left out: {error}")
            return None

    def _folder(self, shown: str, kind: str, levels: list[str]) -> Folder | None:
        domain = split_userid(self._userid)[1]
        fit = [fitting(level, domain=bool(domain)).replace(".", "^") for level in levels]
        if kind == "shared":
            if not fit:
                return None  # the top of the namespace itself
            name = in_domain(domain, ".".join(fit))
            owner = Owner("shared", in_domain(domain, fit[0]))
        elif kind == "others":
            if not levels:
                return None  # the top of the namespace itself
            whose = levels[0] if "@" in levels[0] or not domain else f"{levels[0]}@{domain}"
            below = [] if [level.upper() for level in levels[1:]] == ["INBOX"] else fit[1:]
            if whose == self._userid:
                return None  # he is shown his own elsewhere
            name = ".".join([inbox_of(check_userid(whose)), *below])
            owner = Owner("user", whose)
        else:
            inbox = inbox_of(self._userid)
            mine = [] if [level.upper() for level in levels] == ["INBOX"] else fit
            if not levels:
                return None
            name, owner = ".".join([inbox, *mine]), Owner("user", self._userid)
        check_new_name(name)
        if owner_of(name) != owner:
            raise ReplyError(f"{name} would be another's")
        other = self._taken.setdefault(name, shown)
        if other != shown:
            raise ReplyError(f"it would be the same mailbox as {other}")
        return Folder(shown, self.wire(shown), name, owner)


def _separator(names: _Namespaces) -> str:
    return names.personal[0][1] if names.personal else ""


def _text(word: Any) -> str:
    return "" if word is None else octets(word).decode("ascii", "replace")


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**63 else 0
