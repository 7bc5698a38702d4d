"""What a comparison found: values that become lines for a person, and JSON for a program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, fields
from types import MappingProxyType
from typing import Any, NamedTuple

from cyrus_sync.common.classes import dataclass
from cyrus_sync.common.names import Owner

MOST_SHOWN = 1000
"""Messages of one kind in one mailbox that are named; of more, the number is told."""

BOTH, HERE, THERE = "both", "here", "there"
"""Which side has a mailbox."""

ONLY_HERE, ONLY_THERE, OTHER, CHANGED = "only_here", "only_there", "other_message", "changed"
WITHHELD, DAMAGED_HERE, DAMAGED_THERE = "withheld", "damaged_here", "damaged_there"

_LASTING = {WITHHELD, DAMAGED_HERE, DAMAGED_THERE}
_SAID = {
    ONLY_HERE: "only here",
    ONLY_THERE: "only at the replica",
    OTHER: "another message at the replica",
    CHANGED: "not the same at the replica",
    WITHHELD: "not at the replica, as it cannot be read here",
    DAMAGED_HERE: "what is stored here is missing or damaged",
    DAMAGED_THERE: "what is stored at the replica is missing or damaged",
}


class Message(NamedTuple):
    """One message. `detail` is what differs, by field: ours, theirs."""

    uid: int
    guid: bytes
    detail: Mapping[str, tuple[Any, Any]] = MappingProxyType({})


class Messages:
    """Messages of one kind in one mailbox: all are counted, the first `MOST_SHOWN` are kept."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: list[Message] = []

    def add(self, message: Message) -> None:
        self.count += 1
        if len(self.shown) < MOST_SHOWN:
            self.shown.append(message)

    def as_json(self) -> dict[str, Any]:
        return {"count": self.count, "messages": [_message_json(one) for one in self.shown]}


def _message_json(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {"uid": message.uid, "guid": message.guid.hex()}
    for name, (here, there) in message.detail.items():
        found[name] = {"here": here, "there": there}
    return found


@dataclass(slots=True)
class MailboxFindings:
    """What differs in one mailbox. `name` is as an administrator writes it."""

    name: str
    uniqueid: str
    where: str = BOTH
    fields: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """By field of `MailboxState` (or ``name``, ``partition``): ours, theirs."""
    messages: dict[str, Messages] = field(default_factory=dict)
    note: str = ""

    def add(self, kind: str, message: Message) -> None:
        self.messages.setdefault(kind, Messages()).add(message)

    def shown(self, kind: str) -> list[Message]:
        return self.messages[kind].shown if kind in self.messages else []

    def count(self, kind: str) -> int:
        return self.messages[kind].count if kind in self.messages else 0

    @property
    def equal(self) -> bool:
        return self.where == BOTH and not self.fields and not self.messages

    @property
    def may_pass(self) -> bool:
        """Whether something differs that is perhaps on its way."""
        return self.where != BOTH or bool(self.fields) or bool(self.messages.keys() - _LASTING)

    def as_json(self) -> dict[str, Any]:
        found: dict[str, Any] = {"mailbox": self.name, "uniqueid": self.uniqueid, "where": self.where}
        if self.note:
            found["note"] = self.note
        if self.fields:
            found["fields"] = {n: {"here": a, "there": b} for n, (a, b) in self.fields.items()}
        return found | {kind: messages.as_json() for kind, messages in self.messages.items()}


class Difference(NamedTuple):
    """Something of an owner that is no mailbox: `what` (quota, subscription, seen, script, annotation),
    which, and in what respect."""

    what: str
    name: str
    detail: str

    def __str__(self) -> str:
        return f"{self.what} {self.name} {self.detail}"


class Advice(NamedTuple):
    """What to type. `where` is here or there; `otherwise`: instead of the one before."""

    where: str
    command: str
    effect: str
    otherwise: bool = False

    def __str__(self) -> str:
        place = "here" if self.where == HERE else "on the replica"
        return f"{'or ' if self.otherwise else ''}type {place}: {self.command}   ({self.effect})"


@dataclass(slots=True)
class Counts:
    """What was compared. `messages` and `octets` were read on both sides."""

    owners: int = 0
    mailboxes: int = 0
    records: int = 0
    messages: int = 0
    octets: int = 0

    def add(self, other: Counts) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def as_json(self) -> dict[str, int]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def of_json(cls, found: dict[str, int]) -> Counts:
        return cls(**{each.name: int(found[each.name]) for each in fields(cls)})


@dataclass(slots=True)
class OwnerFindings:
    """What differs with one owner."""

    owner: Owner
    name: str
    """As an administrator writes it."""
    mailboxes: list[MailboxFindings] = field(default_factory=list)
    others: list[Difference] = field(default_factory=list)
    advice: list[Advice] = field(default_factory=list)
    counts: Counts = field(default_factory=lambda: Counts(owners=1))

    @property
    def equal(self) -> bool:
        return not self.others and all(box.equal for box in self.mailboxes)

    @property
    def may_pass(self) -> bool:
        """Whether something differs that is perhaps on its way."""
        return bool(self.others) or any(box.may_pass for box in self.mailboxes)

    def as_json(self) -> dict[str, Any]:
        return {
            "owner": self.name,
            "mailboxes": [box.as_json() for box in self.mailboxes if not box.equal],
            "others": [one._asdict() for one in self.others],
            "type": [one._asdict() for one in self.advice],
        }


def name_of(owner: Owner) -> str:
    """``alice``, ``shared:news``: by what an owner is known in the file of progress."""
    return owner.name if owner.kind == "user" else f"{owner.kind}:{owner.name}"


# -- for a person, from JSON: what an earlier run has found reads as what this one finds


def lines_of(found: dict[str, Any]) -> Iterator[str]:
    """What differs with an owner, a line each."""
    yield f"{found['owner']} differs:"
    for box in found["mailboxes"]:
        yield f"  {_heading(box)}"
        for name, values in box.get("fields", {}).items():
            yield f"    {name}: {values['here']!r} here, {values['there']!r} at the replica"
        for kind, said in _SAID.items():
            if kind in box:
                yield from _message_lines(said, box[kind])
    for one in found["others"]:
        yield f"  {Difference(**one)}"
    for one in found["type"]:
        yield f"  {Advice(**one)}"


def _heading(box: dict[str, Any]) -> str:
    where = {BOTH: "", HERE: " is only here", THERE: " is only at the replica"}[box["where"]]
    note = f": {box['note']}" if box.get("note") else ""
    return f"{box['mailbox']} ({box['uniqueid']}){where}{note}"


_LINES = 10


def _message_lines(said: str, found: dict[str, Any]) -> Iterator[str]:
    shown = found["messages"]
    uids = uid_set(one["uid"] for one in shown)
    more = f" and {found['count'] - len(shown)} more" if found["count"] > len(shown) else ""
    count = found["count"]
    yield f"    {said}: {count} message{'s' if count != 1 else ''}, uid {uids}{more}"
    for one in shown[:_LINES]:
        rest = {name: value for name, value in one.items() if isinstance(value, dict)}
        what = "; ".join(f"{n} {v['here']!r} here, {v['there']!r} there" for n, v in rest.items())
        yield f"      uid {one['uid']} {one['guid']}{': ' + what if what else ''}"
    if len(shown) > _LINES:
        yield "      …"


def uid_set(uids: Iterable[int]) -> str:
    """``1:5,9`` of UIDs in ascending order."""
    parts: list[list[int]] = []
    for uid in uids:
        if parts and parts[-1][1] == uid - 1:
            parts[-1][1] = uid
        else:
            parts.append([uid, uid])
    return ",".join(f"{a}:{b}" if a != b else str(a) for a, b in parts)
