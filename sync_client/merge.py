"""Merging: the lines of a run file become the shortest list of work that loses none of it.

The rule it guards: every line is either covered by an item of the plan or handed to `reject` with the
reason. Lines are sets, not a history: work always looks at what the master has *now*, so duplicates fall
away and order does not matter. Collapsing and order of work follow Cyrus 3.4 and later:

* mailboxes are grouped by owner; DOUBLEMAILBOX files both names under the first one's owner, RENAME both
  names under both owners;
* USER u, UNUSER u and META u swallow u's smaller lines; mailboxes stay beside USER u;
* mailbox groups, quotas, annotations, seen, sub, unmailbox, meta, user, unuser.

Everything is whole-list dictionary work: a hundred thousand lines take a fraction of a second.

>>> merge([LogLine("MAILBOX", ("user.al",)), LogLine("APPEND", ("user.al",))]).items
[Item(kind=<Kind.MAILBOXES: 0>, owner=Owner(kind='user', name='al'), args=('user.al',))]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import field

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.errors import ReplyError
from cyrus_sync.common.names import Owner, check_mailbox_name, check_userid
from cyrus_sync.common.synclog.lines import ARGUMENTS, LogLine
from cyrus_sync.sync_client.work import Item, Kind, owner_of_name, owner_of_user

Reject = Callable[[LogLine, str], None]
"""Called with a line that cannot be worked on, and why."""

_MAILBOX_TYPES = frozenset(("MAILBOX", "APPEND", "DOUBLEMAILBOX", "RENAME"))


@dataclass(slots=True)
class WorkPlan:
    """What a run has to do. `items` stand in the order of work."""

    items: list[Item] = field(default_factory=list)
    _linked: dict[Owner, Owner] = field(default_factory=dict)

    def lane(self, owner: Owner) -> Owner:
        """Items of one lane may not overlap: an owner's own, and those of owners between whom
        mailboxes were renamed or moved."""
        while owner in self._linked:
            owner = self._linked[owner]
        return owner

    def link(self, one: Owner, other: Owner) -> None:
        one, other = self.lane(one), self.lane(other)
        if one != other:
            self._linked[other] = one

    def lines(self) -> list[tuple[str, ...]]:
        """The whole plan as action-log lines."""
        return [line for item in self.items for line in item.lines()]


def _drop(line: LogLine, reason: str) -> None:
    del line, reason


def merge(lines: Iterable[LogLine], reject: Reject = _drop) -> WorkPlan:
    """The plan for `lines`. Lines of unknown type, with a wrong number of arguments or with names that
    no store keeps are handed to `reject` instead."""
    plan = WorkPlan()
    groups: dict[Owner, dict[str, None]] = {}
    sets: dict[Kind, dict[tuple[str, ...], None]] = {kind: {} for kind in Kind}
    for line in dict.fromkeys(lines):
        kind, args = line.type, line.args
        reason = _fault(kind, args)
        if reason:
            reject(line, reason)
        elif kind in _MAILBOX_TYPES:
            _add_mailboxes(plan, groups, kind, args)
        else:
            sets[_SET_OF[kind]][args] = None
    _collapse(sets)
    plan.items = [Item(Kind.MAILBOXES, owner, tuple(names)) for owner, names in groups.items()]
    for by_name in _BY_NAME:
        plan.items += [Item(by_name, owner_of_name(args[0]), args) for args in sets[by_name]]
    for by_user in _BY_USER:
        plan.items += [Item(by_user, owner_of_user(args[0]), args) for args in sets[by_user]]
    plan.items.sort(key=_kind)
    return plan


_BY_NAME = (Kind.QUOTA, Kind.ANNOTATION, Kind.UNMAILBOX)
_BY_USER = (Kind.SEEN, Kind.SUB, Kind.META, Kind.USER, Kind.UNUSER)
_SET_OF = {
    "QUOTA": Kind.QUOTA,
    "ANNOTATION": Kind.ANNOTATION,
    "UNMAILBOX": Kind.UNMAILBOX,
    "SEEN": Kind.SEEN,
    "SUB": Kind.SUB,
    "UNSUB": Kind.SUB,
    "META": Kind.META,
    "SIEVE": Kind.META,
    "USER": Kind.USER,
    "UNUSER": Kind.UNUSER,
}


def _kind(item: Item) -> Kind:
    return item.kind


def _add_mailboxes(
    plan: WorkPlan, groups: dict[Owner, dict[str, None]], kind: str, args: tuple[str, ...]
) -> None:
    first = owner_of_name(args[0])
    if len(args) == 1:
        groups.setdefault(first, {})[args[0]] = None
        return
    second = owner_of_name(args[1])
    owners = (first, second) if kind == "RENAME" else (first,)
    for owner in owners:
        groups.setdefault(owner, {}).update(dict.fromkeys(args))
    if first != second:
        plan.link(first, second)


def _collapse(sets: dict[Kind, dict[tuple[str, ...], None]]) -> None:
    """Drop what a bigger line of the same user covers; UNUSER does all of a user who is here again."""
    unusers = {userid for (userid,) in sets[Kind.UNUSER]}
    users = {userid for (userid,) in sets[Kind.USER]}
    metas = {userid for (userid,) in sets[Kind.META]}
    for kind, covering in (
        (Kind.USER, unusers),
        (Kind.META, unusers | users),
        (Kind.SEEN, unusers | users | metas),
        (Kind.SUB, unusers | users | metas),
    ):
        for args in [args for args in sets[kind] if args[0] in covering]:
            del sets[kind][args]


# -- what cannot be worked on


def _fault(kind: str, args: tuple[str, ...]) -> str:
    """Why a line is poison, "" if it is not."""
    wanted = ARGUMENTS.get(kind)
    if wanted is None:
        return "unknown type of line"
    if len(args) != wanted:
        return f"{kind} takes {wanted} argument{'s' * (wanted > 1)}, not {len(args)}"
    try:
        if kind in _MAILBOX_TYPES or kind in ("UNMAILBOX", "QUOTA"):
            for name in args:
                _plain(name) or check_mailbox_name(name)
        elif kind == "ANNOTATION":
            args == ("",) or _plain(args[0]) or check_mailbox_name(args[0])
        else:
            check_userid(args[0])
            if kind in ("SUB", "UNSUB"):
                _plain(args[1]) or check_mailbox_name(args[1])
    except ReplyError as error:
        return str(error)
    if kind == "SEEN" and not (args[1].isascii() and args[1].isprintable() and 0 < len(args[1]) <= 128):
        return "not the uniqueid of a mailbox"
    return ""


def _plain(name: str) -> bool:
    """True for the ordinary names, by a few fast tests; the full check decides on the others."""
    return (
        0 < len(name) <= 490
        and name.isascii()
        and name.isprintable()
        and "/" not in name
        and ".." not in name
        and "!" not in name
        and name[0] != "."
        and name[-1] != "."
    )
