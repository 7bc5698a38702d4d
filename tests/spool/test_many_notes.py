"""Annotations of messages take memory by the message, not by what they say."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyrus_sync.common.model import Annotation
from cyrus_sync.spool import annotations, copies, many_notes
from cyrus_sync.spool.many_notes import by_uid

from .golden import DATA, NAMES, records, snapshot


def notes(count: int, seed: int = 1) -> list[tuple[int, Annotation]]:
    """Several of many a message, in any order."""
    chance = random.Random(seed)
    return [
        (chance.randint(1, count), Annotation(f"/entry{n % 7}", chance.choice(("", "bob")), n, b"v%d" % n))
        for n in range(count)
    ]


@pytest.mark.parametrize("few", [1, 2, 17, 1000])
def test_in_a_file_they_are_what_they_are_in_memory(few: int) -> None:
    given = notes(300)
    expected = by_uid(given, few=10_000)
    found = by_uid(iter(given), few=few)
    assert isinstance(expected, dict)
    assert (list(found), len(found), bool(found)) == (sorted(expected), len(expected), True) or few > 300
    assert {uid: found[uid] for uid in found} == expected
    for uid in range(310):
        assert (uid in found) is (uid in expected)
        assert found.get(uid) == expected.get(uid)
    assert "1" not in found


def test_none_are_none() -> None:
    assert not by_uid([])


@pytest.mark.parametrize("name", NAMES)
def test_mailboxes_are_the_same_however_large_their_annotations_are(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with snapshot(DATA / name) as found:
        expected = records(found), found.crcs
    monkeypatch.setattr(copies, "IN_MEMORY", 0)
    monkeypatch.setattr(annotations, "by_uid", lambda notes: by_uid(notes, few=1))
    with snapshot(DATA / name) as found:
        assert (records(found), found.crcs) == expected
        assert not found.annotations or not isinstance(found.annotations, dict)


def test_what_they_say_is_not_kept_in_memory(tmp_path: Path) -> None:
    def long_ones() -> Iterator[tuple[int, Annotation]]:
        for uid in range(1, 3 * many_notes.FEW):
            yield uid, Annotation("/comment", "", uid, bytes(2000))

    tracemalloc.start()
    try:
        found = by_uid(long_ones(), few=100)
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(found) == 3 * many_notes.FEW - 1
    assert kept < 4_000_000, "of sixty million octets"
