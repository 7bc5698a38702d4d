"""One mailbox record by record: both sides go by once, in order of UID, in batches."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from cyrus_sync.common.identity import annotation_values, differs, same_flags
from cyrus_sync.common.model import Record
from cyrus_sync.sync_client.comparing.findings import (
    CHANGED,
    ONLY_HERE,
    ONLY_THERE,
    OTHER,
    WITHHELD,
    MailboxFindings,
    Message,
)

_PLAIN = ("modseq", "last_updated", "expunged", "internaldate", "savedate", "createdmodseq", "thrid")
_MAY_BE_UNKNOWN = ("savedate", "createdmodseq", "thrid")
"""0 at a replica that does not keep it."""


def compare_records(
    ours: Iterable[Sequence[Record]],
    theirs: Iterable[Sequence[Record]],
    found: MailboxFindings,
    withheld: Collection[int] = (),
) -> int:
    """Enter what differs into `found`; how many records were compared. `withheld`: UIDs of messages that the
    replica is known to lack because they cannot be read here.

    Expunged records need not exist on both sides: each cleans up by itself.
    """
    count = 0
    for our, their in _side_by_side(ours, theirs):
        count += 1
        if our is None:
            if their is not None and not their.expunged:
                found.add(ONLY_THERE, Message(their.uid, their.guid))
        elif their is None:
            if not our.expunged:
                kind = WITHHELD if our.uid in withheld else ONLY_HERE
                found.add(kind, Message(our.uid, our.guid))
        elif our.expunged and their.expunged:
            continue
        elif our.guid != their.guid:
            found.add(OTHER, Message(our.uid, our.guid, {"guid_of_both": (our.guid.hex(), their.guid.hex())}))
        elif differs(our, their) and (detail := _detail(our, their)):
            found.add(CHANGED, Message(our.uid, our.guid, detail))
    return count


def _side_by_side(
    ours: Iterable[Sequence[Record]], theirs: Iterable[Sequence[Record]]
) -> Iterator[tuple[Record | None, Record | None]]:
    """Records of one UID together."""
    left, right = _singly(ours), _singly(theirs)
    our, their = next(left, None), next(right, None)
    while our is not None or their is not None:
        if their is None or (our is not None and our.uid < their.uid):
            yield our, None
            our = next(left, None)
        elif our is None or their.uid < our.uid:
            yield None, their
            their = next(right, None)
        else:
            yield our, their
            our, their = next(left, None), next(right, None)


def _singly(source: Iterable[Sequence[Record]]) -> Iterator[Record]:
    for batch in source:
        yield from batch


def _detail(our: Record, their: Record) -> dict[str, tuple[Any, Any]]:
    """The fields that differ: ours, theirs."""
    found: dict[str, tuple[Any, Any]] = {}
    if not same_flags(our.flags, their.flags):
        found["flags"] = our.flags, their.flags
    for name in _PLAIN:
        here, there = getattr(our, name), getattr(their, name)
        if here != there and not (name in _MAY_BE_UNKNOWN and not there):
            found[name] = here, there
    here, there = annotation_values(our.annotations), annotation_values(their.annotations)
    if here != there:
        found["annotations"] = _shown(here), _shown(there)
    return found


def _shown(values: list[tuple[str, str, bytes]]) -> list[list[str]]:
    return [[entry, userid, value.decode("utf-8", "backslashreplace")] for entry, userid, value in values]
