"""The head of a packet: who sends what to whom. YAML behind one line of its own, readable with `head`.

The rule guarded here: **a header that is read is a header that could have been written.** Every field is
checked for its type and its range, by the constructor, for both directions. Keys that are not known are
passed over: a later release may add some without changing the number of the format.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

from cyrus_sync.multisite.packet.errors import PacketDamaged
from cyrus_sync.multisite.packet.keys import KEY_BYTES, decode64, encode64
from cyrus_sync.multisite.packet.plain_yaml import load, quote
from cyrus_sync.multisite.packet.restores import Restore, read_restore
from cyrus_sync.multisite.packet.values import (
    MAX_ID,
    MAX_OPERATION,
    NUMBER,
    check_count,
    check_ids,
    check_links,
    check_number,
    guid_of,
    list_of,
    mapping_of,
    number_of,
    text_of,
)

UPDATE, CREATION = "update", "creation"
MOST_TARGETS = 1000
MOST_REPLICAS = 10_000
MOST_WANTED = 50_000
LONGEST_NAME = 255
LONGEST_COMMENT = 65536
LONGEST_KEYS = 32768
SEALED_BYTES = KEY_BYTES + 48
"""A content key in a sealed box."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_YEAR_10000 = 253402300800
_TEXTS = (
    *("family_name", "sender_name", "comment", "kind", "family", "sender", "logical"),
    *("keys", "invitation"),
)


class Target(NamedTuple):
    """A replica that the packet is for; `incarnation` as the sender knows it."""

    id: str
    name: str
    incarnation: int = 0


class Question(NamedTuple):
    """The messages (GUIDs, 20 bytes) that a replica lacked at a time, in Unix seconds of its own clock."""

    time: int
    guids: tuple[bytes, ...]


class Range(NamedTuple):
    """Operations of one origin, both ends included. With `end` just before `start` it holds none, and says
    that those before `start` are needed."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a physical packet says of itself. Refuses bad values with ValueError.

    Replicas are known by their ids (letters, digits, ``-``, ``_``); names are for people. `ranges` is what
    is in *this* physical packet, and what of each origin it builds on; `row` is the last operation of each
    origin that the sender has. `logical` is the same for all physical packets of one export, `number` counts
    them from 1. Times are Unix seconds. `wanted` are GUIDs (20 bytes) of messages that the sender lacks.
    `sealed` is the content key for each target, encrypted (80 bytes), empty for a packet in the clear; a
    writer fills it in. `keys` are all keys that the sender has had (`multisite.packet.succession`), "" where
    it has none. `invitation` stands in creation packets only (`multisite.packet.invitation`).
    """

    kind: str
    family: str
    family_name: str
    sender: str
    sender_name: str
    sender_incarnation: int
    targets: tuple[Target, ...]
    logical: str
    number: int
    last: bool
    created: int
    ranges: Mapping[str, Range] = field(default_factory=dict)
    row: Mapping[str, int] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    """Names of the replicas in `ranges` and `row`, as far as the sender knows them."""
    comment: str = ""
    wanted: tuple[bytes, ...] = ()
    sealed: Mapping[str, bytes] = field(default_factory=dict)
    keys: str = ""
    invitation: str = ""
    heads: Mapping[str, str] = field(default_factory=dict)
    """Origin -> the link of its last operation in `row` (`multisite.oplog.forks`)."""
    trail: Mapping[str, str] = field(default_factory=dict)
    """Number -> link of operations of a sender that was restored from a backup."""
    taken: Mapping[str, int] = field(default_factory=dict)
    """Link -> number of operations that such a sender has said before it went back, and has got back."""
    forked: Mapping[str, int] = field(default_factory=dict)
    """Origin -> up to which number its operations may differ from site to site."""
    trimmed: Mapping[str, int] = field(default_factory=dict)
    """Origin -> up to which number the sender has trimmed its operations (`multisite.scrubbing`)."""
    heard: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """What other replicas have proved to have, as far as the sender has heard. By id: the incarnation, then
    the last operation of each origin of `row`, these in order of their ids."""
    asking: Mapping[str, Question] = field(default_factory=dict)
    """What other replicas lack, as far as the sender has heard and has not answered it
    (`multisite.relaying`)."""
    restores: Mapping[str, Restore] = field(default_factory=dict)
    """Other replicas that are being restored, as far as the sender has heard (`multisite.passing_on`)."""
    given_up: tuple[bytes, ...] = ()
    """GUIDs of messages that nobody has any more, and without which everybody goes on."""
    snapshot: bool = False
    """Whether a creation packet holds state and recent operations; else it holds all operations."""

    def __post_init__(self) -> None:
        if self.kind not in (UPDATE, CREATION):
            raise ValueError("kind is neither update nor creation")
        check_ids("family, sender, logical", self.family, self.sender, self.logical)
        _check_names("family_name, sender_name", self.family_name, self.sender_name)
        check_number("sender_incarnation", self.sender_incarnation)
        check_number("number", self.number, low=1)
        check_number("created", self.created, high=_YEAR_10000 - 1)
        if type(self.last) is not bool:
            raise ValueError("last is neither true nor false")
        if type(self.snapshot) is not bool or (self.snapshot and self.kind != CREATION):
            raise ValueError("snapshot is neither true nor false, or stands in an update packet")
        check_count("targets", self.targets, MOST_TARGETS)
        for target in self.targets:
            check_ids("targets", target.id)
            _check_names("targets", target.name)
            check_number("targets", target.incarnation)
        check_count("ranges", self.ranges, MOST_REPLICAS)
        for origin, (start, end) in self.ranges.items():
            check_ids("ranges", origin)
            check_number("ranges", start, low=1)
            check_number("ranges", end, low=start - 1, high=MAX_OPERATION)
        check_count("row", self.row, MOST_REPLICAS)
        check_ids("row", *self.row)
        for last in self.row.values():
            check_number("row", last, high=MAX_OPERATION)
        check_count("names", self.names, MOST_REPLICAS)
        check_ids("names", *self.names)
        _check_names("names", *self.names.values())
        if not isinstance(self.comment, str) or _SURROGATE.search(self.comment):
            raise ValueError("comment is not text")
        if len(self.comment) > LONGEST_COMMENT:
            raise ValueError(f"comment is longer than {LONGEST_COMMENT} characters")
        check_count("wanted", self.wanted, MOST_WANTED)
        if any(type(guid) is not bytes or len(guid) != 20 for guid in self.wanted):
            raise ValueError("wanted has something that is no GUID")
        check_count("given_up", self.given_up, MOST_WANTED)
        if any(type(guid) is not bytes or len(guid) != 20 for guid in self.given_up):
            raise ValueError("given_up has something that is no GUID")
        check_count("sealed", self.sealed, MOST_TARGETS)
        check_ids("sealed", *self.sealed)
        if any(len(box) != SEALED_BYTES for box in self.sealed.values()):
            raise ValueError("sealed has something that is no sealed key")
        for name, links in (("heads", self.heads), ("trail", self.trail)):
            check_count(name, links, MOST_REPLICAS)
            check_ids(name, *links)
            check_links(name, *links.values())
        check_count("taken", self.taken, MOST_REPLICAS)
        check_links("taken", *self.taken)
        for number in self.taken.values():
            check_number("taken", number, low=1, high=MAX_OPERATION)
        if not all(NUMBER.fullmatch(number) for number in self.trail):
            raise ValueError("trail has something that is no number")
        check_count("forked", self.forked, MOST_REPLICAS)
        check_ids("forked", *self.forked)
        for last in self.forked.values():
            check_number("forked", last, high=MAX_OPERATION)
        check_count("trimmed", self.trimmed, MOST_REPLICAS)
        check_ids("trimmed", *self.trimmed)
        for last in self.trimmed.values():
            check_number("trimmed", last, high=MAX_OPERATION)
        check_count("heard", self.heard, MOST_REPLICAS)
        check_ids("heard", *self.heard)
        for numbers in self.heard.values():
            if len(numbers) != len(self.row) + 1:
                raise ValueError("heard does not have a number for each origin in row")
            for number in numbers:
                check_number("heard", number, high=MAX_OPERATION)
        check_count("asking", self.asking, MOST_REPLICAS)
        check_ids("asking", *self.asking)
        check_count("asking", [guid for _, guids in self.asking.values() for guid in guids], MOST_WANTED)
        for when, guids in self.asking.values():
            check_number("asking", when, high=_YEAR_10000 - 1)
            if any(type(guid) is not bytes or len(guid) != 20 for guid in guids):
                raise ValueError("asking has something that is no GUID")
        check_count("restores", self.restores, MOST_REPLICAS)
        check_ids("restores", *self.restores)
        for restore in self.restores.values():
            restore.check(MOST_REPLICAS)
        for name, text in (("keys", self.keys), ("invitation", self.invitation)):
            if not isinstance(text, str) or len(text) > LONGEST_KEYS or _CONTROL.search(text):
                raise ValueError(f"{name}: no controls, at most {LONGEST_KEYS} characters")

    # -- the text

    def text(self) -> str:
        """The fields as YAML, one ``key: value`` a line. No line of it is ``---``."""
        return "".join(line + "\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"kind: {self.kind}"
        yield f"family: {quote(self.family)}"
        yield f"family_name: {quote(self.family_name)}"
        yield f"sender: {quote(self.sender)}"
        yield f"sender_name: {quote(self.sender_name)}"
        yield f"sender_incarnation: {self.sender_incarnation}"
        yield "targets:" if self.targets else "targets: []"
        for target in self.targets:
            words = f"id: {quote(target.id)}, name: {quote(target.name)}, incarnation: {target.incarnation}"
            yield f"  - {{{words}}}"
        yield from _mapping("ranges", {key: f"[{one.start}, {one.end}]" for key, one in self.ranges.items()})
        yield from _mapping("row", {key: str(last) for key, last in self.row.items()})
        yield from _mapping("names", {key: quote(name) for key, name in self.names.items()})
        yield f"logical: {quote(self.logical)}"
        yield f"number: {self.number}"
        yield f"last: {'true' if self.last else 'false'}"
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.created))
        yield f"created: {self.created}  # {date} UTC"
        yield f"comment: {quote(self.comment)}"
        yield "wanted:" if self.wanted else "wanted: []"
        yield from (f'  - "{guid.hex()}"' for guid in self.wanted)
        if self.sealed:
            yield from _mapping("sealed", {key: quote(encode64(box)) for key, box in self.sealed.items()})
        if self.keys:
            yield f"keys: {quote(self.keys)}"
        if self.invitation:
            yield f"invitation: {quote(self.invitation)}"
        for name, links in (("heads", self.heads), ("trail", self.trail)):
            if links:
                yield from _mapping(name, {key: quote(link) for key, link in links.items()})
        if self.taken:
            yield from _mapping("taken", {link: str(number) for link, number in self.taken.items()})
        if self.forked:
            yield from _mapping("forked", {key: str(last) for key, last in self.forked.items()})
        if self.trimmed:
            yield from _mapping("trimmed", {key: str(last) for key, last in self.trimmed.items()})
        if self.heard:
            lists = {key: f"[{', '.join(map(str, n))}]" for key, n in self.heard.items()}
            yield from _mapping("heard", lists)
        if self.asking:
            asked = {key: [str(one.time), *(g.hex() for g in one.guids)] for key, one in self.asking.items()}
            yield from _mapping("asking", {key: f"[{', '.join(words)}]" for key, words in asked.items()})
        if self.restores:
            yield from _mapping("restores", {key: one.text() for key, one in self.restores.items()})
        if self.given_up:
            yield "given_up:"
            yield from (f'  - "{guid.hex()}"' for guid in self.given_up)
        if self.snapshot:
            yield "snapshot: true"

    @classmethod
    def parse(cls, text: str) -> Header:
        """Read the YAML. Raises `PacketDamaged` for anything but a good header."""
        try:
            return cls(**_values(load(text)))
        except ValueError as error:
            raise PacketDamaged(f"the header of the packet cannot be read: {str(error)[:300]}") from None

    def widest(self) -> Header:
        """The same with every number at its largest: no header with these keys and texts is longer."""
        return replace(
            self,
            sender_incarnation=MAX_ID,
            targets=tuple(target._replace(incarnation=MAX_ID) for target in self.targets),
            ranges=dict.fromkeys(self.ranges, Range(MAX_ID, MAX_OPERATION)),
            row=dict.fromkeys(self.row, MAX_OPERATION),
            taken=dict.fromkeys(self.taken, MAX_OPERATION),
            forked=dict.fromkeys(self.forked, MAX_OPERATION),
            trimmed=dict.fromkeys(self.trimmed, MAX_OPERATION),
            heard=dict.fromkeys(self.heard, (MAX_OPERATION,) * (len(self.row) + 1)),
            number=MAX_ID,
            last=False,
            created=_YEAR_10000 - 1,
        )


def heard_in(header: Header) -> dict[str, tuple[int, dict[str, int]]]:
    """Replica -> its incarnation and its row, as the sender has heard."""
    origins = sorted(header.row)
    return {
        replica: (incarnation, dict(zip(origins, numbers, strict=True)))
        for replica, (incarnation, *numbers) in header.heard.items()
    }


def _values(found: Any) -> dict[str, Any]:
    """Arguments for `Header` out of what YAML holds, all scalars of which are text. Raises ValueError."""
    known = {one.name: mapping_of(found, "header").get(one.name) for one in fields(Header)}
    values = {name: value for name, value in known.items() if value is not None}
    missing = {"kind", "family", "sender", "targets", "logical", "number", "last", "created"} - values.keys()
    if missing:
        raise ValueError(f"{', '.join(sorted(missing))} missing")
    for name in _TEXTS:
        values[name] = text_of(values.get(name, ""), name)
    for name in ("sender_incarnation", "number", "created"):
        values[name] = number_of(values.get(name, "0"), name)
    for name in ("last", "snapshot"):
        word = text_of(values.get(name, "false"), name)
        values[name] = {"true": True, "false": False}.get(word)
    values["targets"] = tuple(_target(one) for one in list_of(values["targets"], "targets"))
    for name, read in _MAPPINGS.items():
        pairs = mapping_of(values.get(name, {}), name)
        values[name] = {key: read(value, name) for key, value in pairs.items()}
    for name in ("wanted", "given_up"):
        values[name] = tuple(guid_of(one, name) for one in list_of(values.get(name, []), name))
    return values


def _target(value: Any) -> Target:
    found = mapping_of(value, "targets")
    return Target(
        text_of(found.get("id"), "targets"),
        text_of(found.get("name"), "targets"),
        number_of(found.get("incarnation"), "targets"),
    )


def _range_of(value: Any, name: str) -> Range:
    both = list_of(value, name)
    if len(both) != 2:
        raise ValueError(f"{name} has something else than a start and an end")
    return Range(number_of(both[0], name), number_of(both[1], name))


def _sealed_of(value: Any, name: str) -> bytes:
    return decode64(text_of(value, name), SEALED_BYTES)


def _question_of(value: Any, name: str) -> Question:
    when, *guids = list_of(value, name) or [""]
    return Question(number_of(when, name), tuple(guid_of(guid, name) for guid in guids))


def _numbers_of(value: Any, name: str) -> tuple[int, ...]:
    return tuple(number_of(one, name) for one in list_of(value, name))


_MAPPINGS: Mapping[str, Callable[[Any, str], Any]] = {
    "ranges": _range_of,
    "row": number_of,
    "names": text_of,
    "sealed": _sealed_of,
    "heads": text_of,
    "trail": text_of,
    "taken": number_of,
    "forked": number_of,
    "trimmed": number_of,
    "heard": _numbers_of,
    "asking": _question_of,
    "restores": read_restore,
}
"""How the values of each mapping are read."""


def _mapping(name: str, pairs: Mapping[str, str]) -> Iterator[str]:
    yield f"{name}:" if pairs else f"{name}: {{}}"
    yield from (f"  {quote(key)}: {value}" for key, value in pairs.items())


# -- checks


def _check_names(name: str, *values: Any) -> None:
    for value in values:
        if not isinstance(value, str) or len(value) > LONGEST_NAME or _CONTROL.search(value):
            raise ValueError(f"{name}: something is not a name (no controls, at most {LONGEST_NAME})")
