"""Sequence sets (RFC 3501, 9): ``1:5,7,*``, of message numbers or of UIDs.

>>> [list(run) for run in positions(parse_set(b"2:3,*"), [11, 12, 15, 19])]
[[1, 2], [3]]
>>> [list(run) for run in uid_positions(parse_set(b"12:16,99:*"), [11, 12, 15, 19])]
[[1, 2], [3]]
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence

from cyrus_sync.lifeboat.grammar import BadCommand

HIGHEST = 2**32 - 1
_LAST = 0
"""``*`` in a range: no number is 0."""

Ranges = Sequence[tuple[int, int]]


def parse_set(text: bytes) -> Ranges:
    """Pairs of bounds as they were said; `BadCommand` for what is no set."""
    return [_range(part) for part in text.split(b",")]


def _range(part: bytes) -> tuple[int, int]:
    low, colon, high = part.partition(b":")
    first = _number(low)
    return first, _number(high) if colon else first


def _number(text: bytes) -> int:
    if text == b"*":
        return _LAST
    if not text.isdigit() or not 0 < int(text) <= HIGHEST:
        raise BadCommand("Invalid sequence set")
    return int(text)


def _ordered(ranges: Ranges, last: int) -> Iterable[tuple[int, int]]:
    for low, high in ranges:
        first, second = low or last, high or last
        yield (first, second) if first <= second else (second, first)


def positions(ranges: Ranges, uids: Sequence[int]) -> list[range]:
    """Indexes into `uids` of message numbers, in runs that ascend and do not overlap. A number that no
    message has is an error of the client: `BadCommand`."""
    count = len(uids)
    found = list(_ordered(ranges, count))
    if any(low < 1 or high > count for low, high in found):
        raise BadCommand("Invalid message number")
    return _merged((low - 1, high) for low, high in found)


def uid_positions(ranges: Ranges, uids: Sequence[int]) -> list[range]:
    """The same of UIDs: those that are not there are passed over."""
    if not uids:
        return []
    return _merged(
        (bisect_left(uids, low), bisect_right(uids, high)) for low, high in _ordered(ranges, uids[-1])
    )


def _merged(bounds: Iterable[tuple[int, int]]) -> list[range]:
    runs: list[range] = []
    for start, stop in sorted(bounds):
        if start >= stop:
            continue
        if runs and start <= runs[-1].stop:
            runs[-1] = range(runs[-1].start, max(stop, runs[-1].stop))
        else:
            runs.append(range(start, stop))
    return runs


def members(text: str) -> Sequence[tuple[int, int]]:
    """The ranges of a stored set (seen UIDs), ascending; nothing for one that is none."""
    try:
        return sorted(parse_set(text.encode())) if text else ()
    except BadCommand:
        return ()
