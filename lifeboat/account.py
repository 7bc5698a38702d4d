"""What one user can see: his mailboxes, those of others that he may read, and his subscriptions.

His own are listed whole. Of other users those are listed that he has subscribed to or has read before: the
ACLs of a hundred thousand users are not walked for a list. Every mailbox that he may read can be opened by
its name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from cyrus_sync.common.acl import LOOKUP, READ, rights
from cyrus_sync.common.errors import CyrusSyncError
from cyrus_sync.common.model import MailboxState, Seen
from cyrus_sync.common.names import Owner, login_of, owner_of
from cyrus_sync.common.stores.mailstore import MailStore
from cyrus_sync.lifeboat.names import INBOX, UserNames

_MAIL = frozenset("eimn")
"""Letters of mailbox types that IMAP shows; calendars, contacts and scripts are none of its affair."""

_SPECIAL_USE = "/specialuse"


@dataclass(frozen=True, slots=True)
class Visible:
    """A mailbox as the user sees it. `selectable`: whether he may open it."""

    shown: str
    owner: Owner
    state: MailboxState
    selectable: bool

    def at(self, state: MailboxState) -> Visible:
        """The same mailbox at another moment."""
        return replace(self, state=state)

    @property
    def uses(self) -> list[str]:
        """What it is for (RFC 6154): the values of /specialuse."""
        return [
            word
            for note in self.state.annotations
            if note.entry == _SPECIAL_USE
            for word in note.value.decode("ascii", "ignore").split()
            if word.startswith("\\")
        ]


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of LIST or LSUB: the name, and its attributes."""

    shown: str
    attributes: tuple[str, ...]


class Account:
    """One user's view of a store. Every method blocks."""

    def __init__(
        self, store: MailStore, names: UserNames, shared_owners: Callable[[], Iterable[Owner]]
    ) -> None:
        self.store = store
        self.names = names
        self.owner = Owner("user", names.userid)
        self._login = login_of(names.userid)
        self._shared_owners = shared_owners

    def find(self, shown: str) -> Visible | None:
        """The mailbox with this name, None if there is none that the user may know of. `BadName`."""
        name = self.names.internal(shown)
        owner = owner_of(name)
        with self.store.read(owner) as reader:
            state = reader.mailbox(name)
            return self._seen(owner, state) if state is not None else None

    def _seen(self, owner: Owner, state: MailboxState) -> Visible | None:
        shown = self.names.shown(state.name)
        if shown is None or not set(state.mbtype) <= _MAIL:
            return None
        mine = owner == self.owner
        if state.intermediate:
            return Visible(shown, owner, state, False) if mine else None
        has = rights(state.acl, self._login, owner=mine)
        return Visible(shown, owner, state, READ in has) if LOOKUP in has else None

    def mailboxes(self) -> list[Visible]:
        """All that LIST knows, in the order of their names, INBOX first."""
        found: list[Visible] = []
        for owner in self._owners():
            try:
                with self.store.read(owner) as reader:
                    states = reader.mailboxes()
            except CyrusSyncError:
                if owner == self.owner:
                    raise
                continue  # another's trouble is not this user's
            found += (seen for state in states if (seen := self._seen(owner, state)) is not None)
        return sorted(found, key=lambda seen: (seen.shown != INBOX, seen.shown))

    def _owners(self) -> Iterator[Owner]:
        with self.store.read(self.owner) as reader:
            meta = reader.meta(with_sieve=False)
        found = dict.fromkeys([self.owner])
        found |= dict.fromkeys(owner_of(name) for name in meta.subscriptions)
        for seen in meta.seen:
            owner = self.store.owner_of_uniqueid(seen.uniqueid)
            if owner is not None:
                found[owner] = None
        found |= dict.fromkeys(self._shared_owners())
        return iter(found)

    def subscriptions(self) -> list[str]:
        """The names that the user has subscribed to, whether they exist or not."""
        with self.store.read(self.owner) as reader:
            names = reader.meta(with_sieve=False).subscriptions
        return sorted(
            (shown for name in names if (shown := self.names.shown(name)) is not None),
            key=lambda shown: (shown != INBOX, shown),
        )

    # -- LIST and LSUB

    def listed(self, pattern: str) -> list[Listed]:
        """What LIST answers."""
        seen = self.mailboxes()
        parents = {parent for one in seen for parent in _above(one.shown, self.names.separator)}
        lines = {
            one.shown: Listed(one.shown, _attributes(one, has_children=one.shown in parents)) for one in seen
        }
        for parent in parents:
            lines.setdefault(parent, Listed(parent, ("\\Noselect", "\\HasChildren")))
        return _matching(lines.values(), pattern, self.names.separator, {one.shown for one in seen})

    def subscribed(self, pattern: str) -> list[Listed]:
        """What LSUB answers."""
        names = self.subscriptions()
        parents = {parent for name in names for parent in _above(name, self.names.separator)}
        lines = {name: Listed(name, ()) for name in names}
        for parent in parents:
            lines.setdefault(parent, Listed(parent, ("\\Noselect", "\\HasChildren")))
        return _matching(lines.values(), pattern, self.names.separator, set(names))

    # -- flags that are each user's own

    def seen_of(self, mailbox: Visible) -> Seen | None:
        """What this user has seen in a mailbox where that is his own affair. None where ``\\Seen`` is a flag
        like others: in his own mailboxes, and where all share it."""
        if mailbox.owner == self.owner or "S" in mailbox.state.options:
            return None
        with self.store.read(self.owner) as own:
            return own.seen(mailbox.state.uniqueid) or Seen(mailbox.state.uniqueid, 0, 0, 0, "")


def _above(shown: str, separator: str) -> Iterator[str]:
    levels = shown.split(separator)
    for depth in range(1, len(levels)):
        yield separator.join(levels[:depth])


def _attributes(seen: Visible, *, has_children: bool) -> tuple[str, ...]:
    found = ["\\HasChildren" if has_children else "\\HasNoChildren"]
    if not seen.selectable:
        found.insert(0, "\\Noselect")
    return (*found, *seen.uses)


def _matching(lines: Iterable[Listed], pattern: str, separator: str, real: set[str]) -> list[Listed]:
    """Those that match. A level without mailbox is only told where the pattern ends at it (with %)."""
    match = matcher(pattern, separator)
    found = [one for one in lines if match(one.shown) and (one.shown in real or pattern.endswith("%"))]
    return sorted(found, key=lambda one: (one.shown != INBOX, one.shown))


def matcher(pattern: str, separator: str) -> Callable[[str], bool]:
    """Whether a name fits: ``*`` is anything, ``%`` anything on one level, INBOX is so in any case.

    >>> [matcher(p, "/")("Work/2026") for p in ("*", "%", "Work/%", "W*6")]
    [True, False, True, True]
    """
    if pattern.upper() == INBOX:
        pattern = INBOX
    elif pattern.upper().startswith(INBOX + separator):
        pattern = INBOX + pattern[len(INBOX) :]
    return lambda shown: _fits(pattern, shown, separator)


def _fits(pattern: str, name: str, separator: str) -> bool:
    """All places of the pattern at which one may be are followed at once: no pattern takes long."""
    places = _onward(pattern, {0})
    for letter in name:
        held = {at for at in places if at < len(pattern) and _holds(pattern[at], letter, separator)}
        moved = {at + 1 for at in places if at < len(pattern) and pattern[at] == letter}
        places = _onward(pattern, held | moved)
        if not places:
            return False
    return len(pattern) in places


def _holds(wildcard: str, letter: str, separator: str) -> bool:
    return wildcard == "*" or (wildcard == "%" and letter != separator)


def _onward(pattern: str, places: set[int]) -> set[int]:
    """These places, and those behind wildcards, which may stand for nothing."""
    found = set(places)
    for at in places:
        while at < len(pattern) and pattern[at] in "*%":
            at += 1
            found.add(at)
    return found
