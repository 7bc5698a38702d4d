"""The soak: what it says of figures, and a few rounds of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.soak import FEWEST, Use, grown, soak, soaking


def test_what_is_flat_after_warming_up_or_varies_does_not_grow() -> None:
    warming = [Use(40_000 + 1000 * number, 20 + number, 4) for number in range(20)]
    flat = [Use(60_000 + 700 * (number % 2), 40 + 9 * (number % 3), 5 + number // 5) for number in range(20)]
    assert grown([*warming, *flat]) == []


@pytest.mark.parametrize(
    ("what", "leak"),
    [
        ("kilobytes", lambda number: Use(60_000 + 150 * number, 40, 5)),
        ("descriptors", lambda number: Use(60_000, 40 + number, 5)),
        ("threads", lambda number: Use(60_000, 40, 5 + number)),
    ],
)
def test_what_grows_from_round_to_round_is_named(what: str, leak: Callable[[int], Use]) -> None:
    (said,) = grown([leak(number) for number in range(200)])
    assert said.startswith(f"{what}: ")


def test_in_a_few_rounds_no_daemon_grows_by_what_strangers_and_guests_leave(tmp_path: Path) -> None:
    """Each round has twenty users and as many connections. What a round leaves of memory is told by an hour
    of this (``python -m bench.soak``): so few are warming up."""
    with soaking(tmp_path) as soaked:
        assert soak(soaked, 0) == FEWEST
        assert soaked.verdict(memory=0.2) == []
