"""Three-way merging of flags, rights and annotations: what two sites made of one state, the *base*. Pure.

An entry that one side changed is as that side made it. One that both changed is as the side made it that
counts (`other_wins`), and what the other had made of it is *discarded*: whoever merges says so. Without a
base, whatever only one side has stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from cyrus_sync.common.identity import merged
from cyrus_sync.common.model import Annotation, Record

Key = TypeVar("Key")
Value = TypeVar("Value")


def entries(
    base: Mapping[Key, Value] | None,
    ours: Mapping[Key, Value],
    theirs: Mapping[Key, Value],
    *,
    other_wins: bool,
) -> tuple[dict[Key, Value], list[Key]]:
    """The merged entries, and the keys of which a change was discarded. `theirs` is the other side."""
    found: dict[Key, Value] = {}
    discarded = []
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        value, lost = _entry(key, base, ours, theirs, other_wins=other_wins)
        if value is not None:
            found[key] = value
        if lost:
            discarded.append(key)
    return found, discarded


def _entry(
    key: Key,
    base: Mapping[Key, Value] | None,
    ours: Mapping[Key, Value],
    theirs: Mapping[Key, Value],
    *,
    other_wins: bool,
) -> tuple[Value | None, bool]:
    one, other = ours.get(key), theirs.get(key)
    if one == other:
        return one, False
    if base is None:
        both = one is not None and other is not None
        kept = other if (other_wins and both) or one is None else one
        return kept, both
    before = base.get(key)
    if one == before:
        return other, False
    if other == before:
        return one, False
    return (other if other_wins else one), True


# -- flags


def flags(base: str | None, ours: str, theirs: str) -> str:
    """Flag by flag: a flag that one side set or removed since `base` is set or removed. There are no
    conflicts: a flag has two states. Case does not count, the order is ours. Without a base all of both."""
    had = _flag_set(base) if base is not None else set()
    mine, other = _flag_set(ours), _flag_set(theirs)
    wanted = (mine & other) | (mine - had) | (other - had)
    words = [*ours.split(), *(word for word in theirs.split() if word.lower() not in mine)]
    return " ".join(word for word in words if word.lower() in wanted)


def _flag_set(text: str) -> set[str]:
    return set(text.lower().split())


# -- rights


def rights(acl: str) -> dict[str, str]:
    """The entries of an ACL as Cyrus writes it: identifier -> rights."""
    words = acl.split("\t")
    return dict(zip(words[::2], words[1::2], strict=False))


def acl_text(found: Mapping[str, str]) -> str:
    """The ACL with these entries."""
    return "".join(f"{identifier}\t{letters}\t" for identifier, letters in found.items())


def united(one: str, other: str) -> str:
    """An ACL, and the entries that only the other one has."""
    both, _ = entries(None, rights(one), rights(other), other_wins=False)
    return acl_text(both) if set(both) != set(rights(one)) else one


# -- annotations


def by_entry(notes: Iterable[Annotation]) -> dict[tuple[str, str], Annotation]:
    """By entry and user, without modseqs, which every site counts for itself."""
    return {(note.entry, note.userid): Annotation(note.entry, note.userid, 0, note.value) for note in notes}


# -- messages


class Merged(NamedTuple):
    """A record, and the annotations of which a change was discarded: entry and user."""

    record: Record
    discarded: list[tuple[str, str]]


def records(base: Record | None, ours: Record, theirs: Record, *, other_wins: bool) -> Merged:
    """Our record of a message, and what another side made of it. An expunge wins. Without a base the one that
    counts has all."""
    if base is None or ours.expunged or theirs.expunged:
        return Merged(merged(ours, theirs, other_wins=other_wins), [])
    notes, discarded = entries(
        by_entry(base.annotations),
        by_entry(ours.annotations),
        by_entry(theirs.annotations),
        other_wins=other_wins,
    )
    kept = {(note.entry, note.userid): note for note in (*theirs.annotations, *ours.annotations)}
    same = [kept[key] if kept[key].value == note.value else note for key, note in notes.items()]
    together = ours._replace(
        flags=flags(base.flags, ours.flags, theirs.flags),
        thrid=theirs.thrid if other_wins else ours.thrid,
        annotations=tuple(sorted(same, key=lambda note: (note.entry, note.userid))),
    )
    return Merged(together, discarded)
